//! Tests that every version of ClickHouse must pass.

use super::{Log, PASSWORD, Scene, shipping};
use ringdns_testkit::Engine;
use rustix::process::Signal;
use std::fs;

/// Defines each test for both versions.
macro_rules! on_both {
    ($($test:ident)*) => {
        on_both!(@on debian Debian $($test)*);
        on_both!(@on today Current $($test)*);
    };
    (@on $name:ident $engine:ident $($test:ident)*) => {
        mod $name {
            use super::{Engine, Scene};
            $(
                #[test]
                fn $test() {
                    super::$test(Scene::set(Engine::$engine));
                }
            )*
        }
    };
}

on_both! {
    rows_in_are_rows_stored
    the_queries_of_the_documentation_run
    a_server_that_was_killed_and_comes_back_has_every_row_once
    a_server_that_stood_still_has_every_row_once
    a_server_that_refuses_gets_the_rows_when_it_does_not
    tables_that_are_dropped_or_changed_are_seen
    what_one_process_spooled_the_next_one_ships
}

fn rows_in_are_rows_stored(scene: Scene) {
    let mut log = scene.log("stored");
    for _ in 0..4 {
        log.give(5_000);
    }
    let sums = log.until_stored();
    assert_eq!((sums.stored, sums.dropped(), scene.rows()), (20_000, 0, (20_000, 20_000)));
    let first = "SELECT time_ms, toString(toTimeZone(time, 'UTC')), IPv6NumToString(client), type, class, protocol, outcome, tier, rcode, \
                 answer_bytes, service_ns, upstream, upstream_us, sample, appliance FROM ringdns.queries WHERE name = '10001.stored.example.'";
    let seconds = if scene.server.engine() == Engine::Debian { "" } else { ".001" };
    let expected = format!(
        "1700006400001\t2023-11-15 00:00:00{seconds}\t::ffff:192.0.2.7\tAAAA\tIN\tudp-socket\tmiss\tupstream\tNOERROR\t100\t11001\t\
                    udp://192.0.2.1:53\t1200\t10\tbox-1"
    );
    assert_eq!(scene.server.query(first), expected);
    let sum = |query: &str| scene.server.query(query);
    let days = "SELECT count() FROM (SELECT DISTINCT partition FROM system.parts WHERE database = 'ringdns' AND table = 'queries')";
    assert_eq!(sum(days), "2");
    assert_eq!(sum("SELECT sum(queries), sum(bytes) FROM ringdns.queries_per_minute"), "200000\t20000000");
    assert_eq!(sum("SELECT sum(queries), sum(misses) FROM ringdns.names_per_hour"), "200000\t100000");
    let median = "SELECT quantilesTDigestMerge(0.5, 0.9, 0.99, 0.999)(service)[1] BETWEEN 10500 AND 11500 FROM ringdns.latency_per_minute";
    assert_eq!(sum(median), "1");
    // Each segment is one insertion.
    let segments = "SELECT uniqExact(segment) FROM ringdns.queries";
    assert_eq!(sum(segments), sums.segments_stored.to_string());
    assert_eq!(log.finish(), sums);
    // The password is not in the server's log.
    let said = scene.server.process().output();
    assert!(said.contains("INSERT INTO") || !said.contains(PASSWORD), "{said}");
    assert!(!said.contains(PASSWORD), "{said}");
}

/// Checks that the queries in docs/query-log.md run.
fn the_queries_of_the_documentation_run(scene: Scene) {
    let mut log = scene.log("documented");
    log.give(2_000);
    log.until_stored();
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/query-log.md");
    let page = fs::read_to_string(page).unwrap();
    let queries: Vec<_> =
        page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(queries.len() >= 5, "{} queries", queries.len());
    for query in queries {
        scene.server.query(query.trim().trim_end_matches(';'));
    }
}

fn a_server_that_was_killed_and_comes_back_has_every_row_once(mut scene: Scene) {
    let mut log = scene.log("killed");
    log.give(6_000);
    log.until_stored();
    // Kills the server during an insertion, and again while spooled rows are being sent.
    for _ in 0..2 {
        log.give(9_000);
        scene.server.kill9();
        log.give(9_000);
        let failed = log.sums().attempts_failed;
        log.until("rows are spooled", |sums| sums.attempts_failed > failed && sums.in_hand == 0);
        scene.server.start_again();
    }
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), sums.spooled, sums.spool_bytes), (0, 0, 0));
    assert_eq!(scene.rows(), (log.given, log.given));
    let summed = scene.server.query("SELECT sum(queries) FROM ringdns.queries_per_minute");
    assert!(summed.parse::<u64>().unwrap() <= 10 * log.given, "{summed}");
}

