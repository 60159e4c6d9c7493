use super::*;

const MINIMAL: &str = "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:5301\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("ringdns.toml"))
}

#[test]
fn the_smallest_file_is_complete() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:5300".parse().unwrap()]);
    assert_eq!((config.server.udp_limit, config.server.fallback), (1232, true));
    assert_eq!(config.upstreams[0].transport, Transport::Udp);
    assert_eq!(config.upstreams[0].timeout, Duration::from_millis(800));
    assert_eq!((config.cache.stale_ttl, config.cache.failure_ttl), (30, 5));
    assert_eq!(config.control.socket, Path::new("/run/ringdns/control.sock"));
    assert_eq!(config.control.http, None);
}

#[test]
fn where_the_query_log_goes() {
    assert!(parse(MINIMAL).unwrap().shipping.is_none());
    let to = |url: &str| {
        let text = format!(
            "{MINIMAL}[query_log]\nenabled = true\nspool_dir = \"a\"\n[clickhouse]\nurl = {url:?}\nretention = \"36h\"\n"
        );
        parse(&text).unwrap().shipping.unwrap().clickhouse.unwrap()
    };
    for (url, authority, path, scheme) in [
        ("http://[fd53::9]", "[fd53::9]:8123", "/", Scheme::Http),
        ("https://ch.example/logs/", "ch.example:8443", "/logs/", Scheme::Https),
        ("http://192.0.2.1:80", "192.0.2.1:80", "/", Scheme::Http),
    ] {
        let server = to(url);
        assert_eq!((&*server.authority(), &*server.path, server.scheme), (authority, path, scheme), "{url}");
        assert_eq!((server.retention_days, &*server.database, &*server.user), (2, "ringdns", "default"));
    }
    assert_eq!(to("http://[fd53::9]").host, "fd53::9");
    let alone = parse(&format!("{MINIMAL}[query_log]\nspool_dir = \"a\"\nappliance = \"b-1\"\n"))
        .unwrap()
        .shipping
        .unwrap();
    assert!(alone.clickhouse.is_none());
    assert_eq!(alone.appliance, "b-1");
}

#[test]
fn upstream_addresses() {
    for (text, address, transport) in [
        ("9.9.9.9", "9.9.9.9:53", Transport::Udp),
        ("9.9.9.9:5353", "9.9.9.9:5353", Transport::Udp),
        ("udp://9.9.9.9", "9.9.9.9:53", Transport::Udp),
        ("tcp://[2620:fe::fe]:53", "[2620:fe::fe]:53", Transport::Tcp),
        ("2620:fe::fe", "[2620:fe::fe]:53", Transport::Udp),
        ("[fe80::1%eth0]:5353", "[fe80::1%eth0]:5353", Transport::Udp),
        ("tcp://fe80::1%br-lan.7", "[fe80::1%br-lan.7]:53", Transport::Tcp),
        ("udp://[fe80::1%2]", "[fe80::1%2]:53", Transport::Udp),
    ] {
        let config = parse(&MINIMAL.replace("127.0.0.1:5301", text)).unwrap();
        let upstream = &config.upstreams[0];
        let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
        assert_eq!((&reached[..], &upstream.transport), (&[address.to_owned()][..], &transport), "{text}");
    }
}

