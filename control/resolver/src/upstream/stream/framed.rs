//! Messages behind their length, over TCP or TLS (RFC 7766, RFC 7858).

use super::AskError;
use crate::upstream::{Upstream, udp::unused_id};
use parking_lot::Mutex;
use ringdns_common::counters::Counter;
use std::{collections::HashMap, io, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::{mpsc, oneshot},
};

/// Most queries that wait to be written.
const QUEUE: usize = 32;
/// Number of messages that answer no query after which a connection is given up.
pub const STRAYS_MAX: usize = 8;
/// Number of unanswered queries on a connection from which the IDs of given-up ones are forgotten.
const REMEMBERED_MAX: usize = 4 * super::IN_FLIGHT_MAX;

/// Handle to a connection's task.
#[derive(Clone)]
pub struct Framed(mpsc::Sender<FramedQuery>);

struct FramedQuery {
    query: Vec<u8>,
    reply: ReplySender,
}

type ReplySender = oneshot::Sender<Vec<u8>>;

/// Receivers of replies, by the IDs of the queries sent.
type SentQueries = Mutex<HashMap<u16, ReplySender>>;

impl Framed {
    /// Returns a handle, and the future that sends and receives over `stream` until that breaks or
    /// all copies of the handle are gone.
    pub fn over<S>(stream: S, upstream: Arc<Upstream>) -> (Self, impl Future<Output = io::Result<()>> + Send)
    where
        S: AsyncRead + AsyncWrite + Send,
    {
        let (sender, requests) = mpsc::channel(QUEUE);
        let drive = async move {
            let (read, write) = tokio::io::split(stream);
            let sent = SentQueries::default();
            tokio::select! {
                ended = receive(read, &sent, &upstream.counters.ignored_wrong_id) => ended,
                ended = send(write, requests, &sent) => ended,
            }
        };
        (Framed(sender), drive)
    }

    /// Sends a query under a random ID, and waits for the response.
    pub async fn exchange(self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let broken =
            || AskError::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, "the connection broke"));
        let (reply, response) = oneshot::channel();
        self.0.send(FramedQuery { query: query.to_vec(), reply }).await.map_err(|_| broken())?;
        response.await.map_err(|_| broken())
    }
}

/// Sends queries as they come, as many as there are at once.
async fn send(
    mut write: impl AsyncWrite + Unpin,
    mut requests: mpsc::Receiver<FramedQuery>,
    sent: &SentQueries,
) -> io::Result<()> {
    let mut out = Vec::new();
    while let Some(first) = requests.recv().await {
        out.clear();
        let mut next = Some(first);
        while let Some(FramedQuery { query, reply }) = next {
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

/// Returns the ID for the query whose reply goes to `reply`.
fn remember(sent: &mut HashMap<u16, ReplySender>, reply: ReplySender) -> u16 {
    // Given-up queries keep their IDs, so that late answers to them cannot match other queries.
    if sent.len() >= REMEMBERED_MAX {
        sent.retain(|_, reply| !reply.is_closed());
    }
    let id = unused_id(rand::random, |id| sent.contains_key(&id));
    sent.insert(id, reply);
    id
}

/// Passes each response to the query with its ID.
async fn receive(read: impl AsyncRead + Unpin, sent: &SentQueries, strays: &Counter) -> io::Result<()> {
    let mut read = BufReader::new(read);
    let mut left = STRAYS_MAX;
    while left > 0 {
        let mut message = vec![0; usize::from(read.read_u16().await?)];
        read.read_exact(&mut message).await?;
        let reply = message.first_chunk().and_then(|id| sent.lock().remove(&u16::from_be_bytes(*id)));
        match reply {
            // Sending fails if the query was given up.
            Some(reply) => drop(reply.send(message)),
            None => {
                strays.inc();
                left -= 1;
            }
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "too many messages that answer no query"))
}
