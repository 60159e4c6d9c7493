//! `ringbench responder`: the least work that a server on AF_XDP can do. It gives every query one
//! constant answer, through the port and steering program that ringdnsd uses, and so is the
//! baseline for the cost of ringdnsd's own work.

use crate::{run::udp::pin, stop};
use anyhow::{Context, Result};
use ringdns_dataplane::{
    checksum::{self, Checksums},
    doorbell::Doorbell,
    packet::Envelope,
    port::{
        Burst, Port,
        xsk::{BusyPoll, Opened, Request, XskConfig, XskPort},
    },
};
use ringdns_xdp::{AttachMode, SteerConfig, Steering};
use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Gives every query the same answer, one A record, over AF_XDP. Needs root.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Interface to answer on.
    #[arg(long)]
    pub interface: String,
    /// Queues of the interface; each has a thread.
    #[arg(long, value_delimiter = ',', default_value = "0")]
    pub queue: Vec<u32>,
    /// Addresses and ports to answer for.
    #[arg(long, required = true)]
    pub listen: Vec<SocketAddr>,
    /// Mode of the socket.
    #[arg(long, value_enum, default_value_t = Mode::Auto)]
    pub mode: Mode,
    /// Cores to run on, one a queue in turn.
    #[arg(long, value_delimiter = ',')]
    pub core: Vec<usize>,
    /// Let the threads drive the NIC instead of its interrupts (preferred busy polling), as ringdnsd's `busy_poll` does.
    #[arg(long)]
    pub busy_poll: bool,
    /// Trust the checksums of received packets, as ringdnsd's `trust_checksums` does.
    #[arg(long)]
    pub trust_checksums: bool,
    /// Print the number of answers so far twice a second.
    #[arg(long)]
    pub progress: bool,
}

/// Mode of the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Zero-copy if the driver supports it, else copy.
    Auto,
    /// Zero-copy only: fail without it.
    ZeroCopy,
    /// Copy.
    Copy,
    /// Copy, with the XDP program in the kernel's network stack instead of the driver.
    Generic,
}

impl Mode {
    fn of_socket(self) -> Request {
        match self {
            Mode::Auto => Request::Auto,
            Mode::ZeroCopy => Request::ZeroCopy,
            Mode::Copy => Request::Copy,
            Mode::Generic => Request::Generic,
        }
    }

    fn of_program(self) -> AttachMode {
        match self {
            Mode::Auto => AttachMode::Auto,
            Mode::ZeroCopy | Mode::Copy => AttachMode::Driver,
            Mode::Generic => AttachMode::Generic,
        }
    }
}

/// Time to poll for packets before sleeping.
const SPIN: Duration = Duration::from_micros(50);
/// Longest sleep: delay of a stop whose signal comes just before the sleep.
const NAP: Duration = Duration::from_millis(200);
/// Least time between two lines of progress.
const PROGRESS: Duration = Duration::from_millis(400);
/// Settings of busy polling, as in ringdnsd's workers.
const BUSY_POLL: BusyPoll = BusyPoll { usecs: 20, budget: 64 };

/// Answers of one thread, in cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Answered(AtomicU64);

/// Opened port, as the thread that steers packets to it needs it.
struct Ready {
    queue: u32,
    socket: OwnedFd,
    opened: Opened,
}

