//! Tables of the configuration file. Each module holds a table's keys with their documentation, the
//! checked values, the checks, and their tests.

pub mod access;
pub mod blocklist;
pub mod cache;
pub mod clickhouse;
pub mod client_group;
pub mod client_names;
pub mod control;
pub mod cookies;
pub mod dns64;
pub mod dnssec;
pub mod dnstap;
pub mod firewall;
pub mod group_names;
pub mod lists;
pub mod local;
pub mod query_log;
pub mod rate_limit;
pub mod rebinding;
pub mod redis;
pub mod refresh;
pub mod resolver;
pub mod safe_search;
pub mod sandbox;
pub mod server;
pub mod tcp;
pub mod upstream;

use crate::table::{Documented, TableDoc};
use serde::Deserialize;

macro_rules! file {
    ($($table:ident: $type:ty,)*) => {
        /// The whole file, as written.
        #[derive(Clone, Debug, Default, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct RawConfig { $(pub $table: $type,)* }

        impl RawConfig {
            /// Returns the documentation of all tables, in the order of the reference.
            pub fn tables() -> Vec<TableDoc> {
                vec![$(<$type as Documented>::doc(),)*]
            }
        }
    };
}

file! {
    server: server::RawServer,
    upstream: Vec<upstream::RawUpstream>,
    resolver: resolver::RawResolver,
    local: local::RawLocal,
    local_record: Vec<local::RawLocalRecord>,
    local_zone: Vec<local::RawLocalZone>,
    blocklist: Vec<blocklist::RawBlocklist>,
    allowlist: Vec<blocklist::RawAllowlist>,
    client_group: Vec<client_group::RawClientGroup>,
    lists: lists::RawLists,
    rebinding: rebinding::RawRebinding,
    safe_search: safe_search::RawSafeSearch,
    dns64: dns64::RawDns64,
    names: firewall::RawNames,
    nftset: Vec<firewall::RawNftset>,
    dnssec: dnssec::RawDnssec,
    cache: cache::RawCache,
    refresh: refresh::RawRefresh,
    redis: redis::RawRedis,
    tcp: tcp::RawTcp,
    access: access::RawAccess,
    cookies: cookies::RawCookies,
    rate_limit: rate_limit::RawRateLimit,
    query_log: query_log::RawQueryLog,
    clickhouse: clickhouse::RawClickhouse,
    client_names: client_names::RawClientNames,
    dnstap: dnstap::RawDnstap,
    control: control::RawControl,
    sandbox: sandbox::RawSandbox,
}
