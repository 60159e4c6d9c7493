//! Messages behind their length, over TCP or TLS (RFC 7766, RFC 7858).

use super::AskError;
use crate::upstream::{
    Upstream,
    udp::{STRAYS_MAX, unused_id},
};
use parking_lot::Mutex;
use ringdns_common::counters::Counter;
use std::{collections::HashMap, io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
};

/// Queries that wait to be written.
const QUEUE: usize = 32;
/// Queries sent and not answered, those given up among them, from which the latter are forgotten.
const REMEMBERED_MAX: usize = 4 * super::IN_FLIGHT_MAX;

/// The way to a connection's task.
#[derive(Clone)]
pub struct Framed(mpsc::Sender<Request>);

struct Request {
    query: Vec<u8>,
    reply: Reply,
}

type Reply = oneshot::Sender<Vec<u8>>;

/// Queries sent, by their IDs.
type Sent = Mutex<HashMap<u16, Reply>>;

impl Framed {
    /// What sends and receives over `stream`, until that breaks or all copies of this are gone.
    pub fn over<S>(stream: S, upstream: Arc<Upstream>) -> (Self, impl Future<Output = io::Result<()>> + Send)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (sender, requests) = mpsc::channel(QUEUE);
        let drive = async move {
            let (read, write) = tokio::io::split(stream);
            let sent = Sent::default();
            tokio::select! {
                ended = receive(read, &sent, &upstream.counters.ignored_wrong_id) => ended,
                ended = send(write, requests, &sent) => ended,
            }
        };
        (Framed(sender), drive)
    }

    /// Sends a query, under an ID that is drawn here, and waits for the response.
    pub async fn exchange(self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let broken =
            || AskError::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke"));
        let (reply, response) = oneshot::channel();
        self.0.send(Request { query: query.to_vec(), reply }).await.map_err(|_| broken())?;
        response.await.map_err(|_| broken())
    }
}

/// Sends what comes, as much as there is in one go.
async fn send(
    mut write: impl AsyncWrite + Unpin,
    mut requests: mpsc::Receiver<Request>,
    sent: &Sent,
) -> io::Result<()> {
    let mut out = Vec::new();
    while let Some(first) = requests.recv().await {
        out.clear();
        let mut next = Some(first);
        while let Some(Request { query, reply }) = next {
            if !reply.is_closed() {
                let id = remember(&mut sent.lock(), reply);
                out.extend_from_slice(&(query.len() as u16).to_be_bytes());
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&query[2..]);
            }
            next = requests.try_recv().ok();
        }
        write.write_all(&out).await?;
        write.flush().await?;
    }
    write.shutdown().await
}

/// The ID that the query for `reply` goes out with.
fn remember(sent: &mut HashMap<u16, Reply>, reply: Reply) -> u16 {
    // Late answers to those given up should find them, so that their IDs mean nothing else.
    if sent.len() >= REMEMBERED_MAX {
        sent.retain(|_, reply| !reply.is_closed());
    }
    let id = unused_id(rand::random, |id| sent.contains_key(&id));
    sent.insert(id, reply);
    id
}

/// Hands out what comes, each to who waits for its ID.
async fn receive(read: impl AsyncRead + Unpin, sent: &Sent, strays: &Counter) -> io::Result<()> {
    let mut read = BufReader::new(read);
    let mut left = STRAYS_MAX;
    while left > 0 {
        let mut message = vec![0; usize::from(read.read_u16().await?)];
        read.read_exact(&mut message).await?;
        let reply = message.first_chunk().and_then(|id| sent.lock().remove(&u16::from_be_bytes(*id)));
        match reply {
            // It may come too late.
            Some(reply) => drop(reply.send(message)),
            None => {
                strays.inc();
                left -= 1;
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many messages that answer nothing"))
}
