//! Tests that a refusal tells all problems of a file at once, each with file, line, key, expected and
//! found, and none that another one brought about.

use ringdns_config::Config;
use std::path::Path;

/// Head of each file: four lines without a problem.
const HEAD: &str = "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n";

fn problems(text: &str) -> Vec<String> {
    Config::parse(text, Path::new("ringdns.toml")).expect_err(text).lines()
}

/// Checks that a file has just these problems: each begins with the first text, and has the others.
#[track_caller]
fn refused(text: &str, expected: &[&[&str]]) {
    let problems = problems(text);
    assert_eq!(problems.len(), expected.len(), "{text}\n{problems:#?}");
    for (problem, parts) in problems.iter().zip(expected) {
        let (place, rest) = problem.split_once(": ").unwrap();
        let (place, column) = place.rsplit_once(':').unwrap();
        assert!(column.parse::<usize>().is_ok_and(|column| column > 0), "{problem}");
        let without_column = format!("{place}: {rest}");
        let start = format!("ringdns.toml:{}", parts[0]);
        assert!(without_column.starts_with(&start), "{text}\n{problem}\n{parts:?}");
        parts[1..].iter().for_each(|part| assert!(problem.contains(part), "{text}\n{problem}\n{part:?}"));
    }
}

#[test]
fn single_problems_name_line_key_expected_and_found() {
    for (lines, place, parts) in [
        // Unknown keys and tables.
        (
            "[cache]\nhost_byte = 5",
            "6: cache.host_byte: ",
            ["unknown key \"host_byte\" in [cache]", "Did you mean \"host_bytes\"?"],
        ),
        ("[cache]\nhost-bytes = 5", "6: cache.host-bytes: ", ["unknown key", "Did you mean \"host_bytes\"?"]),
        (
            "[cache]\nlisten = []",
            "6: cache.listen: ",
            ["unknown key \"listen\" in [cache]", "listen is a key of [server]: move it there"],
        ),
        ("[tcp]\nzzzz = 1", "6: tcp.zzzz: ", ["unknown key", "the keys are connections"]),
        (
            "timout = \"1s\"",
            "5: upstream[0].timout: ",
            ["unknown key \"timout\" in [[upstream]]", "Did you mean \"timeout\"?"],
        ),
        ("[chache]\nx = 1", "5: chache: ", ["unknown table", "Did you mean [cache]?"]),
        (
            "[upstreams]\naddress = \"192.0.2.1\"",
            "5: upstreams: ",
            ["unknown table", "Did you mean [[upstream]]?"],
        ),
        ("[zzzz]\nx = 1", "5: zzzz: ", ["unknown table", "[query_log]"]),
        // Words.
        (
            "[access]\nrefused = \"drops\"",
            "6: access.refused: ",
            ["expected \"answer\" or \"drop\", found the string \"drops\"", "Did you mean \"drop\"?"],
        ),
        (
            "[query_log]\nprivacy = \"hashed\"",
            "6: query_log.privacy: ",
            ["expected \"none\", \"truncate\" or \"hash\"", "Did you mean \"hash\"?"],
        ),
        ("[cookies]\nrequire = true", "6: cookies.require: ", ["\"never\" or \"udp\"", "found true"]),
        // Types.
        (
            "[cache]\nenabled = \"no\"",
            "6: cache.enabled: ",
            ["expected true or false, found the string \"no\"", "without quotes"],
        ),
        (
            "[cache]\nhost_bytes = \"many\"",
            "6: cache.host_bytes: ",
            ["expected a number of bytes such as", "found the string \"many\""],
        ),
        (
            "[cache]\nmax_ttl = 60",
            "6: cache.max_ttl: ",
            ["expected a length of time such as", "max_ttl = \"60s\""],
        ),
        (
            "[cache]\nmax_ttl = [1]",
            "6: cache.max_ttl: ",
            ["expected a length of time such as", "found a list"],
        ),
        (
            "[refresh]\nahead = 70000",
            "6: refresh.ahead: ",
            ["expected a whole number from 0 to 65535", "found the number 70000"],
        ),
        (
            "[refresh]\nper_second = -1",
            "6: refresh.per_second: ",
            ["expected a whole number from 0 to 4294967295", "found the number -1"],
        ),
        (
            "[refresh]\nper_second = 1.5",
            "6: refresh.per_second: ",
            ["expected a whole number", "found the number 1.5"],
        ),
        (
            "[tcp]\nconnections = \"12\"",
            "6: tcp.connections: ",
            ["expected a whole number", "connections = 12, without quotes"],
        ),
        (
            "zones = \"corp.example\"",
            "5: upstream[0].zones: ",
            ["expected a list of strings, found the string", "zones = [\"corp.example\"]"],
        ),
        ("bootstrap = true", "5: upstream[0].bootstrap: ", ["expected a list of strings", "found true"]),
        (
            "[control]\nhttp = 8053",
            "6: control.http: ",
            ["expected a string, found the number 8053", "http = \"8053\""],
        ),
        (
            "[[cache]]\nhost_bytes = 5",
            "5: cache: ",
            ["expected the table [cache]", "found a table that is repeated"],
        ),
        ("[dnssec]\ninsecure = {}", "6: dnssec.insecure: ", ["expected a list of strings", "found a table"]),
    ] {
        refused(&format!("{HEAD}{lines}\n"), &[&[place, parts[0], parts[1]]]);
    }
    // Without the wrong element, the only upstream still has zones.
    refused(
        &format!("{HEAD}zones = [\"a\", 5]\n"),
        &[
            &["3: upstream: ", "every upstream has zones"],
            &["5: upstream[0].zones[1]: ", "expected a string", "found the number 5"],
        ],
    );
}

