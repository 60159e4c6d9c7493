//! Tests of dnstap, from real clients to readers that others wrote: `fstrm_capture` takes the stream,
//! `dnstap` and `dnstap-ldns` decode it.

use prost::Message;
use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Host, Lab, Process, Query, Ringdnsd, Settings, Upstream, exchange_over_tcp,
    sums::count, until, until_within,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tempfile::{NamedTempFile, TempDir};

const PATIENCE: Duration = Duration::from_secs(30);
const TYPE: &str = "protobuf:dnstap.Dnstap";

/// Transport between ringdnsd and the reader.
#[derive(Clone, Copy, Debug)]
enum Over {
    Unix,
    Tcp,
}

/// Reader that writes what it gets into a file.
struct Reader {
    process: Process,
    folder: TempDir,
}

impl Reader {
    fn start(host: &Host, over: Over, folder: TempDir) -> Self {
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (socket, file) = (path("socket"), path("file"));
        let mut arguments = vec!["-t", TYPE, "-w", &file];
        match over {
            Over::Unix => arguments.extend(["-u", &socket]),
            Over::Tcp => arguments.extend(["-a", "127.0.0.1", "-p", "6000"]),
        }
        let process = host.spawn("fstrm_capture", arguments);
        process.wait_for_line("opening", PATIENCE);
        Reader { process, folder }
    }

    /// Returns the file, once the reader has written all of it.
    fn finish(mut self) -> (TempDir, PathBuf) {
        self.process.signal(Signal::INT);
        self.process.wait_for_exit(PATIENCE);
        let file = self.folder.path().join("file");
        (self.folder, file)
    }
}

/// Returns settings with a table for this reader.
fn tapping(settings: Settings, over: Over, folder: &TempDir, more: &str) -> Settings {
    let target = match over {
        Over::Unix => format!("socket = {:?}", folder.path().join("socket")),
        Over::Tcp => "address = \"127.0.0.1:6000\"".to_owned(),
    };
    let tables =
        format!("{}\n[dnstap]\n{target}\nidentity = \"here\"\nversion = \"v\"\n{more}\n", settings.tables);
    Settings { tables, ..settings }
}

fn connected(ringdnsd: &Ringdnsd) {
    until("the reader is connected", || (ringdnsd.stats()["dnstap"]["connected"] == true).then_some(()));
}

/// Waits until no message is in hand and `offered` were, and returns the statistics.
fn settled(ringdnsd: &Ringdnsd, offered: u64) -> Value {
    until("no message is in hand", || {
        let tap = &ringdnsd.stats()["dnstap"];
        (tap["in_hand"] == 0 && tap["offered"] == offered).then(|| tap.clone())
    })
}

fn lost(tap: &Value) -> u64 {
    tap["lost"].as_object().unwrap().values().map(count).sum()
}

/// The fields of a message that hold DNS messages, as `dnstap.proto` numbers them.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(bytes, optional, tag = "10")]
    query: Option<Vec<u8>>,
    #[prost(bytes, optional, tag = "14")]
    response: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Outer {
    #[prost(message, optional, tag = "14")]
    message: Option<Wire>,
}

/// Returns the DNS messages of a file in its order.
fn wires(file: &Path) -> Vec<Wire> {
    let bytes = fs::read(file).unwrap();
    let (mut rest, mut all) = (&bytes[..], Vec::new());
    while let Some((len, behind)) = rest.split_first_chunk::<4>() {
        let len = u32::from_be_bytes(*len) as usize;
        if len == 0 {
            let (len, behind) = behind.split_first_chunk::<4>().unwrap();
            rest = &behind[u32::from_be_bytes(*len) as usize..];
            continue;
        }
        all.push(Outer::decode(&behind[..len]).unwrap().message.unwrap());
        rest = &behind[len..];
    }
    all
}