/// `ringbench responder`.
pub fn run(args: &Args) -> Result<()> {
    let stop = stop::on_signal()?;
    let (interface, mode) = (args.interface.as_str(), args.mode.of_program());
    let mut steering =
        Steering::load(&SteerConfig { interface, listen: &args.listen, vlans: &[], prefixes: &[], mode })?;
    let answered: Vec<Answered> = args.queue.iter().map(|_| Answered::default()).collect();
    thread::scope(|scope| {
        let (sender, ready) = mpsc::channel();
        let workers = answered.iter().enumerate().map(|(number, answered)| {
            let (sender, stop) = (sender.clone(), &*stop);
            scope.spawn(move || {
                // A failure on one queue ends them all.
                work(args, number, answered, &sender, stop).inspect_err(|_| stop.store(true, Relaxed))
            })
        });
        let workers: Vec<_> = workers.collect();
        drop(sender);
        let watched = watch(args, &mut steering, &ready, &answered, &stop);
        // Whatever ended the wait, the threads end too, and return their ports.
        stop.store(true, Relaxed);
        // Detached before the ports are closed: no packet may be steered to a closed socket.
        steering.detach();
        let ports: Result<Vec<XskPort>> = workers
            .into_iter()
            .map(|worker| worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect();
        // A thread that failed returns its error.
        for mut port in ports? {
            println!("{:?}", port.stats());
        }
        watched
    })
}

/// Steers packets to the threads' sockets once all are open, and waits for the end.
fn watch(
    args: &Args,
    steering: &mut Steering,
    ready: &mpsc::Receiver<Ready>,
    answered: &[Answered],
    stop: &AtomicBool,
) -> Result<()> {
    let mut first = None;
    for _ in answered {
        // A thread that fails to open its port drops its sender.
        let Ok(Ready { queue, socket, opened }) = ready.recv() else { return Ok(()) };
        steering.add_socket(queue, socket.as_fd())?;
        first.get_or_insert(opened);
    }
    let attachment = steering.attach()?;
    if let Some(opened) = first {
        let pages = if opened.hugepages { ", on huge pages" } else { "" };
        println!("answering on {}, program: {attachment}, socket: {}{pages}", args.interface, opened.mode);
    }
    let began = Instant::now();
    let mut told = began;
    while !stop.load(Relaxed) {
        thread::sleep(NAP);
        if args.progress && told.elapsed() >= PROGRESS {
            told = Instant::now();
            let total: u64 = answered.iter().map(|answered| answered.0.load(Relaxed)).sum();
            println!("answered {total} in {:.6} s", began.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

/// Opens the port of the `number`th queue, reports that, and serves it.
fn work(
    args: &Args,
    number: usize,
    answered: &Answered,
    ready: &mpsc::Sender<Ready>,
    stop: &AtomicBool,
) -> Result<XskPort> {
    pin(&args.core, number)?;
    let queue = args.queue[number];
    let mut port = XskPort::open(&XskConfig {
        mode: args.mode.of_socket(),
        trust_checksums: args.trust_checksums,
        busy_poll: args.busy_poll.then_some(BUSY_POLL),
        ..XskConfig::new(&args.interface, queue)
    })?;
    let socket = port.fd().try_clone_to_owned().context("cannot duplicate a socket")?;
    // Nobody listens any more if another thread failed.
    let _ = ready.send(Ready { queue, socket, opened: port.opened().clone() });
    serve(&mut port, &answered.0, stop)?;
    Ok(port)
}

fn serve(port: &mut XskPort, answered: &AtomicU64, stop: &AtomicBool) -> Result<()> {
    let nobody = Doorbell::new().context("cannot make an eventfd")?;
    let mut burst = Burst::new();
    let mut busy = Instant::now();
    let mut sent = 0;
    while !stop.load(Relaxed) {
        port.recv(&mut burst);
        let received = burst.len();
        for mut frame in burst.drain(..) {
            let len = frame.len();
            match respond(port.frames().buffer(&mut frame), len) {
                Some(len) => {
                    frame.set_len(len);
                    sent += 1;
                    port.send(frame);
                }
                None => port.frames().release(frame),
            }
        }
        port.flush();
        if received > 0 {
            answered.store(sent, Relaxed);
            busy = Instant::now();
        } else if busy.elapsed() >= SPIN {
            port.wait(nobody.fd(), NAP).context("cannot wait for packets")?;
        }
    }
    Ok(())
}

/// A record of type A for the question's name: 192.0.2.1, with a TTL of five minutes.
const ANSWER: [u8; 16] = *b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x01\x2c\x00\x04\xc0\x00\x02\x01";

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const UDP: usize = 8;
const DNS: usize = 12;

/// Turns the query of `len` bytes at the start of `frame` into its answer, and returns the answer's
/// length.
///
/// The question is not parsed. A query with EDNS gets a broken answer: this is a baseline, not a
/// server.
#[inline]
fn respond(frame: &mut [u8], len: usize) -> Option<usize> {
    let is_plain_ipv4 = frame[12..15] == [0x08, 0x00, 0x45];
    if !is_plain_ipv4 {
        return respond_ipv6(frame, len);
    }
    let query = usize::from(u16::from_be_bytes([frame[16], frame[17]])).checked_sub(IPV4)?;
    let end = ETHERNET + IPV4 + query;
    if query < UDP + DNS || end > len {
        return None;
    }
    let (packet, rest) = frame.split_at_mut(end);
    *rest.first_chunk_mut()? = ANSWER;
    let (mac, ip) = packet.split_at_mut(ETHERNET);
    swap::<6>(mac);
    let (ip, udp) = ip.split_at_mut(IPV4);
    swap::<4>(&mut ip[12..]);
    // Swapping the addresses leaves the sum as it is; the length grew (RFC 1624).
    let total = u16::from_be_bytes([ip[2], ip[3]]) + ANSWER.len() as u16;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    let sum = checksum::word(!u16::from_be_bytes([ip[10], ip[11]])) + checksum::word(ANSWER.len() as u16);
    ip[10..12].copy_from_slice(&(!checksum::fold(sum)).to_be_bytes());
    swap::<2>(udp);
    udp[4..6].copy_from_slice(&((query + ANSWER.len()) as u16).to_be_bytes());
    // RFC 768: no checksum.
    udp[6..8].fill(0);
    mark_answered(&mut udp[UDP..]);
    Some(end + ANSWER.len())
}

/// Turns a query over IPv6 into its answer; IPv6 requires the UDP checksum.
fn respond_ipv6(frame: &mut [u8], len: usize) -> Option<usize> {
    let (envelope, message) = Envelope::open(&frame[..len], Checksums::Trust).ok()?;
    let at = envelope.message();
    if message < DNS {
        return None;
    }
    mark_answered(&mut frame[at..]);
    *frame[at + message..].first_chunk_mut()? = ANSWER;
    Some(envelope.seal(frame, message + ANSWER.len(), None))
}

/// Sets QR and RA, and the count of one answer.
#[inline(always)]
fn mark_answered(message: &mut [u8]) {
    message[2] |= 0x80;
    message[3] = 0x80;
    message[7] = 1;
}

/// Swaps the first `N` bytes with the next `N`.
#[inline(always)]
fn swap<const N: usize>(bytes: &mut [u8]) {
    let (first, second) = bytes.split_at_mut(N);
    first.swap_with_slice(&mut second[..N]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{Reply, check},
        question::wire_question,
        stage::{Ip, packet, template},
    };
    use etherparse::{SlicedPacket, TransportSlice};

    #[test]
    fn answers_are_what_a_client_takes() {
        let question = wire_question("n000000.rb.example", 1).unwrap();
        for ip in [Ip::V4, Ip::V6] {
            let query = packet(&template(&[]).unwrap(), &question, ip).unwrap();
            let mut frame = query.clone();
            frame.resize(2048, 0);
            let len = respond(&mut frame, query.len()).unwrap();
            let answer = SlicedPacket::from_ethernet(&frame[..len]).unwrap();
            assert_eq!((&frame[..6], &frame[6..12]), (&query[6..12], &query[..6]));
            if let Some(ip) = answer.net.as_ref().and_then(|net| net.ipv4_ref()) {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                assert_eq!((header.source, header.destination), ([10, 53, 0, 2], [10, 53, 0, 1]));
            }
            let Some(TransportSlice::Udp(udp)) = answer.transport else { panic!("{answer:?}") };
            assert_eq!((udp.source_port(), udp.destination_port()), (53, 40_000));
            assert_eq!(udp.payload().len(), 52);
            assert_eq!(check(udp.payload(), &question, false), Ok(Reply { rcode: 0, truncated: false }));
            let message = hickory_proto::op::Message::from_vec(udp.payload()).unwrap();
            assert_eq!(message.answers[0].data.to_string(), "192.0.2.1");
        }
    }

    #[test]
    fn what_is_too_short_is_left_alone() {
        let question = wire_question("a.test", 1).unwrap();
        let query = packet(&template(&[]).unwrap(), &question, Ip::V4).unwrap();
        assert_eq!(respond(&mut [query.as_slice(), &[0; 64]].concat(), 40), None);
        let mut runt = query.clone();
        runt[17] = 27;
        assert_eq!(respond(&mut runt, query.len()), None);
    }
}
