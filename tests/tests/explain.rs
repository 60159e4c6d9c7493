//! Tests of `ringctl explain`: each part of a query's way is told, and nothing is asked or changed.

use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address, until,
};
use serde_json::Value;
use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

#[test]
fn each_part_of_the_way_of_a_query_is_told() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let answers = Arc::new(AtomicBool::new(true));
    let upstream = Upstream::local({
        let answers = answers.clone();
        move |seen| Vec::from_iter(answers.load(Relaxed).then(|| Say::Send(seen.query.answer(300))))
    });
    let address = free_address(&host);
    let list = folder.path().join("ads");
    fs::write(&list, "! ads\n||ads.example^\n").unwrap();
    let mut settings = Settings::loopback(address, upstream.address());
    settings.tables += &format!(
        "\n[access]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"192.0.2.0/24\"]\n[[blocklist]]\nname = \"ads\"\nsource = {list:?}\n\
         [[local_record]]\nname = \"nas.example\"\ntype = \"A\"\ndata = \"192.0.2.9\"\n\
         [[client_group]]\nname = \"kids\"\nclients = [\"127.0.20.0/24\"]\nblocklists = []\n\
         [[upstream]]\naddress = \"127.0.0.1:1\"\nzones = [\"corp.example\"]\n"
    );
    let ringdnsd = Ringdnsd::start(&host, &settings);
    let explain = |arguments: &[&str]| ringdnsd.told(&[&["explain"], arguments].concat());
    let first = |said: &str| said.lines().next().unwrap().to_owned();
    let label = format!("udp://{}", upstream.address());

    let said = explain(&["www.example"]);
    assert_eq!(first(&said), format!("www.example. A: no cache has it; asked of {label}"), "{said}");
    for line in [
        "client     any, group default, allowed",
        "policy     resolve",
        "worker 0   absent",
        "host       absent",
        "upstreams  of .",
        &format!("           {label}: in use"),
    ] {
        assert!(said.contains(&format!("\n{line}\n")), "{line}: {said}");
    }
    assert_eq!(upstream.asked(), 0);

    let client = Client::of(&host, address);
    assert_eq!(client.ask(&Query::a("www.example")).rcode(), 0);
    let said = explain(&["www.example"]);
    assert_eq!(first(&said), "www.example. A: 1 of 1 workers answer from their caches", "{said}");
    assert!(said.contains("\nworker 0   fresh: NOERROR, ") && said.contains("192.0.2.1"), "{said}");
    let json: Value = serde_json::from_str(&explain(&["www.example", "--json"])).unwrap();
    assert_eq!((&json["workers"][0]["state"], &json["host"][0]["state"]), (&"fresh".into(), &"fresh".into()));
    assert_eq!(upstream.asked(), 1);
    // Other types of the name are other questions.
    assert!(first(&explain(&["www.example", "MX"])).contains("no cache has it"));

    // A purge leaves a worker's entry where it is, and nobody gets it.
    ringdnsd.told(&["cache", "purge", "--all"]);
    let said = explain(&["www.example"]);
    assert!(said.contains("\nworker 0   purged\nhost       absent\n"), "{said}");
    assert!(first(&said).contains("no cache has it"), "{said}");

    let said = explain(&["x.ads.example"]);
    assert_eq!(first(&said), "x.ads.example. A: list \"ads\" answers: nxdomain", "{said}");
    assert!(said.contains(&format!("\n           {}:2: ||ads.example^\n", list.display())), "{said}");
    let said = explain(&["x.ads.example", "--client", "127.0.20.7"]);
    assert!(first(&said).contains("no cache has it") && said.contains("group kids, allowed"), "{said}");
    assert_eq!(first(&explain(&["nas.example"])), "nas.example. A: local data answers");
    assert!(first(&explain(&["localhost"])).ends_with("no upstream is asked for such names"));
    let said = explain(&["www.example", "--client", "192.0.2.7"]);
    assert!(first(&said).ends_with("the access list does not allow this client: it gets REFUSED"), "{said}");

    // A zone of its own, whose upstream is in back-off.
    (0..3).for_each(|nth| assert_eq!(client.ask(&Query::a(&format!("n{nth}.corp.example"))).rcode(), 2));
    let said = explain(&["www.corp.example"]);
    assert!(said.contains("\nupstreams  of corp.example.\n"), "{said}");
    until("it is in back-off", || {
        explain(&["www.corp.example"]).contains("udp://127.0.0.1:1: in back-off for ").then_some(())
    });

    for wrong in [&["a..b"][..], &["www.example", "NOTYPE"], &["www.example", "--group", "none"]] {
        let refused = ringdnsd.ctl(&[&["explain"], wrong].concat());
        assert_eq!(refused.status.code(), Some(1), "{wrong:?}");
    }
    assert_eq!(upstream.asked(), 1, "nothing is asked to explain");
    answers.store(false, Relaxed);
    ringdnsd.settled();
}

