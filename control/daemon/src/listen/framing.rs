//! Messages over TCP: two bytes for the length, then the message (RFC 1035 section 4.2.2).

use std::{io, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

/// Returns a buffer with two bytes for the length, then `room` bytes for the message, which begins
/// with `head`.
pub fn framed(head: &[u8], room: usize) -> Vec<u8> {
    let mut framed = vec![0; 2 + room.max(head.len())];
    framed[2..2 + head.len()].copy_from_slice(head);
    framed
}

/// Returns the buffer with a message of `len` bytes, and its length in front.
pub fn finish(mut framed: Vec<u8>, len: usize) -> Vec<u8> {
    framed[..2].copy_from_slice(&(len as u16).to_be_bytes());
    framed.truncate(2 + len);
    framed
}

/// Error of a peer that has sent or taken nothing for too long.
pub fn silent() -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// Writes replies in the order in which they are made, until all senders are gone.
pub async fn write_replies(
    mut to: impl AsyncWrite + Unpin,
    mut outbox: mpsc::Receiver<Vec<u8>>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(reply) = outbox.recv().await {
        timeout(patience, to.write_all(&reply)).await.unwrap_or_else(|_| Err(silent()))?;
    }
    to.shutdown().await
}
