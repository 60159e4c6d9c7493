//! Replays captures of clients' queries and servers' answers: every query that was answered then
//! must get the same answer now.
//!
//! The clients' queries go to the real process, over UDP and TCP as in the capture, bit for bit.
//! Its upstream returns the answers of the capture's server. A small capture is made here; an
//! environment variable may name a directory with more, as files `*.pcap`:
//!
//!     RINGDNS_CAPTURES=FOLDER cargo test -p ringdns-tests --test captures -- --nocapture

mod made;
mod reader;

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::op::{Message as Decoded, ResponseCode};
use hickory_proto::rr::Record;
use reader::{Capture, Exchange, question};
use ringdns_testkit::{
    Client, DNS_V4, Host, Lab, Over, Reply, Ringdnsd, Say, Seen, Settings, Upstream, exchange_over_tcp,
};

/// Environment variable with a directory of captures.
const CAPTURES: &str = "RINGDNS_CAPTURES";
/// Time after which a test fails: longer than any answer takes.
const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn what_was_answered_is_answered() {
    let Some(lab) = Lab::up() else { return };
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("made-here.pcap");
    made::write(&own);
    let capture = Capture::read(&own);
    let over = |over| capture.exchanges.iter().filter(|exchange| exchange.query.over == over).count();
    assert_eq!(
        (capture.queries, over(Over::Udp), over(Over::Tcp)),
        made::HOLDS,
        "the reader misses something"
    );
    let mut sum = replay(&lab, &own, &capture);
    match std::env::var_os(CAPTURES) {
        None => println!("{CAPTURES} is not set: nothing but the capture made here was replayed"),
        Some(folder) => {
            let files = captures_in(Path::new(&folder));
            assert!(!files.is_empty(), "no file *.pcap in {}", Path::new(&folder).display());
            files.iter().for_each(|file| sum.add(&replay(&lab, file, &Capture::read(file))));
        }
    }
    println!("in all: {sum}");
    assert!(sum.answered > 0);
}

fn captures_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder);
    let entries = entries.unwrap_or_else(|error| panic!("{CAPTURES}: {}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "pcap"));
    files.sort();
    files
}

/// Numbers of queries, by outcome.
#[derive(Default)]
struct Figures {
    queries: usize,
    /// Queries answered in the capture, and so here.
    answered: usize,
    over_tcp: usize,
    rcodes: BTreeMap<String, usize>,
}

impl Figures {
    fn add(&mut self, other: &Figures) {
        self.queries += other.queries;
        self.answered += other.answered;
        self.over_tcp += other.over_tcp;
        for (rcode, count) in &other.rcodes {
            *self.rcodes.entry(rcode.clone()).or_default() += count;
        }
    }
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Figures { queries, answered, over_tcp, rcodes } = self;
        write!(
            f,
            "{queries} queries, {answered} answered then and now, {over_tcp} of them over TCP {rcodes:?}"
        )
    }
}

