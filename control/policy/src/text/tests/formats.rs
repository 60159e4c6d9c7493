use super::*;

#[test]
fn plain_lists() {
    check(
        Format::Plain,
        &[
            ("ads.example", "block =ads.example"),
            ("  ADS.Example.  # why", "block =ads.example"),
            ("*.ads.example", "block +ads.example"),
            (".ads.example", "block +ads.example"),
            ("_dmarc.a-b.example", "block =_dmarc.a-b.example"),
            ("bücher.example", "block =xn--bcher-kva.example"),
            ("http://ads.example", "block =ads.example"),
            ("https://ads.example:8443/", "block =ads.example"),
            ("https://shared.example/evil.exe", "NotForDns"),
            ("http://192.0.2.1/", "AddressAsName"),
            ("# a comment", "comment"),
            ("! a comment", "comment"),
            ("", ""),
            ("two names.example", "Syntax"),
            ("192.0.2.1", "AddressAsName"),
            ("a..example", "Label"),
            ("ads.example,", "Character"),
            ("||ads.example^", "Character"),
            ("*", "Character"),
        ],
    );
}

#[test]
fn hosts_files() {
    check(
        Format::Hosts,
        &[
            ("0.0.0.0 ads.example", "block =ads.example"),
            ("127.0.0.1\tads.example\ttrack.example # why", "block =ads.example, block =track.example"),
            (":: ads.example", "block =ads.example"),
            ("::1 ads.example", "block =ads.example"),
            ("192.0.2.7 nas nas.example", "192.0.2.7 =nas, 192.0.2.7 =nas.example"),
            ("2001:db8::7 nas.example", "2001:db8::7 =nas.example"),
            ("127.0.0.1 localhost", "OwnHost"),
            ("127.0.0.1 localhost.localdomain", "OwnHost"),
            ("127.0.1.1 thishost", "OwnHost"),
            ("255.255.255.255 broadcasthost", "OwnHost"),
            ("fe80::1%lo0 localhost", "OwnHost"),
            ("ff02::1 ip6-allnodes", "OwnHost"),
            ("0.0.0.0 0.0.0.0", "OwnHost"),
            ("0.0.0.0 localhost ads.example", "block =ads.example, partial"),
            ("0.0.0.0 a..example ads.example", "block =ads.example, partial"),
            ("0.0.0.0 ads$.example", "Character"),
            ("ads.example", "block =ads.example"),
            ("example 0.0.0.0", "Address"),
            ("0.0.0.256 ads.example", "Address"),
            ("#0.0.0.0 ads.example", "comment"),
        ],
    );
}

#[test]
fn filter_rules_and_their_patterns() {
    check(
        Format::Adblock,
        &[
            ("||ads.example^", "block +ads.example"),
            ("||ADS.example^|", "block +ads.example"),
            ("||ads.example", "block +ads.example"),
            ("||zip^", "block +zip"),
            ("||bücher.example^", "block +xn--bcher-kva.example"),
            ("@@||ads.example^", "allow +ads.example"),
            ("|ads.example^", "block =ads.example"),
            ("|ads.example|", "block =ads.example"),
            ("ads.example", "block =ads.example"),
            ("ads.example^", "block +ads.example"),
            ("||*.ads.example^", "block *ads.example"),
            ("*.ads.example^", "block *ads.example"),
            (".ads.example^", "block *ads.example"),
            ("||ads*.example^", r"block /(?:^|\.)ads.*\.example$/"),
            ("|ads*.example^", r"block /^ads.*\.example$/"),
            ("-ads.example^", r"block /-ads\.example$/"),
            ("||ads.", r"block /(?:^|\.)ads\./"),
            ("||ads", r"block /(?:^|\.)ads/"),
            ("||ads.*^", r"block /(?:^|\.)ads\./"),
            ("*-Banner-*", "block /-banner-/"),
            ("/^ad[0-9]+\\./", r"block /^ad[0-9]+\./"),
            ("@@/^AD[0-9]+$/", "allow /(?i)^AD[0-9]+$/"),
            ("/^a{1,5}$/$important", "block /^a{1,5}$/ important"),
            ("/a(?=b)/", "Regex"),
            ("/a(/", "Regex"),
            ("/.*/", "TooBroad"),
            ("//", "TooBroad"),
            ("/^https?:\\/\\/x/", "NotForDns"),
            ("||*^", "TooBroad"),
            ("||", "TooBroad"),
            ("*", "TooBroad"),
            ("||ads.example/banner", "NotForDns"),
            ("/banner/ad.", "NotForDns"),
            ("|https://ads.example^", "NotForDns"),
            ("||192.0.2.1^", "AddressAsName"),
            ("||a..example^", "Label"),
            ("||ads.example^ ||b.example^", "NotForDns"),
            ("two words", "Character"),
            ("0.0.0.0 ads.example b.example", "block =ads.example, block =b.example"),
            ("[Adblock Plus 2.0]", "comment"),
            ("! Title: x", "comment"),
            ("!#include other.txt", "Include"),
            ("# a comment", "comment"),
            ("## Title", "comment"),
            ("##########", "comment"),
            ("ads.example # why", "block =ads.example"),
            ("##.banner", "NotForDns"),
            ("###banner", "NotForDns"),
            ("news.example##.banner", "NotForDns"),
            ("news.example#@#.banner", "NotForDns"),
            ("news.example#?#div:has(a)", "NotForDns"),
            ("news.example#$#body { top: 0 }", "NotForDns"),
            ("news.example#%#//scriptlet('x')", "NotForDns"),
            ("news.example$$script[data-x]", "NotForDns"),
        ],
    );
}

