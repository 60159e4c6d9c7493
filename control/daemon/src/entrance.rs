//! Reception of queries: over AF_XDP with kernel sockets behind it, or over kernel sockets alone.
//!
//! With AF_XDP, one more worker serves kernel sockets on the same addresses. It answers packets
//! that the XDP program passes to the kernel (fragments, IP options, queues that are not served),
//! and all packets while the program is detached and the other workers have not switched to kernel
//! sockets yet: see [`crate::nic`].

use crate::{
    access,
    attach::{EntranceError, each_queue, steer},
    nic::{Attached, InterfaceKey, Interfaces, Receiving, Watch, Watched},
    workers::{Common, PortSource, WorkerPlan, Workers},
};
use core_affinity::CoreId;
use parking_lot::Mutex;
use ringdns_common::cores;
use ringdns_config::{Config, XdpMode};
use ringdns_xdp::{AttachMode, SteerConfig, Steering, VerdictReader};
use std::{net::SocketAddr, sync::Arc};

/// Most bytes for the cache of the worker behind AF_XDP: it gets few queries.
const BEHIND_BYTES: u64 = 8 << 20;

/// Open reception of queries.
pub struct Entrance {
    /// Attached XDP program. It comes before the workers so that it is dropped first: no packet may
    /// be steered to a socket that is being closed.
    pub steering: Arc<Mutex<Option<Steering>>>,
    /// Reader of the XDP program's counters.
    pub tally: Option<VerdictReader>,
    /// Watch over the interface, yet to be started.
    pub watch: Option<Watch>,
    /// Running workers.
    pub workers: Workers,
    /// Way in which packets are received, and the reason for it.
    pub receiving: Arc<Receiving>,
    /// Cores that no worker has to itself.
    pub spare_cores: Vec<CoreId>,
    /// Whether workers are pinned to these cores, since each core has one.
    pub is_shared: bool,
}

/// Opens AF_XDP or kernel sockets, as configured. Kernel sockets replace AF_XDP if that fails and
/// `server.fallback` allows it.
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
    let plan = cores::CorePlan::new(common.config.server.workers);
    let mut workers = Workers::new(plan.of_control().to_vec())?;
    for worker in 0..plan.workers() {
        let source = PortSource::Sockets(listen.to_vec());
        let cache_bytes = common.config.cache.bytes_per_worker;
        let (cores, alone) = (plan.of_worker(worker), plan.is_alone(worker));
        workers.add(WorkerPlan { source, cores, cache_bytes, alone }, common)?;
    }
    Ok(Entrance {
        steering: Arc::default(),
        tally: None,
        watch: None,
        workers,
        receiving: Arc::new(Receiving::over_sockets(receiving)),
        spare_cores: plan.of_control().to_vec(),
        is_shared: plan.is_shared(),
    })
}

fn over_xdp(interface: &str, listen: &[SocketAddr], common: &Common<'_>) -> Result<Entrance, EntranceError> {
    let Config { server, cache, access, .. } = common.config;
    let mode = attach_mode(server.mode);
    let plan = cores::CorePlan::new(None);
    // Declared in this order so that after an error the program is dropped before the workers.
    let mut workers = Workers::new(plan.of_control().to_vec())?;
    let mut steering =
        Steering::load(&SteerConfig { interface, listen, vlans: &server.vlans, prefixes: &[], mode })?;
    access::set(&mut steering, access);
    let mut interfaces = Interfaces::open().map_err(EntranceError::Watch)?;
    let sockets = each_queue(interface, server.queues.as_deref(), usize::MAX, |worker, queue| {
        let source = PortSource::Queue { interface: interface.to_owned(), queue };
        let (cores, alone) = (plan.of_worker(worker), plan.is_alone(worker));
        workers.add(WorkerPlan { source, cores, cache_bytes: cache.bytes_per_worker, alone }, common)
    })?;
    let seats = workers.seats().to_vec();
    let plan = cores::CorePlan::new(Some(seats.len()));
    let (spare_cores, is_shared) = (plan.of_control().to_vec(), plan.is_shared());
    let source = PortSource::Sockets(listen.to_vec());
    let cache_bytes = cache.bytes_per_worker.min(BEHIND_BYTES);
    workers.add(WorkerPlan { source, cores: spare_cores.clone(), cache_bytes, alone: false }, common)?;

    let index = steering.interface_index();
    let before = interfaces.find(InterfaceKey::Index(index)).map_err(EntranceError::Watch)?;
    let (sockets, text) = steer(interface, &mut steering, sockets)?;
    tracing::info!(
        "nftables and iptables of this host do not see the queries that AF_XDP takes on {interface}: [access] decides \
         who is answered"
    );
    common.host_problems.set_interface(steering.notices());
    let was_up = before.is_some_and(|interface| interface.is_up());
    let attached = Attached { index, program: steering.program_id()?, sockets, was_up };
    let tally = steering.tally();
    let steering = Arc::new(Mutex::new(Some(steering)));
    let receiving = Arc::new(Receiving::by_xdp(interface, text));
    let watched = Watched {
        interface: interface.to_owned(),
        queues: server.queues.clone(),
        listen: listen.to_vec(),
        udp_limit: server.udp_limit,
        fallback: server.fallback,
        steering: steering.clone(),
        seats,
        host_problems: common.host_problems.clone(),
        receiving: receiving.clone(),
    };
    let watch = Some(Watch::over(watched, interfaces, attached));
    Ok(Entrance { steering, tally: Some(tally), watch, workers, receiving, spare_cores, is_shared })
}

fn attach_mode(mode: XdpMode) -> AttachMode {
    match mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::ZeroCopy | XdpMode::Copy => AttachMode::Driver,
        XdpMode::Generic => AttachMode::Generic,
    }
}
