//! `[redis]`: answers shared with other appliances.

pub mod server;

use crate::{bounds::within, error::Problem, table::table};
use redis::RedisError;
use ringdns_common::units::TimeSpan;
use server::{Files, Others, RedisServer};
use std::{fmt, path::PathBuf, time::Duration};

table! {
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
}

/// Answers shared with other appliances.
#[derive(Clone)]
pub struct RedisConfig {
    /// Address of Redis, and the login.
    pub server: RedisServer,
    /// Address of Redis without the password.
    pub address: String,
    /// Time that a question waits for Redis.
    pub deadline: Duration,
    /// Prefix of all key names.
    pub prefix: String,
    /// Most answers kept in Redis.
    pub max_keys: usize,
    /// Time after which an answer that the fleet has not requested is removed.
    pub idle: Duration,
    /// Interval between sweeps of Redis.
    pub sweep_every: Duration,
    /// Most answers that an appliance loads at its start; `None`: no warm start.
    pub warm_keys: Option<usize>,
    /// Most answers that a warm start loads per second.
    pub warm_per_second: u32,
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RedisConfig {
            server: _,
            address,
            deadline,
            prefix,
            max_keys,
            idle,
            sweep_every,
            warm_keys,
            warm_per_second,
        } = self;
        write!(
            f,
            "Redis {{ {address}, {deadline:?}, {prefix:?}, {max_keys}, {idle:?}, {sweep_every:?}, {warm_keys:?}, {warm_per_second} }}"
        )
    }
}

impl RawRedis {
    /// Whether answers are shared, and the appliance belongs to a fleet.
    pub fn is_used(&self) -> bool {
        self.url.is_some() || !self.sentinel.is_empty()
    }

    /// Returns the checked values; `None` if nothing is shared. `is_cached`: whether answers are
    /// cached at all.
    pub fn check(self, is_cached: bool) -> Result<Option<RedisConfig>, Problem> {
        let limits = [TimeSpan::millis(1), TimeSpan::secs(1)];
        let remedy = "Give \"1ms\" to \"1s\"; \"5ms\" is ample for a Redis in the same network";
        let deadline = within("redis.deadline", self.deadline, limits, remedy)?;
        if self.prefix.is_empty() || self.prefix.len() > 64 || !is_plain(&self.prefix) {
            let reason = format!("{:?} cannot be the prefix of key names", self.prefix);
            let remedy = "Give 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
            return Err(Problem::new("redis.prefix", reason, remedy));
        }
        let limits = [TimeSpan::secs(1), TimeSpan::secs(600)];
        let sweep_every = within("redis.sweep_every", self.sweep_every, limits, "Give \"1s\" to \"10m\"")?;
        let limits = [TimeSpan::secs(1), TimeSpan::secs(14 * 86_400)];
        let remedy = "Give \"1s\" to \"14d\", which is longer than an answer lasts";
        let idle = within("redis.idle", self.idle, limits, remedy)?;
        self.check_numbers()?;
        let url = match &self.url {
            Some(url) => url.clone(),
            // No login, no TLS. The host is not used.
            None if !self.sentinel.is_empty() => "redis://sentinels".into(),
            None => return Ok(None),
        };
        if !is_cached {
            let reason = "cache.enabled = false keeps no answers, so there are none to share";
            return Err(Problem::new("redis.url", reason, "Remove the key, or cache.enabled = false"));
        }
        let server = self.server(url)?;
        let address = server.address();
        Ok(Some(RedisConfig {
            server,
            address,
            deadline,
            prefix: self.prefix,
            max_keys: self.max_keys,
            idle,
            sweep_every,
            warm_keys: self.warm_keys,
            warm_per_second: self.warm_per_second,
        }))
    }

