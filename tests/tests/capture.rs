//! Tests of `ringctl capture`, from real clients over AF_XDP to a file that tshark reads.

use pcap_file::pcapng::{Block, PcapNgReader, blocks::interface_statistics::InterfaceStatisticsOption};
use ringdns_testkit::{Client, DNS_V4, DNS_V6, Lab, Process, Query, Ringdnsd, Settings, Upstream, until};
use rustix::process::Signal;
use serde_json::Value;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tempfile::NamedTempFile;

const PATIENCE: Duration = Duration::from_secs(30);

/// Fields of a packet that tshark shows, with tabs between them.
const FIELDS: [&str; 6] = [
    "frame.interface_name",
    "frame.packet_flags_direction",
    "ip.src",
    "dns.flags.response",
    "dns.qry.name",
    "frame.comment",
];

/// Starts a capture into a file, and waits until all workers copy packets.
fn capture(ringdnsd: &Ringdnsd, file: &Path, more: &[&str]) -> Process {
    let mut command: Command = ringdnsd.ctl_command();
    command.args(["capture", "-w"]).arg(file).args(more);
    let process = Process::spawn("ringctl capture", command);
    process.wait_for_line("capturing", PATIENCE);
    process
}

/// Starts a capture into a pipe, and waits until all workers copy packets.
fn capture_into_pipe(ringdnsd: &Ringdnsd, more: &[&str]) -> (Child, impl BufRead + use<>) {
    let mut command = ringdnsd.ctl_command();
    command.args(["capture", "-w", "-"]).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("capturing"), "{line}");
    (child, said)
}

/// Waits for the end of a capture, and returns the sums that ringctl prints.
fn end(mut capture: Process) -> String {
    assert!(capture.wait_for_exit(PATIENCE).success(), "{}", capture.output());
    capture.output()
}

/// Returns a tshark that shows the fields of the packets that it reads.
fn tshark(from: &str) -> Command {
    let mut command = Command::new("tshark");
    command.args(["-n", "-l", "-r", from, "-T", "fields"]);
    command.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    command
}

/// Returns the fields of the packets in a file.
fn packets(file: &Path) -> Vec<Vec<String>> {
    let output = tshark(file.to_str().unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

/// Returns the sums over the statistics of the interfaces in a file: received, dropped, accepted, not
/// read, delivered.
fn statistics(file: &Path) -> [u64; 5] {
    let bytes = fs::read(file).unwrap();
    let mut reader = PcapNgReader::new(&bytes[..]).unwrap();
    let mut sums = [0; 5];
    while let Some(block) = reader.next_block() {
        let Block::InterfaceStatistics(statistics) = block.unwrap() else { continue };
        for option in &statistics.options {
            let (nth, count) = match option {
                InterfaceStatisticsOption::IsbIfRecv(count) => (0, count),
                InterfaceStatisticsOption::IsbIfDrop(count) => (1, count),
                InterfaceStatisticsOption::IsbFilterAccept(count) => (2, count),
                InterfaceStatisticsOption::IsbOsDrop(count) => (3, count),
                InterfaceStatisticsOption::IsbUsrDeliv(count) => (4, count),
                _ => continue,
            };
            sums[nth] += count;
        }
    }
    sums
}

fn with_text<'a>(packets: &'a [Vec<String>], column: &'a str, text: &'a str) -> Vec<&'a Vec<String>> {
    let at = FIELDS.iter().position(|field| *field == column).unwrap();
    packets.iter().filter(|packet| packet[at].contains(text)).collect()
}

#[test]
fn packets_over_af_xdp_are_in_a_file_that_tshark_reads_and_control_c_leaves_it_whole() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.pcapng");
    let running = capture(&ringdnsd, &file, &[]);
    let second = ringdnsd.ctl(&["capture", "-w", "/dev/null"]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("another capture is under way"), "{second:?}");
    for server in [DNS_V4, DNS_V6] {
        let client = Client::of(lab.client(), server);
        (0..5).for_each(|id| drop(client.ask(&Query::a("www.example.com").id(id))));
    }
    running.signal(Signal::INT);
    let said = end(running);
    assert!(said.contains("20 packets written, 0 left out by filters, 0 beyond the end, 0 lost"), "{said}");
    let packets = packets(&file);
    assert_eq!(packets.len(), 20, "{packets:?}");
    let is = |column, text| with_text(&packets, column, text).len();
    assert_eq!((is("frame.interface_name", "worker"), is("dns.qry.name", "www.example.com")), (20, 20));
    // Direction 1 is inbound, 2 outbound.
    for (direction, response) in [("0x00000001", "0"), ("0x00000002", "1")] {
        let of_direction: Vec<_> = packets.iter().filter(|packet| packet[1] == direction).collect();
        assert_eq!(of_direction.len(), 10, "{packets:?}");
        assert!(of_direction.iter().all(|packet| packet[3] == response), "{packets:?}");
    }
    let comment = |text| is("frame.comment", text);
    assert_eq!((comment("fate=punted"), comment("outcome=miss tier=upstream")), (1, 1), "{packets:?}");
    assert_eq!(comment("outcome=hit tier="), 18, "{packets:?}");
    assert_eq!(statistics(&file), [20, 0, 20, 0, 20]);
    let stats = &ringdnsd.stats()["captures"];
    assert_eq!((&stats["offered"], &stats["written"], &stats["begun"]), (&20.into(), &20.into(), &1.into()));
    let audit = ringdnsd.told(&["audit"]);
    assert!(audit.contains("/v1/capture"), "{audit}");
}

