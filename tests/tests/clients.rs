//! Tests with real clients: dig over AF_XDP, kernel sockets and TCP, with IPv4 and IPv6.

use ringdns_testkit::{Lab, Ringdnsd, Say, Settings, Upstream, until};

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

/// With `refused = "drop"`, the XDP program drops what the access list denies, and follows it at once
/// when it changes. Workers see none of it, and TCP is the listener's.
#[test]
fn the_xdp_program_drops_what_the_access_list_denies() {
    let Some(lab) = Lab::up() else { return };
    let upstream = upstream(&lab);
    let settings = |access: &str| {
        let xdp = Settings::xdp(upstream.address());
        Settings { tables: format!("{}\n[access]\n{access}", xdp.tables), ..xdp }
    };
    let deny = "deny = [\"10.53.0.0/31\"]\nrefused = \"drop\"\n";
    let ringdnsd = Ringdnsd::start(lab.server(), &settings(deny));
    let ask = |server: &str| {
        let words = format!("{server} +tries=1 +time=1 www.example");
        lab.client()
            .command("dig")
            .args(words.split(' '))
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let denied = |of: &str| ringdnsd.stat(&format!("/{of}/denied"));
    assert!(!ask("@10.53.0.2") && ask("@fd53::2"));
    assert_eq!((denied("xdp"), denied("total/dropped")), (1, 0));
    for (access, is_answered) in [
        ("allow = [\"0.0.0.0/0\"]\nrefused = \"drop\"\n", true),
        ("allow = [\"fd00::/8\"]\nrefused = \"drop\"\n", false),
        // REFUSED is an answer to dig.
        ("allow = [\"fd00::/8\"]\n", true),
    ] {
        ringdnsd.configure(|socket| settings(access).text(socket));
        assert!(ringdnsd.told(&["reload"]).contains("[access] is in effect"));
        let before = denied("xdp");
        match is_answered {
            // Workers take the list within a second.
            true => until(access, || ask("@10.53.0.2").then_some(())),
            false => assert!(!ask("@10.53.0.2"), "{access}"),
        }
        assert_eq!(denied("xdp") - before, u64::from(!is_answered), "{access}");
    }
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