/// Returns the messages of a file in its order, as `dnstap` decodes them.
fn decoded(file: &Path) -> Vec<Value> {
    let output = Command::new("dnstap").arg("-j").arg("-r").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Query and response as a client has them.
struct Exchange {
    server: &'static str,
    protocol: &'static str,
    query: Vec<u8>,
    response: Vec<u8>,
}

/// Asks for names over everything, and returns what was asked and answered.
fn ask(lab: &Lab) -> Vec<Exchange> {
    let mut all = Vec::new();
    for (server, address) in [(DNS_V4, "10.53.0.2"), (DNS_V6, "fd53::2")] {
        let client = Client::of(lab.client(), server);
        let family = if server.is_ipv4() { 4 } else { 6 };
        let name = format!("Www.V{family}.Example");
        let queries = [
            // A miss, hits, and a refusal.
            Query::a(&name).id(10 * family + 1),
            Query::a(&name).id(10 * family + 2),
            Query::a(&name).id(10 * family + 3).edns(1232),
            Query { qclass: 3, ..Query::a("id.server") }.id(10 * family + 4),
            Query::of(&"long-label-of-a-name.".repeat(8), 28).id(10 * family + 5),
        ];
        for query in &queries {
            let response = client.ask(query).0;
            all.push(Exchange { server: address, protocol: "UDP", query: query.wire(), response });
        }
        let query = Query::a(&name).id(10 * family + 6).wire();
        let response = exchange_over_tcp(lab.client(), server, std::slice::from_ref(&query)).remove(0).0;
        all.push(Exchange { server: address, protocol: "TCP", query, response });
    }
    all
}

fn compare(file: &Path, asked: &[Exchange], since: Duration) {
    let (wires, decoded) = (wires(file), decoded(file));
    assert_eq!((wires.len(), decoded.len()), (2 * asked.len(), 2 * asked.len()));
    let mut told = BTreeMap::new();
    for (wire, message) in wires.iter().zip(&decoded) {
        assert_eq!((&message["identity"], &message["version"]), (&json!("here"), &json!("v")));
        let fields = &message["message"];
        let is_query = fields["type"] == "CLIENT_QUERY";
        let bytes = if is_query { &wire.query } else { &wire.response };
        assert!(told.insert((is_query, bytes.clone().unwrap()), fields).is_none(), "{fields}");
        assert_eq!(if is_query { &wire.response } else { &wire.query }, &None);
    }
    for Exchange { server, protocol, query, response } in asked {
        let [query, response] = [(true, query), (false, response)].map(|(is_query, wire)| {
            told.remove(&(is_query, wire.clone())).unwrap_or_else(|| panic!("{wire:?}"))
        });
        let (client, family) =
            if server.contains(':') { ("fd53::1", "INET6") } else { ("10.53.0.1", "INET") };
        for (fields, kind) in [(query, "CLIENT_QUERY"), (response, "CLIENT_RESPONSE")] {
            assert_eq!(fields["type"], kind);
            assert_eq!(fields["socket_family"], family);
            assert_eq!(fields["socket_protocol"], *protocol);
            assert_eq!(
                (&fields["query_address"], &fields["response_address"]),
                (&json!(client), &json!(server))
            );
            assert_eq!(fields["response_port"], 53);
            assert!(count(&fields["query_port"]) > 1023, "{fields}");
        }
        assert_eq!(query["query_port"], response["query_port"]);
        assert_eq!(query["query_time"], response["query_time"]);
        assert_eq!(query["response_time"], Value::Null);
        let [asked, answered] =
            ["query_time", "response_time"].map(|key| unix(response[key].as_str().unwrap()));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(since <= asked && asked < answered && answered <= now, "{asked:?} {answered:?}");
    }
    assert!(told.is_empty(), "{told:?}");
}

/// Returns a time of the reader in Unix time.
fn unix(text: &str) -> Duration {
    let output = Command::new("date").args(["-d", text, "+%s.%N"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (secs, nanos) = text.trim().split_once('.').unwrap();
    Duration::new(secs.parse().unwrap(), nanos.parse().unwrap())
}

#[test]
fn readers_of_others_get_what_was_asked_and_what_was_answered() {
    let all = "messages = [\"client_query\", \"client_response\"]";
    for (over, by_xdp) in [(Over::Unix, true), (Over::Tcp, false)] {
        let Some(lab) = Lab::up() else { return };
        let upstream = Upstream::answering(lab.server());
        let folder = tempfile::tempdir().unwrap();
        let settings = if by_xdp { Settings::xdp } else { Settings::sockets };
        let settings = tapping(settings(upstream.address()), over, &folder, all);
        let reader = Reader::start(lab.server(), over, folder);
        let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
        connected(&ringdnsd);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let asked = ask(&lab);
        let tap = settled(&ringdnsd, 2 * asked.len() as u64);
        assert_eq!((lost(&tap), count(&tap["counters"]["sent"])), (0, 2 * asked.len() as u64), "{tap:#}");
        assert!(ringdnsd.terminate().success());
        let (_folder, file) = reader.finish();
        compare(&file, &asked, since);
        let output = Command::new("dnstap-ldns").arg("-q").arg("-r").arg(&file).output().unwrap();
        let lines = String::from_utf8(output.stdout).unwrap();
        assert_eq!(lines.lines().filter(|line| line.contains(" CQ ")).count(), asked.len(), "{lines}");
        assert_eq!(lines.lines().filter(|line| line.contains(" CR ")).count(), asked.len(), "{lines}");
    }
}

#[test]
fn exchanges_with_upstreams_are_told_and_hits_are_not() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let folder = tempfile::tempdir().unwrap();
    let all = "messages = [\"forwarder_query\", \"forwarder_response\"]";
    let settings = tapping(Settings::xdp(upstream.address()), Over::Unix, &folder, all);
    let reader = Reader::start(lab.server(), Over::Unix, folder);
    let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
    connected(&ringdnsd);
    let client = Client::of(lab.client(), DNS_V4);
    for name in ["one.example", "two.example", "one.example"] {
        assert_eq!(client.ask(&Query::a(name)).rcode(), 0);
    }
    // Two misses and a hit, of which the upstream does not hear.
    let tap = settled(&ringdnsd, 4);
    assert_eq!((lost(&tap), count(&tap["counters"]["sent"])), (0, 4), "{tap:#}");
    assert!(ringdnsd.terminate().success());
    let (_folder, file) = reader.finish();
    let (wires, decoded) = (wires(&file), decoded(&file));
    let mut ids = BTreeMap::new();
    for (wire, message) in wires.iter().zip(&decoded) {
        let fields = &message["message"];
        let (kind, wire) = match (&wire.query, &wire.response) {
            (Some(wire), None) => ("FORWARDER_QUERY", wire),
            (None, Some(wire)) => ("FORWARDER_RESPONSE", wire),
            other => panic!("{other:?}"),
        };
        assert_eq!((&fields["type"], &fields["socket_protocol"]), (&json!(kind), &json!("UDP")));
        let (address, port) = (upstream.address().ip().to_string(), upstream.address().port());
        assert_eq!((&fields["response_address"], &fields["response_port"]), (&json!(address), &json!(port)));
        assert!(count(&fields["query_port"]) > 1023, "{fields}");
        assert_eq!(wire[2] & 0x80 != 0, kind == "FORWARDER_RESPONSE", "{wire:?}");
        let port = count(&fields["query_port"]);
        ids.entry((wire[..2].to_vec(), port)).or_insert_with(Vec::new).push(kind);
    }
    assert_eq!(ids.len(), 2, "{ids:?}");
    assert!(ids.values().all(|kinds| kinds == &["FORWARDER_QUERY", "FORWARDER_RESPONSE"]), "{ids:?}");
}

#[test]
fn a_sample_of_responses_has_no_queries_and_about_the_right_number() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let folder = tempfile::tempdir().unwrap();
    let settings = tapping(Settings::xdp(upstream.address()), Over::Unix, &folder, "sample = 10");
    let reader = Reader::start(lab.server(), Over::Unix, folder);
    let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
    connected(&ringdnsd);
    let (_names, path) = names();
    let said = lab.client().run("dnsperf", ["-s", "10.53.0.2", "-d", &path, "-n", "200", "-q", "100"]);
    assert!(said.contains("NOERROR 20000 (100.00%)"), "{said}");
    assert!(ringdnsd.terminate().success());
    let (_folder, file) = reader.finish();
    let wires = wires(&file);
    // Of 20,000 responses 2,000 are expected, with a standard deviation of about 26.
    assert!((1_700..2_300).contains(&wires.len()), "{}", wires.len());
    assert!(wires.iter().all(|wire| wire.query.is_none() && wire.response.is_some()));
}

/// Returns a file of a hundred questions for dnsperf, and its path.
fn names() -> (NamedTempFile, String) {
    let mut file = NamedTempFile::new().unwrap();
    (0..100).for_each(|number| writeln!(file, "name{number}.example A").unwrap());
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

#[test]
fn a_reader_that_stalls_costs_messages_and_no_answers_and_is_told_of() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let folder = tempfile::tempdir().unwrap();
    let more = "bytes_per_worker = \"2MiB\"\ntimeout = \"1s\"";
    let settings = tapping(Settings::xdp(upstream.address()), Over::Unix, &folder, more);
    let reader = Reader::start(lab.server(), Over::Unix, folder);
    let mut ringdnsd = Ringdnsd::start(lab.server(), &settings);
    connected(&ringdnsd);
    assert_eq!(ringdnsd.ctl(&["check"]).status.code(), Some(0));

    reader.process.freeze();
    let (_names, path) = names();
    let ask = |times: u32| {
        let times = times.to_string();
        let said = lab.client().run("dnsperf", ["-s", "10.53.0.2", "-d", &path, "-n", &times, "-q", "100"]);
        assert!(said.contains("(100.00%)") && said.contains("Queries lost:         0"), "{said}");
    };
    // More messages than the socket and the pages hold.
    ask(1_000);
    let said = until_within(PATIENCE, "the reader is missed", || {
        let output = ringdnsd.ctl(&["check"]);
        (output.status.code() == Some(1)).then(|| String::from_utf8(output.stdout).unwrap())
    });
    assert!(said.contains("(dnstap_lost, since "), "{said}");
    let tap = ringdnsd.stats()["dnstap"].clone();
    assert!(count(&tap["lost"]["buffer_full"]) > 0, "{tap:#}");

    reader.process.signal(Signal::CONT);
    connected(&ringdnsd);
    assert_eq!(ringdnsd.ctl(&["check"]).status.code(), Some(0));
    let before = count(&settled(&ringdnsd, 100_000)["counters"]["sent"]);
    ask(1);
    let tap = settled(&ringdnsd, 100_100);
    assert_eq!(count(&tap["counters"]["sent"]), before + 100, "{tap:#}");
    assert_eq!(count(&tap["counters"]["sent"]) + lost(&tap), 100_100, "{tap:#}");
    ringdnsd.process().wait_for_line("dnstap messages are lost", PATIENCE);
    assert!(ringdnsd.terminate().success());
    ringdnsd.process().wait_for_line("dnstap is closed", PATIENCE);
    reader.finish();
}
