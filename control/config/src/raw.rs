//! The configuration file as written: every table and key, its default, and its documentation.
//!
//! The macro `tables` generates a table's struct and its part of the reference from one text, so neither
//! can exist without the other. [`super::check`] checks what a key means beyond its type.

use crate::{
    choices::{Privacy, Refused, Require, Strategy, XdpMode},
    values::KeyValue,
};
use ringdns_common::units::{Bytes, TimeSpan};
use serde::Deserialize;

/// A table of the file, as the reference shows it.
pub struct ConfigTable {
    /// Header as written in the file: `[server]`, `[[upstream]]`.
    pub header: &'static str,
    /// Purpose of the table.
    pub doc: &'static [&'static str],
    /// Keys of the table.
    pub keys: Vec<KeyDoc>,
}

/// A key of a table.
pub struct KeyDoc {
    /// Name of the key.
    pub name: &'static str,
    /// Kind of the value, such as "duration".
    pub kind: &'static str,
    /// KeyValue that an absent key has; `None` if it has none.
    pub default: Option<String>,
    /// Documentation of the key.
    pub doc: &'static [&'static str],
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

        /// Returns all tables, in the order of the reference.
        pub fn tables() -> Vec<ConfigTable> {
            vec![$({
                let default = $name::default();
                ConfigTable {
                    header: $header,
                    doc: &[$($doc),*],
                    keys: vec![$(KeyDoc {
                        name: stringify!($key),
                        kind: <$type as KeyValue>::KIND,
                        default: default.$key.written(),
                        doc: &[$($key_doc),*],
                    },)*],
                }
            },)*]
        }
    };
}

