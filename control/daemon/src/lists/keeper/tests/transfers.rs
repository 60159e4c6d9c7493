//! Tests of transfers from a primary that is honest, hostile or broken.

use super::super::*;
use crate::daemon;
use data_encoding::BASE64;
use ring::hmac::{self, HMAC_SHA256, Key};
use ringdns_api::ListState;
use ringdns_common::names;
use ringdns_policy::{list::Changes, policy::Verdict};
use std::{
    fs,
    io::{Read, Write},
    iter::once,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    thread,
    time::Duration,
};

const ZONE: &str = "rpz.example";
const SECRET: &[u8] = b"a secret of a transfer";
const ALGORITHM: &[u8] = b"\x0bhmac-sha256\0";
const KEY_NAME: &str = "transfer.example";
const SOA: u16 = 6;
const CNAME: u16 = 5;

/// Message of the primary, and how it is signed.
#[derive(Clone)]
struct Part {
    records: Vec<Vec<u8>>,
    signature: Signature,
    /// Change of the message after it is signed.
    change: fn(&mut Vec<u8>),
}

#[derive(Clone, Copy, PartialEq)]
enum Signature {
    Good,
    None,
    OtherSecret,
    Old,
}

/// Conduct after the messages.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Close,
    Silence,
    Again,
}

#[derive(Clone)]
struct Script {
    parts: Vec<Part>,
    end: End,
}

fn wire(name: &str) -> Vec<u8> {
    match name.strip_prefix("*.") {
        Some(below) => [b"\x01*", &names::name(below).unwrap()[..]].concat(),
        None => names::name(name).unwrap(),
    }
}

fn record(owner: &str, rtype: u16, data: &[u8]) -> Vec<u8> {
    let head = [rtype.to_be_bytes(), [0, 1], [0, 0], [0, 60], (data.len() as u16).to_be_bytes()].concat();
    [&wire(owner)[..], &head, data].concat()
}

fn soa(serial: u32) -> Vec<u8> {
    let numbers = [serial, 7_200, 900, 86_400, 60].map(u32::to_be_bytes).concat();
    record(ZONE, SOA, &[&wire("ns.example")[..], &wire("admin.example"), &numbers].concat())
}

/// Returns the record of a rule by which a name does not exist.
fn rule(name: &str) -> Vec<u8> {
    record(&format!("{name}.{ZONE}"), CNAME, &[0])
}

fn part(records: Vec<Vec<u8>>) -> Part {
    Part { records, signature: Signature::Good, change: |_| {} }
}

fn script(parts: Vec<Part>) -> Script {
    Script { parts, end: End::Close }
}

fn whole(serial: u32, names: &[&str]) -> Script {
    let rules = names.iter().map(|name| rule(name)).collect();
    script(vec![part(vec![soa(serial)]), part(rules), part(vec![soa(serial)])])
}

fn signed(message: &[u8], before: &[u8], is_first: bool, signature: Signature) -> (Vec<u8>, Vec<u8>) {
    let secret = if signature == Signature::OtherSecret { b"another".as_slice() } else { SECRET };
    let key = Key::new(HMAC_SHA256, secret);
    let now = Clock::start().unix();
    let time = if signature == Signature::Old { now - 1_000 } else { now };
    let timers = [&time.to_be_bytes()[2..], &[1, 44]].concat();
    let any = [0, 255, 0, 0, 0, 0];
    let mut input = [&(before.len() as u16).to_be_bytes()[..], before, message].concat();
    if is_first {
        input.extend([&wire(KEY_NAME)[..], &any, ALGORITHM, &timers, &[0; 4]].concat());
    } else {
        input.extend(&timers);
    }
    let mac = hmac::sign(&key, &input).as_ref().to_vec();
    let data = [ALGORITHM, &timers, &[0, 32], &mac, &message[..2], &[0; 4]].concat();
    let head = [&wire(KEY_NAME)[..], &[0, 250], &any, &(data.len() as u16).to_be_bytes()].concat();
    let mut signed = [message, &head, &data].concat();
    signed[11] += 1;
    (signed, mac)
}