#[test]
fn filter_rules_and_their_modifiers() {
    check(
        Format::Adblock,
        &[
            ("||ads.example^$important", "block +ads.example important"),
            ("@@||ads.example^$important", "allow +ads.example important"),
            ("||ads.example^$dnstype=A|AAAA", "block +ads.example only[1, 28]"),
            ("||ads.example^$dnstype=~A|~https", "block +ads.example not[1, 65]"),
            ("||ads.example^$dnstype=A|~AAAA", "block +ads.example only[1]"),
            ("||ads.example^$dnstype=NONSENSE", "Modifier"),
            ("||ads.example^$dnstype=", "Modifier"),
            (
                "||example^$denyallow=a.example|*.b.example,important",
                "block +example important but +a.example but +b.example",
            ),
            ("||ads.example^$denyallow=a b", "Character"),
            ("||ads.example^$client=192.0.2.1", "block +ads.example for 192.0.2.1/32"),
            (
                "@@||ads.example^$client=192.168.0.7/24|2001:DB8::/32|~'10.0.0.5'|~\"10.0.0.4\",important",
                "allow +ads.example important for 192.168.0.0/24|2001:db8::/32|~10.0.0.4/32|~10.0.0.5/32",
            ),
            ("/^ads[0-9]/$dnstype=A,client=~192.0.2.1", "block /^ads[0-9]/ only[1] for ~192.0.2.1/32"),
            (
                "|ads.example^$client=192.0.2.1,dnsrewrite=192.0.2.9",
                "192.0.2.9 =ads.example for 192.0.2.1/32",
            ),
            ("||*^$client=192.0.2.1", "block + for 192.0.2.1/32"),
            ("@@/.*/$client=192.0.2.1", "allow + for 192.0.2.1/32"),
            ("*-*$client=192.0.2.1", "TooBroad"),
            ("||ads.example^$client=192.0.2.1|Tablet", "Client"),
            ("||ads.example^$client='Mary\\'s\\, and John\\'s'", "Client"),
            ("||ads.example^$client=~\"Tablet\"", "Client"),
            ("||ads.example^$client=02:00:00:00:00:01", "Client"),
            ("||ads.example^$client=10.0.0.0/33", "Client"),
            ("||ads.example^$client=10.0.0.0/+8", "Client"),
            ("||ads.example^$client=", "Client"),
            ("||ads.example^$ctag=device_tv", "Client"),
            ("||ads.example^$badfilter", "BadFilter"),
            ("||ads.example^$dnsrewrite=NXDOMAIN", "nxdomain +ads.example"),
            ("||ads.example^$dnsrewrite=refused", "refused +ads.example"),
            ("||ads.example^$dnsrewrite=NOERROR", "nodata +ads.example"),
            ("||ads.example^$dnsrewrite=NOERROR;;", "nodata +ads.example"),
            ("||ads.example^$dnsrewrite=192.0.2.1", "192.0.2.1 +ads.example"),
            ("||ads.example^$dnsrewrite=0.0.0.0", "null +ads.example"),
            ("||ads.example^$dnsrewrite=NOERROR;AAAA;2001:db8::1", "2001:db8::1 +ads.example"),
            ("||ads.example^$dnsrewrite=noerror;cname;new.example", "alias:new.example +ads.example"),
            ("|ads.example^$dnsrewrite=new.example", "alias:new.example =ads.example"),
            ("||ads.example^$dnsrewrite=NOERROR;A;2001:db8::1", "Rewrite"),
            ("||ads.example^$dnsrewrite=NOERROR;MX;10 mail.example", "Rewrite"),
            ("||ads.example^$dnsrewrite=NXDOMAIN;A;192.0.2.1", "Rewrite"),
            ("||ads.example^$dnsrewrite=SERVFAIL", "Rewrite"),
            ("||ads.example^$dnsrewrite", "Rewrite"),
            ("@@||ads.example^$dnsrewrite=192.0.2.1", "Rewrite"),
            ("||ads.example^$third-party", "NotForDns"),
            ("||ads.example^$~third-party,image", "NotForDns"),
            ("||ads.example/x^$domain=a.example|b.example", "NotForDns"),
            ("||ads.example^$nonsense", "Modifier"),
            ("||ads.example^$", "Modifier"),
        ],
    );
}