#[test]
fn the_column_is_that_of_the_value() {
    for (lines, place) in [
        ("[cache]\nmax_ttl =   5", ":6:13: cache.max_ttl: "),
        ("[cache]\n\"ä\" = 5", ":6:7: cache.ä: "),
        ("zones = [\"aä\", 5]\n[[upstream]]\naddress = \"192.0.2.2\"", ":5:10: upstream[0].zones[0]: "),
        ("[cache]\n  max_ttl = = 5", ":6:13: "),
        ("[tcp]\nconnections = { a = 1 }", ":6:15: tcp.connections: "),
    ] {
        let problems = problems(&format!("{HEAD}{lines}\n"));
        assert!(problems[0].starts_with(&format!("ringdns.toml{place}")), "{problems:?} {place}");
    }
}

#[test]
fn whole_files_of_another_shape_are_refused() {
    refused("", &[&["1: server.listen: ", "no address"], &["1: upstream: ", "no upstream is configured"]]);
    refused(
        "[upstream]\naddress = \"192.0.2.1\"\n[server]\nlisten = \"127.0.0.1:53\"\n",
        &[
            &["1: upstream: ", "expected a table that may be repeated, [[upstream]], found a table"],
            &["4: server.listen: ", "expected a list of strings", "listen = [\"127.0.0.1:53\"]"],
        ],
    );
    refused(
        "server = 5\nport = 53\n",
        &[
            &["1: server: ", "expected the table [server], found the number 5"],
            &["2: port: ", "unknown table or key \"port\""],
            &["2: upstream: ", "no upstream"],
        ],
    );
}

#[test]
fn syntax_errors_are_all_told_and_nothing_that_follows_from_them() {
    refused(
        "[server\nlisten = [\"127.0.0.1:53\"]\n[cache]\nmax_ttl = \n",
        &[&["1: ", "found at `[server`", "TOML syntax"], &["4: ", "found at `max_ttl`", "TOML syntax"]],
    );
    refused(
        &format!("{HEAD}[redis]\nurl = \"redis://:hush@h\nprefix = \"a\"\n"),
        &[&["6: ", "found at `url`"]],
    );
    assert!(!problems("[redis]\nurl = \"redis://:hush@h\n").concat().contains("hush"));
    refused(&format!("{HEAD}[cache]\nmax_ttl = \"1s\"\nmax_ttl = \"2s\"\n"), &[&["7: ", "duplicate key"]]);
}