/// Reads a request, and sends what the script says.
fn play(mut stream: TcpStream, script: &Script) -> Option<()> {
    let mut len = [0; 2];
    stream.read_exact(&mut len).ok()?;
    let mut request = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut request).ok()?;
    // The signature of the request ends in ID, error and length of other data.
    let mut before = request[request.len() - 38..request.len() - 6].to_vec();
    let question = &request[12..12 + wire(ZONE).len() + 4];
    let mut unsigned = Vec::new();
    let (first, rest) = script.parts.split_first()?;
    let rest = rest.iter().cycle().take(if script.end == End::Again { usize::MAX } else { rest.len() });
    for (at, part) in once(first).chain(rest).enumerate() {
        let count = (part.records.len() as u16).to_be_bytes();
        let head = [&request[..2], &[0x84, 0], &[0, 1], &count, &[0; 4]].concat();
        let mut message = [&head, question, &part.records.concat()].concat();
        if part.signature == Signature::None {
            unsigned.extend(&message);
        } else {
            let whole = [&unsigned[..], &message].concat();
            let (bytes, mac) = match unsigned.is_empty() {
                true => signed(&message, &before, at == 0, part.signature),
                false => {
                    // Only the last message carries the record.
                    let (_, mac) = signed(&whole, &before, at == 0, part.signature);
                    let (mut bytes, _) = signed(&message, &before, at == 0, part.signature);
                    let end = bytes.len();
                    bytes[end - 38..end - 6].copy_from_slice(&mac);
                    (bytes, mac)
                }
            };
            (message, before) = (bytes, mac);
            unsigned.clear();
        }
        (part.change)(&mut message);
        stream.write_all(&(message.len() as u16).to_be_bytes()).ok()?;
        stream.write_all(&message).ok()?;
    }
    if script.end == End::Silence {
        thread::sleep(Duration::from_secs(12));
    }
    Some(())
}

/// A keeper of one policy zone, `feed`, and its primary.
struct Stand {
    folder: tempfile::TempDir,
    script: Arc<Mutex<Script>>,
    keeper: Arc<ListKeeper>,
    config: Config,
}

fn primary(script: Arc<Mutex<Script>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let script = script.lock().clone();
            thread::spawn(move || play(stream, &script));
        }
    });
    address
}

fn keeper(config: &Config) -> Arc<ListKeeper> {
    let mut lists = Lists::default();
    lists.load(&config.lists).unwrap();
    let resolver = daemon::resolver(config, Clock::start(), Arc::default(), FlightLimits::default(), None);
    ListKeeper::new(lists, config.lists.clone(), resolver)
}

impl Stand {
    fn set() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = Arc::new(Mutex::new(script(Vec::new())));
        let (dir, key) = (folder.path().join("lists"), folder.path().join("key"));
        fs::write(&key, BASE64.encode(SECRET)).unwrap();
        let address = primary(script.clone());
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:1\"\n\
             [[blocklist]]\nname = \"feed\"\nsource = \"axfr://{address}/{ZONE}\"\nformat = \"rpz\"\n\
             tsig_name = \"{KEY_NAME}\"\ntsig_file = {key:?}\n\
             [lists]\ndir = {dir:?}\ntimeout = \"6s\"\nmax_bytes = \"64KiB\"\n"
        );
        let config = Config::parse(&text, Path::new("ringdns.toml")).unwrap();
        Stand { keeper: keeper(&config), folder, script, config }
    }

    async fn transfer(&self, script: Script) -> Result<Option<Changes>, String> {
        *self.script.lock() = script;
        let task = self.keeper.wanted().remove("feed").unwrap();
        self.keeper.update(&task).await
    }

    fn blocked(&self) -> Vec<&'static str> {
        blocked(&self.keeper)
    }

    fn copy(&self) -> String {
        fs::read_to_string(self.folder.path().join("lists/feed.list")).unwrap()
    }
}

fn blocked(keeper: &ListKeeper) -> Vec<&'static str> {
    let policy = keeper.resolver.policy().unwrap();
    let is_blocked = |name: &&&str| {
        let name = names::name(name).unwrap();
        matches!(policy.policies().all().judge(&name, 1), Verdict::Blocked(_))
    };
    ["a.example", "b.example", "c.example", "www.d.example", "evil.example"]
        .iter()
        .filter(is_blocked)
        .copied()
        .collect()
}