#[test]
fn patterns_of_dnscrypt_proxy() {
    check(
        Format::Wildcard,
        &[
            ("*.ads.example", "block +ads.example"),
            (".ads.example", "block +ads.example"),
            ("ads.example", "block +ads.example"),
            ("=ads.example # why", "block =ads.example"),
            ("ads.*", r"block /^ads\./"),
            ("ads*.example.*", r"block /^ads.*\.example\./"),
            ("*banner*", "block /banner/"),
            ("*.ads.*", r"block /\.ads\./"),
            ("*", "TooBroad"),
            ("*.", "Length"),
            ("*bücher*", "Idn"),
            ("ads.example @weekend", "Syntax"),
            ("# a comment", "comment"),
        ],
    );
}

#[test]
fn options_of_dnsmasq() {
    check(
        Format::Dnsmasq,
        &[
            ("address=/ads.example/", "nxdomain +ads.example"),
            ("address=/ads.example/#", "null +ads.example"),
            ("address=/ads.example/0.0.0.0", "null +ads.example"),
            ("address=/ads.example/::", "null +ads.example"),
            ("address=/a.example/b.example/192.0.2.1", "192.0.2.1 +a.example, 192.0.2.1 +b.example"),
            ("address=/ads.example/2001:db8::1 # why", "2001:db8::1 +ads.example"),
            ("address=/.ads.example/", "nxdomain +ads.example"),
            ("address=/*.ads.example/#", "null *ads.example"),
            ("address=/#/192.0.2.1", "192.0.2.1 +"),
            ("address=/ads.example/nonsense", "Address"),
            ("address=ads.example", "Syntax"),
            ("address=/a..example/b.example/", "nxdomain +b.example, partial"),
            ("address=//", "Length"),
            ("server=/ads.example/", "nxdomain +ads.example"),
            ("local=/ads.example/", "nxdomain +ads.example"),
            ("--local=/ads.example/", "nxdomain +ads.example"),
            ("server=/good.ads.example/#", "allow +good.ads.example"),
            ("server=/corp.example/192.0.2.53", "Forwarding"),
            ("server=192.0.2.53", "Forwarding"),
            ("conf-file=/etc/more.conf", "Include"),
            ("cache-size=1000", "Option"),
            ("domain-needed", "Syntax"),
            ("# a comment", "comment"),
        ],
    );
}

