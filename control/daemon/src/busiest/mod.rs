//! Busiest names, zones and clients of the last hour, from the sightings of the workers and of TCP.
//!
//! Clients and names that the query log leaves out are not counted, and clients' addresses are kept in
//! the form that `query_log.privacy` says, whether the log is enabled or not.

mod minutes;
mod sketch;

use arc_swap::ArcSwap;
pub use minutes::MINUTES;
use minutes::Minutes;
use parking_lot::Mutex;
use ringdns_api::{Ranking, RankingKind, RankingRow};
use ringdns_common::names;
use ringdns_config::{Config, Problem};
use ringdns_dataplane::{
    clock::Clock,
    dns::{key::Key, rcode},
    log::Sieve,
    punt::Link,
    sighting::{Rhythm, Sighting, SightingLine, Stage},
};
use ringdns_querylog::{ClientPrivacy, LogGroups};
use ringdns_resolver::flight::domain;
use std::{net::Ipv6Addr, sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval};

/// Interval at which all lines are read. A line must last that long.
const PACE: Duration = Duration::from_millis(100);
/// Number of such intervals in a second.
const TICKS: u64 = 10;

/// Counts of the busiest names, zones and clients.
pub struct Busiest {
    clock: Clock,
    sieve: Sieve,
    privacy: ClientPrivacy,
    groups: ArcSwap<LogGroups>,
    /// In the order of [`RankingKind::ALL`].
    minutes: Mutex<[Minutes; 4]>,
    tcp: SightingLine,
    rhythm_of_tcp: Mutex<Rhythm>,
}

impl Busiest {
    /// Returns empty counts, with what the configuration of the query log leaves out.
    pub fn new(config: &Config, clock: Clock) -> Result<Arc<Self>, Problem> {
        let mut log = config.query_log.clone();
        if !log.enabled {
            // The key of a log that is off need not be there.
            log.key_file = None;
        }
        let (sieve, privacy) = ringdns_querylog::choice(&log)?;
        let now = clock.secs() / 60;
        Ok(Arc::new(Busiest {
            clock,
            sieve,
            privacy,
            groups: ArcSwap::default(),
            minutes: Mutex::new(RankingKind::ALL.map(|_| Minutes::new(now))),
            tcp: SightingLine::default(),
            rhythm_of_tcp: Mutex::default(),
        }))
    }

    /// Replaces the groups of clients, some of which are not counted.
    pub fn set_groups(&self, groups: LogGroups) {
        self.groups.store(Arc::new(groups));
    }

