//! Limits of groups of clients.
//!
//! A counter knows no queries, only the time that it takes to drain. A client whose group has a limit of
//! its own therefore pays another price for the same query: at its limit, its counter fills as fast as
//! it drains, whatever the limit is. The prefixes around clients count the same shares: a prefix with
//! the room of 32 clients is full when the shares of all clients in it add up to 32, of whatever groups
//! they are.

use super::{BURST_MIN, LEVELS, LimitConfig, Ticks, V4_PREFIXES, V6_PREFIXES, kru::SECOND};
use crate::group::{ClientGroups, GROUPS, Group};
use std::net::IpAddr;

/// Most that a query weighs in the counters of prefixes, in queries of a client without a group. A
/// sample of a heavier one would be too large a part of their burst.
const PREFIX_WEIGHT_MAX: u32 = 8;

/// Limit of each client of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupLimit {
    /// Queries that a client may ask in a second; zero: there is no limit.
    pub per_second: u32,
    /// Queries that a client may ask at once, at least [`BURST_MIN`].
    pub burst: u32,
}

/// Groups of clients, and the limits of those that have one of their own.
#[derive(Clone, Debug)]
pub struct GroupLimits {
    /// Groups by address.
    pub clients: ClientGroups,
    /// Limits of groups. Others have that of all clients.
    pub limits: Vec<(Group, GroupLimit)>,
}

/// Terms for the clients of a group.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Times that the counters of the prefix lengths take to drain a price of one, of IPv4 clients and
    /// of IPv6 clients.
    pub costs: [[Ticks; LEVELS]; 2],
    /// Loads above which a client and the prefixes around it are over their limits.
    pub capacities: [Ticks; LEVELS],
    /// Number of queries of a client refused in a second that make a flood; zero: there is none.
    pub flood: u32,
    /// Whether there is a limit.
    pub is_limited: bool,
}

impl Terms {
    /// Returns the terms for clients with `limit`, where others have that of `config`.
    pub fn new(limit: GroupLimit, config: &LimitConfig) -> Self {
        let of_prefixes = limit.per_second.max(config.per_second / PREFIX_WEIGHT_MAX);
        let costs = [V4_PREFIXES, V6_PREFIXES].map(|prefixes| {
            let mut costs = prefixes.map(|(_, multiple)| cost(of_prefixes) / Ticks::from(multiple));
            costs[0] = cost(limit.per_second);
            costs.map(|cost| cost.max(1))
        });
        // The prefixes are shared with other groups, so they have one burst.
        let mut capacities = [capacity(config.per_second, config.burst); LEVELS];
        capacities[0] = capacity(limit.per_second, limit.burst);
        Terms {
            costs,
            capacities,
            flood: config.flood_times.saturating_mul(limit.per_second),
            is_limited: limit.per_second > 0,
        }
    }

    /// Returns the terms for the clients of all groups.
    pub fn of_groups(config: &LimitConfig) -> [Self; GROUPS] {
        let all = GroupLimit { per_second: config.per_second.max(1), burst: config.burst };
        let mut terms = [Terms::new(all, config); GROUPS];
        for (group, limit) in config.groups.iter().flat_map(|groups| &groups.limits) {
            terms[group.number()] = Terms::new(*limit, config);
        }
        terms
    }
}

impl GroupLimits {
    /// Returns the group of a client.
    pub fn of(&self, client: IpAddr) -> Group {
        self.clients.of(client.to_canonical())
    }
}

/// Returns the time that a counter with a whole burst takes to drain.
fn capacity(per_second: u32, burst: u32) -> Ticks {
    cost(per_second) * Ticks::from(burst.max(BURST_MIN))
}

/// Returns the share of a query in a limit, as the time that a counter takes to drain it.
fn cost(per_second: u32) -> Ticks {
    SECOND / Ticks::from(per_second.max(1))
}