#[test]
fn all_problems_are_told_at_once_in_the_order_of_the_file() {
    let text = "[server]\nlisten = [\"nowhere\", \"127.0.0.1:53\", \"127.0.0.1:53\", \"elsewhere\"]\nmod = \"copy\"\n\
                workers = 0\nudp_limit = 100\nspin = \"2s\"\n\
                [[upstream]]\naddress = \"quic://9.9.9.9\"\ntimeout = \"1m\"\nzones = [\"a..b\", \"c\", \"d..e\"]\n\
                [[upstream]]\naddress = \"9.9.9.9\"\ntrusted = \"yes\"\n\
                [[upstream]]\naddress = \"tls://dns.example\"\n\
                [cache]\nhost_bytes = 5\nbytes_per_worker = 5\nmin_ttl = \"2d\"\nfailure_ttl = \"0s\"\n\
                [access]\nallow = [\"10/8\"]\ndeny = [\"10.0.0.1/8\"]\nrefused = \"ignore\"\n\
                [redis]\nprefix = \"a b\"\nmax_keys = 0\nwarm_keys = 0\n\
                [control]\nhttp = \"8053\"\nprofiles_over_http = true\nhttp_hosts = [\"a:80\"]\n\
                [querylog]\nenabled = true\n";
    refused(
        text,
        &[
            &["2: server.listen[0]: ", "nowhere"],
            &["2: server.listen[2]: ", "twice"],
            &["2: server.listen[3]: ", "elsewhere"],
            &["3: server.mod: ", "Did you mean \"mode\"?"],
            &["4: server.workers: "],
            &["5: server.udp_limit: "],
            &["6: server.spin: "],
            &["8: upstream[0].address: ", "quic://"],
            &["9: upstream[0].timeout: "],
            &["10: upstream[0].zones[0]: ", "a..b"],
            &["10: upstream[0].zones[2]: ", "d..e"],
            &["13: upstream[1].trusted: ", "expected true or false, found the string \"yes\""],
            &["15: upstream[2].address: ", "Add bootstrap"],
            &["17: cache.host_bytes: "],
            &["18: cache.bytes_per_worker: "],
            &["19: cache.min_ttl: "],
            &["20: cache.failure_ttl: "],
            &["22: access.allow[0]: "],
            &["23: access.deny[0]: "],
            &["24: access.refused: ", "Correct the value"],
            &["26: redis.prefix: "],
            &["27: redis.max_keys: "],
            &["28: redis.warm_keys: "],
            &["30: control.http: "],
            &["32: control.http_hosts: "],
            &["33: querylog: ", "Did you mean [query_log]?"],
        ],
    );
}

/// A refused value does not make others wrong that depend on it.
#[test]
fn no_problem_follows_from_another_one() {
    for (lines, places) in [
        ("[query_log]\nprivacy = \"hush\"\nkey_file = \"a\"", &["6: query_log.privacy"][..]),
        (
            "[query_log]\nenabled = 1\nspool_dir = \"a\"\n[clickhouse]\nurl = \"http://ch\"",
            &["6: query_log.enabled"],
        ),
        (
            "[clickhouse]\nurl = \"ftp://ch\"\ntls_ca_file = \"a\"\n[query_log]\nenabled = true\nspool_dir = \"a\"",
            &["6: clickhouse.url"],
        ),
        ("[control]\nhttp = \"a\"\nprofiles_over_http = true", &["6: control.http"]),
        ("[redis]\nsentinel = [\"ftp://a\"]\nmaster = \"m\"", &["6: redis.sentinel"]),
        ("[redis]\nsentinel = [\"redis://a\"]\nmaster = 5", &["7: redis.master"]),
        ("[[upstream]]\naddress = \"tls://a.b\"\nbootstrap = [\"c\"]", &["7: upstream[1].bootstrap[0]"]),
        ("[[upstream]]\nzones = [\"a\"]", &["5: upstream[1].address"]),
        ("[cache]\nenabled = 0\n[redis]\nurl = \"redis://h\"", &["6: cache.enabled"]),
    ] {
        let expected: Vec<_> = places.iter().map(std::slice::from_ref).collect();
        refused(&format!("{HEAD}{lines}\n"), &expected);
    }
    let interface = "[server]\nlisten = [\"127.0.0.1:53\"]\ninterface = 5\nqueues = [0]\nbusy_poll = true\n[[upstream]]\naddress = \"192.0.2.1\"\n";
    refused(interface, &[&["3: server.interface: ", "expected a string"]]);
}

/// However many values are wrong, the end is reached, and each is told of once.
#[test]
fn many_problems_have_a_bound() {
    let zones: Vec<_> = (0..300).map(|i| format!("a..{i}")).collect();
    let text = format!("{HEAD}zones = {zones:?}\n");
    let problems = problems(&text);
    assert!((100..=101).contains(&problems.len()), "{}", problems.len());
    assert!(problems[99].contains("zones[99]"), "{}", problems[99]);
}

/// The table behind one that was taken out has its number.
#[test]
fn lists_of_several_tables_are_refused() {
    let group =
        |name: &str, clients: &str| format!("[[client_group]]\nname = {name:?}\nclients = [{clients}]\n");
    let text = [HEAD.to_owned(), group("a", "\"b\""), group("c", "\"10.0.0.1\", \"d\""), group("e", "\"f\"")];
    refused(
        &text.concat(),
        &[
            &["7: client_group[0].clients[0]: ", "\"b\""],
            &["10: client_group[1].clients[1]: ", "\"d\""],
            &["13: client_group[2].clients[0]: ", "\"f\""],
        ],
    );
}