#[tokio::test]
async fn a_zone_is_transferred_and_then_its_changes() {
    let stand = Stand::set();
    // Not every message must be signed (RFC 8945 section 5.3.1).
    let mut first = whole(7, &["a.example", "b.example", "*.d.example"]);
    first.parts[1].signature = Signature::None;
    assert_eq!(stand.transfer(first).await.unwrap(), Some(Changes { added: 3, removed: 0 }));
    assert_eq!(stand.blocked(), ["a.example", "b.example", "www.d.example"]);
    let same = script(vec![part(vec![soa(7)])]);
    assert_eq!(stand.transfer(same).await, Ok(None));
    // Two versions: one rule goes and comes back, one goes, one comes.
    let changes = vec![
        soa(9),
        soa(7),
        rule("a.example"),
        rule("b.example"),
        soa(8),
        rule("c.example"),
        soa(8),
        soa(9),
        rule("a.example"),
        soa(9),
    ];
    let changes = script(vec![part(changes[..4].to_vec()), part(changes[4..].to_vec())]);
    assert_eq!(stand.transfer(changes).await.unwrap(), Some(Changes { added: 1, removed: 1 }));
    assert_eq!(stand.blocked(), ["a.example", "c.example", "www.d.example"]);
    let lines: Vec<_> = stand.copy().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "rpz.example. SOA ns.example. admin.example. 9 7200 900 86400 60",
            "a.example.rpz.example. CNAME .",
            "*.d.example.rpz.example. CNAME .",
            "c.example.rpz.example. CNAME .",
        ]
    );
    // A primary may send the whole zone instead, and the copy serves the next start.
    assert!(stand.transfer(whole(u32::MAX / 2, &["b.example"])).await.unwrap().is_some());
    assert_eq!(blocked(&keeper(&stand.config)), ["b.example"]);
    let watched = stand.keeper.watched.lock();
    let wait = watched["feed"].until_due(stand.keeper.resolver.clock().secs());
    assert!((6_400..=7_200).contains(&wait.as_secs()), "as the SOA record says: {wait:?}");
}

/// A primary that empties its zone is obeyed, also after a restart, and may fill it again.
#[tokio::test]
async fn a_zone_may_be_emptied() {
    let stand = Stand::set();
    let ns = || record("rpz.example", 2, &wire("ns.example"));
    let filled = || whole(7, &["a.example", "b.example"]);
    stand.transfer(filled()).await.unwrap();
    let emptied = script(vec![part(vec![soa(8), ns(), soa(8)])]);
    assert_eq!(stand.transfer(emptied).await, Ok(Some(Changes { added: 0, removed: 2 })));
    assert!(stand.blocked().is_empty());
    assert_eq!(stand.keeper.status()[0].state, ListState::Fresh);
    let restarted = keeper(&stand.config);
    assert!(blocked(&restarted).is_empty());
    assert_eq!(restarted.status()[0].state, ListState::Fresh, "the copy is used");
    // Without a name server, it is no zone.
    let error = stand.transfer(script(vec![part(vec![soa(9), soa(9)])])).await.unwrap_err();
    assert!(error.contains("is a rule"), "{error}");
    let names: Vec<String> = (0..1_000).map(|at| format!("n{at}")).collect();
    let many: Vec<&str> = names.iter().map(String::as_str).chain(["a.example"]).collect();
    stand.transfer(whole(9, &many)).await.unwrap();
    assert_eq!(stand.blocked(), ["a.example"]);
}

/// Changes that do not fit the copy lead to the whole zone, which this primary has not.
#[tokio::test]
async fn changes_must_fit_the_copy() {
    let stand = Stand::set();
    stand.transfer(whole(7, &["a.example"])).await.unwrap();
    let before = stand.copy();
    for changes in [
        vec![soa(8), soa(7), rule("b.example"), soa(8), soa(8)],
        vec![soa(8), soa(7), soa(8), rule("a.example"), soa(8)],
        vec![soa(8), soa(6), soa(8), rule("evil.example"), soa(8)],
        vec![soa(8), soa(7), soa(7), rule("evil.example"), soa(8)],
        vec![soa(8), soa(7), soa(8), rule("evil.example"), soa(9)],
    ] {
        assert!(stand.transfer(script(vec![part(changes)])).await.is_err());
        assert_eq!((stand.blocked(), stand.copy()), (vec!["a.example"], before.clone()));
    }
}

fn with(change: impl FnOnce(&mut Script)) -> Script {
    let mut script = whole(8, &["evil.example"]);
    change(&mut script);
    script
}

