//! `[rate_limit]`: limit of queries for each client.

use crate::{bounds::within, error::Problem, lists::prefixes, table::table};
use ringdns_common::units::TimeSpan;
use ringdns_dataplane::{
    limiter::{BURST_MIN, GroupLimit},
    prefix::Prefix,
};
use std::time::Duration;

/// Highest limit. A higher one would be none.
const PER_SECOND_MAX: u32 = 10_000_000;

table! {
    /// Rate limit for clients over UDP. Each worker counts the queries of each client address and of
    /// the prefixes around it: /24, /20 and /18 of IPv4, which may ask 32, 256 and 768 times as
    /// much as one client, and /64, /56 and /48 of IPv6, with 32, 64 and 256 times as much. An
    /// answer counts as one query for each 512 bytes that it has, NXDOMAIN as one more, and a query
    /// that the worker cache cannot answer as two. Queries over TCP and with a valid cookie are
    /// not limited. A change takes effect with a reload.
    "[rate_limit]" RawRateLimit {
        /// Queries that a client may ask of a worker in a second. Absent: there is no limit.
        per_second: Option<u32> = None,
        /// Queries that a client may ask at once, after a pause. Absent: twice `per_second`, and at
        /// least 400.
        burst: Option<u32> = None,
        /// One in this many queries over the limit is answered with TC=1 and no records, so that a
        /// client whose address others forge can ask over TCP. The others get no answer. `0`: none
        /// is answered; `1`: all are.
        slip: u32 = 2,
        /// Prefixes and single addresses without a limit.
        exempt: Vec<String> = Vec::new(),
        /// Whether queries over the limit are only counted, and answered all the same.
        dry_run: bool = false,
        /// A prefix is banned if this many times its limit is refused in a second: the XDP program
        /// then drops its queries over UDP. Prefixes that overlap `exempt` are never banned. `0`:
        /// none is.
        ban_times: u32 = 10,
        /// Time of a ban. Short, since the addresses of a flood may be forged.
        ban_time: TimeSpan = TimeSpan::secs(10),
    }
}

/// Rate limit for clients.
#[derive(Clone, Debug)]
pub struct RateLimitConfig {
    /// Queries that a client may ask of a worker in a second.
    pub per_second: u32,
    /// Queries that a client may ask at once.
    pub burst: u32,
    /// One in this many queries over the limit is answered with TC=1; zero: none.
    pub slip: u32,
    /// Prefixes without a limit.
    pub exempt: Vec<Prefix>,
    /// Whether queries over the limit are only counted.
    pub dry_run: bool,
    /// A prefix is banned if this many times its limit is refused in a second; zero: none is.
    pub ban_times: u32,
    /// Time of a ban.
    pub ban_time: Duration,
}

impl RawRateLimit {
    /// Returns the checked values; `None`: there is no limit.
    pub fn check(self) -> Result<Option<RateLimitConfig>, Problem> {
        let exempt = prefixes("rate_limit.exempt", &self.exempt)?;
        let times = [TimeSpan::secs(1), TimeSpan::secs(3_600)];
        let remedy = "Give \"1s\" to \"1h\"; the addresses of a flood may be forged, so short is better";
        let ban_time = within("rate_limit.ban_time", self.ban_time, times, remedy)?;
        check_burst("rate_limit.burst", self.burst)?;
        if self.ban_times == 1 {
            let remedy = "Give at least 2, or 0 for no bans";
            return Err(Problem::new("rate_limit.ban_times", "1 is not possible", remedy));
        }
        let Some(per_second) = self.per_second else {
            return match self.burst {
                None => Ok(None),
                Some(_) => Err(without_limit("rate_limit.burst")),
            };
        };
        if per_second == 0 || per_second > PER_SECOND_MAX {
            let remedy = format!("Give 1 to {PER_SECOND_MAX}, or leave it out for no limit");
            return Err(Problem::new(
                "rate_limit.per_second",
                format!("{per_second} is not possible"),
                remedy,
            ));
        }
        let burst = burst(self.burst, per_second);
        let RawRateLimit { slip, dry_run, ban_times, .. } = self;
        Ok(Some(RateLimitConfig { per_second, burst, slip, exempt, dry_run, ban_times, ban_time }))
    }
}

