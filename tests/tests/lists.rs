//! Tests of lists: names that are answered by a list, aliases that lead there, reloads and refusals.

use ringdns_testkit::{
    Client, DNS_V4, Host, Lab, Query, Reply, Ringdnsd, Say, Settings, Upstream, Web, ask_over_tcp,
    free_address, until,
};
use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

const NXDOMAIN: u16 = 3;
const BLOCKED: u16 = 15;
const A: u16 = 1;
const AAAA: u16 = 28;
const TXT: u16 = 16;

/// A ringdnsd with lists in a folder of its own, and an upstream that knows every name. Names that
/// begin with `alias` lead to `tracker.example`, and `lists.example` is on loopback.
struct Scene {
    folder: tempfile::TempDir,
    address: SocketAddr,
    upstream: Upstream,
    host: Host,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::local(|seen| {
            let name = seen.query.name().to_owned();
            let records = match name.as_str() {
                _ if name.starts_with("alias") => {
                    vec![alias_record("tracker.example"), address_record("tracker.example")]
                }
                "lists.example" | "lists.example." => {
                    vec![record(&wire("lists.example"), A, &[127, 0, 0, 1])]
                }
                _ => vec![address_record(&name)],
            };
            vec![Say::Send(seen.query.response(0, &records))]
        });
        let address = free_address(&host);
        Scene { folder: tempfile::tempdir().unwrap(), address, upstream, host }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn settings(&self, tables: &str) -> Settings {
        Settings { tables: tables.into(), ..Settings::loopback(self.address, self.upstream.address()) }
    }

    fn start(&self, tables: &str) -> Ringdnsd {
        Ringdnsd::start_from(&self.host, |socket| self.settings(tables).text(socket))
    }

    fn client(&self) -> Client {
        Client::of(&self.host, self.address)
    }

    /// Asks over UDP twice, so that the second answer is a cache hit, and over TCP, and returns the
    /// answer, which must be the same each time.
    fn ask(&self, query: &Query) -> Reply {
        let replies = [self.client().ask(query), self.client().ask(query)];
        let over_tcp = ask_over_tcp(&self.host, self.address, std::slice::from_ref(query)).remove(0);
        for reply in [&replies[1], &over_tcp] {
            assert_eq!(
                (reply.rcode(), reply.addresses(), reply.extended_errors()),
                (replies[0].rcode(), replies[0].addresses(), replies[0].extended_errors()),
                "{query:?}"
            );
        }
        let [reply, _] = replies;
        reply
    }

    fn asked_upstream(&self, name: &str) -> usize {
        self.upstream.seen().iter().filter(|seen| seen.query.is_for(name)).count()
    }
}

/// Returns a name in wire format.
fn wire(name: &str) -> Vec<u8> {
    let question = Query::a(name).question();
    question[..question.len() - 4].to_vec()
}

/// Returns a record of the question's name.
fn record(owner: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
    let head = [rtype.to_be_bytes(), [0, 1], [0, 0], [1, 44], (data.len() as u16).to_be_bytes()].concat();
    [owner, &head, data].concat()
}

fn alias_record(target: &str) -> Vec<u8> {
    record(&[0xc0, 12], 5, &wire(target))
}

fn address_record(owner: &str) -> Vec<u8> {
    record(&wire(owner), A, &[192, 0, 2, 1])
}

fn list(name: &str, path: &Path, more: &str) -> String {
    format!("[[blocklist]]\nname = \"{name}\"\nsource = {path:?}\n{more}\n")
}

fn a(name: &str) -> Query {
    Query::a(name).edns(1232)
}

#[test]
fn each_answer_is_what_its_list_says() {
    let scene = Scene::set();
    let file = |name: &str| scene.file(name, &format!("||{name}.example^\n"));
    let kinds = [
        ("nxdomain", 3, ""),
        ("nodata", 0, ""),
        ("refused", 5, ""),
        ("null", 0, "0.0.0.0"),
        ("192.0.2.7", 0, "192.0.2.7"),
    ];
    let tables = kinds.map(|(kind, ..)| {
        let name = kind.replace('.', "-");
        list(&name, &file(&name), &format!("answer = \"{kind}\"\nttl = \"77s\""))
    });
    let ringdnsd = scene.start(&tables.concat());
    for (kind, rcode, address) in kinds {
        let name = format!("www.{}.example", kind.replace('.', "-"));
        let reply = scene.ask(&a(&name));
        let addresses: Vec<Ipv4Addr> = address.parse().into_iter().collect();
        assert_eq!((reply.rcode(), reply.addresses()), (rcode, addresses), "{name}");
        assert_eq!(reply.extended_errors(), [BLOCKED], "{name}");
        if !address.is_empty() {
            assert!((70..=77).contains(&reply.ttl()), "{name}: {}", reply.ttl());
        }
        let reply = scene.ask(&Query::of(&name, TXT).edns(1232));
        assert_eq!((reply.rcode(), reply.answers()), (rcode, 0), "{name} TXT");
        assert_eq!(scene.asked_upstream(&name), 0, "{name} is not resolved");
    }
    assert_eq!(scene.ask(&a("www.example")).addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
    // Over UDP, from the control plane and then from the cache, and over TCP; for two questions.
    let (status, metrics) = ringdnsd.get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("ringdns_blocked_total{list=\"nodata\",group=\"default\"} 6"), "{metrics}");
    assert!(metrics.contains("ringdns_list_entries{list=\"nodata\"} 1"), "{metrics}");
}

