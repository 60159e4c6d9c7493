//! `[redis]`: where the fleet's tier is.

use super::{check::within, error::Problem, raw::RawRedis, units::Span};
use crate::fleet::{PATIENCE, connection::Server};
use std::{fmt, time::Duration};

/// What is shared with other appliances, and how.
#[derive(Clone)]
pub struct Redis {
    /// Redis, and who we are there.
    pub server: Server,
    /// Where that is, without the password.
    pub address: String,
    /// How long a question waits for it.
    pub deadline: Duration,
    /// What the names of keys begin with.
    pub prefix: String,
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Redis { address, deadline, prefix, .. } = self;
        write!(f, "Redis {{ {address}, {deadline:?}, {prefix:?} }}")
    }
}

pub fn redis(raw: RawRedis, keeps: bool) -> Result<Option<Redis>, Problem> {
    let limits = [Span::millis(1), Span::secs(1)];
    let remedy = "Give \"1ms\" to \"1s\"; \"5ms\" is much for a Redis in the same network";
    let deadline = within("redis.deadline", raw.deadline, limits, remedy)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if raw.prefix.is_empty() || raw.prefix.len() > 64 || !raw.prefix.bytes().all(fits) {
        let reason = format!("{:?} cannot begin the names of keys", raw.prefix);
        let remedy = "Give 1 to 64 letters, digits, \"-\", \"_\" and \".\"";
        return Err(Problem::new("redis.prefix", reason, remedy));
    }
    let Some(url) = raw.url else { return Ok(None) };
    if !keeps {
        let remedy = "Remove the key, or cache.enabled = false";
        return Err(Problem::new("redis.url", "who keeps no answers has none to share", remedy));
    }
    // The password in it is nothing for a log.
    let (server, address) = Server::new(url, raw.cluster, PATIENCE).map_err(|error| {
        let reason = format!("this is no address of a Redis: {error}");
        let remedy = "Write \"redis://192.0.2.1:6379\", \"redis://user:password@192.0.2.1\" or \"redis+unix:///run/redis.sock\"";
        Problem::new("redis.url", reason, remedy)
    })?;
    Ok(Some(Redis { server, address, deadline, prefix: raw.prefix }))
}
