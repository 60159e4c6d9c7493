//! Tests of what operators say for a time: `ringctl block`, `allow`, `pause`, and schedules.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Say, Settings, Upstream, free_address, until};
use std::{
    fs,
    net::{IpAddr, SocketAddr},
};

const NXDOMAIN: u16 = 3;
const KID: [u8; 4] = [127, 0, 20, 7];

/// A ringdnsd with a list, a group, and an upstream that knows every name.
struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    upstream: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
        let address = free_address(&host);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ads"), "||ads.example^\n").unwrap();
        Scene { folder, address, upstream, host }
    }

    fn settings(&self, more: &str) -> Settings {
        let [ads, overrides] = ["ads", "overrides.toml"].map(|name| self.folder.path().join(name));
        let tables = format!(
            "[lists]\noverrides_file = {overrides:?}\ntime_zone = \"UTC\"\n\
             [[blocklist]]\nname = \"ads\"\nsource = {ads:?}\n{more}\n\
             [[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\"]\n\
             [[client_group]]\nname = \"kids\"\nclients = [\"127.0.20.0/24\"]\n"
        );
        Settings { tables, ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, more: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(more).text(socket))
    }

    /// Asks as a client of the default group and as one of the group `kids`.
    fn rcodes(&self, name: &str) -> [u16; 2] {
        [[127, 0, 0, 1], KID].map(|client| {
            let client = Client::from_address(&self.host, IpAddr::from(client), self.address);
            client.ask(&Query::a(name)).rcode()
        })
    }
}

#[test]
fn an_override_is_stronger_than_lists_and_outlives_a_restart() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    assert_eq!(scene.rcodes("www.ads.example"), [NXDOMAIN; 2]);
    assert_eq!(scene.rcodes("www.corp.example"), [0; 2]);
    let told = ringdnsd.told(&["allow", "www.ads.example", "--for", "1h"]);
    assert!(told.starts_with("www.ads.example. and names below it are allowed until 2"), "{told}");
    assert_eq!((scene.rcodes("www.ads.example"), scene.rcodes("ads.example")), ([0; 2], [NXDOMAIN; 2]));
    ringdnsd.told(&["block", "corp.example", "--group", "kids"]);
    assert_eq!(scene.rcodes("www.corp.example"), [0, NXDOMAIN]);
    let told = ringdnsd.told(&["policy", "test", "www.corp.example", "--group", "kids"]);
    assert!(told.contains("block by list \"overrides\"") && told.contains("overrides.toml:"), "{told}");
    assert!(told.ends_with(": name = \"corp.example.\"\n"), "{told}");
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    let line = "ringdns_blocked_total{list=\"overrides\",group=\"kids\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    drop(ringdnsd);

    let ringdnsd = scene.start("");
    assert_eq!(scene.rcodes("www.corp.example"), [0, NXDOMAIN]);
    assert_eq!(scene.rcodes("www.ads.example"), [0; 2]);
    let told = ringdnsd.told(&["policy", "overrides"]);
    assert!(told.contains("corp.example. and names below it are blocked for the group \"kids\"\n"), "{told}");
    assert_eq!(ringdnsd.told(&["policy", "clear", "corp.example"]), "there was no such override\n");
    ringdnsd.told(&["policy", "clear", "Corp.Example", "--group", "kids"]);
    assert_eq!(scene.rcodes("www.corp.example"), [0; 2]);
}

#[test]
fn overrides_and_pauses_end_by_themselves() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN; 2]);
    ringdnsd.told(&["block", "www.example", "--for", "2s"]);
    ringdnsd.told(&["pause", "--group", "kids", "--for", "2s"]);
    assert_eq!(scene.rcodes("www.example"), [NXDOMAIN, 0], "a pause is one of overrides too");
    assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN, 0]);
    until("the override is over", || (scene.rcodes("www.example") == [0; 2]).then_some(()));
    until("the pause is over", || (scene.rcodes("ads.example") == [NXDOMAIN; 2]).then_some(()));
    assert_eq!(ringdnsd.told(&["policy", "overrides"]), "none\n");
    ringdnsd.told(&["pause"]);
    assert_eq!(scene.rcodes("ads.example"), [0; 2]);
    assert_eq!(ringdnsd.told(&["resume"]), "lists decide again\n");
    assert_eq!(ringdnsd.told(&["resume"]), "they were not paused\n");
    assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN; 2]);
}

