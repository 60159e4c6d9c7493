//! Leases: the appliance that holds the lease of a question asks upstreams, and the others look in
//! Redis again when the answer should be there.
//!
//! A lease is a key with a time to live, set only if it does not exist. Its value names the holder,
//! and only the holder removes it: an appliance that stalled past the end of its lease does not
//! remove that of another.

use super::{Fleet, PATIENCE, value};
use ringdns_dataplane::dns::key::Key;
use ringdns_resolver::tier::{Lease, LeaseReply};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{runtime::Handle, time::timeout};

/// Script that removes a lease if the caller still holds it.
const RELEASE: &str =
    "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// Right to renew an answer for the fleet. Released when dropped.
pub struct RedisLease {
    fleet: Arc<Fleet>,
    name: String,
    token: String,
}

impl Fleet {
    /// Requests the lease of a question. Waits no longer than the deadline of a lookup.
    pub(super) async fn ask_for_lease(self: Arc<Self>, key: &Key, lasts: Duration) -> LeaseReply {
        let Some(mut connection) = self.connection() else { return LeaseReply::Unknown };
        let name = format!("{}:{}:l:{}", self.prefix, value::VERSION, value::member(key.asked()));
        let token = format!("{}-{}", self.id, self.leases.fetch_add(1, Ordering::Relaxed));
        let mut command = redis::cmd("SET");
        command.arg(&name).arg(&token).arg("NX").arg("PX").arg(lasts.as_millis() as u64);
        let set = timeout(self.deadline, command.query_async::<Option<String>>(&mut connection)).await;
        // After a timeout the lease may be ours all the same: dropping this releases it.
        let lease = RedisLease { fleet: self.clone(), name, token };
        match set {
            Ok(Ok(Some(_))) => LeaseReply::Granted(Box::new(lease)),
            Ok(Ok(None)) => {
                lease.forget();
                LeaseReply::HeldByOther
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "redis: cannot request a lease");
                lease.forget();
                LeaseReply::Unknown
            }
            Err(_) => {
                self.had_trouble();
                LeaseReply::Unknown
            }
        }
    }

    /// Removes the lease from Redis. If that fails, it expires by itself.
    async fn release(&self, name: &str, token: &str) {
        let Some(mut connection) = self.connection() else { return };
        let mut release = redis::cmd("EVAL");
        release.arg(RELEASE).arg(1).arg(name).arg(token);
        let released = release.query_async::<u32>(&mut connection);
        match timeout(PATIENCE, released).await {
            Ok(Ok(1)) => {}
            Ok(Ok(_)) => self.counters.leases_lost.inc(),
            Ok(Err(error)) => tracing::debug!(%error, "redis: cannot release a lease"),
            Err(_) => tracing::debug!("redis: a lease was not released in time"),
        }
    }
}

impl RedisLease {
    /// Drops the lease without a release: this appliance does not hold it.
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