/// Checks rows sent to a server that stalls: it may store them when it continues, after the request
/// was given up.
fn a_server_that_stood_still_has_every_row_once(scene: Scene) {
    let mut log = scene.log("hung");
    log.give(6_000);
    log.until_stored();
    scene.server.process().freeze();
    log.give(6_000);
    log.until("a request is given up", |sums| sums.attempts_failed > 0);
    log.give(6_000);
    log.until("rows are spooled", |sums| sums.attempts_failed > 1 && sums.in_hand == 0);
    scene.server.process().signal(Signal::CONT);
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), scene.rows()), (0, (log.given, log.given)));
    // The request that was given up was carried out, and its rows were recognised.
    assert!(sums.segments_recognised > 0, "{sums:?}");
}

fn a_server_that_refuses_gets_the_rows_when_it_does_not(scene: Scene) {
    let password = scene.spool.path().join("password");
    fs::write(&password, "wrong").unwrap();
    let mut log =
        Log::start("refused", shipping(&scene.server.url(), &scene.spool.path().join("spool"), &password));
    log.give(3_000);
    log.until("it is refused", |sums| sums.attempts_failed > 1 && sums.spooled == 3_000);
    // The right password, with a line break as editors add it.
    fs::copy(scene.server.password_file(), &password).unwrap();
    log.until_stored();
    assert_eq!(scene.rows(), (3_000, 3_000));
}

fn tables_that_are_dropped_or_changed_are_seen(scene: Scene) {
    let mut log = scene.log("tables");
    log.give(1_000);
    log.until_stored();
    scene.server.query("DROP TABLE ringdns.queries");
    log.give(1_000);
    log.until_stored();
    assert_eq!(scene.rows(), (1_000, 1_000));
    // A missing column is added again.
    scene.server.query("ALTER TABLE ringdns.queries DROP COLUMN upstream_us");
    log.give(1_000);
    log.until_stored();
    assert_eq!(scene.server.query("SELECT count() FROM ringdns.queries WHERE upstream_us = 1200"), "1000");
    // A column of another length, changed while the writer runs: the rows do not fit, and are
    // refused as a whole.
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes UInt32");
    let failed = log.sums().attempts_failed;
    log.give(1_000);
    log.until("it is refused", |sums| sums.attempts_failed > failed + 1 && sums.spooled == 1_000);
    assert_eq!(scene.rows().0, 2_000);
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes UInt16");
    log.until_stored();
    // A column of another type would store wrong values, so nothing is sent.
    log.finish();
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes Int16");
    let mut log = scene.log("changed");
    log.give(1_000);
    log.until("it is not sent", |sums| sums.attempts_failed > 1 && sums.spooled == 1_000);
    assert_eq!(scene.rows().0, 3_000);
    scene.server.query("ALTER TABLE ringdns.queries MODIFY COLUMN answer_bytes UInt16");
    log.until_stored();
    assert_eq!(scene.rows(), (4_000, 4_000));
}

/// Checks retention on 18.16, which has no TTL for tables: expired days are dropped as partitions.
#[test]
fn days_that_are_over_are_removed() {
    let scene = Scene::set(Engine::Debian);
    let mut log = scene.log("old");
    log.give(1_000);
    log.until_stored();
    log.finish();
    let mut shipping = scene.shipping();
    shipping.clickhouse.as_mut().unwrap().retention_days = 1;
    let mut log = Log::start("new", shipping);
    log.give(10);
    log.until_stored();
    assert_eq!(scene.rows(), (10, 10));
    assert_eq!(scene.server.query("SELECT sum(queries) FROM ringdns.names_per_hour"), "100");
}

fn what_one_process_spooled_the_next_one_ships(mut scene: Scene) {
    let mut log = scene.log("first");
    log.give(500);
    log.until_stored();
    scene.server.kill9();
    log.give(1_500);
    let sums = log.finish();
    assert_eq!((sums.stored, sums.spooled, sums.in_hand, sums.dropped()), (500, 1_500, 0, 0));
    scene.server.start_again();
    let mut log = scene.log("second");
    log.give(700);
    let sums = log.until_stored();
    assert_eq!((sums.found, sums.stored, scene.rows()), (1_500, 2_200, (2_700, 2_700)));
}
