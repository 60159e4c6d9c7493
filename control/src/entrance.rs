//! Where queries come in: AF_XDP with the kernel behind it, or the kernel alone.
//!
//! With AF_XDP, one more worker sits at kernel sockets on the same addresses. It answers what the XDP program leaves
//! to the kernel (fragments, IP options, queues that are not served), and everything while the program is off.

use crate::{
    config::{Config, Mode},
    cores,
    workers::{Common, Plan, Source, StartError, Started, Workers},
    xdp::{AttachMode, SteerConfig, SteerError, Steering},
};
use core_affinity::CoreId;
use ringdns_dataplane::port::{nic::Nic, xsk::Opened};
use std::{net::SocketAddr, os::fd::AsFd};

/// The most that the worker behind AF_XDP has for its cache: little comes its way.
const BEHIND_BYTES: u64 = 8 << 20;

/// Why there is no way in.
#[derive(Debug, thiserror::Error)]
pub enum EntranceError {
    /// The XDP program.
    #[error("{0}")]
    Steer(#[from] SteerError),
    /// A worker.
    #[error("{0}")]
    Worker(#[from] StartError),
}

/// The way in, open.
pub struct Entrance {
    /// The XDP program, attached. Before the workers, so that it is dropped first: no packet may be steered to a
    /// socket that is being closed.
    pub steering: Option<Steering>,
    /// The workers.
    pub workers: Workers,
    /// How packets are received, and why so.
    pub receiving: String,
    /// The cores that no worker has to itself.
    pub spare_cores: Vec<CoreId>,
}

/// Opens the way in that the configuration asks for, or the kernel's if AF_XDP is refused and may be replaced.
pub fn open(listen: &[SocketAddr], common: &Common<'_>) -> Result<Entrance, EntranceError> {
    let server = &common.config.server;
    let Some(interface) = &server.interface else {
        return over_kernel(listen, common, "kernel sockets".into());
    };
    match over_xdp(interface, listen, common) {
        Err(reason) if server.fallback => {
            tracing::warn!(
                "AF_XDP cannot be used: {reason}. Serving over kernel sockets instead, which is slower"
            );
            over_kernel(listen, common, format!("kernel sockets, because AF_XDP cannot be used: {reason}"))
        }
        opened => opened,
    }
}

fn over_kernel(
    listen: &[SocketAddr],
    common: &Common<'_>,
    receiving: String,
) -> Result<Entrance, EntranceError> {
    let plan = cores::Plan::new(common.config.server.workers);
    let mut workers = Workers::default();
    for worker in 0..plan.workers() {
        let source = Source::Sockets(listen.to_vec());
        let cache_bytes = common.config.cache.bytes_per_worker;
        let (cores, alone) = (plan.of_worker(worker), plan.is_alone(worker));
        workers.add(Plan { source, cores, cache_bytes, alone }, common)?;
    }
    Ok(Entrance { steering: None, workers, receiving, spare_cores: plan.of_control().to_vec() })
}

fn over_xdp(interface: &str, listen: &[SocketAddr], common: &Common<'_>) -> Result<Entrance, EntranceError> {
    let Config { server, cache, .. } = common.config;
    let mode = attach_mode(server.mode);
    // Declared in this order so that on an error the program goes before the workers.
    let mut workers = Workers::default();
    let mut steering = Steering::load(&SteerConfig { interface, listen, mode })?;
    let first = man_queues(interface, &mut steering, &mut workers, common)?;
    let queues = workers.links.len();
    let spare_cores = cores::Plan::new(Some(queues)).of_control().to_vec();
    let source = Source::Sockets(listen.to_vec());
    let cache_bytes = cache.bytes_per_worker.min(BEHIND_BYTES);
    workers.add(Plan { source, cores: spare_cores.clone(), cache_bytes, alone: false }, common)?;
    let attachment = steering.attach()?;
    let sockets = first.map_or_else(String::new, |opened| format!("{} ({})", opened.mode, opened.reason));
    let receiving =
        format!("AF_XDP on {interface}, queues: {queues}, program: {attachment}, sockets: {sockets}");
    Ok(Entrance { steering: Some(steering), workers, receiving, spare_cores })
}

/// Starts a worker for each queue, and gives the program its socket. Returns how the first was opened.
fn man_queues(
    interface: &str,
    steering: &mut Steering,
    workers: &mut Workers,
    common: &Common<'_>,
) -> Result<Option<Opened>, EntranceError> {
    let Config { server, cache, .. } = common.config;
    let plan = cores::Plan::new(None);
    let mut first = None;
    for queue in queues(interface, server.queues.as_deref()) {
        let source = Source::Queue { interface: interface.to_owned(), queue };
        let worker = workers.links.len();
        let (cores, alone) = (plan.of_worker(worker), plan.is_alone(worker));
        let cache_bytes = cache.bytes_per_worker;
        let Started { socket } = workers.add(Plan { source, cores, cache_bytes, alone }, common)?;
        if let Some((queue, socket, opened)) = socket {
            steering.add_socket(queue, socket.as_fd())?;
            first.get_or_insert(opened);
        }
    }
    Ok(first)
}

/// The queues to serve: those that are listed, or all that the interface has.
fn queues(interface: &str, listed: Option<&[u32]>) -> Vec<u32> {
    if let Some(queues) = listed {
        return queues.to_vec();
    }
    let count = Nic::look(interface).queues.unwrap_or_else(|| {
        tracing::warn!(
            "neither the driver of {interface} nor sysfs tells how many receive queues it has: serving queue 0, and \
             kernel sockets the others; list them in server.queues"
        );
        1
    });
    (0..count).collect()
}

fn attach_mode(mode: Mode) -> AttachMode {
    match mode {
        Mode::Auto => AttachMode::Auto,
        Mode::ZeroCopy | Mode::Copy => AttachMode::Driver,
        Mode::Generic => AttachMode::Generic,
    }
}