/// Returns transfers that are refused: a name, what the primary says, and a part of the error.
fn hostile() -> Vec<(&'static str, Script, &'static str)> {
    let evil = || rule("evil.example");
    let messages = |parts: Vec<Vec<Vec<u8>>>| script(parts.into_iter().map(part).collect());
    let changed = |at: usize, change: fn(&mut Vec<u8>)| with(|script| script.parts[at].change = change);
    let sign = |at: usize, signature| with(|script| script.parts[at].signature = signature);
    let flags: fn(&mut Vec<u8>) = |message| message[3] |= 5;
    vec![
        ("another secret", sign(0, Signature::OtherSecret), "signature is wrong"),
        ("another secret later", sign(1, Signature::OtherSecret), "signature is wrong"),
        ("no signature", sign(0, Signature::None), "does not sign"),
        ("no last signature", sign(2, Signature::None), "does not sign"),
        ("an old signature", sign(0, Signature::Old), "older or newer"),
        ("a changed record", changed(1, |message| message[40] ^= 1), "signature is wrong"),
        ("a message of another order", with(|script| script.parts.swap(1, 2)), "is a rule"),
        (
            "a message that ends early",
            changed(1, |message| message.truncate(message.len() - 60)),
            "does not fit",
        ),
        ("another ID", changed(0, |message| message[0] ^= 1), "does not fit"),
        ("TC", changed(0, |message| message[2] |= 2), "does not fit"),
        ("a query", changed(0, |message| message[2] &= 0x7f), "does not fit"),
        ("a refusal", changed(0, flags), "REFUSED"),
        ("no SOA record", messages(vec![vec![evil(), soa(8)]]), "does not begin"),
        ("no last SOA record", messages(vec![vec![soa(8), evil()]]), "closed the connection"),
        ("another last SOA record", messages(vec![vec![soa(8), evil(), soa(9)]]), "serial 9"),
        ("records after the end", messages(vec![vec![soa(8), evil(), soa(8), evil()]]), "after its end"),
        (
            "a record of another zone",
            messages(vec![vec![soa(8), record("evil.example", CNAME, &[0]), soa(8)]]),
            "not in the zone",
        ),
        (
            "a name that ends alike",
            messages(vec![vec![soa(8), record("evilrpz.example", CNAME, &[0]), soa(8)]]),
            "not in the zone",
        ),
        ("a serial that went back", whole(6, &["evil.example"]), "is before 7"),
        ("a serial that went round", whole(7 | 1 << 31, &["evil.example"]), "is before 7"),
        ("nothing", messages(vec![vec![soa(8)], vec![]]), "does not fit"),
        ("no rule", whole(8, &[]), "fit|rule"),
        (
            "an address of five bytes",
            messages(vec![vec![soa(8), record("x.rpz.example", 1, &[0; 5]), soa(8)]]),
            "does not fit",
        ),
        (
            "silence",
            with(|script| (script.parts.truncate(2), script.end = End::Silence).0),
            "not complete after 6s",
        ),
        (
            "an endless zone",
            with(|script| (script.parts.truncate(2), script.end = End::Again).0),
            "larger than 64KiB",
        ),
        ("a large zone", script(endless()), "larger than 64KiB"),
    ]
}

/// Returns the messages of a zone beyond `lists.max_bytes`.
fn endless() -> Vec<Part> {
    let rules = |at: usize| (0..200).map(|nth| rule(&format!("n{at}-{nth}.example"))).collect();
    once(part(vec![soa(8)])).chain((0..20).map(|at| part(rules(at)))).collect()
}

#[tokio::test]
async fn what_a_hostile_primary_sends_is_refused_and_the_last_good_zone_stays() {
    let stand = Stand::set();
    stand.transfer(whole(7, &["a.example"])).await.unwrap();
    let before = stand.copy();
    for (case, script, expected) in hostile() {
        let error = stand.transfer(script).await.unwrap_err();
        assert!(expected.split('|').any(|part| error.contains(part)), "{case}: {error}");
        assert_eq!((stand.blocked(), stand.copy()), (vec!["a.example"], before.clone()), "{case}");
        let files = fs::read_dir(stand.folder.path().join("lists")).unwrap().count();
        assert_eq!(files, 2, "{case}: an unfinished file is left");
        assert_eq!(stand.keeper.status()[0].state, ListState::Degraded, "{case}");
    }
    stand.transfer(whole(8, &["b.example"])).await.unwrap();
    assert_eq!((stand.blocked(), stand.keeper.status()[0].state), (vec!["b.example"], ListState::Fresh));
}

#[tokio::test]
async fn without_its_secret_nothing_is_asked() {
    let stand = Stand::set();
    for text in ["", "no base64!", "\0"] {
        fs::write(stand.folder.path().join("key"), text).unwrap();
        let error = stand.transfer(whole(7, &["a.example"])).await.unwrap_err();
        assert!(error.contains("tsig_file") && error.contains("Base64"), "{error}");
    }
    assert!(stand.blocked().is_empty());
}