/// Returns the limit of a group's clients by the keys of its table; `None`: it has none of its own.
pub fn group_limit(
    table: &str,
    per_second: Option<u32>,
    burst_given: Option<u32>,
) -> Result<Option<GroupLimit>, Problem> {
    check_burst(&format!("{table}.burst"), burst_given)?;
    let Some(per_second) = per_second else {
        return match burst_given {
            None => Ok(None),
            Some(_) => Err(without_limit(&format!("{table}.burst"))),
        };
    };
    if per_second > PER_SECOND_MAX {
        let remedy = format!("Give at most {PER_SECOND_MAX}, or 0 for no limit");
        let reason = format!("{per_second} is not possible");
        return Err(Problem::new(format!("{table}.per_second"), reason, remedy));
    }
    Ok(Some(GroupLimit { per_second, burst: burst(burst_given, per_second) }))
}

/// Returns the problem of a burst that belongs to no limit.
fn without_limit(key: &str) -> Problem {
    Problem::new(key, "there is a burst without per_second", "Set per_second, or remove burst")
}

fn burst(given: Option<u32>, per_second: u32) -> u32 {
    given.unwrap_or((2 * per_second).max(BURST_MIN))
}

fn check_burst(key: &str, burst: Option<u32>) -> Result<(), Problem> {
    burst.filter(|burst| *burst < BURST_MIN).map_or(Ok(()), |burst| {
        let remedy =
            format!("Give at least {BURST_MIN}: hits are counted by sampling, which needs that much");
        Err(Problem::new(key, format!("{burst} is not possible"), remedy))
    })
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn there_is_no_limit_unless_one_is_given() {
        assert!(minimal_with("").rate_limit.is_none());
        assert!(minimal_with("[rate_limit]\nslip = 3").rate_limit.is_none());
        for (text, burst) in
            [("per_second = 20", 400), ("per_second = 1000", 2_000), ("per_second = 20\nburst = 500", 500)]
        {
            let limit = minimal_with(&format!("[rate_limit]\n{text}")).rate_limit.unwrap();
            assert_eq!((limit.burst, limit.slip, limit.ban_times), (burst, 2, 10), "{text}");
        }
    }

    #[test]
    fn groups_have_limits_of_their_own() {
        let limits = |group: &str| {
            let config = minimal_with(&format!(
                "[rate_limit]\nper_second = 200\n[[client_group]]\nname = \"a\"\nclients = [\"::1\"]\n{group}"
            ));
            config.lists.groups[0].limit.map(|limit| (limit.per_second, limit.burst))
        };
        for (group, limit) in [
            ("", None),
            ("per_second = 20", Some((20, 400))),
            ("per_second = 1000\nburst = 500", Some((1_000, 500))),
            ("per_second = 0", Some((0, 400))),
        ] {
            assert_eq!(limits(group), limit, "{group}");
        }
        let table = format!("{MINIMAL}[[client_group]]\nname = \"a\"\nclients = [\"::1\"]\n");
        let wrong = [
            ["per_second = 0", "8", "client_group[0].per_second", "none for other clients", "rate_limit"],
            ["per_second = 20000000", "8", "client_group[0].per_second", "20000000 is not", "10000000"],
            ["per_second = 10\nburst = 399", "9", "client_group[0].burst", "399 is not", "sampling"],
            ["burst = 500", "8", "client_group[0].burst", "without per_second", "remove burst"],
        ];
        refused(&table, &wrong);
        let macs =
            format!("{MINIMAL}[[client_group]]\nname = \"a\"\nclients = [\"::1\", \"02:00:00:00:00:01\"]\n");
        refused(
            &macs,
            &[["per_second = 9", "8", "client_group[0].per_second", "by MAC address", "of their own"]],
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[rate_limit]\n"),
            &[
                ["per_second = 0", "6", "rate_limit.per_second", "0 is not", "leave it out"],
                ["per_second = 20000000", "6", "rate_limit.per_second", "20000000 is not", "10000000"],
                ["burst = 10", "6", "rate_limit.burst", "10 is not", "sampling"],
                ["exempt = [\"10/8\"]", "6", "rate_limit.exempt[0]", "neither an address", "198.51"],
                ["ban_times = 1", "6", "rate_limit.ban_times", "1 is not", "at least 2"],
                ["ban_time = \"2h\"", "6", "rate_limit.ban_time", "too long", "forged"],
            ],
        );
    }
}