    /// Checks that no number is 0.
    fn check_numbers(&self) -> Result<(), Problem> {
        if self.max_keys == 0 {
            let reason = "with 0 keys nothing could be shared";
            return Err(Problem::new("redis.max_keys", reason, "Give 1 or more, or remove [redis]"));
        }
        if self.warm_keys == Some(0) {
            let reason = "0 answers would be loaded";
            let remedy = "Give 1 or more, or remove the key for no warm start";
            return Err(Problem::new("redis.warm_keys", reason, remedy));
        }
        if self.warm_per_second == 0 {
            let reason = "with 0 answers a second a warm start would never end";
            let remedy = "Give 1 or more; without warm_keys there is no warm start";
            return Err(Problem::new("redis.warm_per_second", reason, remedy));
        }
        Ok(())
    }

    /// Returns the Redis at `url`, whose files are readable.
    fn server(&self, url: String) -> Result<RedisServer, Problem> {
        let others = self.others()?;
        let is_one_of_many = !matches!(others, Others::None);
        let files = self.files()?;
        let is_secured = files.ca.is_some() || files.identity.is_some();
        let server = RedisServer::new(url, others, files).map_err(refused("redis.url"))?;
        if is_secured && !server.has_tls() {
            let remedy = "Remove the keys that begin with tls_, or use rediss://";
            return Err(Problem::new("redis.url", "no certificates are used without rediss://", remedy));
        }
        if is_one_of_many && !server.is_remote() {
            let remedy = "Use redis:// or rediss://";
            return Err(Problem::new("redis.url", "clusters and Sentinels need a host and a port", remedy));
        }
        server.try_files().map_err(|error| {
            let reason = format!("a file of [redis] cannot be used: {error}");
            Problem::new("redis.url", reason, "Make password_file, tls_ca_file, tls_cert_file and tls_key_file readable; all but the first must be in PEM format")
        })?;
        Ok(server)
    }

    /// Returns the further nodes of a cluster, or the Sentinels.
    fn others(&self) -> Result<Others, Problem> {
        match (&self.cluster[..], &self.sentinel[..], &self.master) {
            ([], [], None) => Ok(Others::None),
            (_, [], None) => Others::cluster(self.cluster.clone()).map_err(refused("redis.cluster")),
            ([], [_, ..], Some(master)) if !master.is_empty() && is_plain(master) => {
                Others::sentinels(self.sentinel.clone(), master.clone()).map_err(refused("redis.sentinel"))
            }
            ([_, ..], _, _) => {
                let reason = "Sentinels watch a single master and no cluster";
                let remedy = "Remove sentinel and master, or cluster: a cluster fails over by itself";
                Err(Problem::new("redis.sentinel", reason, remedy))
            }
            _ => {
                let reason = "Sentinels are asked for a master by its name";
                let remedy = "Give both: sentinel = [\"redis://192.0.2.1:26379\"] and the master's name, master = \"mymaster\"";
                Err(Problem::new("redis.master", reason, remedy))
            }
        }
    }

    fn files(&self) -> Result<Files, Problem> {
        let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
        let identity = match (path(&self.tls_cert_file), path(&self.tls_key_file)) {
            (Some(certificate), Some(key)) => Some([certificate, key]),
            (None, None) => None,
            _ => {
                let reason = "a certificate cannot be used without its key";
                return Err(Problem::new("redis.tls_cert_file", reason, "Give both keys, or neither"));
            }
        };
        Ok(Files { password: path(&self.password_file), ca: path(&self.tls_ca_file), identity })
    }
}

/// Returns the problem with the URL in `key`. It may contain a password, so the text does not repeat
/// it.
fn refused(key: &'static str) -> impl Fn(RedisError) -> Problem {
    move |error| {
        let reason = format!("this is not the address of a Redis: {error}");
        let remedy = "Write \"redis://192.0.2.1:6379\", \"redis://user:password@192.0.2.1\" or \"redis+unix:///run/redis.sock\"";
        Problem::new(key, reason, remedy)
    }
}

