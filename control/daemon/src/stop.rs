//! End of the process: signals that ask for it, the time in which clients are sent elsewhere, and the
//! questions in flight.

use crate::{admin::Service, service_manager};
use ringdns_dataplane::punt::Link;
use ringdns_resolver::Resolver;
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

/// Time that a stop waits for questions in flight.
pub const GRACE: Duration = Duration::from_secs(1);

/// Signals that ask for a stop.
pub struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl StopSignals {
    /// Takes these signals over from now on.
    pub fn new() -> io::Result<Self> {
        Ok(StopSignals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Returns the name of the next one.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}

/// Goes on answering for `control.drain`, or until another signal, while `/readyz` tells load balancers
/// and routers to send clients elsewhere.
pub async fn drain(service: &Service, signals: &mut StopSignals) {
    let time = service.config.control.drain;
    if time.is_zero() || !service.ready.load(Ordering::Acquire) {
        return;
    }
    service.draining.store(true, Ordering::Release);
    service_manager::extend(time);
    tracing::info!(seconds = time.as_secs_f64(), "draining: /readyz answers 503, and queries are answered");
    tokio::select! {
        () = sleep(time) => {}
        signal = signals.next() => tracing::info!(signal, "draining ends early"),
    }
}

/// Waits until no client waits for an answer, at most [`GRACE`].
pub async fn settle(links: &[Arc<Link>], resolver: &Resolver) {
    let idle = async {
        while resolver.under_way() > 0 || links.iter().any(|link| link.has_punts()) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    // Clients whose answers take longer will ask again.
    drop(timeout(GRACE, idle).await);
}