#[test]
fn one_client_of_a_group_is_paused() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    let sibling = || {
        let client = Client::from_address(&scene.host, IpAddr::from([127, 0, 20, 8]), scene.address);
        client.ask(&Query::a("ads.example")).rcode()
    };
    assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN; 2]);
    let told = ringdnsd.told(&["pause", "--client", "127.0.20.7", "--for", "10m"]);
    assert!(told.starts_with("no list decides for the client 127.0.20.7 until 2"), "{told}");
    // Workers learn of another group of clients within a second.
    until("the client is free of lists", || (scene.rcodes("ads.example") == [NXDOMAIN, 0]).then_some(()));
    assert_eq!(sibling(), NXDOMAIN);
    let told = ringdnsd.told(&["policy", "overrides"]);
    assert!(told.starts_with("no list decides for the client 127.0.20.7 until 2"), "{told}");
    let test = |client: &str| ringdnsd.told(&["policy", "test", "ads.example", "--client", client]);
    assert!(!test("127.0.20.7").contains("block") && test("127.0.20.8").contains("block by list \"ads\""));
    drop(ringdnsd);

    // It outlives a restart, and is in effect from the first query on.
    let ringdnsd = scene.start("");
    assert_eq!((scene.rcodes("ads.example"), sibling()), ([NXDOMAIN, 0], NXDOMAIN));
    assert_eq!(ringdnsd.told(&["resume", "--client", "127.0.20.8"]), "they were not paused\n");
    assert_eq!(ringdnsd.told(&["resume", "--group", "kids"]), "they were not paused\n");
    assert_eq!(ringdnsd.told(&["resume", "--client", "127.0.20.7"]), "lists decide again\n");
    until("lists decide again", || (scene.rcodes("ads.example") == [NXDOMAIN; 2]).then_some(()));
    ringdnsd.told(&["pause", "--client", "::ffff:127.0.20.7", "--for", "2s"]);
    until("the client is free of lists", || (scene.rcodes("ads.example") == [NXDOMAIN, 0]).then_some(()));
    until("the pause is over", || (scene.rcodes("ads.example") == [NXDOMAIN; 2]).then_some(()));
    assert_eq!(ringdnsd.told(&["policy", "overrides"]), "none\n");
}

#[test]
fn what_is_wrong_changes_nothing_and_is_told() {
    let scene = Scene::set();
    let ringdnsd = scene.start("");
    for (command, reason) in [
        (&["block", "a..b"][..], "a..b"),
        (&["allow", "www.example", "--group", "adults"], "no group \"adults\""),
        (&["pause", "--group", "adults"], "no group \"adults\""),
        (&["block", "www.example", "--for", "0s"], "1 or more"),
        (&["pause", "--client", "127.0.0.9", "--for", "200000h"], "ten years"),
    ] {
        let output = ringdnsd.ctl(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(reason), "{command:?}: {said}");
    }
    for (command, reason) in [
        (&["pause", "--client", "127.0.0.0/8"][..], "invalid IP address"),
        (&["pause", "--client", "127.0.0.1", "--group", "kids"], "cannot be used with"),
        (&["resume", "--client", "127.0.0.1", "--group", "kids"], "cannot be used with"),
    ] {
        let output = ringdnsd.ctl(command);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(reason), "{command:?}: {said}");
    }
    assert_eq!(ringdnsd.told(&["policy", "overrides"]), "none\n");
    assert!(!scene.folder.path().join("overrides.toml").exists());
    drop(ringdnsd);
    // A broken file is told, left as it is, and no reason not to answer.
    let path = scene.folder.path().join("overrides.toml");
    fs::write(&path, "[[override]]\nname = 7\n").unwrap();
    let ringdnsd = scene.start("");
    assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN; 2]);
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("no override is in effect"), "{status}");
    let output = ringdnsd.ctl(&["pause"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("move it away"), "{said}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "[[override]]\nname = 7\n");
}

#[test]
fn a_list_is_in_effect_by_its_schedule() {
    let scene = Scene::set();
    let always = "schedule = [\"mon-sun 00:00-24:00\"]";
    // Each day has a minute at which it is, and days have 24 hours: it is never this minute.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let minute = |offset: u64| {
        let at = (now / 60 + offset) % 1_440;
        format!("{:02}:{:02}", at / 60, at % 60)
    };
    let later = format!("schedule = [\"{}-{}\"]", minute(700), minute(710));
    for (schedule, expected) in [(always, NXDOMAIN), (&later, 0)] {
        let ringdnsd = scene.start(schedule);
        assert_eq!(scene.rcodes("ads.example"), [expected; 2], "{schedule}");
        // A reload puts another schedule into effect at once.
        ringdnsd.configure(|socket| scene.settings(always).text(socket));
        ringdnsd.told(&["reload"]);
        assert_eq!(scene.rcodes("ads.example"), [NXDOMAIN; 2]);
    }
}