/// Whether a name has only characters that need no quoting anywhere.
fn is_plain(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, parse, refused};

    #[test]
    fn a_password_is_shown_nowhere() {
        let with = |url: &str| parse(&format!("{MINIMAL}[redis]\nurl = {url:?}\n"));
        let redis = with("redis://me:hush@192.0.2.1:6380/3").unwrap().redis.unwrap();
        assert_eq!(redis.address, "192.0.2.1:6380");
        assert!(!format!("{redis:?}").contains("hush"), "{redis:?}");
        let cluster = "[redis]\nurl = \"redis://:hush@192.0.2.1\"\ncluster = [\"redis://:hush@192.0.2.2\"]";
        assert_eq!(minimal_with(cluster).redis.unwrap().address, "192.0.2.1:6379, 192.0.2.2:6379");
        let refused = with("redis://me:hush@192.0.2.1:none").unwrap_err().to_string();
        assert!(!refused.contains("hush"), "{refused}");
        assert_eq!(with("redis+unix:///run/redis.sock").unwrap().redis.unwrap().address, "/run/redis.sock");
        let sentinels = "[redis]\nsentinel = [\"redis://:hush@192.0.2.1:26379\", \"redis://192.0.2.2:26380\"]\nmaster = \"mymaster\"";
        let redis = minimal_with(sentinels).redis.unwrap();
        assert_eq!(redis.address, "mymaster of 192.0.2.1:26379, 192.0.2.2:26380");
        assert!(minimal_with("").redis.is_none());
    }

    #[test]
    fn wrong_values_are_refused() {
        let of = "not the address of a Redis";
        refused(
            &format!("{MINIMAL}[redis]\n"),
            &[
                ["url = \"http://h\"", "6", "redis.url", of, "redis://"],
                ["url = \"redis://:hush@\"", "6", "redis.url", of, "redis://"],
                ["deadline = \"0s\"", "6", "redis.deadline", "too short", "1ms"],
                ["deadline = \"2s\"", "6", "redis.deadline", "too long", "5ms"],
                ["prefix = \"a b\"", "6", "redis.prefix", "a b", "letters"],
                ["sweep_every = \"1h\"", "6", "redis.sweep_every", "too long", "10m"],
                ["idle = \"0s\"", "6", "redis.idle", "too short", "14d"],
                ["max_keys = 0", "6", "redis.max_keys", "0 keys", "1 or more"],
                ["warm_keys = 0", "6", "redis.warm_keys", "0 answers", "1 or more"],
                ["warm_per_second = 0", "6", "redis.warm_per_second", "never end", "1 or more"],
            ],
        );
    }

    #[test]
    fn contradicting_keys_are_refused() {
        let url = "url = \"redis://h\"\n";
        let sentinel = "sentinel = [\"redis://h\"]";
        let cached = format!("{url}[cache]\nenabled = false");
        let both = format!("{url}cluster = [\"redis://h\"]\n{sentinel}\nmaster = \"m\"");
        let unix = format!("url = \"redis+unix:///h\"\n{sentinel}\nmaster = \"m\"");
        let half = "url = \"rediss://h\"\ntls_cert_file = \"/none\"";
        refused(
            &format!("{MINIMAL}[redis]\n"),
            &[
                [&cached, "6", "redis.url", "keeps no", "Remove"],
                [sentinel, "5", "redis.master", "by its name", "mymaster"],
                [&format!("{url}master = \"m\""), "7", "redis.master", "by its name", "sentinel ="],
                [&both, "8", "redis.sentinel", "no cluster", "by itself"],
                [&unix, "6", "redis.url", "a host and a port", "redis://"],
                [&format!("{url}tls_ca_file = \"/none\""), "6", "redis.url", "no certificates", "rediss://"],
                [half, "7", "redis.tls_cert_file", "without its key", "both"],
                [&format!("{url}password_file = \"/none/such\""), "6", "redis.url", "/none/such", "readable"],
            ],
        );
    }
}