/// Sends the capture's answered queries.
fn replay(lab: &Lab, file: &Path, capture: &Capture) -> Figures {
    let exchanges = &capture.exchanges;
    let upstream = replaying(lab.server(), exchanges.clone());
    let mut settings = Settings::xdp(upstream.address());
    // Cookies in the capture belong to its clients, so ringdns would reject them as forged.
    settings.tables += "\n[resolver]\ncookies = false\nrandomize_case = false";
    let _ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let mut figures = Figures { queries: capture.queries, answered: exchanges.len(), ..Figures::default() };
    let mut hold = |exchange: &Exchange, reply: &Reply| {
        let rcode = agree(exchange, reply).unwrap_or_else(|why| {
            panic!("{}: {why}: {exchange:02x?}: {reply:02x?}", file.display());
        });
        *figures.rcodes.entry(format!("{rcode:?}")).or_default() += 1;
    };
    let client = Client::of(lab.client(), DNS_V4);
    // As many connections as in the capture, each with all of its queries at once.
    let mut connections: Vec<(SocketAddr, Vec<&Exchange>)> = Vec::new();
    for exchange in exchanges {
        match exchange.query.over {
            Over::Udp => {
                client.send(&exchange.query.bytes);
                let reply = client.receive(PATIENCE);
                hold(
                    exchange,
                    &reply.unwrap_or_else(|| panic!("{}: no reply: {exchange:02x?}", file.display())),
                );
            }
            Over::Tcp => match connections.iter_mut().find(|(from, _)| *from == exchange.query.from) {
                Some((_, queries)) => queries.push(exchange),
                None => connections.push((exchange.query.from, vec![exchange])),
            },
        }
    }
    for (_, asked) in connections {
        let queries: Vec<_> = asked.iter().map(|exchange| exchange.query.bytes.clone()).collect();
        let mut replies = exchange_over_tcp(lab.client(), DNS_V4, &queries);
        for exchange in asked {
            let query = &exchange.query.bytes;
            let own = |reply: &Reply| reply.0[..2] == query[..2] && question(&reply.0) == question(query);
            let at = replies.iter().position(own);
            let at = at.unwrap_or_else(|| panic!("{}: no reply over TCP: {exchange:02x?}", file.display()));
            hold(exchange, &replies.swap_remove(at));
        }
    }
    figures.over_tcp = exchanges.iter().filter(|exchange| exchange.query.over == Over::Tcp).count();
    println!("{}: {figures}", file.file_name().unwrap_or_default().display());
    figures
}

/// Checks that a reply is equal to that of the capture's server.
fn agree(exchange: &Exchange, reply: &Reply) -> Result<ResponseCode, String> {
    let query = &exchange.query.bytes;
    if reply.0[..2] != query[..2] || question(&reply.0) != question(query) {
        return Err("the reply is to another query".to_owned());
    }
    let read = |message: &[u8]| Decoded::from_vec(message).map_err(|error| error.to_string());
    let (then, now) = (read(&exchange.answer)?, read(&reply.0)?);
    let (told, tells) = (then.metadata.response_code, now.metadata.response_code);
    let is_answer = matches!(told, ResponseCode::NoError | ResponseCode::NXDomain);
    // All other codes are resolution failures (RFC 9520 section 2).
    if tells != if is_answer { told } else { ResponseCode::ServFail } {
        return Err(format!("{tells:?} instead of {told:?}"));
    }
    if is_answer && !then.metadata.truncation && !now.metadata.truncation {
        let holds = |records: &[Record], record: &Record| {
            records.iter().any(|other| (&other.name, &other.data) == (&record.name, &record.data))
        };
        let (then, now) = (&then.answers, &now.answers);
        if then.len() != now.len() || !then.iter().all(|record| holds(now, record)) {
            return Err(format!("{now:?} instead of {then:?}"));
        }
    }
    Ok(tells)
}

/// Starts an upstream that answers as the capture's server did, preferably over the same transport
/// and with the same DO.
fn replaying(host: &Host, exchanges: Vec<Exchange>) -> Upstream {
    let asked = |message: &[u8]| {
        let lower = question(message)?.to_ascii_lowercase();
        let dnssec_ok = Decoded::from_vec(message).ok()?.edns.is_some_and(|edns| edns.flags().dnssec_ok);
        Some((lower, dnssec_ok))
    };
    let mut said: HashMap<_, Vec<_>> = HashMap::new();
    for Exchange { query, answer } in exchanges {
        if let Some((question, dnssec_ok)) = asked(&query.bytes) {
            said.entry(question).or_default().push((query.over, dnssec_ok, answer));
        }
    }
    Upstream::start(host, move |seen: &Seen| {
        let Some((question, dnssec_ok)) = asked(&seen.query.0) else { return Vec::new() };
        let answers = said.get(&question).map_or(&[][..], Vec::as_slice);
        let best = answers.iter().max_by_key(|(over, other, _)| (*over == seen.over, *other == dnssec_ok));
        let answer = best.map(|(.., answer)| {
            let mut answer = answer.clone();
            answer[..2].copy_from_slice(&seen.query.0[..2]);
            Say::Send(answer)
        });
        answer.into_iter().collect()
    })
}
