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
    /// Sending threads (all but xdp); over rings, each has the queue with its number.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Sockets or connections a thread, each with its own source port (udp, tcp, dot).
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub sockets: u16,
    /// Queries in flight a thread without --qps (all but xdp).
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    pub window: u16,
    /// Timeout of an answer, in milliseconds.
    #[arg(long, default_value_t = 1000)]
    pub timeout_ms: u64,
    /// Cores to pin the threads to, in turn.
    #[arg(long, value_delimiter = ',')]
    pub cores: Vec<usize>,
    /// Compare the data of A, AAAA and TXT answers with that of `ringbench upstream` (all but xdp).
    #[arg(long)]
    pub verify_data: bool,
}

/// Times that a name is asked without an answer before warming gives up.
const WARM_TRIES: usize = 10;
/// Longest time for one pass of warming.
const WARM_LIMIT: Duration = Duration::from_secs(600);

/// Asks every name once and waits for its answer, so that a cache has it. Names without an answer,
/// or with an RCODE other than NOERROR and NXDOMAIN, are asked again.
pub fn warm(plan: &Plan, target: SocketAddr, transport: &impl Transport) -> Result<()> {
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
            "{target} does not answer: does a server run there, and does it reach its upstream?"
        );
    }
    bail!(
        "{} of {} names got no usable answer from {target} in {WARM_TRIES} tries: is its upstream slow or failing?",
        missing.len(),
        plan.questions.len()
    )
}

/// Kernel sockets, each with its own port.
#[derive(Debug)]
pub struct Udp {
    /// Address of the server.
    pub target: SocketAddr,
    /// Number of sockets of a sender.
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

/// Sockets of one sender.
pub struct Sockets {
    lane: usize,
    sockets: Vec<UdpSocket>,
    /// Index of the next socket to read from.
    turn: usize,
    sender: Sender,
    receiver: Receiver,
}

fn connect(target: SocketAddr) -> Result<UdpSocket> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).context("cannot open a UDP socket")?;
    socket.connect(target).with_context(|| format!("no route to {target}: is it the right address?"))?;
    // Answers wait here while queries are being sent; the kernel limits this to what it permits.
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
    // Sockets beyond this number do not end the sleep, which is short anyway.
    let mut descriptors: ArrayVec<PollFd<'f>, 256> = descriptors.take(256).collect();
    let time = Timespec { tv_sec: time.as_secs() as i64, tv_nsec: i64::from(time.subsec_nanos()) };
    // Whatever ended the sleep, the sender checks everything again.
    let _ = poll(&mut descriptors, Some(&time));
}

/// Pins the calling thread, the nth one, to one of `cores` in turn, if there are any.
pub fn pin(cores: &[usize], nth: usize) -> Result<()> {
    let Some(core) = cores.get(nth % cores.len().max(1)) else { return Ok(()) };
    let mut set = CpuSet::new();
    ensure!(*core < CpuSet::MAX_CPU, "core {core} is beyond the {} that Linux knows", CpuSet::MAX_CPU);
    set.set(*core);
    sched_setaffinity(None, &set)
        .with_context(|| format!("cannot pin to core {core}: has this machine so many?"))
}
