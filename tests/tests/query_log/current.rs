//! Tests of features that current ClickHouse has, and 18.16 does not.

use super::{Log, Scene};
use ringdns_testkit::{Engine, until};

#[test]
fn tables_are_made_as_documented_and_keep_what_the_retention_says() {
    let scene = Scene::set(Engine::Current);
    let mut log = scene.log("old");
    log.give(1_000);
    log.until_stored();
    log.finish();
    let types = scene.server.query(
        "SELECT groupArray(concat(name, ' ', type)) FROM system.columns WHERE database = 'ringdns' AND table = 'queries' \
         AND name IN ('time', 'time_ms', 'client', 'name', 'outcome', 'sample')",
    );
    let expected = "['time DateTime64(3, \\'UTC\\')','time_ms Int64','client IPv6','name String','outcome LowCardinality(String)','sample UInt32']";
    assert_eq!(types, expected);
    let of_older_rows =
        "SELECT default_expression FROM system.columns WHERE table = 'queries' AND name = 'sample'";
    assert_eq!(scene.server.query(of_older_rows), "1");
    let engines =
        || scene.server.query("SELECT name, engine_full FROM system.tables WHERE database = 'ringdns'");
    let tables = |days: &str| {
        let days = format!("toIntervalDay({days})");
        engines().lines().filter(|line| line.contains(&days) && line.contains("MergeTree")).count()
    };
    assert_eq!((tables("3650"), tables("1")), (4, 0), "{}", engines());
    // The rows are years old: with a shorter retention they expire, as do the summaries.
    let mut shipping = scene.shipping();
    shipping.clickhouse.as_mut().unwrap().retention_days = 1;
    let mut log = Log::start("new", shipping);
    log.give(10);
    log.until_stored();
    assert_eq!((tables("3650"), tables("1")), (0, 4), "{}", engines());
    for table in ["queries", "queries_per_minute", "names_per_hour", "latency_per_minute"] {
        until(&format!("{table} is empty"), || {
            scene.server.query(&format!("OPTIMIZE TABLE ringdns.{table} FINAL"));
            (scene.server.query(&format!("SELECT count() FROM ringdns.{table}")) == "0").then_some(())
        });
    }
}

/// Checks deduplication: an insertion without a response is repeated while the first one is not
/// visible yet. Both are carried out, and the table recognises the second by its token and its
/// content.
#[test]
fn an_insertion_that_was_late_and_came_twice_is_one() {
    let scene = Scene::set(Engine::Current);
    let mut log = scene.log("late");
    log.give(1_000);
    log.until_stored();
    scene.server.hold_insertions(true);
    log.give(1_000);
    log.until("it is sent once more", |sums| sums.attempts_failed > 1);
    scene.server.hold_insertions(false);
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), scene.rows()), (0, (log.given, log.given)));
    assert_eq!(
        scene.server.query("SELECT sum(queries) FROM ringdns.queries_per_minute"),
        (10 * log.given).to_string()
    );
    let said = "SELECT engine_full LIKE '%non_replicated_deduplication_window = 10000%' FROM system.tables WHERE name = 'queries'";
    assert_eq!(scene.server.query(said), "1");
}