    /// Counts what workers and TCP tell, until the task is dropped.
    pub async fn run(self: Arc<Self>, links: Vec<Arc<Link>>) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0u64.. {
            pace.tick().await;
            if tick.is_multiple_of(TICKS) {
                self.rhythm_of_tcp.lock().adapt();
            }
            for line in links.iter().map(|link| &link.sightings).chain([&self.tcp]) {
                while let Some(sighting) = line.take() {
                    self.note(&sighting);
                }
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells of a query over TCP. The answer has `rcode`, and the key is empty if there is no question.
    pub fn tell_tcp(&self, client: Ipv6Addr, key: &Key, question_len: usize, rcode: u16) {
        let mut rhythm = self.rhythm_of_tcp.lock();
        if !rhythm.count(1) {
            return;
        }
        if self.tcp.is_full() {
            return rhythm.skip();
        }
        let weight = rhythm.take(rand::random());
        drop(rhythm);
        let is_nxdomain = rcode == u16::from(rcode::NXDOMAIN);
        let kind = (client.octets(), weight, Stage::Received, is_nxdomain);
        let question = key.question();
        // Others may have filled it in the meantime: then this one is left out.
        self.tcp.tell(Sighting::new(kind, [question], question_len.min(question.len())));
    }

    /// Counts a sighting.
    fn note(&self, sighting: &Sighting) {
        let groups = self.groups.load();
        let client = Ipv6Addr::from(sighting.client);
        let is_unlogged = groups.unlogged.has(groups.of(client));
        if is_unlogged || self.sieve.excludes(&sighting.client, sighting.question()) {
            return;
        }
        let (now, weight) = (self.clock.secs() / 60, sighting.weight);
        let mut minutes = self.minutes.lock();
        let [names, clients, zones, absent] = &mut *minutes;
        if sighting.stage == Stage::Received {
            clients.add(now, &self.privacy.kept(client).octets(), weight);
        }
        let Some(name) = sighting.name() else { return };
        if sighting.stage == Stage::Received {
            names.add(now, name, weight);
            zones.add(now, domain::of(name), weight);
        }
        if sighting.is_nxdomain {
            absent.add(now, name, weight);
        }
    }

    /// Returns the `most` busiest of the last `minutes`, with the present one.
    pub fn ranking(&self, kind: RankingKind, minutes: u32, most: usize) -> Ranking {
        let seconds = self.clock.secs();
        let (ranked, queries) = self.minutes.lock()[kind as usize].ranked(seconds / 60, minutes, most);
        let text = |key: &[u8]| match (kind, <[u8; 16]>::try_from(key)) {
            (RankingKind::Clients, Ok(client)) => Ipv6Addr::from(client).to_canonical().to_string(),
            _ => names::display(key),
        };
        let rows = ranked.iter().map(|ranked| RankingRow {
            key: text(&ranked.key),
            queries: ranked.count,
            least: ranked.bounds[0],
            most: ranked.bounds[1],
            share: ranked.count as f64 / queries.max(1) as f64,
        });
        let seconds = seconds.min((minutes.max(1) - 1) * 60 + seconds % 60 + 1);
        Ranking { kind, seconds: seconds.into(), queries, rows: rows.collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::group::{ClientGroups, Group, GroupSet};

    fn busiest(table: &str) -> Arc<Busiest> {
        let text =
            format!("[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n{table}");
        let config = Config::parse(&text, "test".as_ref()).unwrap();
        Busiest::new(&config, Clock::start()).unwrap()
    }

    fn sighting(client: &str, name: &str, stage: Stage, is_nxdomain: bool) -> Sighting {
        let client: Ipv6Addr = client.parse().unwrap();
        let question = [names::name(name).unwrap(), vec![0, 1, 0, 1]].concat();
        Sighting::new((client.octets(), 10, stage, is_nxdomain), [&question[..]], question.len())
    }

    fn keys(busiest: &Busiest, kind: RankingKind) -> Vec<(String, u64)> {
        busiest.ranking(kind, 5, 10).rows.into_iter().map(|row| (row.key, row.queries)).collect()
    }

    fn told(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(key, queries)| ((*key).to_owned(), *queries)).collect()
    }

    #[test]
    fn each_kind_has_its_counts() {
        let busiest = busiest("");
        for (client, name, stage, is_nxdomain) in [
            ("::ffff:192.0.2.1", "www.example.co.uk", Stage::Received, false),
            ("::ffff:192.0.2.1", "a.example.com", Stage::Received, true),
            ("fd53::1", "www.example.com", Stage::Received, false),
            ("fd53::1", "www.example.com", Stage::Received, false),
            ("fd53::1", "no.example.com", Stage::Resolved, true),
        ] {
            busiest.note(&sighting(client, name, stage, is_nxdomain));
        }
        let names = [("www.example.com.", 20), ("a.example.com.", 10), ("www.example.co.uk.", 10)];
        let mut shown = keys(&busiest, RankingKind::Names);
        shown[1..].sort();
        assert_eq!(shown, told(&names));
        let mut clients = keys(&busiest, RankingKind::Clients);
        clients.sort();
        assert_eq!(clients, told(&[("192.0.2.1", 20), ("fd53::1", 20)]));
        assert_eq!(keys(&busiest, RankingKind::Zones), told(&[("example.com.", 30), ("example.co.uk.", 10)]));
        let mut absent = keys(&busiest, RankingKind::Nxdomain);
        absent.sort();
        assert_eq!(absent, told(&[("a.example.com.", 10), ("no.example.com.", 10)]));
        let ranking = busiest.ranking(RankingKind::Names, 5, 1);
        assert_eq!((ranking.queries, ranking.rows.len(), ranking.rows[0].share), (40, 1, 0.5));
    }

    #[test]
    fn what_the_query_log_leaves_out_is_not_counted() {
        let table = "[query_log]\nexclude_clients = [\"192.0.2.1\"]\nexclude_names = [\"corp.example\"]\n\
                     privacy = \"truncate\"\n";
        let busiest = busiest(table);
        let kids = Group::new(1).unwrap();
        let prefix = ("192.0.2.3/32".parse().unwrap(), kids);
        let clients = ClientGroups::new(&[prefix]).unwrap();
        busiest.set_groups(LogGroups { clients, names: Vec::new(), unlogged: GroupSet::NONE.with(kids) });
        for (client, name) in
            [("1", "x.example"), ("2", "y.example"), ("2", "deep.corp.example"), ("3", "z.example")]
        {
            for stage in [Stage::Received, Stage::Resolved] {
                busiest.note(&sighting(&format!("::ffff:192.0.2.{client}"), name, stage, true));
            }
        }
        assert_eq!(keys(&busiest, RankingKind::Names), told(&[("y.example.", 10)]));
        assert_eq!(keys(&busiest, RankingKind::Nxdomain), told(&[("y.example.", 20)]));
        assert_eq!(keys(&busiest, RankingKind::Clients), told(&[("192.0.2.0", 10)]));
    }

    #[test]
    fn of_a_flood_over_tcp_no_query_stands_for_all() {
        let busiest = busiest("");
        let client = "::ffff:192.0.2.1".parse().unwrap();
        let key =
            |nth: u32| names::key(&names::name(&format!("n{}.example", nth % 4)).unwrap(), 1, false, false);
        // Nobody takes them.
        for nth in 0..100_000 {
            let key = key(nth).unwrap();
            busiest.tell_tcp(client, &key, key.question().len(), 0);
        }
        let drain = || {
            while let Some(sighting) = busiest.tcp.take() {
                assert!(sighting.weight < 300, "{sighting:?}");
                busiest.note(&sighting);
            }
        };
        drain();
        assert_eq!(busiest.ranking(RankingKind::Names, 5, 10).queries, 256);
        busiest.rhythm_of_tcp.lock().adapt();
        for _ in 0..10 {
            for nth in 0..1_000 {
                let key = key(nth).unwrap();
                busiest.tell_tcp(client, &key, key.question().len(), 0);
            }
            busiest.rhythm_of_tcp.lock().adapt();
            drain();
        }
    }
}
