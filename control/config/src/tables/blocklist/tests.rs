use super::*;
use crate::testing::{MINIMAL, minimal_with, refused};

#[test]
fn lists_are_read() {
    let lists = minimal_with(
        "[[blocklist]]\nname = \"ads\"\nsource = \"/a\"\nanswer = \"192.0.2.1\"\nttl = \"1m\"\n\
         [[blocklist]]\nname = \"b\"\nsource = \"/b\"\nformat = \"hosts\"\ndry_run = true\nede = \"filtered\"\n\
         [[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\", \"/^a[0-9]+\\\\./\"]\n",
    )
    .lists;
    let ads = BlocklistConfig {
        name: "ads".into(),
        source: ListSource::File("/a".into()),
        format: ListFormat::Auto,
        answer: BlockAnswer::Address([192, 0, 2, 1].into()),
        action: None,
        ttl: 60,
        schedule: Schedule::default(),
        ede: BlockEde::Blocked,
        dry_run: false,
    };
    assert_eq!(lists.block[0], ads);
    let [_, second] = &lists.block[..] else { panic!("{lists:?}") };
    assert_eq!((second.format, &second.answer), (ListFormat::Hosts, &BlockAnswer::NxDomain));
    assert!(second.dry_run && second.ede.code() == Some(17));
    assert_eq!(pattern(&lists.allow[0].names[1]), Some("^a[0-9]+\\."));
    let alias = minimal_with("[[blocklist]]\nname = \"a\"\nsource = \"/a\"\nanswer = \"Sink.example\"").lists;
    assert_eq!(alias.block[0].answer, BlockAnswer::Alias(b"\x04sink\x07example\0".to_vec()));
    assert_eq!(minimal_with("").lists, ListsConfig::default());
}

#[test]
fn a_policy_zone_may_have_one_action() {
    let list = |action: &str| {
        let table = "[[blocklist]]\nname = \"a\"\nsource = \"/a\"\nformat = \"rpz\"\naction = ";
        let lists = minimal_with(&format!("{table}{action:?}\n")).lists;
        (lists.block[0].action.clone(), lists.block[0].dry_run)
    };
    for (text, action) in [
        ("nxdomain", ZoneAction::NxDomain),
        ("nodata", ZoneAction::NoData),
        ("passthru", ZoneAction::PassThru),
        ("drop", ZoneAction::Drop),
        ("tcp-only", ZoneAction::TcpOnly),
        ("Garden.example", ZoneAction::Alias(b"\x06garden\x07example\0".to_vec())),
    ] {
        assert_eq!(list(text), (Some(action), false));
    }
    assert_eq!([list("given"), list("disabled")], [(None, false), (None, true)]);
    let zone = "[[blocklist]]\nname = \"a\"\nsource = \"/a\"\n";
    refused(
        &format!("{MINIMAL}{zone}"),
        &[
            ["action = \"drop\"", "8", "blocklist[0].action", "policy zones", "rpz"],
            ["format = \"rpz\"\naction = \"no\"", "9", "blocklist[0].action", "\"no\"", "passthru"],
            ["format = \"rpz\"\naction = \"192.0.2.1\"", "9", "blocklist[0].action", "192", "given"],
        ],
    );
}

#[test]
fn wrong_values_are_refused() {
    let twice = "name = \"a\"\nsource = \"/a\"\n[[blocklist]]\nname = \"a\"\nsource = \"/b\"";
    refused(
        &format!("{MINIMAL}[[blocklist]]\n"),
        &[
            ["source = \"/a\"", "5", "blocklist[0]", "needs a name", "ads"],
            ["name = \"a b\"\nsource = \"/a\"", "6", "blocklist[0].name", "\"a b\"", "ads"],
            ["name = \"a\"", "5", "blocklist[0]", "no source", "Add source"],
            ["name = \"a\"\nsource = \"a\"", "7", "blocklist[0].source", "absolute path", "/etc"],
            ["name = \"a\"\nsource = \"/a\"\nanswer = \"no\"", "8", "blocklist[0].answer", "\"no\"", "null"],
            [
                "name = \"a\"\nsource = \"/a\"\nschedule = [\"mo 08:00-09:00\"]",
                "8",
                "blocklist[0].schedule[0]",
                "no time of the week",
                "mon-fri",
            ],
            ["name = \"a\"\nsource = \"/a\"\nttl = \"0s\"", "8", "blocklist[0].ttl", "too short", "1s"],
            [twice, "9", "blocklist[1].name", "two lists", "of its own"],
        ],
    );
    refused(
        &format!("{MINIMAL}[[allowlist]]\nname = \"a\"\n"),
        &[
            ["", "5", "allowlist[0]", "neither", "Add names"],
            ["names = [\"a..b\"]", "7", "allowlist[0].names[0]", "a..b", "slashes"],
        ],
    );
}

