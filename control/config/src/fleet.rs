//! Checks of `[redis]`: the answers shared in a fleet.

use super::{bounds::within, error::Problem, raw::RawRedis};
use crate::redis_server::{Files, Others, RedisServer};
use redis::RedisError;
use ringdns_common::units::TimeSpan;
use std::{fmt, path::PathBuf, time::Duration};

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

pub fn redis(raw: RawRedis, keeps: bool) -> Result<Option<RedisConfig>, Problem> {
    let limits = [TimeSpan::millis(1), TimeSpan::secs(1)];
    let remedy = "Give \"1ms\" to \"1s\"; \"5ms\" is ample for a Redis in the same network";
    let deadline = within("redis.deadline", raw.deadline, limits, remedy)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if raw.prefix.is_empty() || raw.prefix.len() > 64 || !raw.prefix.bytes().all(fits) {
        let reason = format!("{:?} cannot be the prefix of key names", raw.prefix);
        let remedy = "Give 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
        return Err(Problem::new("redis.prefix", reason, remedy));
    }
    let limits = [TimeSpan::secs(1), TimeSpan::secs(600)];
    let sweep_every = within("redis.sweep_every", raw.sweep_every, limits, "Give \"1s\" to \"10m\"")?;
    let idle = within(
        "redis.idle",
        raw.idle,
        [TimeSpan::secs(1), TimeSpan::secs(14 * 86_400)],
        "Give \"1s\" to \"14d\", which is longer than an answer lasts",
    )?;
    if raw.max_keys == 0 {
        return Err(Problem::new(
            "redis.max_keys",
            "with 0 keys nothing could be shared",
            "Give 1 or more, or remove [redis]",
        ));
    }
    if raw.warm_keys == Some(0) {
        return Err(Problem::new(
            "redis.warm_keys",
            "0 answers would be loaded",
            "Give 1 or more, or remove the key for no warm start",
        ));
    }
    if raw.warm_per_second == 0 {
        return Err(Problem::new(
            "redis.warm_per_second",
            "with 0 answers a second a warm start would never end",
            "Give 1 or more; without warm_keys there is no warm start",
        ));
    }
    let url = match &raw.url {
        Some(url) => url.clone(),
        // No login, no TLS. The host is not used.
        None if !raw.sentinel.is_empty() => "redis://sentinels".into(),
        None => return Ok(None),
    };
    if !keeps {
        let remedy = "Remove the key, or cache.enabled = false";
        return Err(Problem::new(
            "redis.url",
            "cache.enabled = false keeps no answers, so there are none to share",
            remedy,
        ));
    }
    let server = server(url, &raw)?;
    let address = server.address();
    Ok(Some(RedisConfig {
        server,
        address,
        deadline,
        prefix: raw.prefix,
        max_keys: raw.max_keys,
        idle,
        sweep_every,
        warm_keys: raw.warm_keys,
        warm_per_second: raw.warm_per_second,
    }))
}

fn server(url: String, raw: &RawRedis) -> Result<RedisServer, Problem> {
    // A URL may contain a password, so errors do not repeat it.
    let refused = |key: &'static str| {
        move |error: RedisError| {
            let reason = format!("this is not the address of a Redis: {error}");
            let remedy = "Write \"redis://192.0.2.1:6379\", \"redis://user:password@192.0.2.1\" or \"redis+unix:///run/redis.sock\"";
            Problem::new(key, reason, remedy)
        }
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let others = match (&raw.cluster[..], &raw.sentinel[..], &raw.master) {
        ([], [], None) => Others::None,
        (_, [], None) => Others::cluster(raw.cluster.clone()).map_err(refused("redis.cluster"))?,
        ([], [_, ..], Some(master)) if !master.is_empty() && master.bytes().all(plain) => {
            Others::sentinels(raw.sentinel.clone(), master.clone()).map_err(refused("redis.sentinel"))?
        }
        ([_, ..], _, _) => {
            let remedy = "Remove sentinel and master, or cluster: a cluster fails over by itself";
            return Err(Problem::new(
                "redis.sentinel",
                "Sentinels watch a single master and no cluster",
                remedy,
            ));
        }
        _ => {
            let remedy = "Give both: sentinel = [\"redis://192.0.2.1:26379\"] and the master's name, master = \"mymaster\"";
            return Err(Problem::new("redis.master", "Sentinels are asked for a master by its name", remedy));
        }
    };
    let is_one_of_many = !matches!(others, Others::None);
    let path = |path: &Option<String>| path.as_ref().map(PathBuf::from);
    let identity = match (path(&raw.tls_cert_file), path(&raw.tls_key_file)) {
        (Some(certificate), Some(key)) => Some([certificate, key]),
        (None, None) => None,
        _ => {
            let remedy = "Give both keys, or neither";
            return Err(Problem::new(
                "redis.tls_cert_file",
                "a certificate cannot be used without its key",
                remedy,
            ));
        }
    };
    let files = Files { password: path(&raw.password_file), ca: path(&raw.tls_ca_file), identity };
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