#[test]
fn an_alias_that_leads_to_a_blocked_name_is_blocked() {
    let scene = Scene::set();
    let tables = list("trackers", &scene.file("trackers", "tracker.example\n"), "")
        + "[[allowlist]]\nname = \"ours\"\nnames = [\"alias-of-ours.example\", \"/^alias[0-9]+[.]/\"]\n";
    let _ringdnsd = scene.start(&tables);
    let reply = scene.ask(&a("alias.example"));
    assert_eq!((reply.rcode(), reply.answers(), reply.extended_errors()), (NXDOMAIN, 0, vec![BLOCKED]));
    assert_eq!(scene.ask(&a("tracker.example")).rcode(), NXDOMAIN);
    for allowed in ["www.alias-of-ours.example", "alias-of-ours.example", "alias77.example"] {
        let reply = scene.ask(&a(allowed));
        assert_eq!((reply.rcode(), reply.extended_errors()), (0, vec![]), "{allowed}");
        assert_eq!(reply.addresses(), [Ipv4Addr::new(192, 0, 2, 1)], "{allowed}");
    }
}

#[test]
fn a_reload_changes_verdicts_at_once_and_keeps_what_is_cached() {
    let scene = Scene::set();
    let path = scene.file("ads", "ads.example\n");
    let ringdnsd = scene.start(&list("ads", &path, ""));
    assert_eq!(scene.ask(&a("ads.example")).rcode(), NXDOMAIN);
    assert_eq!(scene.ask(&a("shop.example")).rcode(), 0);
    assert_eq!(ringdnsd.told(&["reload"]), "nothing has changed\n");

    scene.file("ads", "shop.example\n");
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[blocklist] is in effect"), "{told}");
    assert_eq!(scene.ask(&a("shop.example")).rcode(), NXDOMAIN);
    assert_eq!(scene.ask(&a("ads.example")).rcode(), 0);

    // A list that cannot be used changes nothing.
    for wrong in ["", "<html><body>Gone</body></html>\n", "\0\x01\x02\n"] {
        scene.file("ads", wrong);
        let output = ringdnsd.ctl(&["reload"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("blocklist[0].source"), "{said}");
        assert_eq!(scene.ask(&a("shop.example")).rcode(), NXDOMAIN);
    }

    ringdnsd.configure(|socket| scene.settings("").text(socket));
    ringdnsd.told(&["reload"]);
    assert_eq!(scene.ask(&a("shop.example")).rcode(), 0);
    assert_eq!(
        scene.asked_upstream("shop.example"),
        1,
        "what was cached before it was blocked is still there"
    );
}

#[test]
fn over_rings_a_reload_is_in_effect_for_each_worker() {
    const TIMES: usize = 16;
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::start(lab.server(), |seen| vec![Say::Send(seen.query.address([192, 0, 2, 1]))]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ads");
    let settings = Settings { tables: list("ads", &path, ""), ..Settings::xdp(upstream.address()) };
    fs::write(&path, "ads.example\n").unwrap();
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    // Each time from another port, so that all queues get some.
    let all = |name: &str| -> Vec<u16> {
        (0..TIMES).map(|_| Client::of(lab.client(), DNS_V4).ask(&a(name)).rcode()).collect()
    };
    for turn in 0..4 {
        let (blocked, other) =
            if turn % 2 == 0 { ("ads.example", "shop.example") } else { ("shop.example", "ads.example") };
        assert_eq!(all(blocked), [NXDOMAIN; TIMES], "{blocked} in turn {turn}");
        assert_eq!(all(other), [0; TIMES], "{other} in turn {turn}");
        fs::write(&path, format!("{other}\n")).unwrap();
        ringdnsd.told(&["reload"]);
    }
    // Each name is asked for once; after that, the host tier has it.
    assert_eq!(upstream.seen().len(), 2);
    ringdnsd.settled();
}

#[test]
fn a_dry_run_counts_and_blocks_nothing() {
    let scene = Scene::set();
    let ringdnsd = scene.start(&list("trial", &scene.file("trial", "*.ads.example\n"), "dry_run = true"));
    let reply = scene.ask(&a("www.ads.example"));
    assert_eq!((reply.rcode(), reply.extended_errors()), (0, vec![]));
    let (_, metrics) = ringdnsd.get("/metrics").unwrap();
    assert!(metrics.contains("ringdns_blocked_total{list=\"trial\",group=\"default\"} 0"), "{metrics}");
    assert!(metrics.contains("ringdns_list_dry_run_total{list=\"trial\"} 2"), "{metrics}");
}

#[test]
fn other_types_get_the_answer_of_their_family() {
    let scene = Scene::set();
    let tables = list("null", &scene.file("null", "ads.example\n"), "answer = \"null\"");
    let _ringdnsd = scene.start(&tables);
    let reply = scene.ask(&Query::of("ads.example", AAAA).edns(1232));
    assert_eq!((reply.rcode(), reply.types()), (0, vec![AAAA]));
    let bare = scene.ask(&Query::a("ads.example"));
    assert_eq!((bare.addresses(), bare.has_edns()), (vec![Ipv4Addr::UNSPECIFIED], false));
}

#[test]
fn a_list_that_cannot_be_used_is_refused_with_its_line() {
    let scene = Scene::set();
    let good = list("good", &scene.file("good", "ads.example\n"), "");
    for (contents, reason) in
        [(None, "No such file"), (Some(""), "empty"), (Some("<!DOCTYPE html><html>\n"), "HTML")]
    {
        let path = scene.folder.path().join("bad");
        if let Some(contents) = contents {
            fs::write(&path, contents).unwrap();
        }
        let settings = scene.settings(&format!("{good}{}", list("bad", &path, "")));
        for (code, said) in
            [Ringdnsd::check(&scene.host, &settings, &[]), Ringdnsd::refused(&scene.host, &settings, &[])]
        {
            assert!(
                code == 3 && said.contains("blocklist[1].source") && said.contains(reason),
                "{code} {said}"
            );
        }
    }
    let folder = scene.settings(&list("folder", scene.folder.path(), ""));
    let (code, said) = Ringdnsd::check(&scene.host, &folder, &[]);
    assert!(code == 3 && said.contains("not a regular file"), "{code} {said}");
}

#[test]
fn a_test_names_the_rule_that_decides() {
    let scene = Scene::set();
    let path = scene.file("ads", "! Ads\n||ads.example^\n@@||good.ads.example^\n");
    let trial = list("trial", &scene.file("trial", "shop.example\n"), "dry_run = true");
    let ours = "[[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\", \"our.ads.example\"]\n";
    let tables = list("ads", &path, "answer = \"null\"") + &trial + ours;
    let ringdnsd = scene.start(&tables);
    let told = |name: &str| ringdnsd.told(&["policy", "test", name]);
    let file = path.display();
    assert_eq!(
        told("www.ads.example"),
        format!("www.ads.example. A: block by list \"ads\": null\n{file}:2: ||ads.example^\n")
    );
    assert_eq!(
        told("good.ads.example"),
        format!("good.ads.example. A: allow by list \"ads\"\n{file}:3: @@||good.ads.example^\n")
    );
    let allowed = told("x.our.ads.example");
    let config = scene.settings(&tables).text(ringdnsd.socket().as_path());
    let line = 1 + config.lines().position(|line| line.contains("our.ads.example")).unwrap();
    assert!(allowed.contains("allow by list \"ours\""), "{allowed}");
    assert!(allowed.ends_with(&format!("ringdns.toml:{line}: our.ads.example\n")), "{allowed}");
    assert!(told("shop.example").contains("resolve\nlist \"trial\" would block it"));
    scene.file("ads", "||other.example^\n");
    assert!(told("ads.example").contains("has the file changed?"), "the old list is in effect");
}

/// A web server with a list whose text a test changes.
struct Source {
    web: Web,
    text: Arc<Mutex<String>>,
}

impl Source {
    fn of(text: &str) -> Self {
        let text = Arc::new(Mutex::new(text.to_owned()));
        let says = text.clone();
        let web = Web::start(None, move |_| {
            vec![Web::response("200 OK", "etag: \"1\"\r\n", says.lock().unwrap().as_bytes())]
        });
        Source { web, text }
    }

    fn say(&self, text: &str) {
        text.clone_into(&mut self.text.lock().unwrap());
    }
}

impl Scene {
    /// Returns the tables of a list that is downloaded from this port.
    fn downloaded(&self, port: u16, more: &str) -> String {
        let dir = self.folder.path().join("copies");
        let url = PathBuf::from(format!("http://lists.example:{port}/ads.txt"));
        format!("{}[lists]\ndir = {dir:?}\ntimeout = \"5s\"\n{more}\n", list("ads", &url, ""))
    }
}

#[test]
fn a_downloaded_list_is_renewed_and_survives_its_server() {
    let scene = Scene::set();
    let source = Source::of("ads.example\nlists.example\n");
    let port = source.web.address().port();
    let blocking = scene.downloaded(port, "start = \"blocking\"");
    let mut ringdnsd = scene.start(&blocking);
    assert_eq!(scene.ask(&a("ads.example")).rcode(), NXDOMAIN, "in effect from the first question on");
    assert_eq!(scene.ask(&a("shop.example")).rcode(), 0);
    assert_eq!(source.web.heads().len(), 1, "what was downloaded before the start is not downloaded again");
    let copy = scene.folder.path().join("copies/ads.list");
    let told = ringdnsd.told(&["policy", "test", "ads.example"]);
    assert!(told.ends_with(&format!("{}:1: ads.example\n", copy.display())), "{told}");

    // Although the list blocks its own host.
    source.say("shop.example\n");
    assert_eq!(ringdnsd.told(&["policy", "refresh", "ads"]), "ads: +1 -2 rules\n");
    assert_eq!(scene.ask(&a("shop.example")).rcode(), NXDOMAIN);
    assert_eq!(scene.ask(&a("ads.example")).rcode(), 0);
    assert_eq!(ringdnsd.told(&["policy", "refresh"]), "ads: unchanged\n");
    let lists = ringdnsd.told(&["policy", "lists"]);
    assert!(lists.starts_with("ads: fresh, 1 rule, 20") && lists.contains("http://lists.example"), "{lists}");

    source.say("<html><body>Gone</body></html>\n");
    for _ in 0..2 {
        let output = ringdnsd.ctl(&["policy", "refresh"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.code() == Some(1) && said.contains("ads: not renewed: "), "{said}");
        assert_eq!(scene.ask(&a("shop.example")).rcode(), NXDOMAIN);
    }
    assert_eq!(fs::read_to_string(&copy).unwrap(), "shop.example\n");
    for (told, part) in [
        (ringdnsd.told(&["policy", "lists"]), "ads: degraded, 1 rule"),
        (ringdnsd.told(&["status"]), "the last good list stays in service"),
        (ringdnsd.get("/metrics").unwrap().1, "ringdns_list_state{list=\"ads\",state=\"degraded\"} 1"),
        (ringdnsd.get("/metrics").unwrap().1, "ringdns_list_last_success_timestamp_seconds{list=\"ads\"} 1"),
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    ringdnsd.terminate();
    let log = ringdnsd.process().output();
    assert_eq!(log.matches("cannot be renewed").count(), 1, "{log}");
    drop((ringdnsd, source));

    // Without its server, the copy is used.
    for start in ["fast", "blocking", "fail"] {
        let tables = scene.downloaded(port, &format!("start = {start:?}"));
        let _ringdnsd = scene.start(&tables);
        assert_eq!(scene.ask(&a("shop.example")).rcode(), NXDOMAIN, "{start}");
    }
}

#[test]
fn a_list_that_cannot_be_downloaded_is_loaded_later_or_refused() {
    let scene = Scene::set();
    let source = Source::of("");
    let port = source.web.address().port();
    let settings = scene.settings(&scene.downloaded(port, "start = \"fail\""));
    let (code, said) = Ringdnsd::refused(&scene.host, &settings, &[]);
    assert!(code == 3 && said.contains("blocklist[0].source") && said.contains("empty"), "{code} {said}");
    let (code, said) = Ringdnsd::check(&scene.host, &settings, &[]);
    assert!(code == 0 && said.contains("accepted") && said.contains("lists.example over http://"), "{said}");

    let ringdnsd = scene.start(&scene.downloaded(port, "start = \"blocking\""));
    assert_eq!(scene.ask(&a("ads.example")).rcode(), 0);
    assert!(ringdnsd.told(&["policy", "lists"]).starts_with("ads: degraded, 0 rules, never"));
    drop(ringdnsd);

    source.say("ads.example\n");
    let ringdnsd = scene.start(&scene.downloaded(port, "start = \"fast\""));
    until("the list is there", || {
        ringdnsd.told(&["policy", "lists"]).starts_with("ads: fresh, 1 rule,").then_some(())
    });
    assert_eq!(scene.ask(&a("ads.example")).rcode(), NXDOMAIN);
    let heads = source.web.heads().len();
    assert_eq!(ringdnsd.told(&["reload"]), "nothing has changed\n");
    ringdnsd.configure(|socket| {
        let tables = scene.downloaded(port, "start = \"fast\"") + "[cookies]\nenabled = false\n";
        scene.settings(&tables).text(socket)
    });
    assert!(ringdnsd.told(&["reload"]).contains("[cookies] is in effect"));
    assert_eq!(source.web.heads().len(), heads, "a reload of other tables downloads nothing");
}
