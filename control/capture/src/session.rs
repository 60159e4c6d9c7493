//! One capture, from its begin to its end, on a thread of its own.

use crate::{
    CaptureCounters, Request,
    chunk::Chunk,
    filter::{Comment, Judgement},
    pcapng::{self, Flow, Packet, Statistics},
    waiting::{Query, Waiting},
};
use ringdns_dataplane::{
    clock::Clock,
    log::Sieve,
    mirror::{Direction, MirrorConfig, MirrorLine, Page},
    punt::Link,
};
use std::{
    fmt::{self, Write},
    io, mem,
    sync::Arc,
    thread,
    time::Duration,
};
use tokio::{
    runtime::Builder,
    select,
    sync::{Notify, OwnedSemaphorePermit, mpsc},
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};

/// Pages of each worker, of [`Page::BYTES`], 616 KiB, each.
const PAGES: usize = 4;
/// Interval at which lines are read while there is nothing to write. Pages must last that long.
const PACE: Duration = Duration::from_millis(20);
/// Bytes of blocks after which they are sent.
const CHUNK: usize = 256 << 10;
/// Time after which a reader that takes nothing ends the capture.
const STALL: Duration = Duration::from_secs(10);
/// Time that the reader has to take the rest once workers have given their mirrors back.
const REST_TIME: Duration = Duration::from_secs(10);
/// Time that workers have to take their mirrors before the file begins, and to give them back before it
/// ends without their last packets: a busy one looks once a second.
const ORDER_TIME: Duration = Duration::from_secs(3);
/// Interval at which workers that have an order are looked at.
const ASK_AGAIN: Duration = Duration::from_millis(10);
/// Nice value of the thread, behind the others in priority.
const NICENESS: i32 = 5;

/// Reason for the end of a capture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Packets,
    Time,
    Asked,
    Gone,
    Stalled,
    Slow,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ending::Packets => "the number of packets is reached",
            Ending::Time => "the time is over",
            Ending::Asked => "it was told to end",
            Ending::Gone => "the reader is gone",
            Ending::Stalled => "the reader took nothing for 10 s",
            Ending::Slow => "the reader did not take the rest within 10 s",
        })
    }
}

/// Packets of one worker.
struct Source {
    link: Arc<Link>,
    line: Arc<MirrorLine>,
    /// Whether the worker has given its mirror back, or has ended.
    is_over: bool,
    /// Queries whose replies decide whether they are written.
    waiting: Waiting,
    written: u64,
    filtered: u64,
    unread: u64,
    /// Packets for which there was no room among those that wait.
    crowded: u64,
}

impl Source {
    fn new(link: Arc<Link>, line: Arc<MirrorLine>) -> Self {
        let (waiting, [written, filtered, unread, crowded]) = (Waiting::default(), [0; 4]);
        Source { link, line, is_over: false, waiting, written, filtered, unread, crowded }
    }

    /// Looks whether the worker has given its mirror back.
    fn look(&mut self) {
        // A worker that has ended has dropped its mirror, the only other owner of the line.
        self.is_over |= self.link.capture.is_over() || Arc::get_mut(&mut self.line).is_some();
    }

    /// Waits for no more replies: queries without one have no outcome that could pass.
    fn give_up(&mut self) {
        self.filtered += mem::take(&mut self.waiting).len() as u64;
    }

    /// Returns the number of packets lost so far.
    fn lost(&self) -> u64 {
        self.line.lost() + self.crowded
    }
}

/// Capture under way.
pub(crate) struct Session {
    request: Request,
    clock: Clock,
    /// Start of the clock in Unix nanoseconds, the same for all packets.
    epoch: u64,
    began: u64,
    /// Channel with one place more than the reader may be behind: that of the last chunk.
    out: mpsc::Sender<Chunk>,
    end: Arc<Notify>,
    counters: Arc<CaptureCounters>,
    sources: Vec<Source>,
    written: u64,
    /// Blocks in hand.
    chunk: Chunk,
    comment: String,
}

impl Session {
    pub(crate) fn new(
        request: Request,
        clock: Clock,
        out: mpsc::Sender<Chunk>,
        end: Arc<Notify>,
        counters: Arc<CaptureCounters>,
    ) -> Self {
        let (epoch, began) = (clock.epoch_nanos(), clock.nanos());
        let (sources, chunk, comment) = (Vec::new(), Chunk::new(counters.clone()), String::new());
        Session { request, clock, epoch, began, out, end, counters, sources, written: 0, chunk, comment }
    }

