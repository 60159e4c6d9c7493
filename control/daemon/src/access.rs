//! Access list in the XDP program, which drops what the list denies before it costs a worker
//! anything.
//!
//! Workers and listeners decide by the same list. They alone do if denied clients are answered
//! REFUSED, without the program, and about all packets that the kernel receives.

use crate::problems::HostProblems;
use parking_lot::Mutex;
use ringdns_config::AccessConfig;
use ringdns_dataplane::policy::Refusal;
use ringdns_xdp::{AccessRules, Steering};
use std::sync::Arc;

/// Access list of the XDP program, while there is a program.
pub struct AccessGate {
    steering: Arc<Mutex<Option<Steering>>>,
    host_problems: Arc<HostProblems>,
}

impl AccessGate {
    /// Returns the gate of a program.
    pub fn new(steering: Arc<Mutex<Option<Steering>>>, host_problems: Arc<HostProblems>) -> Self {
        AccessGate { steering, host_problems }
    }

    /// Has the program decide by another list. It may block.
    pub fn set(&self, config: &AccessConfig) {
        let mut steering = self.steering.lock();
        let Some(steering) = steering.as_mut() else { return };
        set(steering, config);
        self.host_problems.set_interface(steering.notices());
    }
}

/// Has a program decide by an access list. If it cannot, workers do.
pub fn set(steering: &mut Steering, config: &AccessConfig) {
    if let Err(error) = steering.set_access(rules(config)) {
        tracing::warn!("workers alone drop what the access list denies, which is slower: {error}");
    }
}

/// Returns the rules for the program; `None`: it is not to decide, since denied clients get an answer.
fn rules(config: &AccessConfig) -> Option<AccessRules> {
    match config.refusal {
        Refusal::Drop => Some(AccessRules::new(&config.allow, &config.deny)),
        Refusal::Answer => None,
    }
}
