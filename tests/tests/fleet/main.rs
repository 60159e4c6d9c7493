//! Tests of appliances that share answers through a real Redis.

mod ill;
mod index;
mod places;
mod purges;
mod renewals;
mod sharing;
mod warm;

use std::net::Ipv4Addr;

use ringdns_testkit::{Client, Host, Query, Redis, Ringdnsd, Settings, Upstream, free_address, sums, until};

/// Deadline for Redis on a busy machine. Another test checks deadlines.
const PATIENT: &str = "deadline = \"500ms\"";

/// An appliance of the fleet.
struct Appliance {
    ringdnsd: Ringdnsd,
    client: Client,
}

impl Appliance {
    /// Starts an appliance with more keys for `[redis]`, and more keys for `[cache]` or whole
    /// tables.
    #[track_caller]
    fn start(upstream: &Upstream, url: &str, redis: &str, more: &str) -> Self {
        Self::start_behind(upstream, url, redis, more, &[])
    }

    #[track_caller]
    fn start_behind(upstream: &Upstream, url: &str, redis: &str, more: &str, wrapper: &[&str]) -> Self {
        let host = Host::local();
        let address = free_address(&host);
        let settings = Settings {
            tables: format!(
                "[cache]\nbytes_per_worker = \"1MiB\"\nhost_bytes = \"4MiB\"\n{more}\n[redis]\nurl = {url:?}\n{redis}\n"
            ),
            ..Settings::loopback(address, upstream.address())
        };
        Self {
            ringdnsd: Ringdnsd::start_behind(&host, &settings, wrapper),
            client: Client::of(&host, address),
        }
    }

    /// Starts an appliance, and waits until it has reached Redis.
    #[track_caller]
    fn joined(upstream: &Upstream, redis: &Redis) -> Self {
        let appliance = Self::start(upstream, &redis.url(), PATIENT, "");
        appliance.joins();
        appliance
    }

    #[track_caller]
    fn joins(&self) {
        until("the fleet's tier is there", || self.is_up().then_some(()));
    }

    fn is_up(&self) -> bool {
        self.ringdnsd.stats()["fleet"]["up"] == true
    }

    #[track_caller]
    fn count(&self, counter: &str) -> u64 {
        self.ringdnsd.stat(&format!("/fleet/counters/{counter}"))
    }

    #[track_caller]
    fn asks(&self, name: &str) -> Ipv4Addr {
        let reply = self.client.ask(&Query::a(name));
        assert_eq!(reply.rcode(), 0, "{name}");
        reply.addresses()[0]
    }

    /// Asks for a name, and waits until Redis has the answer.
    #[track_caller]
    fn teaches(&self, name: &str) -> Ipv4Addr {
        let before = self.count("stored");
        let address = self.asks(name);
        until("the answer is stored", || (self.count("stored") > before).then_some(()));
        address
    }

    /// Checks that every lookup and every answer has one outcome.
    #[track_caller]
    fn sums_close(&self) {
        until("no lookup and no store is under way", || {
            sums::fleet_is_at_rest(&self.ringdnsd.stats()["fleet"]).then_some(())
        });
        sums::fleet_closes(&self.ringdnsd.stats()["fleet"]);
    }
}

/// Returns the keys of the answers in Redis.
#[track_caller]
fn answers(redis: &Redis) -> Vec<String> {
    redis.keys().into_iter().filter(|key| key.starts_with("ringdns:2:a:")).collect()
}