    /// Starts the thread, which gives the workers their mirrors and holds the turn until it has them
    /// back. Exchanges are counted from `first` on.
    pub(crate) fn start(
        mut self,
        links: Vec<Arc<Link>>,
        exchanges: (Arc<Sieve>, u64),
        turn: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_time().build()?;
        let started = thread::Builder::new().name("capture".into()).spawn(move || {
            // Cache misses have priority. Without the privilege, the thread keeps its priority.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            self.order(links, exchanges);
            runtime.block_on(self.run(turn));
        });
        started.map(drop)
    }

    /// Hands the workers their mirrors.
    fn order(&mut self, links: Vec<Arc<Link>>, (sieve, first): (Arc<Sieve>, u64)) {
        for link in links {
            let line = Arc::new(MirrorLine::new(PAGES));
            let (sieve, directions) = (sieve.clone(), self.request.filter.directions());
            link.capture
                .begin(MirrorConfig { line: line.clone(), sieve, directions, seed: rand::random() }, first);
            link.wake_worker();
            self.sources.push(Source::new(link, line));
        }
    }

    async fn run(mut self, turn: OwnedSemaphorePermit) {
        // The header tells the reader that all workers copy packets. One that is late joins later.
        let _ = timeout(ORDER_TIME, self.begun()).await;
        self.open();
        let deadline = Instant::now() + self.request.time;
        let mut ending = self.record(deadline).await;
        for source in &mut self.sources {
            source.is_over = source.link.capture.end();
            source.link.wake_worker();
        }
        let all_back = timeout(ORDER_TIME, self.take_back()).await.is_ok();
        ending = self.drain(ending).await;
        if all_back {
            // Before the end of the file: a reader that has it finds the counters complete.
            self.count();
        }
        self.close(ending);
        // The reader gets its end now, however long a worker takes.
        let (closed, _) = mpsc::channel(1);
        drop(mem::replace(&mut self.out, closed));
        if !all_back {
            tracing::warn!(
                "a worker is late to end its part of a capture: there can be no other until it has"
            );
            self.take_back().await;
            // The last packets of such a worker come too late for the file.
            while self.collect(self.written) {}
            self.count();
        }
        // Another capture may begin once the memory of this one is free.
        drop(self);
        drop(turn);
    }

    /// Waits until all workers have taken their mirrors.
    async fn begun(&self) {
        while self.sources.iter().any(|source| source.link.capture.has_order()) {
            select! {
                biased;
                () = self.out.closed() => return,
                () = sleep(ASK_AGAIN) => {}
            }
        }
    }

