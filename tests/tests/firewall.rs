//! Tests of what firewalls learn of names, of `ringctl policy test --config`, and of what reloads tell
//! of lists.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Say, Settings, Upstream, free_address, program};
use std::{fs, net::IpAddr, process::Command};

const NXDOMAIN: u16 = 3;

#[test]
fn an_address_has_its_names_and_a_missing_set_stops_no_answer() {
    let host = Host::local();
    let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let address = free_address(&host);
    let tables = "[names]\nentries = 100\n[[nftset]]\nsuffixes = [\"corp.example\"]\n\
                  table = \"inet ringdns_test_that_is_not_there\"\nset4 = \"a4\"\n";
    let settings = Settings { tables: tables.into(), ..Settings::loopback(address, upstream.address()) };
    let ringdnsd = Ringdnsd::start_from(&host, |socket| settings.text(socket));
    assert_eq!(ringdnsd.told(&["policy", "names", "192.0.2.1"]), "no name is known\n");
    let client = Client::from_address(&host, IpAddr::from([127, 0, 0, 1]), address);
    for name in ["www.corp.example", "www.example", "www.example"] {
        let reply = client.ask(&Query::a(name));
        assert_eq!(reply.rcode(), 0, "{name}");
    }
    let told = ringdnsd.told(&["policy", "names", "192.0.2.1"]);
    let names: Vec<_> = told.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["www.corp.example.", "www.example."], "{told}");
    assert_eq!(ringdnsd.stat("/names/entries"), 2);
    assert_eq!(ringdnsd.stat("/nftset/failed"), 1, "the kernel refused it, and the client has its answer");
    assert_eq!(ringdnsd.stat("/nftset/filled") + ringdnsd.stat("/nftset/late"), 0);
    let (code, body) = ringdnsd.get("/v1/names?address=::ffff:192.0.2.1").unwrap();
    assert!(code == 200 && body.contains("\"www.example.\""), "{body}");
    assert_eq!(ringdnsd.get("/v1/names?address=www.example").unwrap().0, 400);
}

#[test]
fn a_reload_tells_of_rules_and_files_are_judged_without_ringdnsd() {
    let host = Host::local();
    let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let address = free_address(&host);
    let folder = tempfile::tempdir().unwrap();
    let ads = folder.path().join("ads");
    fs::write(&ads, "||ads.example^\n||two.example^\n").unwrap();
    let tables = format!("[[blocklist]]\nname = \"ads\"\nsource = {ads:?}\n[local]\ncanary_names = true\n");
    let settings = Settings { tables, ..Settings::loopback(address, upstream.address()) };
    let ringdnsd = Ringdnsd::start_from(&host, |socket| settings.text(socket));
    let client = Client::from_address(&host, IpAddr::from([127, 0, 0, 1]), address);
    assert_eq!(client.ask(&Query::a("use-application-dns.net")).rcode(), NXDOMAIN);
    fs::write(&ads, "||ads.example^\n||three.example^\n||four.example^\n").unwrap();
    let told = ringdnsd.told(&["reload"]);
    assert_eq!(told, "[blocklist] is in effect\nads: +2 -1 rules\n");
    drop(ringdnsd);

    let file = folder.path().join("ringdns.toml");
    fs::write(&file, settings.text(&folder.path().join("none.sock"))).unwrap();
    let test = |more: &[&str]| {
        let mut command = Command::new(program("ringctl"));
        command.args(["policy", "test", "--config"]).arg(&file).args(more);
        command.output().unwrap()
    };
    let output = test(&["www.three.example"]);
    let expected = format!(
        "www.three.example. A: block by list \"ads\": nxdomain\n{}:2: ||three.example^\n",
        ads.display()
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    let output = test(&["www.two.example", "--type", "AAAA", "--json"]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"resolve\""), "{output:?}");
    for wrong in [&["www.two.example", "--group", "kids"][..], &["a..example"], &["a.example", "--type", "X"]]
    {
        let output = test(wrong);
        assert_eq!(output.status.code(), Some(1), "{wrong:?}: {output:?}");
        assert!(!output.stderr.is_empty() && output.stdout.is_empty(), "{wrong:?}: {output:?}");
    }
    fs::remove_file(&ads).unwrap();
    let output = test(&["www.two.example"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("blocklist[0].source") && output.status.code() == Some(1), "{said}");
}
