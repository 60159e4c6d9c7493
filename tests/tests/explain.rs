//! Tests of `ringctl explain`: each part of a query's way is told, and nothing is asked or changed.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Say, Settings, Upstream, free_address, until};
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
