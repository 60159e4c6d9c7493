//! Bans: the XDP program drops queries over UDP from prefixes that workers found far above the rate
//! limit.
//!
//! The source of a flood may be forged, and a ban then hits whom the address belongs to. So bans are
//! short and few, spare what is exempt from the limit, and never concern TCP.

use parking_lot::Mutex;
use ringdns_api::BanView;
use ringdns_common::counters;
use ringdns_config::{ClientGroupConfig, RateLimitConfig};
use ringdns_dataplane::{
    clock::{Clock, Nanos},
    prefix::Prefix,
    punt::Link,
};
use ringdns_xdp::{MAX_BANS, Steering};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{task::spawn_blocking, time::sleep};

/// Time between two looks at the floods that workers tell of.
const LOOK: Duration = Duration::from_millis(250);
/// Least time between two log lines about new bans.
const LOG_EVERY: Nanos = 10_000_000_000;

counters! {
    /// Counters of bans.
    BanCounters {
        /// Prefixes banned, because they were far above the rate limit.
        begun,
        /// Bans that were extended, because the prefix was still far above the rate limit.
        extended,
        /// Prefixes far above the rate limit that were not banned, because an address in them is exempt.
        exempt,
        /// Prefixes far above the rate limit that were not banned, because as many as possible were.
        full,
    }
}

/// Banned prefix.
#[derive(Clone, Copy, Debug)]
struct Ban {
    prefix: Prefix,
    until: Nanos,
}

/// Bans of this process.
pub struct Bans {
    clock: Clock,
    state: Mutex<BanState>,
    /// Counters.
    pub counters: BanCounters,
}

#[derive(Default)]
struct BanState {
    /// Prefixes that are never banned.
    exempt: Vec<Prefix>,
    /// Time of a ban; zero: there are none.
    time: Nanos,
    active: Vec<Ban>,
    /// Time of the last log line.
    logged: Option<Nanos>,
    /// Number of bans begun since then.
    unlogged: u64,
}

impl Bans {
    /// Returns the bans of a process with these limits; none are active.
    pub fn new(clock: Clock, limit: Option<&RateLimitConfig>, groups: &[ClientGroupConfig]) -> Arc<Self> {
        let bans = Bans { clock, state: Mutex::default(), counters: BanCounters::default() };
        bans.set_limit(limit, groups);
        Arc::new(bans)
    }

    /// Replaces the limits. Bans that these would not have go at the next look.
    pub fn set_limit(&self, limit: Option<&RateLimitConfig>, groups: &[ClientGroupConfig]) {
        let limit = limit.filter(|limit| limit.ban_times > 0 && !limit.dry_run);
        let mut state = self.state.lock();
        let is_free = |group: &&ClientGroupConfig| group.limit.is_some_and(|limit| limit.per_second == 0);
        state.exempt = limit.map_or_else(Vec::new, |limit| limit.exempt.clone());
        state.exempt.extend(groups.iter().filter(is_free).flat_map(|group| &group.clients));
        state.time = limit.map_or(0, |limit| limit.ban_time.as_nanos() as Nanos);
    }

    /// Returns the active bans.
    pub fn list(&self) -> Vec<BanView> {
        let now = self.clock.nanos();
        let left = |ban: &Ban| ban.until.saturating_sub(now).div_ceil(1_000_000_000);
        let state = self.state.lock();
        let view = |ban: &Ban| BanView { prefix: ban.prefix.to_string(), left_secs: left(ban) };
        state.active.iter().map(view).collect()
    }

    /// Returns the banned prefix that a client is in.
    pub fn prefix_of(&self, client: IpAddr) -> Option<Prefix> {
        let state = self.state.lock();
        state.active.iter().map(|ban| ban.prefix).find(|prefix| prefix.contains(client.to_canonical()))
    }