#[test]
fn captures_end_after_so_many_packets_and_are_filtered_by_client_name_and_code() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let [v4, v6] = [DNS_V4, DNS_V6].map(|server| Client::of(lab.client(), server));
    let ask = || {
        for name in ["www.example.net", "www.example.com"] {
            [&v4, &v6].iter().for_each(|client| drop(client.ask(&Query::a(name))));
        }
        // This is refused.
        v4.ask(&Query { qclass: 3, ..Query::a("id.server") });
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("f.pcapng");
    for (options, expected) in [
        (&["--suffix", "example.com"][..], 4),
        (&["--client", "10.53.0.0/16"], 6),
        (&["--client", "fd53::1", "--suffix", "com"], 2),
        (&["--type", "AAAA"], 0),
        (&["--rcode", "REFUSED"], 2),
        (&["--outcome", "rejected", "--client", "fd53::/16"], 0),
    ] {
        let running = capture(&ringdnsd, &file, options);
        ask();
        running.signal(Signal::INT);
        let said = end(running);
        let left_out = 10 - expected;
        let sums =
            format!("{expected} packets written, {left_out} left out by filters, 0 beyond the end, 0 lost");
        assert!(said.contains(&sums), "{options:?}: {said}");
        assert_eq!(packets(&file).len(), expected, "{options:?}");
    }
    // This one ends by itself.
    let running = capture(&ringdnsd, &file, &["-c", "3", "--json"]);
    ask();
    let said = end(running);
    let sums: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((&sums["written"], &sums["lost"]), (&3.into(), &0.into()), "{said}");
    assert_eq!((packets(&file).len(), statistics(&file)[4]), (3, 3));
    let refused = ringdnsd.ctl(&["capture", "-w", "/dev/null", "--for", "2h"]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("seconds=7200 is too much"), "{refused:?}");
}

#[test]
fn dropped_packets_are_shown_with_their_reasons() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let file = NamedTempFile::new().unwrap();
    let running = capture(&ringdnsd, file.path(), &["--dropped", "-c", "4"]);
    for server in [DNS_V4, DNS_V6] {
        let client = Client::of(lab.client(), server);
        client.ask(&Query::a("www.example.com"));
        client.send(b"too short");
        let mut response = Query::a("www.example.com").wire();
        response[2] |= 0x80;
        client.send(&response);
    }
    let said = end(running);
    assert!(said.contains("4 packets written"), "{said}");
    let packets = packets(file.path());
    let reasons = |text| with_text(&packets, "frame.comment", text).len();
    assert_eq!(packets.len(), 4, "{packets:?}");
    assert_eq!((reasons("fate=dropped reason="), reasons("reason=short_message")), (4, 2), "{packets:?}");
    let total = &ringdnsd.settled()["total"]["dropped"];
    for packet in &packets {
        let (_, reason) = packet[5].split_once("reason=").unwrap();
        assert_eq!(total[reason], 2, "{packet:?} {total}");
    }
}

#[test]
fn a_capture_is_piped_into_tshark_and_is_quiet_when_the_reader_is_gone() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let client = Client::of(lab.client(), DNS_V4);
    let (mut child, _said) = capture_into_pipe(&ringdnsd, &["-c", "4"]);
    let shown = tshark("-").stdin(child.stdout.take().unwrap()).stdout(Stdio::piped()).spawn().unwrap();
    (0..2).for_each(|id| drop(client.ask(&Query::a("www.example.com").id(id))));
    let output = shown.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("www.example.com\texchange=")).count(), 4, "{text}");
    assert!(child.wait().unwrap().success());
    // The reader leaves: the end of the capture is no error.
    let (mut child, mut said) = capture_into_pipe(&ringdnsd, &[]);
    drop(child.stdout.take());
    until("ringctl notices", || {
        client.ask(&Query::a("www.example.com"));
        child.try_wait().unwrap()
    });
    let mut rest = String::new();
    said.read_line(&mut rest).unwrap();
    assert_eq!((child.wait().unwrap().code(), rest.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_stands_still_loses_counted_packets_and_no_client_an_answer() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let ringdnsd = Ringdnsd::start(lab.server(), &Settings::xdp(upstream.address()));
    let file = NamedTempFile::new().unwrap();
    let running = capture(&ringdnsd, file.path(), &[]);
    running.freeze();
    let mut names = NamedTempFile::new().unwrap();
    (0..100).for_each(|number| writeln!(names, "name{number}.example A").unwrap());
    let path = names.path().to_str().unwrap();
    let lost = || ringdnsd.stat("/captures/lost");
    // ringdnsd counts at the end, after the reader has taken nothing for ten seconds.
    until("the stalled capture ends", || {
        let said = lab.client().run("dnsperf", ["-s", "10.53.0.2", "-d", path, "-n", "200", "-q", "100"]);
        assert!(said.contains("NOERROR 20000 (100.00%)"), "{said}");
        (lost() > 0).then_some(())
    });
    let stats = &ringdnsd.stats()["captures"];
    let count = |key: &str| stats[key].as_u64().unwrap();
    assert_eq!(count("offered"), count("written") + count("filtered") + count("unread") + count("lost"));
    running.signal(Signal::CONT);
    let said = end(running);
    assert!(said.contains("lost: the capture ended: the reader took nothing for 10 s"), "{said}");
    let [received, dropped, accepted, unread, delivered] = statistics(file.path());
    assert_eq!((received, accepted), (dropped + accepted, unread + delivered));
    assert_eq!((dropped, delivered), (count("lost"), packets(file.path()).len() as u64));
    // Another one may begin.
    end(capture(&ringdnsd, file.path(), &["--for", "1s"]));
}
