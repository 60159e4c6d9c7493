//! The configuration file as it is written: every table and key, its default, and its documentation.
//!
//! [`tables!`] makes a table's struct and its part of the reference from one text, so that neither can be without
//! the other. What a key means beyond its type is checked in [`super::check`].

use ringdns_common::units::{Bytes, Span};
use serde::Deserialize;

/// A table of the file, as the reference shows it.
pub struct Table {
    /// As it is written in the file: `[server]`, `[[upstream]]`.
    pub header: &'static str,
    /// What it is for.
    pub doc: &'static [&'static str],
    /// Its keys.
    pub keys: Vec<KeyDoc>,
}

/// A key of a table.
pub struct KeyDoc {
    /// Its name.
    pub name: &'static str,
    /// The kind of its value.
    pub kind: &'static str,
    /// The value that it has when it is absent; `None`: none.
    pub default: Option<String>,
    /// What it does.
    pub doc: &'static [&'static str],
}

/// A type that keys can have.
trait Value {
    /// What to call it.
    const KIND: &'static str;
    /// This value as it is written in the file.
    fn written(&self) -> Option<String>;
}

macro_rules! values {
    ($($type:ty: $kind:literal, $value:ident => $written:expr;)*) => {
        $(impl Value for $type {
            const KIND: &'static str = $kind;
            fn written(&self) -> Option<String> {
                let $value = self;
                Some($written)
            }
        })*
    };
}

values! {
    bool: "boolean", value => value.to_string();
    u16: "integer", value => value.to_string();
    usize: "integer", value => value.to_string();
    Bytes: "bytes", value => format!("\"{value}\"");
    Span: "duration", value => format!("\"{value}\"");
    String: "string", value => format!("\"{value}\"");
    Vec<String>: "list of strings", value => format!("{value:?}");
    Vec<u32>: "list of integers", value => format!("{value:?}");
    u32: "integer", value => value.to_string();
    Mode: "string", value => format!("\"{}\"", value.label());
    Strategy: "string", value => format!("\"{}\"", value.label());
    Refused: "string", value => format!("\"{}\"", value.label());
    Require: "string", value => format!("\"{}\"", value.label());
    Privacy: "string", value => format!("\"{}\"", value.label());
}

impl<T: Value> Value for Option<T> {
    const KIND: &'static str = T::KIND;
    fn written(&self) -> Option<String> {
        self.as_ref().and_then(Value::written)
    }
}

macro_rules! tables {
    ($($(#[doc = $doc:literal])* $header:literal $name:ident {
        $($(#[doc = $key_doc:literal])* $key:ident: $type:ty = $default:expr,)*
    })*) => {
        $($(#[doc = $doc])*
        #[derive(Clone, Debug, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $key_doc])* pub $key: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        })*

        /// All tables, in the order of the reference.
        pub fn tables() -> Vec<Table> {
            vec![$({
                let default = $name::default();
                Table {
                    header: $header,
                    doc: &[$($doc),*],
                    keys: vec![$(KeyDoc {
                        name: stringify!($key),
                        kind: <$type as Value>::KIND,
                        default: default.$key.written(),
                        doc: &[$($key_doc),*],
                    },)*],
                }
            },)*]
        }
    };
}

/// How AF_XDP is attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The best that interface and driver offer.
    #[default]
    Auto,
    /// In the driver, packets written to our memory by the NIC itself.
    ZeroCopy,
    /// In the driver, packets copied by the kernel.
    Copy,
    /// Behind the driver: works with all, and is slow.
    Generic,
}

impl Mode {
    /// The name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Mode::Auto => "auto",
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
            Mode::Generic => "generic",
        }
    }
}

/// Which of several upstreams is asked first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Strategy {
    /// The first of the file that works.
    #[default]
    Failover,
    /// Each in its turn.
    RoundRobin,
    /// The one that has answered soonest of late.
    LowestLatency,
}

impl Strategy {
    /// The name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Strategy::Failover => "failover",
            Strategy::RoundRobin => "round-robin",
            Strategy::LowestLatency => "lowest-latency",
        }
    }
}