/// Returns the causes of the last misses, and the flags of their clients: DO and CD.
fn causes(ringdnsd: &Ringdnsd, name: &str) -> Vec<(String, bool, bool)> {
    let told = ringdnsd.told(&["--json", "explain", name]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let one = |miss: &Value| {
        let flag = |flag: &str| miss[flag].as_bool().unwrap();
        (miss["cause"].as_str().unwrap().to_owned(), flag("dnssec_ok"), flag("checking_disabled"))
    };
    told["misses"].as_array().unwrap().iter().map(one).collect()
}

#[test]
fn the_reason_of_the_last_miss_is_told() {
    let host = Host::local();
    let upstream = Upstream::local(|seen| {
        let text = seen.query.name();
        let ttl = if text.starts_with("never-kept") {
            0
        } else if text.starts_with("short") {
            1
        } else {
            300
        };
        vec![Say::Send(seen.query.answer(ttl))]
    });
    let address = free_address(&host);
    let mut settings = Settings::loopback(address, upstream.address());
    // The names that fill the caches are all in one zone, which would be capped as flooded.
    settings.tables = "[resolver]\nzone_misses = 0\n\
        [cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"1MiB\"\nserve_stale = false\n"
        .into();
    let ringdnsd = Ringdnsd::start(&host, &settings);
    let client = Client::of(&host, address);
    let ask = |query: &Query| assert_eq!(client.ask(query).rcode(), 0);
    let plain = |cause: &str| vec![(cause.to_owned(), false, false)];

    assert_eq!(causes(&ringdnsd, "www.example"), []);
    ask(&Query::a("www.example"));
    assert_eq!(causes(&ringdnsd, "www.example"), plain("unknown"));
    // A hit is no miss.
    ask(&Query::a("www.example"));
    ringdnsd.told(&["cache", "purge", "--suffix", "example"]);
    assert_eq!(causes(&ringdnsd, "www.example"), plain("unknown"), "nobody has asked since");
    ask(&Query::a("www.example"));
    assert_eq!(causes(&ringdnsd, "www.example"), plain("purged"));
    let said = ringdnsd.told(&["explain", "www.example"]);
    let line = said.lines().find(|line| line.starts_with("last miss  ")).unwrap();
    assert!(line.contains(" by user:") && line.ends_with(" (suffix example.)"), "{said}");

    ask(&Query::a("never-kept.example"));
    ask(&Query::a("never-kept.example"));
    assert_eq!(causes(&ringdnsd, "never-kept.example"), plain("not_kept"));
    ask(&Query::a("short.example"));
    until("it is asked again", || {
        ringdnsd.next_second();
        ask(&Query::a("short.example"));
        (causes(&ringdnsd, "short.example") == plain("expired")).then_some(())
    });

    // Clients that set DO ask for another variant.
    let asked = Query::a("www.example").dnssec(true, false);
    ringdnsd.next_second();
    ask(&asked);
    let both = [plain("purged"), vec![("variant".to_owned(), true, false)]].concat();
    assert_eq!(causes(&ringdnsd, "www.example"), both);
    let first = |said: String| said.lines().next().unwrap().to_owned();
    assert!(
        first(ringdnsd.told(&["explain", "www.example", "--dnssec"])).contains("answer from their caches")
    );
    assert!(first(ringdnsd.told(&["explain", "www.example", "--cd"])).contains("no cache has it"));

    // More answers than there is room for.
    let long = |nth: u32| format!("n{nth}.{0}.{0}.{0}.example", "x".repeat(60));
    (0..9_000).for_each(|nth| ask(&Query::a(&long(nth))));
    let held = ringdnsd.told(&["cache", "list", "--suffix", "example"]);
    let is_held = |name: &str| held.lines().any(|line| line.starts_with(&format!("{name}. ")));
    let name = (0..9_000).map(long).find(|name| !is_held(name)).unwrap();
    // The worker has it still.
    ask_over_tcp(&host, address, &[Query::a(&name)]);
    assert_eq!(causes(&ringdnsd, &name), plain("evicted"));
    ringdnsd.settled();
}
