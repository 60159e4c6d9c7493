//! One connection: reads queries, answers at once those whose answers are known, and writes answers,
//! as many as there are by one call.

use super::{
    Ends, Listener,
    framing::{Input, silent},
    seats::ConnectionSeat,
};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Most answers of one connection that wait to be written, of queries whose answers were not known.
/// Few, because each may have 64 KiB.
const OUTBOX: usize = 2;
/// Number of bytes of answers from which on they are written before another query is answered.
const OUTPUT: usize = 16 << 10;
/// Capacity of the buffer for answers that a connection keeps while it is idle, in bytes.
const OUTPUT_KEPT: usize = 8 << 10;

/// Number of queries after which others have their turn, however many more have arrived.
const TURN: usize = 256;

/// Connection of a client.
pub(super) struct Connection<S> {
    listener: Arc<Listener>,
    stream: S,
    ends: Ends,
    seat: ConnectionSeat,
    /// Number of messages that are still read.
    left: usize,
    /// Number of messages taken since others had their turn.
    taken: usize,
    input: Input,
    /// Answers to be written.
    output: Vec<u8>,
    /// Number of bytes of these that have been written.
    written: usize,
    /// Number of queries that are answered by `output`, or get no answer.
    answered: usize,
    /// Number of queries whose answers are awaited. Each puts an answer, or an empty one if there is
    /// none, into the outbox.
    awaited: usize,
    replies: mpsc::Sender<Vec<u8>>,
    outbox: mpsc::Receiver<Vec<u8>>,
    /// Time of the last query or answer.
    last: Instant,
    /// Time at which part of a message arrived whose rest is awaited.
    begun: Option<Instant>,
    /// Set when no more is read, with the reason.
    ended: Option<io::Result<()>>,
}

/// Event that a connection waits for.
enum Event {
    /// An answer that was awaited.
    Reply(Option<Vec<u8>>),
    /// Bytes from the client; none at the end of the connection.
    Read(io::Result<usize>),
    /// A new connection has taken the seat.
    Wanted,
    /// The client may have been silent for too long.
    Due,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    /// Returns a connection that is served for at most `most` messages.
    pub(super) fn new(
        listener: Arc<Listener>,
        stream: S,
        ends: Ends,
        seat: ConnectionSeat,
        most: usize,
    ) -> Self {
        let (replies, outbox) = mpsc::channel(OUTBOX);
        Connection {
            listener,
            stream,
            ends,
            seat,
            left: most,
            taken: 0,
            input: Input::new(),
            output: Vec::new(),
            written: 0,
            answered: 0,
            awaited: 0,
            replies,
            outbox,
            last: Instant::now(),
            begun: None,
            ended: None,
        }
    }

    /// Serves the connection. Ends when the client closes it, when it is idle for too long with no
    /// query in flight, or when a new connection takes its seat.
    pub(super) async fn serve(mut self) -> io::Result<()> {
        let wanted = self.seat.wanted();
        let due = sleep_until(self.last + self.listener.bounds.idle);
        tokio::pin!(wanted, due);
        let mut is_wanted = false;
        loop {
            if self.taken >= TURN {
                self.taken = 0;
                tokio::task::yield_now().await;
            }
            self.answer_messages();
            if self.answered > 0 {
                // Nearly always the socket takes all at once, and no timer is needed.
                if let Poll::Ready(written) = poll_fn(|context| Poll::Ready(self.poll_write(context))).await {
                    written?;
                    self.note_written();
                    continue;
                }
                let patience = self.listener.bounds.idle;
                tokio::select! {
                    biased;
                    written = poll_fn(|context| self.poll_write(context)) => {
                        written?;
                        self.note_written();
                    }
                    () = &mut wanted, if !is_wanted => {
                        // The new connection has its seat: this one must not wait for its client.
                        if self.seat.is_evicted() {
                            return Ok(());
                        }
                        is_wanted = true;
                        self.ended.get_or_insert(Ok(()));
                    }
                    () = sleep(patience) => return Err(silent()),
                }
                continue;
            }
            if self.ended.is_some() && self.awaited == 0 {
                break;
            }
            let reads = self.reads();
            let event = tokio::select! {
                biased;
                reply = self.outbox.recv(), if self.awaited > 0 => Event::Reply(reply),
                read = self.stream.read_buf(self.input.buffer()), if reads => Event::Read(read),
                () = &mut wanted, if !is_wanted => Event::Wanted,
                () = &mut due, if self.ended.is_none() => Event::Due,
            };
            match event {
                Event::Reply(reply) => self.take_replies(reply),
                Event::Read(read) => self.note_read(read),
                // It must not wait for its answers either.
                Event::Wanted if self.seat.is_evicted() => return Ok(()),
                Event::Wanted => {
                    is_wanted = true;
                    self.ended.get_or_insert(Ok(()));
                }
                Event::Due => match self.next_due() {
                    Some(next) => due.as_mut().reset(next),
                    None => self.ended = Some(Err(silent())),
                },
            }
        }
        let written = self.shut_down().await;
        self.ended.unwrap_or(Ok(())).and(written)
    }