#[test]
fn upstreams_over_tls_are_reached_at_addresses_and_known_by_names() {
    for (text, addresses, name, label) in [
        ("\"tls://9.9.9.9\"", &["9.9.9.9:853"][..], "9.9.9.9", "tls://9.9.9.9:853"),
        (
            "\"tls://9.9.9.9#dns.quad9.net\"",
            &["9.9.9.9:853"],
            "dns.quad9.net",
            "tls://9.9.9.9:853#dns.quad9.net",
        ),
        ("\"tls://[2620:fe::fe]:8853#a.b\"", &["[2620:fe::fe]:8853"], "a.b", "tls://[2620:fe::fe]:8853#a.b"),
        (
            "\"tls://dns.quad9.net\"\nbootstrap = [\"9.9.9.9\", \"2620:fe::fe\"]",
            &["9.9.9.9:853", "[2620:fe::fe]:853"],
            "dns.quad9.net",
            "tls://9.9.9.9:853#dns.quad9.net",
        ),
        (
            "\"https://dns.quad9.net/dns-query{?dns}\"\nbootstrap = [\"9.9.9.9\"]",
            &["9.9.9.9:443"],
            "dns.quad9.net",
            "https://dns.quad9.net/dns-query",
        ),
        ("\"https://9.9.9.9:8443/q\"", &["9.9.9.9:8443"], "9.9.9.9", "https://9.9.9.9:8443/q"),
        ("\"tls://[fe80::1%eth0]#a.b\"", &["[fe80::1%eth0]:853"], "a.b", "tls://[fe80::1%eth0]:853#a.b"),
        (
            "\"https://[fe80::1%25eth0]:8443/q\"",
            &["[fe80::1%eth0]:8443"],
            "fe80::1",
            "https://[fe80::1]:8443/q",
        ),
        ("\"https://[fe80::1%eth0]/q\"", &["[fe80::1%eth0]:443"], "fe80::1", "https://[fe80::1]/q"),
        (
            "\"https://dns.lan/q\"\nbootstrap = [\"fe80::1%eth0\"]",
            &["[fe80::1%eth0]:443"],
            "dns.lan",
            "https://dns.lan/q",
        ),
        ("\"https://[2620:fe::fe]/\"", &["[2620:fe::fe]:443"], "2620:fe::fe", "https://[2620:fe::fe]/"),
    ] {
        let config = parse(&MINIMAL.replace("\"127.0.0.1:5301\"", text)).unwrap();
        let upstream = &config.upstreams[0];
        let tls = upstream.transport.tls().unwrap();
        let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (reached, &*tls.name.to_str(), &*upstream.label()),
            (addresses.iter().map(ToString::to_string).collect(), name, label)
        );
    }
}

#[test]
fn upstreams_over_udp_and_tcp_may_have_names() {
    for (text, addresses, label) in [
        (
            "\"resolver.lan\"\nbootstrap = [\"192.0.2.1\", \"fe80::1%eth0\"]",
            &["192.0.2.1:53", "[fe80::1%eth0]:53"][..],
            "udp://resolver.lan:53",
        ),
        (
            "\"tcp://resolver.lan:5353\"\nbootstrap = [\"2620:fe::fe\"]",
            &["[2620:fe::fe]:5353"],
            "tcp://resolver.lan:5353",
        ),
    ] {
        let config = parse(&MINIMAL.replace("\"127.0.0.1:5301\"", text)).unwrap();
        let upstream = &config.upstreams[0];
        let reached: Vec<_> = upstream.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(
            (&reached[..], &*upstream.label()),
            (&addresses.iter().map(ToString::to_string).collect::<Vec<_>>()[..], label)
        );
    }
}

#[test]
fn serve_stale_and_enabled_switch_rules_off() {
    let config = parse(&format!("{MINIMAL}[cache]\nserve_stale = false\n")).unwrap();
    assert_eq!(config.cache.ttl_rules(&config.refresh).stale, 0);
    let config = parse(&format!("{MINIMAL}[cache]\nenabled = false\nmin_ttl = \"5m\"\n")).unwrap();
    let rules = config.cache.ttl_rules(&config.refresh);
    assert_eq!((rules.min, rules.max, rules.negative_max, rules.stale), (0, 0, 0, 0));
    assert_eq!(config.cache.failure_secs(), 0);
}

