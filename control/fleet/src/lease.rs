//! One renewal in the fleet: who has the lease of a question asks upstreams, and the others look again when it should be done.
//!
//! A lease is a key with a time to live that is set where there is none. It holds who has it and is removed by nobody else, so that
//! an appliance that was away for longer than it lasts does not end the lease of another.

use super::{Fleet, PATIENCE, value};
use ringdns_dataplane::dns::key::Key;
use ringdns_resolver::tier::{Lease, LeaseReply};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// Removes a lease if it is still that of who says so.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// The right to renew an answer for the fleet. Given back when it is dropped.
pub struct RedisLease {
    fleet: Arc<Fleet>,
    name: String,
    token: String,
}

impl Fleet {
    /// Asks for the lease of a question, for no longer than the deadline of a lookup.
    pub(super) async fn ask_for_lease(self: Arc<Self>, key: &Key, lasts: Duration) -> LeaseReply {
        let Some(mut connection) = self.connection() else { return LeaseReply::Unknown };
        let name = format!("{}:{}:l:{}", self.prefix, value::VERSION, value::member(key.asked()));
        let token = format!("{}-{}", self.id, self.leases.fetch_add(1, Ordering::Relaxed));
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(&token).arg("NX").arg("PX").arg(lasts.as_millis() as u64);
        let set = timeout(self.deadline, command.query_async::<Option<String>>(&mut connection)).await;
        // It may be ours all the same where there was no answer in time, and is then given back.
        let lease = RedisLease { fleet: self.clone(), name, token };
        match set {
            Ok(Ok(Some(_))) => LeaseReply::Granted(Box::new(lease)),
            Ok(Ok(None)) => {
                lease.forget();
                LeaseReply::HeldByOther
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "redis: no lease");
                lease.forget();
                LeaseReply::Unknown
            }
            Err(_) => {
                self.had_trouble();
                LeaseReply::Unknown
            }
        }
    }

    /// Removes the lease from Redis. Where that cannot be had it ends by itself.
    async fn release(&self, name: &str, token: &str) {
        let Some(mut connection) = self.connection() else { return };
        let mut release = redis::cmd("EVAL");
        release.arg(RELEASE).arg(1).arg(name).arg(token);
        let released = release.query_async::<u32>(&mut connection);
        match timeout(PATIENCE, released).await {
            Ok(Ok(1)) => {}
            Ok(Ok(_)) => self.counters.leases_lost.inc(),
            Ok(Err(error)) => tracing::debug!(%error, "redis: a lease could not be given back"),
            Err(_) => tracing::debug!("redis: a lease could not be given back in time"),
        }
    }
}

impl RedisLease {
    /// There is nothing to be given back.
    fn forget(mut self) {
        self.name.clear();
    }
}

impl Lease for RedisLease {}

impl Drop for RedisLease {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if self.name.is_empty() {
            return;
        }
        let (name, token) = (std::mem::take(&mut self.name), std::mem::take(&mut self.token));
        let fleet = self.fleet.clone();
        runtime.spawn(async move { fleet.release(&name, &token).await });
    }
}