/// Prefixes allowed to query by default (RFC 5358). Their hosts cannot be reached, and cannot
/// query, from everywhere: this host, private networks (RFC 1918, RFC 6598, RFC 4193), and
/// neighbours on the link.
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
    /// Addresses that queries arrive at, and the way that they are received.
    "[server]" RawServer {
        /// Addresses and ports to answer on, over UDP and TCP: `"10.53.0.2:53"`, `"[fd53::2]:53"`.
        /// Required.
        listen: Vec<String> = Vec::new(),
        /// Interface that carries these addresses, to be read through AF_XDP. Absent: kernel UDP
        /// sockets, which need neither a NIC nor privileges.
        interface: Option<String> = None,
        /// AF_XDP mode: `"auto"`, `"zero-copy"`, `"copy"` or `"generic"`. Every mode but `auto`
        /// fails if the interface cannot offer it.
        mode: XdpMode = XdpMode::Auto,
        /// Number of worker threads. With AF_XDP there is exactly one worker per queue, and the key
        /// is refused. Absent: one per core of the process, less one for the control plane.
        workers: Option<usize> = None,
        /// Receive queues of the interface to serve. Absent: all of them. The kernel answers on the
        /// other queues.
        queues: Option<Vec<u32>> = None,
        /// Whether the checksums of received packets are trusted without verifying them. Use it
        /// only on links that cannot corrupt packets. Partial checksums, which the kernel leaves on
        /// links within one machine, do not need this key: copy mode recognises them.
        trust_checksums: bool = false,
        /// Time that a worker keeps polling for packets before it sleeps. A longer time saves
        /// wake-ups and costs CPU. `"0s"`: the worker sleeps at once, as does a worker that shares
        /// its core with the control plane.
        spin: TimeSpan = TimeSpan(std::time::Duration::from_micros(50)),
        /// Whether workers drive the NIC themselves instead of being interrupted (preferred busy
        /// polling, Linux 5.11). Set `napi_defer_hard_irqs` and `gro_flush_timeout` on the
        /// interface as well.
        busy_poll: bool = false,
        /// Whether kernel sockets replace AF_XDP when it cannot be started or is lost. `false`:
        /// ringdnsd stops with an error if AF_XDP cannot be started; if AF_XDP is lost later,
        /// ringdnsd serves over kernel sockets until it is back, and `/readyz` answers 503.
        fallback: bool = true,
        /// Largest answer sent over UDP, in bytes, whatever a client offers. Clients fetch larger
        /// answers over TCP (RFC 9715).
        udp_limit: u16 = 1232,
        /// Identity of this server, returned for `id.server` and `hostname.bind` in class CH (RFC
        /// 4892). At most 64 bytes. Absent: REFUSED. The version is never disclosed.
        identity: Option<String> = None,
        /// Identity of this server in the NSID option of EDNS (RFC 5001), which tells its answers
        /// from those of other servers at an anycast address. At most 64 bytes. Absent: no NSID.
        nsid: Option<String> = None,
    }

    /// A recursive resolver to forward queries to. With several upstreams, `resolver.strategy`
    /// decides which is asked first; if it fails, the next one is asked.
    "[[upstream]]" RawUpstream {
        /// Address of the upstream: `"9.9.9.9:53"` or `"udp://9.9.9.9:53"`; with `tcp://`, queries
        /// go over TCP alone. `"tls://9.9.9.9#dns.quad9.net"`: DNS over TLS, and the name that the
        /// certificate must be valid for; without a name it must be valid for the address.
        /// `"https://dns.quad9.net/dns-query"`: DNS over HTTPS (HTTP/2). The default ports are 53,
        /// 853 and 443. A link-local address has its interface: `"[fe80::1%eth0]:53"`. A host name
        /// may stand in place of an address, with `bootstrap`. Each address may be listed once.
        /// Required.
        address: Option<String> = None,
        /// IP addresses of the host that `address` names: `["9.9.9.9", "fe80::1%eth0"]`. They are
        /// tried in turn; over UDP, the next one is used once one stops answering. ringdns never
        /// looks the name up, because it has no other resolver to ask.
        bootstrap: Vec<String> = Vec::new(),
        /// PEM file with the CA certificates that may vouch for a `tls://` or `https://` upstream.
        /// Absent: the CAs that the system trusts (Debian: package `ca-certificates`).
        tls_ca_file: Option<String> = None,
        /// Zones that this upstream is asked for: these names and all names below them, and nothing
        /// else. Other upstreams are not asked for them. The longest matching zone decides:
        /// `zones = ["corp.example", "10.in-addr.arpa"]`. Absent: all names that no other
        /// upstream's zones cover.
        zones: Vec<String> = Vec::new(),
        /// Whether the AD bit of this upstream, by which it says that an answer was validated, is
        /// passed on. Set it only for a validating resolver on a path that nobody can tamper with.
        trusted: bool = false,
        /// Time to wait for an answer from this upstream before the next one is asked.
        timeout: TimeSpan = TimeSpan::millis(800),
    }

    /// Options for querying upstreams.
    "[resolver]" RawResolver {
        /// Order in which upstreams are asked: `"failover"`, the first in the file that works;
        /// `"round-robin"`, each in turn; `"lowest-latency"`, the one with the lowest recent
        /// latency.
        strategy: Strategy = Strategy::default(),
        /// Percentile of an upstream's own answer times, from 50 to 99, after which a second
        /// upstream is asked as well; the first answer is used. With 95, one query in twenty is
        /// sent twice. Absent: off.
        hedge: Option<u16> = None,
        /// Whether the letter case of query names is randomised, which makes answers harder to
        /// forge (DNS 0x20). Upstreams that do not repeat the case are asked over TCP.
        randomize_case: bool = false,
        /// Whether DNS cookies are sent to upstreams (RFC 7873), so that answers of upstreams that
        /// support them are harder to forge.
        cookies: bool = true,
    }

    /// Names answered locally, without asking an upstream.
    "[local]" RawLocal {
        /// Whether names without a meaning in the public DNS are answered locally: `localhost`,
        /// `invalid`, `test`, `onion`, `alt`, `local`, `home.arpa`, and the reverse zones of
        /// private addresses (RFC 6761, 6762, 6303, 7686, 8375, 9476). A zone of an `[[upstream]]`
        /// takes precedence.
        special_names: bool = true,
    }

    /// Local DNSSEC validation (RFC 4035). With validation on, answers that fail it become
    /// SERVFAIL, and the AD bit reports the local result, whatever upstreams say. Clients that set
    /// CD get answers as they came.
    "[dnssec]" RawDnssec {
        /// Whether answers are validated. Upstreams must return signatures (they are asked with
        /// DO=1 and CD=1) and resolve the public DNS, or another one with a signed root. The
        /// records that prove answers are kept in the host cache beside them.
        validate: bool = false,
        /// File with the DS or DNSKEY records of the trusted zones, in zone-file format, read at
        /// the start. Where such zones lie within each other, the one closest to a name counts;
        /// names below none of them are not validated. Absent: the root's keys of 2017 and 2024.
        /// With `managed_anchor_file`, these are only the first keys.
        trust_anchor_file: Option<String> = None,
        /// File in which ringdnsd keeps the keys of the trusted zones and their states, so that it
        /// learns the keys that replace them: `"/var/lib/ringdns/trust-anchors"` (RFC 5011). A new
        /// key is trusted once it has been in the zone, signed by a trusted key, for 30 days; a
        /// revoked key is never trusted again. ringdnsd creates the file. For a zone that is in
        /// the file, `trust_anchor_file` no longer counts. Absent: trusted keys never change.
        managed_anchor_file: Option<String> = None,
        /// Names at and below which nothing is validated (RFC 7646), unless a trust anchor is
        /// closer to the name. A private zone needs an entry unless a signed zone delegates it or
        /// it has a trust anchor. The same holds for a zone that an `[[upstream]]` of its own
        /// answers for: `["corp.example"]`. Special names of `[local]` need no entry.
        insecure: Vec<String> = Vec::new(),
    }

    /// Sizes of the caches, and the time that they keep answers.
    "[cache]" RawCache {
        /// Whether answers are cached at all.
        enabled: bool = true,
        /// Memory of each worker cache.
        bytes_per_worker: Bytes = Bytes(64 << 20),
        /// Memory of the host cache, which all workers share.
        host_bytes: Bytes = Bytes(256 << 20),
        /// Shortest time that answers are kept, whatever their TTL.
        min_ttl: TimeSpan = TimeSpan::secs(0),
        /// Longest time that answers are kept, whatever their TTL.
        max_ttl: TimeSpan = TimeSpan::secs(86_400),
        /// Longest time that negative answers (no such name, no such type) are kept (RFC 2308:
        /// 3 hours at most).
        negative_max_ttl: TimeSpan = TimeSpan::secs(3_600),
        /// Whether expired answers are served while new ones are fetched, and for as long as
        /// fetching fails (RFC 8767).
        serve_stale: bool = true,
        /// Time that a client waits for a new answer before it gets an expired one. `"0s"`: it does
        /// not wait, and the answer is renewed in the background; RFC 8767 advises `"1800ms"`.
        stale_client_timeout: TimeSpan = TimeSpan::secs(0),
        /// Time after its expiry for which an answer may still be served.
        stale_max: TimeSpan = TimeSpan::secs(86_400),
        /// TTL in expired answers.
        stale_ttl: TimeSpan = TimeSpan::secs(30),
        /// Time that a resolution failure is cached, from 1 s to 5 m (RFC 9520).
        failure_ttl: TimeSpan = TimeSpan::secs(5),
        /// File in which the most requested answers survive a restart:
        /// `"/var/lib/ringdns/cache.snapshot"`. Their TTLs run on by the wall clock meanwhile; a
        /// purge removes the file. Absent: no file is written. Cannot be combined with `[redis]`,
        /// where the fleet holds the answers.
        snapshot_file: Option<String> = None,
        /// Interval at which the snapshot file is written, give or take a quarter, from 1 s to 1 d.
        /// The file is also written when ringdnsd stops.
        snapshot_every: TimeSpan = TimeSpan::secs(300),
        /// Largest size of the snapshot file.
        snapshot_bytes: Bytes = Bytes(64 << 20),
    }

    /// Renewal of requested answers before they expire: when a client asks for one (`ahead`), and
    /// by sweeps through the host cache.
    "[refresh]" RawRefresh {
        /// Last part of an answer's lifetime, in percent, in which a frequently requested answer is
        /// renewed, from 1 to 50. 0: never.
        ahead: u16 = 10,
        /// Most renewals per second; renewals of expired answers are not counted. 0: no limit.
        per_second: u32 = 100,
        /// Interval between sweeps through the host cache, give or take a quarter, from 1 s to
        /// 10 m. A sweep also removes answers that can no longer be served.
        sweep_every: TimeSpan = TimeSpan::secs(15),
        /// Time before expiry within which a sweep renews requested answers, the most requested
        /// first. An answer is only renewed in the second half of its lifetime. Twice `sweep_every`
        /// is a good value: `"30s"`. `"0s"`: sweeps renew nothing.
        sweep_window: TimeSpan = TimeSpan::secs(0),
        /// Number of requests that an answer needs before a sweep renews it. The count halves every
        /// two minutes.
        sweep_demand: u16 = 2,
        /// Most renewals of a sweep in flight at once.
        sweep_in_flight: usize = 50,
    }

    /// Answers shared with other appliances through Redis 6.2 or later: see [fleet.md](fleet.md).
    /// Appliances that use the same Redis and prefix are a fleet. Their upstreams should give the
    /// same answers.
    "[redis]" RawRedis {
        /// URL of Redis: `"redis://HOST:PORT"`, `"redis://USER:PASSWORD@HOST:PORT/DATABASE"`, or
        /// `"redis+unix:///PATH"`; with TLS: `"rediss://"`. Absent: nothing is shared. Anybody who
        /// can write to this Redis can forge answers for all clients: only the fleet may have
        /// access to it.
        url: Option<String> = None,
        /// Further nodes of the Redis Cluster that `url` is a node of, in case that node is down.
        /// User and password are those of `url`; the other nodes are discovered. Empty: no cluster.
        cluster: Vec<String> = Vec::new(),
        /// Time that a question waits for Redis before upstreams are asked. Whole milliseconds.
        deadline: TimeSpan = TimeSpan::millis(5),
        /// Prefix of all key names. Fleets with different prefixes can share a Redis.
        prefix: String = "ringdns".into(),
        /// Sentinels, as `"redis://HOST:26379"`, which name the current master, also after a
        /// failover. `url` then gives the user, the password, the database and whether to use TLS;
        /// its host is not used, and `url` may be absent. Empty: no Sentinels.
        sentinel: Vec<String> = Vec::new(),
        /// Name of the master at the Sentinels.
        master: Option<String> = None,
        /// File that contains the password, in place of one in `url` and `cluster`. It is read for
        /// each connection, as are the files below.
        password_file: Option<String> = None,
        /// PEM file with the CA certificates that may vouch for Redis. Absent: the CAs that the
        /// system trusts. Only with `rediss://`.
        tls_ca_file: Option<String> = None,
        /// PEM file with the client certificate for a Redis that asks for one, and the certificates
        /// of the CAs that signed it. Needs `tls_key_file`.
        tls_cert_file: Option<String> = None,
        /// PEM file with the private key of the client certificate. Needs `tls_cert_file`.
        tls_key_file: Option<String> = None,
        /// Most answers kept in Redis. When there are more, the answers that the fleet requests
        /// least are removed.
        max_keys: usize = 500_000,
        /// Time after which an answer that the fleet has not requested is removed from Redis,
        /// before it expires, from 1 s to 14 d.
        idle: TimeSpan = TimeSpan::secs(6 * 3600),
        /// Interval at which one appliance of the fleet removes such answers and expired ones from
        /// Redis and its index, give or take a quarter, from 1 s to 10 m.
        sweep_every: TimeSpan = TimeSpan::secs(15),
        /// Most answers that an appliance loads from Redis after its start (warm start), those that
        /// the fleet requests most, such as 10,000. Absent: no warm start.
        warm_keys: Option<usize> = None,
        /// Most answers that a warm start loads per second.
        warm_per_second: u32 = 1000,
    }

    /// Limits for clients over TCP (RFC 7766, RFC 9210).
    "[tcp]" RawTcp {
        /// Most connections at once, over all addresses. At the limit, a new connection replaces
        /// the one that has been idle longest.
        connections: usize = 1024,
        /// Most connections at once from one client: an IPv4 address, or an IPv6 /56.
        connections_per_client: usize = 256,
        /// Most queries in flight on one connection. Further queries wait until one is answered.
        in_flight: usize = 64,
        /// Time that a connection may be idle with no query in flight, that a message may take to
        /// arrive, and that a client may leave its answers unread. Clients that ask for it are told
        /// (RFC 7828).
        idle: TimeSpan = TimeSpan::secs(10),
    }

    /// Access list: the longest prefix that contains the client's address decides. A resolver that
    /// answers everybody can be abused for amplification attacks with forged addresses (RFC 5358).
    /// To serve a network with public addresses, list its prefixes.
    "[access]" RawAccess {
        /// Prefixes (`"198.51.100.0/22"`, `"2001:db8::/32"`) and single addresses allowed to query.
        /// A list given here replaces the default.
        allow: Vec<String> = PRIVATE.map(str::to_owned).to_vec(),
        /// Prefixes and single addresses excluded from `allow`, unless a longer prefix in `allow`
        /// contains the client.
        deny: Vec<String> = Vec::new(),
        /// Response to other clients: `"answer"`: REFUSED, with the extended error Prohibited;
        /// `"drop"`: nothing.
        refused: Refused = Refused::Answer,
    }

    /// DNS cookies for clients (RFC 7873): a valid cookie proves that the client's address is not
    /// forged.
    "[cookies]" RawCookies {
        /// Whether clients that send a cookie get a server cookie (RFC 9018).
        enabled: bool = true,
        /// File with the secret that cookies are made with, 32 hexadecimal digits, so that all
        /// servers of an anycast address accept each other's cookies. An optional second line holds
        /// another secret whose cookies are accepted too: the previous or the next one. Absent: a
        /// random secret at every start.
        secret_file: Option<String> = None,
        /// Clients that get BADCOOKIE, and retry, unless their cookie is valid: `"never"`: none;
        /// `"udp"`: clients that query over UDP with a cookie that is not valid. Clients that send
        /// no cookie are answered in any case.
        require: Require = Require::Never,
    }

    /// Log of answers: time, client, transport, question, outcome, source of the answer, size, and
    /// time taken. `ringctl tap` shows it live. Logging never slows cache hits: rows that cannot be
    /// written in time are dropped and counted (`query_log` in `ringctl stats`).
    "[query_log]" RawQueryLog {
        /// Whether answers are logged.
        enabled: bool = false,
        /// Sampling rate: one answer in this many is logged, chosen at random. 1: every answer.
        sample: u32 = 1,
        /// Prefixes and single addresses of clients whose answers are not logged: `["10.0.0.0/8", "fd53::1"]`.
        exclude_clients: Vec<String> = Vec::new(),
        /// Names at and below which nothing is logged: `["corp.example", "10.in-addr.arpa"]`.
        exclude_names: Vec<String> = Vec::new(),
        /// Part of clients' addresses that is kept: `"none"` hides nothing; `"truncate"` keeps the
        /// network, 24 bits of IPv4 and 56 of IPv6; `"hash"` replaces the address with a number
        /// below `100::/64` that is always the same for one client and cannot be reversed without
        /// the key.
        privacy: Privacy = Privacy::None,
        /// File with the key of the hash, 32 hexadecimal digits, so that clients keep their numbers
        /// across restarts and hosts. Absent: a random key at every start.
        key_file: Option<String> = None,
        /// Memory of each worker for rows that are not yet written. 8 MiB hold 70,000 rows; rows
        /// that arrive when it is full are dropped.
        bytes_per_worker: Bytes = Bytes(8 << 20),
        /// Directory of the log. It keeps the rows that ClickHouse has not taken, or has not yet
        /// taken; without `[clickhouse]`, all rows. `ringctl log` reads it. Absent: nothing is
        /// written. See docs/query-log.md.
        spool_dir: Option<String> = None,
        /// Most disk space that the directory may use. When it is full, the oldest rows are
        /// dropped.
        spool_bytes: Bytes = Bytes(1 << 30),
        /// Most rows written or sent as one batch, at most 500,000.
        batch_rows: u32 = 100_000,
        /// Most bytes of one batch before compression, from `"64KiB"` to `"32MiB"`.
        batch_bytes: Bytes = Bytes(16 << 20),
        /// Time that a row waits for its batch to fill. Rows that wait are lost in a crash.
        batch_interval: TimeSpan = TimeSpan::secs(5),
        /// Name of this appliance in its rows, among all appliances that log to the same place.
        /// Absent: the host name.
        appliance: Option<String> = None,
    }

    /// A ClickHouse server that stores the query log, over its HTTP interface. While it is down,
    /// rows are kept in `query_log.spool_dir`, and sent when it is back. See docs/query-log.md.
    "[clickhouse]" RawClickhouse {
        /// URL of its HTTP interface: `"http://10.53.0.9:8123"`, or
        /// `"https://clickhouse.example:8443"`, without credentials. Absent: off.
        url: Option<String> = None,
        /// Database of the tables. Missing tables are created.
        database: String = "ringdns".into(),
        /// User that inserts rows.
        user: String = "default".into(),
        /// File with the user's password on one line, read for each request. Absent: no password.
        password_file: Option<String> = None,
        /// PEM file with the CA certificates that may vouch for an `https://` server, read for each
        /// request. Absent: the CAs that the system trusts.
        tls_ca_file: Option<String> = None,
        /// Time after which a request counts as failed.
        timeout: TimeSpan = TimeSpan::secs(30),
        /// Time that ClickHouse keeps rows, in whole days.
        retention: TimeSpan = TimeSpan::secs(30 * 86_400),
    }

    /// Control socket, HTTP endpoint and profiles.
    "[control]" RawControl {
        /// Unix socket that `ringctl` connects to. Only its owner can open it.
        socket: String = "/run/ringdns/control.sock".into(),
        /// Address and port of `/metrics`, `/healthz`, `/readyz` and all other read-only requests.
        /// Requests that change something are accepted over the Unix socket alone. Absent: off.
        http: Option<String> = None,
        /// Whether memory and CPU profiles (`/debug/pprof/`) are served over `http`, too. They
        /// reveal internals of ringdnsd, and taking one costs it time: enable this only where
        /// nobody else can reach the address.
        profiles_over_http: bool = false,
    }
}
