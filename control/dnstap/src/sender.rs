//! Thread that sends messages to the reader.

use crate::{
    Dnstap,
    frames::{self, FrameError},
    message_of,
};
use core_affinity::CoreId;
use ringdns_common::cores;
use ringdns_config::DnstapTarget;
use std::{
    io,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread::{self, JoinHandle},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    runtime::Builder,
    select,
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Time until the first attempt to connect again; doubled up to [`BACK_OFF_MAX`].
const BACK_OFF: Duration = Duration::from_millis(250);
/// Longest time between attempts, and time after which a connection counts as good.
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// Interval at which lines are read while there is nothing to send. Pages must last that long.
const PACE: Duration = Duration::from_millis(20);
/// Bytes of frames of workers' packets after which no further page is encoded, and all frames are sent.
const CHUNK: usize = 256 << 10;
/// Time that the end waits for the reader to take the remaining messages.
const GRACE: Duration = Duration::from_secs(1);
/// Nice value of the thread, behind the others in priority.
const NICENESS: i32 = 5;

/// Connection to a reader.
trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// Reason why a connection to the reader cannot be opened or has ended.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("cannot be reached: {0}")]
    Unreachable(io::Error),
    #[error("cannot be used: {0}")]
    Handshake(#[from] FrameError),
    #[error("did not answer in time")]
    Silent,
    #[error("takes no more messages: it has read nothing for {0:?}")]
    Stalled(Duration),
    #[error("has closed the connection: {0}")]
    Broken(io::Error),
    #[error("has closed the connection")]
    Closed,
}

/// Thread that sends messages to the reader.
#[derive(Debug)]
pub struct Sender {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Sender {
    /// Starts the thread on some cores.
    pub fn start(tap: Arc<Dnstap>, cores: Vec<CoreId>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = thread::Builder::new().name("dnstap".into()).spawn(move || {
            cores::sit(&cores);
            // Cache misses have priority. Without the privilege, the thread keeps its priority.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            let parcel = Parcel::default();
            runtime.block_on(Courier { tap, stopped, parcel }.run());
        })?;
        Ok(Sender { stop, thread })
    }

    /// Sends what the workers, which have ended, have left, as far as the reader takes it, and closes
    /// the connection. It may block for a few seconds.
    pub fn finish(self) {
        // The thread has no other reason to end.
        let _ = self.stop.send(true);
        if self.thread.join().is_err() {
            tracing::error!("the thread that sends dnstap messages ended in a panic");
        }
    }
}

/// Frames on their way.
#[derive(Debug, Default)]
struct Parcel {
    frames: Vec<u8>,
    count: u64,
    written: usize,
}

/// Work of the thread.
struct Courier {
    tap: Arc<Dnstap>,
    stopped: watch::Receiver<bool>,
    parcel: Parcel,
}

impl Courier {
    async fn run(mut self) {
        let mut back_off = BACK_OFF;
        let mut stopped = self.stopped.clone();
        while !*stopped.borrow() {
            let opened = select! {
                opened = connect(&self.tap) => opened,
                () = self.discard() => return,
                _ = stopped.wait_for(|stop| *stop) => break,
            };
            let since = Instant::now();
            let error = match opened {
                Ok(stream) => self.deliver(stream).await,
                Err(error) => {
                    self.tap.counters.connections_failed.inc();
                    Some(error)
                }
            };
            let Some(error) = error else { break };
            self.complain(&error);
            if since.elapsed() >= BACK_OFF_MAX {
                back_off = BACK_OFF;
            }
            select! {
                () = sleep(back_off) => {}
                () = self.discard() => return,
                _ = stopped.wait_for(|stop| *stop) => break,
            }
            back_off = (2 * back_off).min(BACK_OFF_MAX);
        }
        self.drop_waiting();
        let sums = self.tap.sums();
        let [buffer_full, unconnected, broken] = sums.losses().map(|(_, lost)| lost);
        tracing::info!(sent = sums.sent, buffer_full, unconnected, broken, "dnstap is closed");
    }

    fn complain(&self, error: &SendError) {
        let target = &self.tap.config.target;
        if self.tap.fault.set(error) {
            tracing::warn!(
                "{} {target} {error}. dnstap messages are lost until it is back: is the reader running?",
                target.key()
            );
        }
    }

    /// Sends messages over a connection until it fails, and returns the reason. `None`: it was closed
    /// because ringdnsd stops.
    async fn deliver(&mut self, mut stream: Box<dyn Stream>) -> Option<SendError> {
        let tap = self.tap.clone();
        tap.counters.connections.inc();
        tap.is_connected.store(true, Relaxed);
        tap.fault.clear();
        tracing::info!("connected to {} {}", tap.config.target.key(), tap.config.target);
        let mut stopped = self.stopped.clone();
        let patience = async move {
            // An error means that nobody can stop the thread any more: it is to end, too.
            let _ = stopped.wait_for(|stop| *stop).await;
            sleep(GRACE).await;
        };
        let ended = select! {
            ended = self.send_all(&mut stream) => ended,
            () = patience => Ok(()),
        };
        tap.is_connected.store(false, Relaxed);
        tap.counters.connections_ended.inc();
        self.give_up();
        ended.err()
    }

    /// Sends messages until the connection fails or, after all messages, ringdnsd stops.
    async fn send_all(&mut self, stream: &mut Box<dyn Stream>) -> Result<(), SendError> {
        let mut byte = [0];
        loop {
            // Read before the last messages are taken.
            let is_last = *self.stopped.borrow();
            if self.fill() {
                self.write(stream).await?;
                continue;
            }
            if is_last {
                frames::close(stream).await?;
                return Ok(());
            }
            select! {
                () = sleep(PACE) => {}
                read = stream.read(&mut byte) => match read {
                    Ok(0) => return Err(SendError::Closed),
                    Ok(_) => return Err(FrameError::Unexpected("it sent something out of turn").into()),
                    Err(error) => return Err(SendError::Broken(error)),
                }
            }
        }
    }

    /// Writes the parcel. The reader may be slow, but it has to go on reading.
    async fn write(&mut self, stream: &mut Box<dyn Stream>) -> Result<(), SendError> {
        let patience = self.tap.config.timeout;
        while let Some(rest) = self.parcel.frames.get(self.parcel.written..).filter(|rest| !rest.is_empty()) {
            let written = timeout(patience, stream.write(rest)).await;
            self.parcel.written += match written {
                Ok(Ok(0)) => return Err(SendError::Closed),
                Ok(Ok(written)) => written,
                Ok(Err(error)) => return Err(SendError::Broken(error)),
                Err(_) => return Err(SendError::Stalled(patience)),
            };
        }
        let Parcel { frames, count, written } = &mut self.parcel;
        self.tap.counters.sent.add(*count);
        self.tap.counters.sent_bytes.add(frames.len() as u64);
        (*count, *written) = (0, 0);
        frames.clear();
        Ok(())
    }

    /// Counts the frames of a parcel that was not written to its end: those that the reader may have
    /// got whole, and those that are lost.
    fn give_up(&mut self) {
        let Parcel { frames, count, written } = std::mem::take(&mut self.parcel);
        let (sent, bytes) = frames::whole(&frames[..written.min(frames.len())]);
        self.tap.counters.sent.add(sent);
        self.tap.counters.sent_bytes.add(bytes as u64);
        self.tap.losses.broken.add(count - sent.min(count));
    }

    /// Fills an empty parcel with messages. Returns whether there were any.
    fn fill(&mut self) -> bool {
        let Dnstap { lines, encoder, tcp, upstreams, counters, .. } = &*self.tap;
        let Parcel { frames, count, .. } = &mut self.parcel;
        let epoch = self.tap.epoch();
        for desk in [tcp, upstreams] {
            let mut desk = desk.lock();
            frames.append(&mut desk.frames);
            *count += std::mem::take(&mut desk.count);
        }
        // Messages of a busy desk keep no pages of workers out.
        let of_desks = frames.len();
        let lines = lines.lock();
        let mut taken = true;
        while taken && frames.len() - of_desks < CHUNK {
            taken = false;
            for line in lines.iter() {
                let Some(page) = line.collect() else { continue };
                taken = true;
                for mirrored in page.iter() {
                    match message_of(&mirrored, epoch) {
                        Some(message) => {
                            encoder.append(&message, frames);
                            *count += 1;
                        }
                        None => counters.unfit.inc(),
                    }
                }
                line.give_back(page);
            }
        }
        !frames.is_empty()
    }

    /// Discards messages as they come: there is no connection. Never ends.
    async fn discard(&self) {
        loop {
            self.drop_waiting();
            sleep(PACE).await;
        }
    }

    /// Drops the messages that wait.
    fn drop_waiting(&self) {
        let mut lost = 0;
        for desk in [&self.tap.tcp, &self.tap.upstreams] {
            let mut desk = desk.lock();
            desk.frames.clear();
            lost += std::mem::take(&mut desk.count);
        }
        for line in self.tap.lines.lock().iter() {
            while let Some(page) = line.collect() {
                lost += page.len() as u64;
                line.give_back(page);
            }
        }
        self.tap.losses.unconnected.add(lost);
    }
}

/// Connects to the reader and opens the stream.
async fn connect(tap: &Dnstap) -> Result<Box<dyn Stream>, SendError> {
    let opening = async {
        let mut stream: Box<dyn Stream> = match &tap.config.target {
            DnstapTarget::Unix(path) => {
                Box::new(UnixStream::connect(path).await.map_err(SendError::Unreachable)?)
            }
            DnstapTarget::Tcp(address) => {
                Box::new(TcpStream::connect(address).await.map_err(SendError::Unreachable)?)
            }
        };
        frames::open(&mut stream).await?;
        Ok(stream)
    };
    timeout(tap.config.timeout, opening).await.unwrap_or(Err(SendError::Silent))
}

#[cfg(test)]
mod tests;