#[test]
fn options_of_unbound() {
    check(
        Format::Unbound,
        &[
            ("local-zone: \"ads.example\" always_nxdomain", "nxdomain +ads.example"),
            ("  local-zone: 'ads.example.' always_nodata # why", "nodata +ads.example"),
            ("local-zone: ads.example always_refuse", "refused +ads.example"),
            ("local-zone: \"ads.example\" refuse", "refused +ads.example"),
            ("local-zone: \"ads.example\" always_null", "null +ads.example"),
            ("local-zone: \"ads.example\" deny", "drop +ads.example"),
            ("local-zone: \"ads.example\" inform_deny", "drop +ads.example"),
            ("local-zone:\"ads.example\" static", "nxdomain +ads.example"),
            ("local-zone: \"good.example\" always_transparent", "allow +good.example"),
            ("local-zone: \"good.example\" transparent", "NoEffect"),
            ("local-zone: \"good.example\" inform", "NoEffect"),
            ("local-zone: \"ads.example\" redirect", "nodata +ads.example, directive"),
            (
                "local-zone: \"ads.example\" redirect\nlocal-data: \"ads.example A 192.0.2.1\"\nlocal-data: \"ads.example AAAA ::\"",
                "192.0.2.1 +ads.example, null +ads.example, directive",
            ),
            (
                "local-zone: \"ads.example\" redirect\nlocal-data: \"www.ads.example A 192.0.2.1\"",
                "192.0.2.1 =www.ads.example, nodata +ads.example, directive",
            ),
            ("local-data: \"nas.example 3600 IN A 192.0.2.1\"", "192.0.2.1 =nas.example"),
            ("local-data: 'www.example CNAME nas.example.'", "alias:nas.example =www.example"),
            ("local-data: \"nas.example TXT hello\"", "RecordType"),
            ("local-data: \"nas.example A nonsense\"", "Address"),
            ("local-data: \"nas.example\"", "Record"),
            ("local-zone: \"ads.example\"", "Syntax"),
            ("local-zone: \"ads.example", "Syntax"),
            ("local-zone: \"ads.example\" nonsense", "ZoneType"),
            ("local-zone: \"ads.example\" static more", "Syntax"),
            ("local-zone: \".\" always_refuse", "refused +"),
            ("local-data-ptr: \"192.0.2.1 nas.example\"", "Option"),
            ("include: \"/etc/more.conf\"", "Include"),
            ("server:", "directive"),
            ("nonsense", "Syntax"),
            ("# a comment", "comment"),
        ],
    );
}

#[test]
fn response_policy_zones() {
    check(
        Format::Rpz,
        &[
            ("ads.example CNAME .", "nxdomain =ads.example"),
            ("*.ads.example\t300 IN CNAME .", "nxdomain *ads.example"),
            ("ads.example IN 300 CNAME *.", "nodata =ads.example"),
            ("good.example cname RPZ-Passthru. ; why", "allow =good.example"),
            ("good.example CNAME good.example.", "allow =good.example"),
            ("ads.example CNAME rpz-drop.", "drop =ads.example"),
            ("ads.example CNAME rpz-tcp-only.", "tcponly =ads.example"),
            ("ads.example CNAME rpz-passthru", "Action"),
            ("ads.example CNAME rpz-nonsense.", "Action"),
            ("ads.example CNAME *.garden.example.", "alias:*.garden.example =ads.example"),
            ("ads.example CNAME garden.example.", "alias:garden.example =ads.example"),
            ("ads.example A 192.0.2.1", "192.0.2.1 =ads.example"),
            ("ads.example AAAA 2001:db8::1", "2001:db8::1 =ads.example"),
            ("ads.example A 2001:db8::1", "Address"),
            ("ads.example TXT \"a ; b\"", "RecordType"),
            ("ads.example CNAME", "Record"),
            ("ads.example", "Record"),
            ("* CNAME .", "nxdomain *"),
            ("a.*.example CNAME .", "Character"),
            ("a\\098c.example CNAME .", "nxdomain =abc.example"),
            ("32.1.2.0.192.rpz-ip CNAME .", "nxdomain answer 192.0.2.1/32"),
            ("24.0.2.0.192.rpz-client-ip CNAME rpz-drop.", "drop client 192.0.2.0/24"),
            ("48.zz.1.db8.2001.rpz-ip A 192.0.2.1", "192.0.2.1 answer 2001:db8:1::/48"),
            ("24.1.2.0.192.rpz-ip CNAME .", "RpzPrefix"),
            ("*.2.0.192.rpz-ip CNAME .", "RpzPrefix"),
            ("ns.example.rpz-nsdname CNAME .", "RpzNsdname"),
            ("128.zz.db8.2001.rpz-nsip CNAME .", "RpzNsip"),
            ("; a comment", "comment"),
            ("$TTL 300", "directive"),
            ("$INCLUDE other.zone", "Include"),
            ("$GENERATE 1-9 a$ CNAME .", "Generate"),
            ("$NONSENSE", "Syntax"),
        ],
    );
}

