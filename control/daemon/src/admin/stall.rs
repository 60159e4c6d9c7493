//! Readers that take nothing.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

/// Time for which a reader may take nothing, though there is something for it.
pub(super) const STALL: Duration = Duration::from_secs(60);

/// Connection that fails once its reader has taken nothing for [`STALL`].
pub(super) struct Unstalled<S> {
    stream: S,
    /// Time that is left; `None`: nothing waits for the reader.
    left: Option<Pin<Box<Sleep>>>,
}

impl<S> Unstalled<S> {
    /// Returns a connection over a stream.
    pub(super) fn new(stream: S) -> Self {
        Unstalled { stream, left: None }
    }

    /// Whether an error is that of a reader who took nothing.
    pub(super) fn is_cause(error: &hyper::Error) -> bool {
        let source = std::error::Error::source(error);
        let source = source.and_then(|source| source.downcast_ref::<io::Error>());
        source.is_some_and(|source| source.kind() == io::ErrorKind::TimedOut)
    }

    /// Keeps the time while a write waits for the reader.
    fn timed<T>(&mut self, task: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.left = None;
            return written;
        }
        let left = self.left.get_or_insert_with(|| Box::pin(sleep(STALL)));
        ready!(left.as_mut().poll(task));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unstalled<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(task, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unstalled<S> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(task, bytes);
        self.timed(task, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(task, pieces);
        self.timed(task, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::Instant,
    };

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_is_cut_and_a_slow_one_is_not() {
        let (mut reader, stream) = tokio::io::duplex(64);
        let mut stream = Unstalled::new(stream);
        let slow = tokio::spawn(async move {
            let mut buffer = [0; 16];
            for _ in 0..20 {
                sleep(STALL / 2).await;
                reader.read_exact(&mut buffer).await.unwrap();
            }
            reader
        });
        stream.write_all(&[0; 320]).await.unwrap();
        let reader = slow.await.unwrap();
        let began = Instant::now();
        let error = stream.write_all(&[0; 320]).await.unwrap_err();
        assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, STALL.as_secs()));
        drop(reader);
    }
}