/// Each case: the whole file, the line and key that the message names, a part of its reason and of
/// its remedy.
#[test]
fn refusals_name_line_key_reason_and_remedy() {
    let server = |lines: &str| format!("[[upstream]]\naddress = \"127.0.0.1:5301\"\n[server]\n{lines}\n");
    let listen = |lines: &str| server(&format!("listen = [\"127.0.0.1:5300\"]\n{lines}"));
    let upstream = |lines: &str| format!("[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\n{lines}\n");
    let at = |address: &str| upstream(&format!("address = \"{address}\""));
    let and = |address: &str, line: &str| at(address) + line;
    let more = |lines: &str| format!("{MINIMAL}{lines}\n");
    let logged =
        |lines: &str| more(&format!("[query_log]\nenabled = true\nspool_dir = \"a\"\n[clickhouse]\n{lines}"));
    let many = format!("listen = {:?}", (1..=17).map(|i| format!("127.0.0.{i}:53")).collect::<Vec<_>>());
    let cases = [
        (server("listen = []"), "4", "server.listen", "no address", "at least one"),
        (server("listen = [\"127.0.0.1:53\",\n\"nowhere\"]"), "5", "server.listen[1]", "nowhere", "Write"),
        (server("listen = [\"127.0.0.1:53\", \"127.0.0.1:53\"]"), "4", "server.listen[1]", "twice", "Remove"),
        (server(&many), "4", "server.listen", "17 addresses", "at most 16"),
        (server("listen = [\"10.0.0.1:0\"]\ninterface = \"vs\""), "4", "server.listen[0]", "port 0", "port"),
        (listen("interface = \"\""), "5", "server.interface", "empty", "ip link"),
        (listen("interface = \"vs\"\nworkers = 2"), "6", "server.workers", "one worker a queue", "queues"),
        (listen("queues = [0]"), "5", "server.queues", "without an interface", "interface"),
        (listen("interface = \"vs\"\nqueues = [1, 1]"), "6", "server.queues", "twice", "each queue once"),
        (listen("workers = 0"), "5", "server.workers", "0 workers", "1 to 1024"),
        (listen("workers = -1"), "5", "server.workers", "-1", "Correct the value"),
        (listen("mode = \"native\""), "5", "server.mode", "native", "Correct the value"),
        (listen("udp_limit = 100"), "5", "server.udp_limit", "100 bytes", "1232"),
        (listen("udp_limit = 9000"), "5", "server.udp_limit", "9000 bytes", "1232"),
        (listen("spin = \"2s\""), "5", "server.spin", "too long", "at most"),
        (listen("spin = 5"), "5", "server.spin", "integer", "Correct the value"),
        (listen("identity = \"\""), "5", "server.identity", "0 bytes", "1 to 64"),
        (listen(&format!("nsid = \"{}\"", "x".repeat(65))), "5", "server.nsid", "65 bytes", "1 to 64"),
        (listen("busy_poll = true"), "5", "server.busy_poll", "no NIC", "interface"),
        (listen("lisen = []"), "5", "server.lisen", "unknown field", "spelling"),
        (listen("[resdi]\nurl = \"redis://h\""), "5", "resdi", "unknown field", "spelling"),
        (more("[redis]\nurl = \"http://h\""), "6", "redis.url", "not the address of a Redis", "redis://"),
        (
            more("[dnssec]\nmanaged_anchor_file = \"/var/lib/\""),
            "6",
            "dnssec.managed_anchor_file",
            "not the path",
            "Write",
        ),
        (
            more("[dnssec]\nmanaged_anchor_file = \"a\"\ntrust_anchor_file = \"a\""),
            "6",
            "dnssec.managed_anchor_file",
            "another format",
            "of its own",
        ),
        (
            more("[redis]\nurl = \"redis://:hush@\""),
            "6",
            "redis.url",
            "not the address of a Redis",
            "redis://",
        ),
        (
            more("[redis]\nurl = \"redis://h\"\n[cache]\nenabled = false"),
            "6",
            "redis.url",
            "keeps no",
            "Remove",
        ),
        (more("[redis]\ndeadline = \"0s\""), "6", "redis.deadline", "too short", "1ms"),
        (more("[redis]\ndeadline = \"2s\""), "6", "redis.deadline", "too long", "5ms"),
        (more("[redis]\nprefix = \"a b\""), "6", "redis.prefix", "a b", "letters"),
        (more("[redis]\nsentinel = [\"redis://h\"]"), "5", "redis.master", "by its name", "mymaster"),
        (
            more("[redis]\nurl = \"redis://h\"\nmaster = \"m\""),
            "7",
            "redis.master",
            "by its name",
            "sentinel =",
        ),
        (
            more(
                "[redis]\nurl = \"redis://h\"\ncluster = [\"redis://h\"]\nsentinel = [\"redis://h\"]\nmaster = \"m\"",
            ),
            "8",
            "redis.sentinel",
            "no cluster",
            "by itself",
        ),
        (
            more("[redis]\nurl = \"redis+unix:///h\"\nsentinel = [\"redis://h\"]\nmaster = \"m\""),
            "6",
            "redis.url",
            "a host and a port",
            "redis://",
        ),
        (
            more("[redis]\nurl = \"redis://h\"\ntls_ca_file = \"/none\""),
            "6",
            "redis.url",
            "no certificates",
            "rediss://",
        ),
        (
            more("[redis]\nurl = \"rediss://h\"\ntls_cert_file = \"/none\""),
            "7",
            "redis.tls_cert_file",
            "without its key",
            "both",
        ),
        (
            more("[redis]\nurl = \"redis://h\"\npassword_file = \"/none/such\""),
            "6",
            "redis.url",
            "/none/such",
            "readable",
        ),
        (listen("fallback = \"yes\""), "5", "server.fallback", "string", "Correct the value"),
        ("[server]\nlisten = [\"127.0.0.1:53\"]\n".into(), "", "upstream", "no upstream", "[[upstream]]"),
        (upstream("trusted = true"), "3", "upstream[0].address", "needs an address", "Add address"),
        (at("quic://9.9.9.9"), "4", "upstream[0].address", "quic:// is not supported", "tls://"),
        (at("tls://9.9.9.9/dns-query"), "4", "upstream[0].address", "a path", "https://"),
        (at("tls://dns.quad9.net"), "4", "upstream[0].address", "not known", "Add bootstrap"),
        (at("https://dns.quad9.net/dns-query"), "4", "upstream[0].address", "not known", "Add bootstrap"),
        (at("tls://9.9.9.9#"), "4", "upstream[0].address", "neither an IP address", "#dns.quad9.net"),
        (at("tls://a:b"), "4", "upstream[0].address", "neither an IP address", "#dns.quad9.net"),
        (at("fe80::1"), "4", "upstream[0].address", "any interface", "[fe80::1%eth0]:53"),
        (at("[2620:fe::fe%eth0]:53"), "4", "upstream[0].address", "needs no interface", "Remove"),
        (at("[fe80::1%]:53"), "4", "upstream[0].address", "no IP address or host name", "%eth0"),
        (at("resolver.lan"), "4", "upstream[0].address", "not known", "Add bootstrap"),
        (and("a.lan", "bootstrap = [\"fe80::1\"]"), "4", "upstream[0].address", "any interface", "%eth0"),
        (at("tls://0.0.0.0"), "4", "upstream[0].address", "cannot be asked", "one resolver"),
        (
            at("udp://9.9.9.9#dns.quad9.net"),
            "4",
            "upstream[0].address",
            "no certificate to find a name in",
            "tls://",
        ),
        (at("https://9.9.9.9"), "4", "upstream[0].address", "no path", "/dns-query"),
        (at("https://me@9.9.9.9/"), "4", "upstream[0].address", "host alone", "/dns-query"),
        (at("https://9.9.9.9/#x"), "4", "upstream[0].address", "the URL's host", "bootstrap"),
        (
            and("tls://9.9.9.9", "bootstrap = [\"1.1.1.1\"]"),
            "5",
            "upstream[0].bootstrap",
            "already",
            "Remove",
        ),
        (and("tls://a.b", "bootstrap = [\"c\"]"), "5", "upstream[0].bootstrap[0]", "no IP", "the port is"),
        (and("9.9.9.9", "bootstrap = [\"1.1.1.1\"]"), "5", "upstream[0].bootstrap", "already", "Remove"),
        (
            and("9.9.9.9", "tls_ca_file = \"ca.pem\""),
            "5",
            "upstream[0].tls_ca_file",
            "no certificates",
            "tls://",
        ),
        (upstream("address = \"ftp://9.9.9.9\""), "4", "upstream[0].address", "not a transport", "tls://"),
        (upstream("address = \"dns.quad9.net\""), "4", "upstream[0].address", "not known", "Add bootstrap"),
        (upstream("address = \"0.0.0.0:53\""), "4", "upstream[0].address", "cannot be asked", "one resolver"),
        (
            upstream("address = \"9.9.9.9\"\n[[upstream]]\naddress = \"udp://9.9.9.9:53\""),
            "6",
            "upstream[1].address",
            "listed twice",
            "zones",
        ),
        (upstream("address = \"127.0.0.1:5300\""), "4", "upstream[0].address", "ringdns itself", "another"),
        (upstream("address = \"1.1.1.1\"\ntimeout = \"1m\""), "5", "upstream[0].timeout", "too long", "10s"),
        (
            more("[cache]\nbytes_per_worker = \"64\""),
            "6",
            "cache.bytes_per_worker",
            "64",
            "Correct the value",
        ),
        (more("[cache]\nhost_bytes = 1000"), "6", "cache.host_bytes", "too little", "enabled = false"),
        (
            more("[cache]\nmin_ttl = \"2h\"\nmax_ttl = \"1h\""),
            "6",
            "cache.min_ttl",
            "more than cache.max_ttl",
            "Lower",
        ),
        (more("[cache]\nnegative_max_ttl = \"4h\""), "6", "cache.negative_max_ttl", "too long", "RFC 2308"),
        (more("[cache]\nfailure_ttl = \"6m\""), "6", "cache.failure_ttl", "too long", "RFC 9520"),
        (more("[cache]\nfailure_ttl = \"0s\""), "6", "cache.failure_ttl", "too short", "RFC 9520"),
        (more("[cache]\nstale_ttl = \"0s\""), "6", "cache.stale_ttl", "too short", "RFC 8767"),
        (more("[cache]\nstale_max = \"30d\""), "6", "cache.stale_max", "too long", "serve_stale"),
        (more("[tcp]\nconnections = 0"), "6", "tcp.connections", "0 is not", "RFC 9210"),
        (more("[tcp]\nin_flight = 5000"), "6", "tcp.in_flight", "5000 is not", "1 to 4096"),
        (more("[tcp]\nidle = \"2h\""), "6", "tcp.idle", "too long", "RFC 7766"),
        (
            more("[access]\nallow = [\"10.0.0.0/8\", \"10/8\"]"),
            "6",
            "access.allow[1]",
            "neither an address nor a prefix",
            "198.51",
        ),
        (
            more("[access]\ndeny = [\"10.0.0.1/8\"]"),
            "6",
            "access.deny[0]",
            "bits set beyond",
            "single address",
        ),
        (more("[access]\nrefused = \"ignore\""), "6", "access.refused", "ignore", "Correct the value"),
        (more("[control]\nhttp = \"8053\""), "6", "control.http", "no IP address", "127.0.0.1:8053"),
        (more("[control]\nsocket = \"\""), "6", "control.socket", "empty", "short path"),
        (
            more("[clickhouse]\nurl = \"http://ch:8123\""),
            "",
            "query_log.spool_dir",
            "no directory",
            "/var/lib",
        ),
        (logged("url = \"http://me:secret@ch:8123\""), "9", "clickhouse.url", "credentials", "password_file"),
        (logged("url = \"ftp://ch\""), "9", "clickhouse.url", "neither http", "http://["),
        (logged("url = \"http://ch/?a=b\""), "9", "clickhouse.url", "parameters", "http://["),
        (
            logged("url = \"http://ch\"\ntls_ca_file = \"a\""),
            "10",
            "clickhouse.tls_ca_file",
            "no certificates",
            "https://",
        ),
        (
            logged("url = \"http://ch\"\ndatabase = \"a`b\""),
            "10",
            "clickhouse.database",
            "no name",
            "letters",
        ),
        (logged("url = \"http://ch\"\nretention = \"1h\""), "10", "clickhouse.retention", "too short", "1d"),
        (more("[query_log]\nspool_dir = \"\""), "6", "query_log.spool_dir", "empty", "directory"),
        (
            more("[query_log]\nspool_dir = \"a\"\nbatch_rows = 600000"),
            "7",
            "query_log.batch_rows",
            "not possible",
            "500000",
        ),
        (
            more("[query_log]\nspool_dir = \"a\"\nappliance = \"it's me\""),
            "7",
            "query_log.appliance",
            "no name",
            "letters",
        ),
        ("[server\n".into(), "1", "", "table", "syntax"),
    ];
    for (text, line, key, reason, remedy) in cases {
        let message = parse(&text).expect_err(&text).to_string();
        let place =
            if line.is_empty() { "ringdns.toml: ".into() } else { format!("ringdns.toml:{line}: {key}") };
        assert!(message.starts_with(&place), "{message:?} should start with {place:?}");
        for part in [key, reason, remedy] {
            assert!(message.contains(part), "{message:?} should contain {part:?}");
        }
    }
}