/// What clients hear that the access list does not let in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refused {
    /// REFUSED.
    #[default]
    Answer,
    /// Nothing.
    Drop,
}

impl Refused {
    /// The name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Refused::Answer => "answer",
            Refused::Drop => "drop",
        }
    }
}

/// Who may ask unless the file says otherwise (RFC 5358): hosts that cannot be reached, and cannot ask, from everywhere:
/// this one, private networks (RFC 1918, RFC 6598, RFC 4193), and neighbours on the link.
const PRIVATE: [&str; 9] = [
    "127.0.0.0/8",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "100.64.0.0/10",
    "169.254.0.0/16",
    "::1",
    "fc00::/7",
    "fe80::/10",
];

/// Which clients must show a cookie of ours, among those that have cookies at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// None.
    #[default]
    Never,
    /// Those that ask over UDP.
    Udp,
}

impl Require {
    /// The name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Require::Never => "never",
            Require::Udp => "udp",
        }
    }
}

/// What the query log keeps of clients' addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privacy {
    /// All of them.
    #[default]
    None,
    /// Their networks.
    Truncate,
    /// A keyed hash.
    Hash,
}

impl Privacy {
    /// The name in the file.
    pub fn label(self) -> &'static str {
        match self {
            Privacy::None => "none",
            Privacy::Truncate => "truncate",
            Privacy::Hash => "hash",
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RawConfig {
    /// `[server]`
    pub server: RawServer,
    /// `[[upstream]]`
    pub upstream: Vec<RawUpstream>,
    /// `[resolver]`
    pub resolver: RawResolver,
    /// `[local]`
    pub local: RawLocal,
    /// `[dnssec]`
    pub dnssec: RawDnssec,
    /// `[cache]`
    pub cache: RawCache,
    /// `[refresh]`
    pub refresh: RawRefresh,
    /// `[redis]`
    pub redis: RawRedis,
    /// `[tcp]`
    pub tcp: RawTcp,
    /// `[access]`
    pub access: RawAccess,
    /// `[cookies]`
    pub cookies: RawCookies,
    /// `[query_log]`
    pub query_log: RawQueryLog,
    /// `[clickhouse]`
    pub clickhouse: RawClickhouse,
    /// `[control]`
    pub control: RawControl,
}

tables! {
    /// Where queries come in, and how they are received.
    "[server]" RawServer {
        /// Addresses and ports to answer on, over UDP and TCP: `"10.53.0.2:53"`, `"[fd53::2]:53"`. Required.
        listen: Vec<String> = Vec::new(),
        /// The interface that carries them, to be read by AF_XDP. Absent: kernel UDP sockets, which need neither
        /// a NIC nor privileges.
        interface: Option<String> = None,
        /// How AF_XDP is attached: `"auto"`, `"zero-copy"`, `"copy"` or `"generic"`. All but `auto` fail rather than
        /// do with less.
        mode: Mode = Mode::Auto,
        /// Worker threads. With AF_XDP there is exactly one a queue, and the key is refused. Without: as many as
        /// the process has cores, less one for the control plane.
        workers: Option<usize> = None,
        /// The interface's receive queues to serve. Absent: all of them. The kernel answers on the others.
        queues: Option<Vec<u32>> = None,
        /// Whether to believe the checksums of received packets. For links on which nothing can corrupt them. Partial
        /// ones, which the kernel leaves on links within one machine, need no belief: they are recognised in copy mode.
        trust_checksums: bool = false,
        /// How long a worker goes on looking for packets before it sleeps. More saves wake-ups and costs CPU.
        /// `"0s"`: sleep at once, as a worker does that shares its core with the control plane.
        spin: Span = Span(std::time::Duration::from_micros(50)),
        /// Whether workers drive the NIC themselves instead of being interrupted (preferred busy polling, Linux
        /// 5.11). Wants `napi_defer_hard_irqs` and `gro_flush_timeout` set on the interface.
        busy_poll: bool = false,
        /// Whether kernel sockets do when AF_XDP cannot be started, or is lost. `false`: stop with an error at the start;
        /// while it is lost later on, serve over kernel sockets until it is back, and say 503 at `/readyz`.
        fallback: bool = true,
        /// The largest answer sent over UDP, in bytes, whatever a client offers; larger ones go over TCP (RFC 9715).
        udp_limit: u16 = 1232,
        /// What is answered to those who ask which server this is: `id.server` and `hostname.bind` in class CH (RFC 4892).
        /// At most 64 bytes. Absent: REFUSED. Which version runs is never told.
        identity: Option<String> = None,
        /// The same for the NSID option of EDNS (RFC 5001), by which each answer can be told from those of other servers at
        /// an anycast address. At most 64 bytes. Absent: none.
        nsid: Option<String> = None,
    }

    /// A recursive resolver to ask. Given several times, `resolver.strategy` says which is asked first; the next one is
    /// when one fails.
    "[[upstream]]" RawUpstream {
        /// Its address: `"9.9.9.9:53"`, the same with `udp://` in front, or with `tcp://` to ask over TCP alone.
        /// `"tls://9.9.9.9#dns.quad9.net"`: DNS over TLS, and the name that the certificate must be for; without one it must be
        /// for the address. `"https://dns.quad9.net/dns-query"`: DNS over HTTPS (HTTP/2). Without a port: 53, 853 or 443.
        /// Each may be listed once. Required.
        address: Option<String> = None,
        /// IP addresses of the host that a `tls://` or `https://` address names, tried in turn. It is never looked up: there is
        /// nobody to ask but itself.
        bootstrap: Vec<String> = Vec::new(),
        /// A PEM file with the certificates of the CAs that may vouch for a `tls://` or `https://` upstream. Absent: those
        /// that the system trusts (Debian: package `ca-certificates`).
        tls_ca_file: Option<String> = None,
        /// Ask it for these names and what is below them, and for nothing else; others are not asked for them. The longest
        /// zone decides: `zones = ["corp.example", "10.in-addr.arpa"]`. Absent: for all other names.
        zones: Vec<String> = Vec::new(),
        /// Whether its word that an answer was validated (the AD bit) is passed on. Only for a resolver that
        /// validates, over a path that nobody can tamper with.
        trusted: bool = false,
        /// How long to wait for its answer before the next one is asked.
        timeout: Span = Span::millis(800),
    }

    /// How upstreams are asked.
    "[resolver]" RawResolver {
        /// Which upstream is asked first: `"failover"`, the first of the file that works; `"round-robin"`, each in its
        /// turn; `"lowest-latency"`, the one that has answered soonest of late.
        strategy: Strategy = Strategy::default(),
        /// Ask a second upstream as well when the first takes longer than this percentile of its own answers, from 50 to
        /// 99, and take what comes first. 95 makes one query in twenty two. Absent: off.
        hedge: Option<u16> = None,
        /// Whether letters in questions are written in upper and lower case at random, which makes answers harder to
        /// forge (DNS 0x20). Upstreams that do not repeat them as they are, are asked over TCP.
        randomize_case: bool = false,
        /// Whether upstreams are sent DNS cookies (RFC 7873), so that answers of those that know them are harder to forge.
        cookies: bool = true,
    }

    /// What is answered without asking anybody.
    "[local]" RawLocal {
        /// Whether names that have no meaning in the public DNS are answered here: `localhost`, `invalid`, `test`, `onion`,
        /// `alt`, `local`, `home.arpa`, and the reverse zones of private addresses (RFC 6761, 6762, 6303, 7686, 8375, 9476). A
        /// zone of an `[[upstream]]` comes before that.
        special_names: bool = true,
    }

    /// Whether ringdns itself finds out if answers are genuine (RFC 4035). Where it does, answers that are not become SERVFAIL, and
    /// the AD bit says what was found out here, whatever upstreams say. Clients that set CD get answers as they came.
    "[dnssec]" RawDnssec {
        /// Whether answers are validated. Upstreams must hand on signatures (they are asked with DO=1 and CD=1) and know the public
        /// DNS, or another with a signed root. What answers are proven with is kept in the host cache beside them.
        validate: bool = false,
        /// A file with the DS or DNSKEY records of zones whose keys are believed, as in a zone file, read at
        /// the start. Where such zones lie within each other, the one closest to a name counts; names below
        /// none of them are not validated. Absent: the root's keys of 2017 and 2024. Keys that replace these
        /// are not learnt (RFC 5011).
        trust_anchor_file: Option<String> = None,
        /// Names at and below which nothing is validated (RFC 7646), unless a trust anchor is closer to the
        /// name. A private zone needs this unless a signed zone delegates it or it has a trust anchor, as
        /// does one that an `[[upstream]]` of its own answers for: `["corp.example"]`. Special names of
        /// `[local]` need no entry.
        insecure: Vec<String> = Vec::new(),
    }

    /// What is kept, how long, and in how much memory.
    "[cache]" RawCache {
        /// Whether answers are kept at all.
        enabled: bool = true,
        /// Memory of each worker's own cache.
        bytes_per_worker: Bytes = Bytes(64 << 20),
        /// Memory of the cache that all workers share.
        host_bytes: Bytes = Bytes(256 << 20),
        /// Answers are kept at least this long, whatever their TTL.
        min_ttl: Span = Span::secs(0),
        /// Answers are kept at most this long, whatever their TTL.
        max_ttl: Span = Span::secs(86_400),
        /// Answers that a name or type does not exist are kept at most this long (RFC 2308: 3 hours at most).
        negative_max_ttl: Span = Span::secs(3_600),
        /// Whether expired answers are given while new ones are fetched, and for as long as that fails (RFC 8767).
        serve_stale: bool = true,
        /// How long a client waits for a new answer before it is given an expired one. `"0s"`: not at all, it is
        /// renewed in the background; RFC 8767 advises `"1800ms"`.
        stale_client_timeout: Span = Span::secs(0),
        /// How long after its end an answer may still be given.
        stale_max: Span = Span::secs(86_400),
        /// The TTL in such answers.
        stale_ttl: Span = Span::secs(30),
        /// How long a failure to find out is remembered, from 1 s to 5 m (RFC 9520).
        failure_ttl: Span = Span::secs(5),
        /// A file in which the answers that are asked for most outlive a restart: `"/var/lib/ringdns/cache.snapshot"`. They grow older by the
        /// wall clock meanwhile; a purge removes the file. Absent: none is written. Not with `[redis]`, where the fleet has them.
        snapshot_file: Option<String> = None,
        /// How often that file is written, give or take a quarter, from 1 s to 1 d; at a stop it is, too.
        snapshot_every: Span = Span::secs(300),
        /// How large it is at most.
        snapshot_bytes: Bytes = Bytes(64 << 20),
    }

    /// Renewal of what is asked for, before it expires: when a client asks for it (`ahead`), and by sweeps, which look through the host's cache.
    "[refresh]" RawRefresh {
        /// In the last so many percent of its time an answer that is asked for often is renewed, from 1 to 50. 0: never.
        ahead: u16 = 10,
        /// At most so many renewals a second, those of expired answers not counted. 0: no limit.
        per_second: u32 = 100,
        /// How often the host's cache is looked through, give or take a quarter, from 1 s to 10 m. What cannot be given out any more
        /// is removed.
        sweep_every: Span = Span::secs(15),
        /// What expires within this time is renewed by the sweep if it is asked for, the most asked for first. An answer is renewed in the
        /// second half of its time. Twice `sweep_every` is right: `"30s"`. `"0s"`: sweeps renew nothing.
        sweep_window: Span = Span::secs(0),
        /// So often an answer must have been asked for to be renewed by a sweep, by a count that halves every two minutes.
        sweep_demand: u16 = 2,
        /// At most so many renewals of a sweep are under way at once.
        sweep_in_flight: usize = 50,
    }

    /// Answers shared with other appliances through Redis 6.2 or later: see [fleet.md](fleet.md). Appliances that use the same
    /// Redis and prefix are a fleet, and should ask upstreams that answer alike.
    "[redis]" RawRedis {
        /// Where Redis is: `"redis://HOST:PORT"`, `"redis://USER:PASSWORD@HOST:PORT/DATABASE"`, or `"redis+unix:///PATH"`; with TLS: `"rediss://"`. Absent: nothing is
        /// shared. Whoever may write there can make clients believe what he likes: it must be the fleet's alone.
        url: Option<String> = None,
        /// Further nodes of the Redis Cluster that `url` is a node of, in case that one is down. User and password are those of `url`; the other nodes are learnt.
        /// Empty: it is no cluster.
        cluster: Vec<String> = Vec::new(),
        /// How long a question waits for Redis before upstreams are asked. Whole milliseconds.
        deadline: Span = Span::millis(5),
        /// What the names of all keys begin with. Fleets with prefixes of their own can share a Redis.
        prefix: String = "ringdns".into(),
        /// Sentinels, as `"redis://HOST:26379"`, which say where the master is, and where it is after a failover. `url` says then who we are at
        /// the master, in which database and whether over TLS; its host is not used, and it may be absent. Empty: there are none.
        sentinel: Vec<String> = Vec::new(),
        /// The name that Sentinels have for the master.
        master: Option<String> = None,
        /// A file with the password in it, in place of one in `url` and `cluster`. Read for each connection, as the files below are.
        password_file: Option<String> = None,
        /// A file of CA certificates (PEM) that Redis's must be of. Absent: those that the system knows. Only with `rediss://`.
        tls_ca_file: Option<String> = None,
        /// A file with the certificate (PEM) to show to a Redis that asks for one, and those it was signed with,
        tls_cert_file: Option<String> = None,
        /// and one with its private key.
        tls_key_file: Option<String> = None,
        /// At most so many answers lie in Redis. When there are more, those leave that the fleet wants least.
        max_keys: usize = 500_000,
        /// An answer leaves Redis before its end that nobody in the fleet has wanted for so long, from 1 s to 14 d.
        idle: Span = Span::secs(6 * 3600),
        /// How often one appliance of the fleet removes from Redis and its index what has to leave, give or take a quarter, from 1 s to 10 m.
        sweep_every: Span = Span::secs(15),
        /// After its start an appliance takes so many answers at most that the fleet wants most, such as 10,000. Absent: none.
        warm_keys: Option<usize> = None,
        /// And so many of them a second.
        warm_per_second: u32 = 1000,
    }

    /// What clients may do over TCP (RFC 7766, RFC 9210).
    "[tcp]" RawTcp {
        /// Connections at once, over all addresses. When there are as many, who comes takes the place of the one that is silent
        /// for longest.
        connections: usize = 1024,
        /// Of these, from one client: an IPv4 address, or an IPv6 /56.
        connections_per_client: usize = 64,
        /// Queries under way on one connection. More wait until one is answered.
        in_flight: usize = 64,
        /// How long a connection may be silent with nothing under way, a message take to come, and a client not read. Clients
        /// that ask are told (RFC 7828).
        idle: Span = Span::secs(10),
    }

    /// Who may ask, by the longest prefix that has the client's address. A resolver that answers everybody is a weapon in the
    /// hands of those who forge addresses (RFC 5358): to serve a network with public addresses, list its prefixes.
    "[access]" RawAccess {
        /// Prefixes (`"198.51.100.0/22"`, `"2001:db8::/32"`) and single addresses that may ask. A list that is given takes
        /// the place of the default.
        allow: Vec<String> = PRIVATE.map(str::to_owned).to_vec(),
        /// Prefixes and single addresses that may not, unless a longer one in `allow` says that they may.
        deny: Vec<String> = Vec::new(),
        /// What others hear: `"answer"`: REFUSED, with the extended error Prohibited; `"drop"`: nothing.
        refused: Refused = Refused::Answer,
    }

    /// DNS cookies towards clients (RFC 7873): who has one is known to be where it says that it is.
    "[cookies]" RawCookies {
        /// Whether clients that send a cookie get one of ours (RFC 9018).
        enabled: bool = true,
        /// A file with the secret that cookies are made with, 32 hexadecimal digits, so that all servers of an anycast
        /// address know each other's. A second line, if there is one, is a secret whose cookies are taken too: the one of
        /// before, or the next. Absent: drawn at every start.
        secret_file: Option<String> = None,
        /// Who is answered BADCOOKIE, and asks again, unless its cookie is good: `"never"`, or `"udp"` for those who ask
        /// over UDP with a cookie that is not. Who sends none is answered all the same.
        require: Require = Require::Never,
    }

    /// What is logged of each answer: when, to whom, over what, the question, what became of it, who had the answer, its size, and
    /// how long it took. `ringctl tap` shows it live. Hits are never slowed by it: what cannot be kept up with is dropped and counted
    /// (`query_log` in `ringctl stats`).
    "[query_log]" RawQueryLog {
        /// Whether anything is logged.
        enabled: bool = false,
        /// One answer in so many is logged, drawn at random. 1: every one.
        sample: u32 = 1,
        /// Prefixes and single addresses of clients whose answers are not logged: `["10.0.0.0/8", "fd53::1"]`.
        exclude_clients: Vec<String> = Vec::new(),
        /// Names at and below which nothing is logged: `["corp.example", "10.in-addr.arpa"]`.
        exclude_names: Vec<String> = Vec::new(),
        /// What is kept of clients' addresses: `"none"` hides nothing; `"truncate"` keeps the network, 24 bits of IPv4 and 56 of
        /// IPv6; `"hash"` keeps a number in their place, below `100::/64`, that is the same for the same client and cannot be undone
        /// without the key.
        privacy: Privacy = Privacy::None,
        /// A file with the key of the hash, 32 hexadecimal digits, so that clients keep their numbers across starts and hosts. Absent:
        /// drawn at every start.
        key_file: Option<String> = None,
        /// Memory of each worker for what is on its way to be written. 8 MiB hold 70,000 answers; what comes when it is full is
        /// dropped.
        bytes_per_worker: Bytes = Bytes(8 << 20),
        /// A folder for the log, of which everything is kept that ClickHouse does not take, or has not yet taken; without
        /// `[clickhouse]`, everything. `ringctl log` reads it. Absent: nothing is written. See docs/query-log.md.
        spool_dir: Option<String> = None,
        /// What the folder may take on disk. When it is full, the oldest rows are dropped.
        spool_bytes: Bytes = Bytes(1 << 30),
        /// Rows that are written or sent as one, at most 500,000.
        batch_rows: u32 = 100_000,
        /// Bytes of the same, before they are compressed, from `"64KiB"` to `"32MiB"`.
        batch_bytes: Bytes = Bytes(16 << 20),
        /// How long a row waits for others to be written or sent with. What waits is lost in a crash.
        batch_interval: Span = Span::secs(5),
        /// What this appliance is called in its rows, among all that log to the same place. Absent: the name of the host.
        appliance: Option<String> = None,
    }

    /// A ClickHouse server that the query log goes to, over its HTTP interface. While it is away, rows are kept in
    /// `query_log.spool_dir`, and sent when it is back. See docs/query-log.md.
    "[clickhouse]" RawClickhouse {
        /// Where its HTTP interface is: `"http://10.53.0.9:8123"`, or `"https://clickhouse.example:8443"`. Credentials do not
        /// belong here. Absent: off.
        url: Option<String> = None,
        /// The database of the tables, which are made if they are missing.
        database: String = "ringdns".into(),
        /// Who inserts.
        user: String = "default".into(),
        /// A file with the user's password on one line, read with each request. Absent: none.
        password_file: Option<String> = None,
        /// A PEM file with the certificates of the CAs that may vouch for an `https://` server, read with each request. Absent:
        /// those that the system trusts.
        tls_ca_file: Option<String> = None,
        /// How long a request may take before it counts as failed.
        timeout: Span = Span::secs(30),
        /// How long rows are kept there, in whole days.
        retention: Span = Span::secs(30 * 86_400),
    }

    /// How ringdns is watched and controlled.
    "[control]" RawControl {
        /// The Unix socket that `ringctl` talks to. Only its owner can open it.
        socket: String = "/run/ringdns/control.sock".into(),
        /// Address and port for `/metrics`, `/healthz`, `/readyz` and everything else that only reads. What changes
        /// something goes over the Unix socket alone. Absent: off.
        http: Option<String> = None,
        /// Whether profiles of memory and processor time (`/debug/pprof/`) are given over `http`, too. They show how ringdnsd
        /// works inside, and taking one costs it time: only where nobody else can reach the address.
        profiles_over_http: bool = false,
    }
}
