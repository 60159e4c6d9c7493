//! Tests of the writer, with the test as ClickHouse.

use super::{Ledger, run};
use crate::ledger::Sums;
use parking_lot::Mutex;
use ringdns_config::{ClickHouseConfig, Scheme, ShippingConfig};
use ringdns_segment::{
    folder,
    row::{Outcome, Protocol, Row, Tier},
};
use std::{collections::HashSet, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Rows of each segment.
const ROWS: u32 = 64;
const OK: &str = "200 OK\r\n";

/// Decides on an INSERT, by its number among those of new segments and the length of its body.
/// Returns the status line with more headers, and the body.
type Judge = fn(u32, usize) -> (&'static str, &'static str);

/// A server that has no tables, takes every statement and judges each INSERT.
struct FakeServer {
    judge: Judge,
    /// Ids of segments, in the order in which they came first.
    seen: Mutex<Vec<String>>,
    /// Ids of stored segments.
    stored: Mutex<HashSet<String>>,
}

impl FakeServer {
    async fn serve(self: Arc<Self>, listener: TcpListener) {
        while let Ok((stream, _)) = listener.accept().await {
            let server = self.clone();
            tokio::spawn(async move { server.answer(stream).await });
        }
    }

    async fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(head).ok()?;
        let len = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        let mut body = vec![0; len];
        stream.read_exact(&mut body).await.ok()?;
        let (status, text) = match head.split_once("&query_id=") {
            Some((_, rest)) => self.insert(rest.split('&').next()?, len),
            None => (OK, self.select(&String::from_utf8(body).ok()?)),
        };
        let response = format!("HTTP/1.1 {status}content-length: {}\r\n\r\n{text}", text.len());
        stream.write_all(response.as_bytes()).await.ok()
    }

    fn insert(&self, id: &str, len: usize) -> (&'static str, &'static str) {
        let mut seen = self.seen.lock();
        let number = seen.iter().position(|seen| seen == id).unwrap_or_else(|| {
            seen.push(id.to_owned());
            seen.len() - 1
        });
        let judged = (self.judge)(number as u32, len);
        if judged == (OK, "") {
            assert!(self.stored.lock().insert(id.to_owned()), "{id} is stored twice");
        }
        judged
    }

    fn select(&self, statement: &str) -> &'static str {
        match statement {
            "SELECT version()" => "18.16.1",
            _ if statement.starts_with("SELECT count()") => "0",
            _ => "",
        }
    }
}

fn row(i: u32) -> Row {
    Row {
        time_ms: 1_700_000_000_000 + i64::from(i),
        client: "::ffff:192.0.2.7".parse().unwrap(),
        // Names that do not compress, so that half of the rows takes half of the bytes.
        name: [&[40][..], format!("{:040x}", u128::from(i + 1).wrapping_pow(17)).as_bytes(), &[0]]
            .concat()
            .into(),
        qtype: 1,
        qclass: 1,
        protocol: Protocol::Udp,
        outcome: Outcome::Hit,
        tier: Tier::Core,
        rcode: 0,
        answer_bytes: 52,
        service_ns: 1_500,
        upstream: None,
        upstream_us: 0,
        list: None,
        client_group: None,
        client_name: None,
        rule: None,
        ede: None,
        sample: 1,
    }
}