    /// Whether more is read. A client with too many queries in flight is not read from.
    fn reads(&self) -> bool {
        self.ended.is_none() && self.awaited < self.listener.bounds.in_flight
    }

    /// Answers the messages that have arrived, until there is enough to be written or too much is
    /// awaited.
    fn answer_messages(&mut self) {
        let Connection { listener, ends, input, output, .. } = self;
        let (before, in_flight) = (self.left, listener.bounds.in_flight);
        let mut moment = None;
        while self.left > 0
            && self.awaited < in_flight
            && output.len() < OUTPUT
            && let Some(place) = input.next()
        {
            self.left -= 1;
            let moment = moment.get_or_insert_with(|| listener.moment());
            match listener.answer(input.message(place), *ends, moment, output) {
                None => self.answered += 1,
                Some(later) => {
                    self.awaited += 1;
                    let (listener, replies) = (listener.clone(), self.replies.clone());
                    tokio::spawn(async move { listener.answer_later(later, replies).await });
                }
            }
        }
        let taken = before - self.left;
        if taken == 0 {
            if self.begun.is_none() && input.is_begun() {
                self.begun = Some(Instant::now());
            }
            return;
        }
        self.taken += taken;
        input.settle();
        listener.counters.queries.add(taken as u64);
        self.seat.asked(taken);
        self.last = Instant::now();
        self.begun = input.is_begun().then_some(self.last);
        if self.left == 0 {
            self.ended.get_or_insert(Ok(()));
        }
    }

    /// Notes what a read has brought.
    fn note_read(&mut self, read: io::Result<usize>) {
        match read {
            Ok(0) if self.input.is_begun() => {
                self.ended = Some(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            Ok(0) => self.ended = Some(Ok(())),
            Ok(_) => {}
            Err(error) => self.ended = Some(Err(error)),
        }
    }

    /// Takes an answer that was awaited, and others that are there.
    fn take_replies(&mut self, reply: Option<Vec<u8>>) {
        let mut next = reply;
        while let Some(reply) = next {
            self.awaited -= 1;
            self.answered += 1;
            self.output.extend(reply);
            next = if self.output.len() < OUTPUT { self.outbox.try_recv().ok() } else { None };
        }
    }

    /// Returns the next time at which the client may have been silent for too long; `None`: it has
    /// been. Silence is no reason while queries are in flight. A message that has begun must be
    /// complete in time, in however many pieces it comes, unless it is not being read.
    fn next_due(&mut self) -> Option<Instant> {
        let (now, idle) = (Instant::now(), self.listener.bounds.idle);
        if !self.reads() {
            self.begun = self.begun.map(|_| now);
        }
        let due = match self.begun {
            Some(begun) => begun + idle,
            None if self.awaited > 0 => now + idle,
            None => self.last + idle,
        };
        (now < due).then_some(due)
    }

    /// Writes answers until all are written. It may be called again after it was cancelled.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.output.len() {
            let stream = Pin::new(&mut self.stream);
            match std::task::ready!(stream.poll_write(context, &self.output[self.written..]))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Notes that all answers have been written.
    fn note_written(&mut self) {
        self.output.clear();
        self.output.shrink_to(OUTPUT_KEPT);
        self.written = 0;
        self.seat.answered(self.answered);
        self.answered = 0;
        self.last = Instant::now();
    }

    /// Tells the client that no more follows.
    async fn shut_down(&mut self) -> io::Result<()> {
        timeout(self.listener.bounds.idle, self.stream.shutdown()).await.unwrap_or_else(|_| Err(silent()))
    }
}