#[test]
fn the_frame_of_a_zone_file() {
    let frames = [
        // All names relative; several lines of SOA; records without an owner.
        "$TTL 300\n$ORIGIN rpz.example.\n@ IN SOA ns.rpz.example. host.rpz.example. (\n 1 ; serial\n 3600 600 86400 300 )\n  NS ns.rpz.example.\nads.example CNAME .\n*.ads.example CNAME .\nnas.home A 192.0.2.1\n  A 192.0.2.2\n",
        // All absolute, and no `$ORIGIN`.
        "rpz.example. 300 IN SOA ns. host. 1 2 3 4 5\nrpz.example. NS ns.\nads.example.rpz.example. 300 IN CNAME .\n*.ads.example.RPZ.example. CNAME .\nnas.home.rpz.example. A 192.0.2.1\nnas.home.rpz.example. A 192.0.2.2\n",
        // An origin above the zone, and then below it.
        "$ORIGIN example.\nrpz SOA ns host 1 2 3 4 5\n$ORIGIN example.rpz.example.\nads CNAME .\n*.ads CNAME .\n$ORIGIN rpz.example.\n$ORIGIN home\nnas A 192.0.2.1\nnas.home.rpz.example. (\nA 192.0.2.2 )\n",
        // No name at all.
        "@ SOA ns host 1 2 3 4 5\nads.example CNAME .\n*.ads.example CNAME .\nnas.home A 192.0.2.1\n\tA 192.0.2.2\n",
    ];
    for frame in frames {
        let (report, rules) = rules(Format::Rpz, frame.as_bytes()).expect(frame);
        let words: Vec<String> = rules.iter().map(|(_, rule)| shown(rule)).collect();
        let expected =
            ["nxdomain =ads.example", "nxdomain *ads.example", "192.0.2.1 =nas.home", "192.0.2.2 =nas.home"];
        assert_eq!(words, expected, "{frame}");
        assert_eq!(report.problems, [], "{frame}");
    }
    let outside = "rpz.example. SOA ns. host. 1 2 3 4 5\na.other. CNAME .\n@ TXT x\nb CNAME .\n";
    let (report, rules) = rules(Format::Rpz, outside.as_bytes()).unwrap();
    assert_eq!(rules.len(), 1);
    assert_eq!(report.counts.skipped.into_keys().collect::<Vec<_>>(), [Reason::NoRule, Reason::OutsideZone]);
    let label = "x".repeat(63);
    let long = format!(
        "$ORIGIN rpz.example.\n@ SOA ns host 1 2 3 4 5\n{label}.{label}.{label}.a CNAME {label}.{label}.{label}.{label}.\nb CNAME {label}.{label}.{label}.{}\nc CNAME .\n",
        "x".repeat(50)
    );
    let (report, _) = super::rules(Format::Rpz, long.as_bytes()).unwrap();
    assert_eq!((report.counts.rules, report.counts.skipped), (1, [(Reason::Length, 2)].into()));
    let relative_alias = "$ORIGIN rpz.example.\n@ SOA ns host 1 2 3 4 5\nads.example CNAME garden\n";
    let (_, rules) = super::rules(Format::Rpz, relative_alias.as_bytes()).unwrap();
    assert_eq!(shown(&rules[0].1), "alias:garden.rpz.example =ads.example");
}

#[test]
fn a_record_without_an_end_is_reported() {
    let open = "a.example CNAME .\nb.example CNAME (\n";
    let (report, rules) = rules(Format::Rpz, format!("{open}. ; c\n").as_bytes()).unwrap();
    assert_eq!((rules.len(), report.counts.directives), (1, 2));
    assert_eq!(report.problems[0].to_string().split(": ").next(), Some("line 2"));
    assert_eq!(report.problems[0].reason, Reason::Unfinished);
    // Only so much of the list is lost.
    let text = format!(
        "{open}{}z.example CNAME .\n",
        format!("; {}\nx.example CNAME .\n", "x".repeat(90)).repeat(300)
    );
    let (report, rules) = super::rules(Format::Rpz, text.as_bytes()).unwrap();
    assert_eq!((report.problems.len(), report.problems[0].reason), (1, Reason::Unfinished));
    assert!(rules.len() > 60, "{}", rules.len());
}
