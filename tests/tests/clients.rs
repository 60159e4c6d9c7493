//! Tests with real clients: dig over AF_XDP, kernel sockets and TCP, with IPv4 and IPv6.

use ringdns_testkit::{Lab, Ringdnsd, Say, Settings, Upstream};

/// Starts an upstream that answers everything except `down.example`, for which it returns SERVFAIL.
fn upstream(lab: &Lab) -> Upstream {
    Upstream::start(lab.server(), |seen| {
        let failed = seen.query.name() == "down.example";
        vec![Say::Send(if failed { seen.query.response(2, &[]) } else { seen.query.address([192, 0, 2, 1]) })]
    })
}

/// Returns settings with AF_XDP, and without.
fn settings(upstream: &Upstream, server: &str, tables: &str) -> [Settings; 2] {
    [Settings::xdp(upstream.address()), Settings::sockets(upstream.address())].map(|settings| Settings {
        server: format!("{}\n{server}", settings.server),
        tables: format!("{}\n{tables}", settings.tables),
        ..settings
    })
}

/// Returns the output of dig.
fn dig(lab: &Lab, words: &str) -> String {
    lab.client().run("dig", ["+tries=1", "+time=10"].into_iter().chain(words.split(' ')))
}

const SERVERS: [&str; 2] = ["@10.53.0.2", "@fd53::2"];
const TRANSPORTS: [&str; 2] = ["+notcp", "+tcp"];

#[test]
fn dig_gets_a_cookie_and_takes_it_for_good() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab);
    for settings in settings(&upstream, "", "[cookies]\nrequire = \"udp\"") {
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        // dig sends a client cookie by default, and retries after BADCOOKIE.
        for server in SERVERS {
            for transport in TRANSPORTS {
                for _ in 0..2 {
                    let said = dig(&lab, &format!("{server} {transport} www.example"));
                    assert!(said.contains("status: NOERROR") && said.contains("(good)"), "{said}");
                    assert!(said.contains("192.0.2.1"), "{said}");
                }
            }
        }
        let said = dig(&lab, "@10.53.0.2 +nobadcookie www.example");
        assert!(said.contains("status: BADCOOKIE") && said.contains("(good)"), "{said}");
        // A client without cookies is answered.
        let said = dig(&lab, "@10.53.0.2 +nocookie www.example");
        assert!(said.contains("192.0.2.1") && !said.contains("COOKIE"), "{said}");
        assert_eq!(ringdnsd.settled()["total"]["cookie"], 5);
    }
}

#[test]
fn who_may_not_ask_hears_so_on_every_path() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab);
    let access = "[access]\nallow = [\"10.0.0.0/8\", \"fd00::/8\"]\ndeny = [\"10.53.0.0/31\", \"fd53::1\"]";
    for settings in settings(&upstream, "", access) {
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        for server in SERVERS {
            for transport in TRANSPORTS {
                let said = dig(&lab, &format!("{server} {transport} www.example"));
                assert!(said.contains("status: REFUSED") && said.contains("EDE: 18 (Prohibited)"), "{said}");
            }
        }
        let stats = ringdnsd.settled();
        assert_eq!(
            (&stats["total"]["denied"], &stats["total"]["punted"]),
            (&2.into(), &0.into()),
            "{stats:#}"
        );
    }
    assert_eq!(upstream.asked(), 0);
}

#[test]
fn dig_is_told_why_and_by_whom() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab);
    for settings in settings(&upstream, "identity = \"ring-1\"\nnsid = \"ring-2\"", "") {
        let _ringdnsd = Ringdnsd::start(lab.server(), &settings);
        for transport in TRANSPORTS {
            assert_eq!(
                dig(&lab, &format!("@10.53.0.2 {transport} +short CH TXT id.server")).trim(),
                "\"ring-1\""
            );
            let said = dig(&lab, &format!("@10.53.0.2 {transport} CH TXT version.bind"));
            assert!(said.contains("status: REFUSED"), "{said}");
            let said = dig(&lab, &format!("@10.53.0.2 {transport} +nsid www.example"));
            assert!(said.contains("(\"ring-2\")"), "{said}");
            let said = dig(&lab, &format!("@10.53.0.2 {transport} +norecurse www.example"));
            assert!(said.contains("status: REFUSED") && said.contains("EDE: 20"), "{said}");
            dig(&lab, &format!("@10.53.0.2 {transport} down.example"));
            let said = dig(&lab, &format!("@10.53.0.2 {transport} down.example"));
            assert!(said.contains("status: SERVFAIL") && said.contains("EDE: 13 (Cached Error)"), "{said}");
        }
        let said = dig(&lab, "@10.53.0.2 +tcp +keepalive www.example");
        assert!(said.contains("TCP KEEPALIVE: 10.0 secs"), "{said}");
    }
}