/// Sends `segments` segments through a writer until `done` says so, and returns the sums, the
/// number of segments stored, and the spool.
async fn ship(segments: u32, judge: Judge, done: fn(&Sums) -> bool) -> (Sums, usize, TempDir) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = Arc::new(FakeServer { judge, seen: Mutex::default(), stored: Mutex::default() });
    let serving = tokio::spawn(server.clone().serve(listener));
    let folder = tempfile::tempdir().unwrap();
    let clickhouse = ClickHouseConfig {
        scheme: Scheme::Http,
        host: "127.0.0.1".into(),
        port,
        path: "/".into(),
        database: "ringdns".into(),
        user: "logger".into(),
        password_file: None,
        tls_ca_file: None,
        timeout: Duration::from_secs(5),
        retention_days: 1,
    };
    let shipping = ShippingConfig {
        appliance: "here".into(),
        spool_dir: folder.path().join("spool"),
        spool_bytes: 1 << 30,
        batch_rows: ROWS,
        batch_bytes: 1 << 20,
        batch_interval: Duration::from_millis(100),
        clickhouse: Some(clickhouse),
    };
    let (sender, rows) = mpsc::channel(16);
    let ledger = Arc::<Ledger>::default();
    let writing = run(shipping, rows, ledger.clone());
    let feeding = async {
        for segment in 0..segments {
            sender.send((segment * ROWS..(segment + 1) * ROWS).map(row).collect()).await.unwrap();
        }
        let shipped = async {
            while !done(&ledger.sums()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(tokio::time::timeout(Duration::from_secs(60), shipped).await.is_ok(), "{:?}", ledger.sums());
    };
    tokio::select! {
        () = writing => unreachable!("the channel is open"),
        () = feeding => {}
    }
    serving.abort();
    let sums = ledger.sums();
    assert_eq!(sums.unaccounted(), 0, "{sums:?}");
    let stored = server.stored.lock().len();
    (sums, stored, folder)
}

fn refused(folder: &TempDir) -> Vec<u32> {
    let folder = folder.path().join("spool/refused");
    let rows = |path: &Path| folder::read(path).unwrap().head().rows;
    folder::list(&folder).map(|paths| paths.iter().map(|path| rows(path)).collect()).unwrap_or_default()
}

#[tokio::test]
async fn a_segment_that_alone_is_refused_is_set_aside() {
    let judge: Judge = |number, _| match number {
        1 => ("500 Internal Server Error\r\n", "Code: 27, cannot parse this"),
        _ => (OK, ""),
    };
    let (sums, stored, folder) = ship(4, judge, |sums| sums.stored == u64::from(3 * ROWS)).await;
    assert_eq!((sums.dropped_refused, sums.spooled, stored), (u64::from(ROWS), 0, 3));
    assert_eq!(refused(&folder), [ROWS]);
}

#[tokio::test]
async fn segments_that_are_too_large_are_split() {
    // A segment of 64 rows has more than 700 bytes, and one of 16 rows has less.
    let judge: Judge = |_, len| match len {
        700.. => ("413 Payload Too Large\r\n", "<html>413</html>"),
        _ => (OK, ""),
    };
    let (sums, stored, folder) = ship(3, judge, |sums| sums.stored == u64::from(3 * ROWS)).await;
    assert_eq!((sums.dropped(), sums.spooled), (0, 0));
    assert!((6..=12).contains(&stored), "{stored}");
    assert!(refused(&folder).is_empty());
}

#[tokio::test]
async fn a_row_that_is_too_large_is_set_aside() {
    let judge: Judge = |number, _| match number {
        0 => (OK, ""),
        _ => ("413 Payload Too Large\r\n", ""),
    };
    let (sums, _, folder) = ship(2, judge, |sums| sums.dropped_refused == u64::from(ROWS)).await;
    assert_eq!((sums.stored, sums.spooled), (u64::from(ROWS), 0));
    assert_eq!(refused(&folder), [1; ROWS as usize]);
}

#[tokio::test]
async fn an_error_with_the_status_200_stores_nothing() {
    let judges: [Judge; 3] = [
        |_, _| ("200 OK\r\nX-ClickHouse-Exception-Code: 241\r\n", ""),
        |_, _| (OK, "Code: 241. DB::Exception: Memory limit exceeded"),
        |_, _| (OK, "<html>Please log in</html>"),
    ];
    for judge in judges {
        let (sums, ..) = ship(1, judge, |sums| sums.attempts_failed == 1).await;
        assert_eq!((sums.stored, sums.spooled), (0, u64::from(ROWS)));
    }
}

#[tokio::test]
async fn segments_that_are_all_refused_are_kept() {
    let judge: Judge = |_, _| ("500 Internal Server Error\r\n", "Code: 252, too many parts");
    let (sums, stored, folder) = ship(3, judge, |sums| sums.attempts_failed == 4).await;
    assert_eq!((sums.stored, sums.dropped(), stored), (0, 0, 0));
    assert_eq!(sums.spooled, u64::from(3 * ROWS));
    assert!(refused(&folder).is_empty());
}
