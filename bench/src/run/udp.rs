//! Kernel UDP sockets.

use super::{
    Plan, lane,
    source::Source,
    wire::{Route, Transport, Wire},
};
use crate::mmsg::{Receiver, Sender};
use anyhow::{Context, Result, bail, ensure};
use arrayvec::ArrayVec;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::sockopt,
    thread::{CpuSet, sched_setaffinity},
};
use std::{
    io,
    net::{SocketAddr, UdpSocket},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

/// Options of sending.
#[derive(Clone, Debug, clap::Args)]
pub struct UdpArgs {
    /// Sending threads (all but xdp); over rings, each has the queue of its number.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Sockets or connections a thread, each of its own source port (udp, tcp, dot).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sockets: u16,
    /// Queries in flight a thread when there is no --qps (all but xdp).
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// Wait this long for an answer, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// Cores to pin the threads to, in turn.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Compare the data of A, AAAA and TXT answers with what `ringbench upstream` says (all but xdp).
    #[arg(long)]
    pub verify_data: bool,
    /// An answer with a TTL above this is wrong: give what the upstream gives, in seconds (all but xdp).
    #[arg(long, value_name = "SECONDS")]
    pub max_ttl: Option<u32>,
}

/// How often a name is asked that got no answer, before warming gives up.
const WARM_TRIES: usize = 10;
/// Longest time for one pass of warming.
const WARM_LIMIT: Duration = Duration::from_secs(600);

/// Asks every name once and waits for its answer, so that a cache has it. Names without an answer, or with another
/// RCODE than NOERROR and NXDOMAIN, are asked again.
pub fn warm(plan: &Plan, target: SocketAddr) -> Result<()> {
    warm_over(plan, target, &Udp { target, sockets: plan.udp.sockets })
}

/// The same over another transport.
pub fn warm_over(plan: &Plan, target: SocketAddr, transport: &impl Transport) -> Result<()> {
    let mut missing: Vec<u32> = (0..plan.questions.len() as u32).collect();
    for _ in 0..WARM_TRIES {
        let source = Source::Names {
            names: &missing,
            questions: &plan.questions,
            template: &plan.template,
            seed: plan.seed,
        };
        missing = lane::ask_all(plan, source, transport, WARM_LIMIT)?;
        if missing.is_empty() || plan.stop.load(Relaxed) {
            return Ok(());
        }
        ensure!(
            missing.len() < plan.questions.len(),
            "{target} answers nothing: does a server run there, and does it reach its upstream?"
        );
    }
    bail!(
        "{} of {} names got no usable answer from {target} in {WARM_TRIES} tries: is its upstream slow or failing?",
        missing.len(),
        plan.questions.len()
    )
}

/// Sockets of their own ports.
#[derive(Debug)]
pub struct Udp {
    /// Whom they ask.
    pub target: SocketAddr,
    /// How many there are a sender.
    pub sockets: u16,
}

impl Transport for Udp {
    type Wire = Sockets;

    fn open(&self, lane: usize) -> Result<Sockets> {
        let sockets = (0..self.sockets).map(|_| connect(self.target)).collect::<Result<_>>()?;
        Ok(Sockets { lane, sockets, turn: 0, sender: Sender::default(), receiver: Receiver::default() })
    }

    fn flows(&self) -> u32 {
        u32::from(self.sockets)
    }
}

/// One sender's sockets.
pub struct Sockets {
    lane: usize,
    sockets: Vec<UdpSocket>,
    /// The one to read from next.
    turn: usize,
    sender: Sender,
    receiver: Receiver,
}

fn connect(target: SocketAddr) -> Result<UdpSocket> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
    socket.connect(target).with_context(|| format!("no route to {target}: is it the right address?"))?;
    // Answers wait here while queries are being sent; the kernel cuts this to what it permits.
    sockopt::set_socket_recv_buffer_size(&socket, 4 << 20)?;
    Ok(socket)
}

impl Wire for Sockets {
    #[inline]
    fn send(
        &mut self,
        flow: u32,
        count: usize,
        mut write: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> io::Result<usize> {
        for nth in 0..count {
            self.sender.push(None, |buffer| write(nth, buffer));
        }
        self.sender.flush(&self.sockets[flow as usize])
    }

    #[inline]
    fn receive(&mut self, mut take: impl FnMut(Route, &[u8])) -> io::Result<usize> {
        for _ in 0..self.sockets.len() {
            let flow = self.turn;
            self.turn = (flow + 1) % self.sockets.len();
            let received = self.receiver.recv(&self.sockets[flow])?;
            if received > 0 {
                for (message, _) in self.receiver.messages() {
                    take(Route { lane: self.lane, flow: flow as u32 }, message);
                }
                return Ok(received);
            }
        }
        Ok(0)
    }

    fn wait(&mut self, time: Duration) {
        wait_for(self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)), time);
    }
}

/// Sleeps until something happens on one of the descriptors, or for `time`.
pub(super) fn wait_for<'f>(descriptors: impl Iterator<Item = PollFd<'f>>, time: Duration) {
    // More sockets than these share the sleep's end: it is short anyway.
    let mut descriptors: ArrayVec<PollFd<'f>, 256> = descriptors.take(256).collect();
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    // Whatever ended the sleep, the sender looks at everything again.
    let _ = poll(&mut descriptors, Some(&time));
}

/// Pins the calling thread, the nth one, to its turn of `cores`, if there are any.
pub fn pin(cores: &[usize], nth: usize) -> Result<()> {
    let Some(core) = cores.get(nth % cores.len().max(1)) else { return Ok(()) };
    let mut set = CpuSet::new();
    ensure!(*core < CpuSet::MAX_CPU, "core {core} is beyond the {} that Linux knows", CpuSet::MAX_CPU);
    set.set(*core);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot pin to core {core}: has this machine so many?"))
}