    /// Returns the number of active bans.
    pub fn len(&self) -> usize {
        self.state.lock().active.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the XDP program's bans up to date until the task is dropped.
    pub async fn run(self: Arc<Self>, links: Vec<Arc<Link>>, steering: Arc<Mutex<Option<Steering>>>) {
        loop {
            sleep(LOOK).await;
            let floods: Vec<_> =
                links.iter().flat_map(|link| std::iter::from_fn(|| link.take_flood())).collect();
            if steering.lock().is_none() {
                // Without the program, workers drop what is over the limit.
                continue;
            }
            let Some(banned) = self.look(&floods) else { continue };
            let steering = steering.clone();
            // The watch over the interface may hold the lock for as long as the kernel takes.
            let set = move || steering.lock().as_mut().map_or(Ok(()), |steering| steering.set_bans(banned));
            if let Ok(Err(error)) = spawn_blocking(set).await {
                tracing::warn!("bans do not take effect, so workers drop what is over the limit: {error}");
            }
        }
    }

    /// Bans the prefixes of `floods`, and ends the bans whose time is over. Returns the banned
    /// prefixes if they have changed.
    fn look(&self, floods: &[Prefix]) -> Option<Vec<Prefix>> {
        let now = self.clock.nanos();
        let state = &mut *self.state.lock();
        let before = state.active.len();
        let BanState { active, exempt, time, .. } = state;
        let is_exempt = |prefix: &Prefix| exempt.iter().any(|other| other.overlaps(prefix));
        active.retain(|ban| ban.until > now && *time > 0 && !is_exempt(&ban.prefix));
        let (mut has_changed, mut begun) = (active.len() != before, Vec::new());
        for prefix in floods.iter().filter(|_| *time > 0) {
            let until = now + *time;
            if let Some(ban) = active.iter_mut().find(|ban| ban.prefix == *prefix) {
                ban.until = until;
                self.counters.extended.inc();
            } else if is_exempt(prefix) {
                self.counters.exempt.inc();
            } else if active.len() >= MAX_BANS as usize {
                self.counters.full.inc();
            } else {
                active.push(Ban { prefix: *prefix, until });
                begun.push(*prefix);
                self.counters.begun.inc();
                has_changed = true;
            }
        }
        if let Some(first) = begun.first() {
            state.log(now, first, begun.len() as u64);
        }
        has_changed.then(|| state.active.iter().map(|ban| ban.prefix).collect())
    }
}

impl BanState {
    /// Logs new bans, unless there was a line about bans a short time ago.
    fn log(&mut self, now: Nanos, first: &Prefix, begun: u64) {
        self.unlogged += begun;
        if self.logged.is_some_and(|logged| now.saturating_sub(logged) < LOG_EVERY) {
            return;
        }
        self.logged = Some(now);
        let (bans, active) = (std::mem::take(&mut self.unlogged), self.active.len());
        tracing::warn!(
            prefix = %first, bans, active,
            "far above rate_limit: its queries over UDP are dropped for rate_limit.ban_time; `ringctl policy bans` lists all bans"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    thread_local! {
        static NOW: Cell<Nanos> = const { Cell::new(0) };
    }

    fn limit(exempt: &[&str], ban_times: u32) -> RateLimitConfig {
        RateLimitConfig {
            per_second: 200,
            burst: 400,
            slip: 2,
            exempt: prefixes(exempt),
            dry_run: false,
            ban_times,
            ban_time: Duration::from_secs(10),
        }
    }

    fn prefixes(texts: &[&str]) -> Vec<Prefix> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn bans(limit: Option<&RateLimitConfig>) -> Arc<Bans> {
        NOW.set(0);
        Bans::new(Clock::simulated(|| NOW.get()), limit, &[])
    }

    fn at(seconds: u64) {
        NOW.set(seconds * 1_000_000_000);
    }

    #[test]
    fn a_ban_ends_and_a_flood_that_goes_on_extends_it() {
        let bans = bans(Some(&limit(&[], 10)));
        let flood = prefixes(&["192.0.2.1"]);
        assert_eq!(bans.look(&flood), Some(flood.clone()));
        assert_eq!(bans.look(&[]), None);
        at(6);
        assert_eq!(bans.look(&flood), None, "nothing has changed");
        assert_eq!(bans.list(), [BanView { prefix: "192.0.2.1/32".into(), left_secs: 10 }]);
        at(15);
        assert_eq!(bans.look(&[]), None);
        at(16);
        assert_eq!(bans.look(&[]), Some(Vec::new()));
        assert_eq!((bans.counters.begun.get(), bans.counters.extended.get()), (1, 1));
    }

    #[test]
    fn exempt_clients_are_never_banned_with_their_neighbours() {
        let bans = bans(Some(&limit(&["192.0.2.77", "2001:db8::/32"], 10)));
        assert_eq!(bans.look(&prefixes(&["192.0.2.0/24", "2001:db8:1::/48", "192.0.2.77"])), None);
        assert_eq!(bans.counters.exempt.get(), 3);
        let other = prefixes(&["192.0.2.78"]);
        assert_eq!(bans.look(&other), Some(other));
        bans.set_limit(Some(&limit(&["192.0.2.78"], 10)), &[]);
        assert_eq!(bans.look(&[]), Some(Vec::new()), "a reload exempts at once");
        let group = |limit| {
            let groups = format!(
                "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n[rate_limit]\n\
                 per_second = 200\n[[client_group]]\nname = \"a\"\nclients = [\"192.0.2.78\"]\nper_second = {limit}\n"
            );
            ringdns_config::Config::parse(&groups, std::path::Path::new("")).unwrap().lists.groups
        };
        let around = prefixes(&["192.0.2.0/24"]);
        bans.set_limit(Some(&limit(&[], 10)), &group(0));
        assert_eq!(bans.look(&around), None, "a client of the group has no limit");
        bans.set_limit(Some(&limit(&[], 10)), &group(9));
        assert_eq!(bans.look(&around), Some(around));
    }

    #[test]
    fn bans_are_bounded_and_can_be_turned_off() {
        let bans = bans(Some(&limit(&[], 10)));
        let many: Vec<Prefix> = (0..MAX_BANS + 9)
            .map(|number| Prefix::around(std::net::Ipv4Addr::from_bits(number << 8).into(), 24))
            .collect();
        assert_eq!(bans.look(&many).unwrap().len(), MAX_BANS as usize);
        assert_eq!(bans.counters.full.get(), 9);
        for off in [None, Some(&limit(&[], 0)), Some(&RateLimitConfig { dry_run: true, ..limit(&[], 10) })] {
            bans.set_limit(Some(&limit(&[], 10)), &[]);
            bans.look(&many);
            bans.set_limit(off, &[]);
            assert_eq!(bans.look(&many), Some(Vec::new()), "{off:?}");
        }
    }
}