#[test]
fn policy_zones_are_transferred() {
    let table = "[[blocklist]]\nname = \"a\"\nformat = \"rpz\"\nsource = ";
    let source = |text: &str| {
        let lists = minimal_with(&format!("{table}{text:?}\n")).lists;
        match &lists.block[0].source {
            ListSource::Zone(zone) => (zone.url.clone(), lists.block[0].source.changeable_host()),
            other => panic!("{other:?}"),
        }
    };
    let far = Some("192.0.2.53".to_owned());
    assert_eq!(source("axfr://192.0.2.53/RPZ.example."), ("axfr://192.0.2.53:53/rpz.example.".into(), far));
    assert_eq!(source("axfr://[::1]/rpz.example"), ("axfr://[::1]:53/rpz.example.".into(), None));
    assert_eq!(source("axfr://[fd00::1]:54/a"), ("axfr://[fd00::1]:54/a.".into(), None));
    let key = "tsig_name = \"K.example\"\ntsig_algorithm = \"hmac-sha512\"\ntsig_file = \"/k\"\n";
    let lists = minimal_with(&format!("{table}\"axfr://192.0.2.53/rpz.example\"\n{key}")).lists;
    assert_eq!(lists.block[0].source.changeable_host(), None, "it is signed");
    let ListSource::Zone(zone) = &lists.block[0].source else { panic!("{lists:?}") };
    let name = b"\x01k\x07example\0".to_vec();
    let tsig = TsigConfig { name, algorithm: TsigAlgorithm::HmacSha512, file: "/k".into() };
    assert_eq!(zone.tsig, Some(tsig));
}

#[test]
fn wrong_transfers_are_refused() {
    let key = "tsig_name = \"k\"\ntsig_file = \"/k\"";
    let rpz = "source = \"axfr://192.0.2.53/a\"\nformat = \"rpz\"";
    refused(
        &format!("{MINIMAL}[[blocklist]]\nname = \"a\"\n"),
        &[
            [
                "source = \"axfr://192.0.2.53/a\"",
                "7",
                "blocklist[0].source",
                "only response policy zones",
                "rpz",
            ],
            [
                "source = \"axfr://ns.example/a\"\nformat = \"rpz\"",
                "7",
                "blocklist[0].source",
                "no address",
                "axfr://",
            ],
            [
                "source = \"axfr://192.0.2.53\"\nformat = \"rpz\"",
                "7",
                "blocklist[0].source",
                "no zone",
                "axfr://",
            ],
            [
                "source = \"axfr://0.0.0.0/a\"\nformat = \"rpz\"",
                "7",
                "blocklist[0].source",
                "no address",
                "axfr://",
            ],
            [
                "source = \"axfr://192.0.2.53/.\"\nformat = \"rpz\"",
                "7",
                "blocklist[0].source",
                "the root",
                "axfr://",
            ],
            [&format!("{rpz}\ntsig_name = \"k\""), "5", "blocklist[0]", "a name and a file", "neither"],
            [
                &format!("{rpz}\ntsig_name = \"a..b\"\ntsig_file = \"/k\""),
                "9",
                "blocklist[0].tsig_name",
                "a..b",
                "primary",
            ],
            [
                &format!("{rpz}\ntsig_name = \"k\"\ntsig_file = \"k\""),
                "10",
                "blocklist[0].tsig_file",
                "absolute",
                "/etc",
            ],
            [&format!("source = \"/a\"\n{key}"), "8", "blocklist[0].tsig_name", "only transfers", "axfr://"],
        ],
    );
}
