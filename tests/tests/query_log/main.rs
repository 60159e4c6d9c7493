//! Tests of the query log's way into ClickHouse: real servers of Debian's and the current version
//! on loopback, which are killed, stopped, changed and restarted. In the end they have every row
//! once.

mod appliance;
mod current;
mod disk;
mod leaks;
mod servers;

use ringdns_config::{Config, ShippingConfig};
use ringdns_querylog::{
    ledger::{Ledger, Sums},
    writer::Writer,
};
use ringdns_segment::row::{Outcome, Protocol, Row, Tier};
use ringdns_testkit::{ClickHouse, Engine, Host, until};
use std::{path::Path, sync::Arc};
use tempfile::TempDir;
use tokio::sync::mpsc::{Sender, channel};

const PASSWORD: &str = "not in a URL";

/// A writer, and the number of rows given to it.
struct Log {
    writer: Writer,
    ledger: Arc<Ledger>,
    rows: Sender<Vec<Row>>,
    given: u64,
    /// Part of the names in its rows, unique among the test's writers.
    name: &'static str,
}

impl Log {
    fn start(name: &'static str, shipping: ShippingConfig) -> Self {
        let (rows, receiver) = channel(16);
        let ledger = Arc::<Ledger>::default();
        let writer = Writer::start(shipping, receiver, Vec::new(), ledger.clone()).unwrap();
        Log { writer, ledger, rows, given: 0, name }
    }

    fn give(&mut self, count: u64) {
        let rows = (self.given..self.given + count).map(|i| row(self.name, i)).collect();
        self.rows.blocking_send(rows).unwrap();
        self.given += count;
    }

    /// Returns the sums, which must close at any time.
    fn sums(&self) -> Sums {
        let sums = self.ledger.sums();
        assert_eq!(sums.unaccounted(), 0, "{sums:?}");
        sums
    }

    #[track_caller]
    fn until(&self, what: &str, holds: impl Fn(&Sums) -> bool) -> Sums {
        until(what, || {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let sums = self.sums();
            holds(&sums).then_some(sums)
        })
    }

    #[track_caller]
    fn until_stored(&self) -> Sums {
        self.until("all rows are stored", |sums| {
            sums.stored == sums.taken + sums.found && sums.taken == self.given
        })
    }

    fn finish(self) -> Sums {
        drop(self.rows);
        self.writer.finish();
        self.ledger.sums()
    }
}

fn row(name: &str, i: u64) -> Row {
    let wire = ringdns_common::names::name(&format!("{i}.{name}.example")).unwrap();
    let outcomes = [Outcome::Hit, Outcome::Miss];
    Row {
        // Two days, with rows of both in each chunk.
        time_ms: 1_700_006_390_000 + i as i64 % 20_000,
        client: "::ffff:192.0.2.7".parse().unwrap(),
        name: wire.into(),
        qtype: if i.is_multiple_of(2) { 1 } else { 28 },
        qclass: 1,
        protocol: Protocol::UdpSocket,
        outcome: outcomes[(i % 2) as usize],
        tier: Tier::Upstream,
        rcode: 0,
        answer_bytes: 100,
        service_ns: 1000 + i as u32,
        upstream: (i % 2 == 1).then(|| "udp://192.0.2.1:53".into()),
        upstream_us: 1200,
        list: None,
        client_group: Some("default".into()),
        client_name: Some("laptop".into()),
        rule: None,
        ede: None,
        // The summaries scale with the sampling rate.
        sample: 10,
    }
}

/// Returns the shipping configuration, with short timeouts.
fn shipping(url: &str, spool: &Path, password_file: &Path) -> ShippingConfig {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[upstream]]\naddress = \"127.0.0.1:1\"\n[query_log]\nenabled = true\n\
         spool_dir = {spool:?}\nbatch_interval = \"100ms\"\nbatch_rows = 4000\nappliance = \"box-1\"\n\
         [clickhouse]\nurl = \"{url}\"\npassword_file = {password_file:?}\ntimeout = \"1s\"\nretention = \"3650d\"\n",
    );
    Config::parse(&text, Path::new("test.toml")).unwrap().shipping.unwrap()
}

struct Scene {
    server: ClickHouse,
    spool: TempDir,
}

impl Scene {
    fn set(engine: Engine) -> Self {
        let server = ClickHouse::start_engine(engine, &Host::local(), PASSWORD);
        Scene { server, spool: tempfile::tempdir().unwrap() }
    }

    fn log(&self, name: &'static str) -> Log {
        Log::start(name, self.shipping())
    }

    fn shipping(&self) -> ShippingConfig {
        shipping(&self.server.url(), self.spool.path(), &self.server.password_file())
    }

    /// Returns the number of rows, and the number of distinct ones.
    fn rows(&self) -> (u64, u64) {
        let answer = self.server.query("SELECT count(), uniqExact(name) FROM ringdns.queries");
        let (all, different) = answer.split_once('\t').unwrap();
        (all.parse().unwrap(), different.parse().unwrap())
    }
}
