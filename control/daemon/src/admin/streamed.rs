//! Answers that are written piece by piece: a reader that is slow holds up the writer, and no memory but a
//! few pieces.

use super::guard::{ApiError, Turns};
use axum::{
    body::{Body, HttpBody},
    http::header::CONTENT_TYPE,
    response::{IntoResponse, Response},
};
use hyper::body::{Bytes, Frame};
use ringdns_common::backroom::Backroom;
use std::{
    io::{self, BufWriter, Write},
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// Content type of lines of JSON.
pub(super) const LINES: &str = "application/x-ndjson";

/// Bytes of one piece of an answer, and the number of pieces that wait for the reader.
const PIECE: usize = 64 << 10;
const PIECES: usize = 4;

/// Writer whose pieces go to a reader. Blocks while enough of them wait.
pub(super) type Pieces = BufWriter<PieceWriter>;

/// Starts a background thread for one request. It has the cores of the thread that starts it.
pub(super) fn background() -> Result<Backroom, ApiError> {
    Backroom::open("cache", Vec::new()).map_err(ApiError::failed)
}

/// Answers with what `write` writes in a background thread, when it is its turn. It waits for the reader,
/// and ends with an error once that is gone.
pub(super) async fn stream(
    turns: &Turns,
    content_type: &'static str,
    write: impl FnOnce(&mut Pieces) -> io::Result<()> + Send + 'static,
) -> Result<Response, ApiError> {
    let turn = turns.take().await?;
    let (sender, receiver) = pieces();
    let backroom = background()?;
    tokio::spawn(async move {
        let pieces = PieceWriter { sender: sender.clone(), _turn: turn };
        let writing = backroom.have(move || {
            let mut out = BufWriter::with_capacity(PIECE, pieces);
            write(&mut out).and_then(|()| out.flush())
        });
        let ended = || Err(io::Error::other("the thread that writes the answer has panicked"));
        if let Err(error) = writing.await.unwrap_or_else(ended) {
            tracing::debug!(%error, "an answer about the cache was cut short");
            // Without it, a reader would take the part for the whole.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(respond(content_type, receiver))
}

/// Returns the response that has the pieces which arrive.
pub(super) fn respond(content_type: &'static str, pieces: mpsc::Receiver<io::Result<Bytes>>) -> Response {
    ([(CONTENT_TYPE, content_type)], Body::new(Streamed(pieces))).into_response()
}

/// Channel for the pieces of an answer.
pub(super) fn pieces() -> (mpsc::Sender<io::Result<Bytes>>, mpsc::Receiver<io::Result<Bytes>>) {
    mpsc::channel(PIECES)
}

/// Writer of pieces.
pub(super) struct PieceWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    _turn: OwnedSemaphorePermit,
}

impl Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Body of the pieces that arrive.
struct Streamed(mpsc::Receiver<io::Result<Bytes>>);

impl HttpBody for Streamed {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.0.poll_recv(task).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
