//! Tests of full disks, the spool's and ClickHouse's: nothing stops, lost rows are counted, and
//! writing continues when there is room.

use super::{Log, PASSWORD, Scene, shipping};
use ringdns_config::ShippingConfig;
use ringdns_testkit::{ClickHouse, Engine, Host, SmallDisk};
use std::{fs, path::Path};

/// Returns a configuration with the spool alone.
fn folder(path: &Path) -> ShippingConfig {
    ShippingConfig {
        clickhouse: None,
        ..shipping("http://127.0.0.1:1", &path.join("spool"), Path::new("none"))
    }
}

#[test]
fn a_full_disk_loses_rows_until_there_is_room() {
    let disk = SmallDisk::mount("1m");
    disk.fill(64 << 10);
    let mut log = Log::start("disk", folder(disk.path()));
    log.give(4_000);
    log.until("a segment is spooled", |sums| sums.spooled == 4_000);
    log.give(40_000);
    let full = log.until("it is full", |sums| sums.taken == 44_000 && sums.in_hand == 0);
    assert!(full.dropped_disk > 20_000 && full.spooled >= 4_000, "{full:?}");
    assert_eq!(full.dropped_disk, full.dropped());
    let files = || -> Vec<_> {
        let names = fs::read_dir(disk.path().join("spool")).unwrap().map(|entry| entry.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).filter(|name| name != "lock").collect()
    };
    // Half-written files are removed, because they would take room.
    assert!(files().iter().all(|name| name.ends_with(".zst")), "{:?}", files());
    disk.free();
    log.give(8_000);
    let sums = log.until("it goes on", |sums| sums.in_hand == 0 && sums.taken == 52_000);
    assert_eq!((sums.spooled, sums.dropped_disk), (full.spooled + 8_000, full.dropped_disk));
    assert_eq!(log.finish(), sums);
    // All rows that are counted as spooled are there.
    let mut found = Log::start("found", folder(disk.path()));
    found.give(0);
    found.until("it is found", |found| found.found == sums.spooled);
}

fn a_server_whose_disk_is_full_gets_the_rows_when_there_is_room(engine: Engine) {
    let disk = SmallDisk::mount("64m");
    let server = ClickHouse::start_in(disk.path(), engine, &Host::local(), PASSWORD);
    let scene = Scene { server, spool: tempfile::tempdir().unwrap() };
    let mut log = scene.log("full");
    log.give(3_000);
    log.until_stored();
    disk.fill(0);
    let failed = log.sums().attempts_failed;
    log.give(20_000);
    let sums = log.until("it is refused", |sums| sums.attempts_failed > failed + 1 && sums.in_hand == 0);
    assert_eq!((sums.spooled + sums.stored, sums.dropped()), (23_000, 0));
    assert!(sums.spooled > 0, "{sums:?}");
    disk.free();
    let sums = log.until_stored();
    assert_eq!((sums.dropped(), scene.rows()), (0, (log.given, log.given)));
}

#[test]
fn debians_server_whose_disk_is_full_gets_the_rows_when_there_is_room() {
    a_server_whose_disk_is_full_gets_the_rows_when_there_is_room(Engine::Debian);
}

#[test]
fn todays_server_whose_disk_is_full_gets_the_rows_when_there_is_room() {
    a_server_whose_disk_is_full_gets_the_rows_when_there_is_room(Engine::Current);
}