    /// Waits until all workers have given their mirrors back, or have ended.
    async fn take_back(&mut self) {
        loop {
            self.sources.iter_mut().for_each(Source::look);
            if self.sources.iter().all(|source| source.is_over) {
                return;
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Writes the header of the file.
    fn open(&mut self) {
        let application = concat!("ringdns ", env!("CARGO_PKG_VERSION"));
        pcapng::section(&mut self.chunk.blocks, application, &self.request.description);
        for source in &self.sources {
            let number = source.link.worker;
            let description = "packets that this worker received and sent, without those of the kernel (TCP)";
            pcapng::interface(&mut self.chunk.blocks, &format!("worker{number}"), description);
        }
    }

    /// Writes packets until the capture is to end.
    async fn record(&mut self, deadline: Instant) -> Ending {
        loop {
            let found = self.collect(self.request.packets);
            if !self.chunk.blocks.is_empty()
                && let Err(ending) = self.send(Instant::now() + STALL, Ending::Stalled).await
            {
                return ending;
            }
            if self.written >= self.request.packets {
                return Ending::Packets;
            }
            if Instant::now() >= deadline {
                return Ending::Time;
            }
            let pause = if found { Duration::ZERO } else { PACE };
            select! {
                biased;
                () = self.end.notified() => return Ending::Asked,
                () = self.out.closed() => return Ending::Gone,
                () = sleep_until(deadline) => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Writes what the workers have left. Returns the reason of the end, which may be another by then.
    async fn drain(&mut self, mut ending: Ending) -> Ending {
        let deadline = Instant::now() + REST_TIME;
        loop {
            let is_read = !matches!(ending, Ending::Gone | Ending::Stalled | Ending::Slow);
            let limit = if is_read { self.request.packets } else { self.written };
            if !self.collect(limit) {
                return ending;
            }
            if is_read
                && !self.chunk.blocks.is_empty()
                && let Err(worse) = self.send(deadline, Ending::Slow).await
            {
                ending = worse;
            }
        }
    }

    /// Encodes packets of a page of each worker, or of fewer if they fill a chunk. Returns whether there
    /// were any pages. Packets beyond `limit` are not written.
    fn collect(&mut self, limit: u64) -> bool {
        let mut found = false;
        for nth in 0..self.sources.len() {
            if found && self.chunk.blocks.len() >= CHUNK {
                return true;
            }
            let Some(source) = self.sources.get(nth) else { break };
            let line = source.line.clone();
            if let Some(page) = line.collect() {
                found = true;
                self.encode(nth, &page, limit);
                line.give_back(page);
            }
        }
        found
    }

    /// Encodes the packets of a page.
    fn encode(&mut self, nth: usize, page: &Page, limit: u64) {
        let Session { request, epoch, sources, written, chunk, comment, .. } = self;
        let Some(source) = sources.get_mut(nth) else { return };
        let mut write = |source: &mut Source, packet: &Packet<'_>| {
            if *written >= limit {
                source.unread += 1;
                return;
            }
            pcapng::packet(&mut chunk.blocks, packet);
            chunk.packets += 1;
            source.written += 1;
            *written += 1;
        };
        for mirrored in page.iter() {
            let judgement = request.filter.judge(&mirrored);
            let waited = match mirrored.direction {
                Direction::Reply => source.waiting.take(mirrored.exchange),
                Direction::Query => None,
            };
            if judgement == Judgement::Fail {
                source.filtered += 1 + u64::from(waited.is_some());
                continue;
            }
            let interface = nth as u32;
            if let Some(Query { nanos, comment, bytes }) = &waited {
                let (nanos, flow) = (*nanos, Flow::Inbound);
                write(source, &Packet { interface, nanos, flow, comment, bytes });
            }
            comment.clear();
            // Writing into a string does not fail.
            let _ = write!(comment, "{}", Comment(&mirrored));
            let (flow, at) = match mirrored.direction {
                Direction::Query => (Flow::Inbound, mirrored.received),
                Direction::Reply => (Flow::Outbound, mirrored.settled),
            };
            let (nanos, bytes) = (*epoch + at, mirrored.packet);
            if judgement == Judgement::Pass {
                write(source, &Packet { interface, nanos, flow, comment, bytes });
                continue;
            }
            // Those without a reply have no outcome that could pass.
            source.filtered += source.waiting.expire(nanos);
            let query = Query { nanos, comment: comment.clone(), bytes: bytes.into() };
            if !source.waiting.put(mirrored.exchange, query) {
                source.crowded += 1;
            }
        }
    }

    /// Hands the blocks to the reader, which may be slow, but has to make room by the deadline: if not,
    /// the capture ends for the reason `late`. The last place of the channel stays free.
    async fn send(&mut self, deadline: Instant, late: Ending) -> Result<(), Ending> {
        let reserved = select! {
            biased;
            () = self.end.notified() => return Err(Ending::Asked),
            reserved = timeout_at(deadline, self.out.reserve_many(2)) => reserved,
        };
        let Ok(Ok(mut places)) = reserved else {
            return Err(if self.out.is_closed() { Ending::Gone } else { late });
        };
        if let Some(place) = places.next() {
            place.send(self.chunk.split());
        }
        Ok(())
    }

    /// Writes the blocks in hand, the counts of the workers, and the reason of the end.
    fn close(&mut self, ending: Ending) {
        let mut last = self.chunk.split();
        let Session { epoch, began, clock, sources, .. } = self;
        let comment = format!("the capture ended: {ending}");
        for (interface, source) in sources.iter_mut().enumerate() {
            source.give_up();
            let (delivered, unread, dropped) = (source.written, source.unread, source.lost());
            let accepted = delivered + unread;
            // A late worker may have offered packets that it has not handed on.
            let known = accepted + source.filtered + dropped;
            let received = if source.is_over { source.line.offered() } else { known };
            let times = [*epoch + *began, *epoch + clock.nanos()];
            let counts = Statistics { times, received, dropped, accepted, unread, delivered };
            pcapng::statistics(&mut last.blocks, interface as u32, &counts, &comment);
        }
        // A reader that has left did not take the last ones: the counters tell.
        tracing::info!(encoded = self.written, "{comment}");
        // There is a place, unless the reader is gone.
        let _ = self.out.try_send(last);
    }

    /// Adds the packets of all workers to the counters, but for those in chunks, which do so themselves.
    fn count(&mut self) {
        for source in &mut self.sources {
            source.give_up();
            for (counter, count) in [
                (&self.counters.offered, source.line.offered().saturating_sub(source.written)),
                (&self.counters.filtered, source.filtered),
                (&self.counters.unread, source.unread),
                (&self.counters.lost, source.lost()),
            ] {
                counter.add(count);
            }
        }
    }
}

#[cfg(test)]
mod tests;