#[test]
fn a_password_is_shown_nowhere() {
    let with = |url: &str| parse(&format!("{MINIMAL}[redis]\nurl = {url:?}\n"));
    let redis = with("redis://me:hush@192.0.2.1:6380/3").unwrap().redis.unwrap();
    assert_eq!(redis.address, "192.0.2.1:6380");
    assert!(!format!("{redis:?}").contains("hush"), "{redis:?}");
    let cluster = "[redis]\nurl = \"redis://:hush@192.0.2.1\"\ncluster = [\"redis://:hush@192.0.2.2\"]\n";
    let redis = parse(&format!("{MINIMAL}{cluster}")).unwrap().redis.unwrap();
    assert_eq!(redis.address, "192.0.2.1:6379, 192.0.2.2:6379");
    let refused = with("redis://me:hush@192.0.2.1:none").unwrap_err().to_string();
    assert!(!refused.contains("hush"), "{refused}");
    assert_eq!(with("redis+unix:///run/redis.sock").unwrap().redis.unwrap().address, "/run/redis.sock");
    let sentinels = "[redis]\nsentinel = [\"redis://:hush@192.0.2.1:26379\", \"redis://192.0.2.2:26380\"]\nmaster = \"mymaster\"\n";
    let redis = parse(&format!("{MINIMAL}{sentinels}")).unwrap().redis.unwrap();
    assert_eq!(redis.address, "mymaster of 192.0.2.1:26379, 192.0.2.2:26380");
    assert!(parse(MINIMAL).unwrap().redis.is_none());
}

fn project_file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_reference_is_up_to_date() {
    assert!(
        project_file("docs/configuration.md") == reference::markdown(),
        "run `cargo run -p ringdns-daemon --bin ringdnsd -- --print-config-reference > docs/configuration.md`"
    );
}

#[test]
fn the_sample_is_accepted() {
    parse(&project_file("deploy/ringdns.toml")).unwrap();
}

/// Checks that the keys that the sample shows commented out are accepted, and show the defaults.
#[test]
fn the_samples_commented_keys_are_real_and_show_the_defaults() {
    let sample = project_file("deploy/ringdns.toml");
    let open: String =
        sample.lines().map(|l| l.strip_prefix("#:").unwrap_or(l).trim_start().to_owned() + "\n").collect();
    assert_ne!(open, sample);
    let (as_is, open) = (parse(&sample).unwrap(), parse(&open).unwrap());
    assert_eq!(format!("{:?}", as_is.cache), format!("{:?}", open.cache));
    assert_eq!(format!("{:?}", as_is.server), format!("{:?}", open.server));
    assert_eq!(format!("{:?}", as_is.tcp), format!("{:?}", open.tcp));
    assert_eq!(format!("{:?}", as_is.access), format!("{:?}", open.access));
    assert_eq!(format!("{:?}", as_is.cookies), format!("{:?}", open.cookies));
}
