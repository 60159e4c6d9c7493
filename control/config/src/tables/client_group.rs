//! `[[client_group]]`: clients for which other lists decide.

use super::{
    blocklist::ListsConfig,
    rate_limit::{RateLimitConfig, group_limit},
};
use crate::{error::Problem, lists::prefix, table::table};
use ringdns_dataplane::{
    group::GROUPS,
    limiter::GroupLimit,
    mac::{MacAddress, MacError},
    prefix::Prefix,
};
use std::collections::HashMap;

table! {
    /// Clients for which lists of their own decide. The longest prefix that contains a client's address
    /// says which group it is in. Clients in no group are in the group `"default"`, for which all lists
    /// decide unless a table with this name and without `clients` says otherwise. At most 31 groups
    /// have clients.
    "[[client_group]]" RawClientGroup {
        /// Name of the group, for the log, metrics and `ringctl policy test`: letters, digits, `-`, `_`
        /// and `.`. Required.
        name: Option<String> = None,
        /// Prefixes (`"192.168.20.0/24"`, `"2001:db8:20::/64"`), single addresses and MAC addresses
        /// (`"02:00:00:00:00:01"`). A MAC address decides before prefixes, for queries over AF_XDP:
        /// kernel sockets and TCP do not tell it. Required but for `"default"`.
        clients: Vec<String> = Vec::new(),
        /// Names of the `[[blocklist]]` tables that decide for the group. They decide in the order of
        /// the file. Absent: all.
        blocklists: Option<Vec<String>> = None,
        /// Names of the `[[allowlist]]` tables that decide for the group. Absent: all.
        allowlists: Option<Vec<String>> = None,
        /// Whether queries of the group are in the query log and in `ringctl tap`. A group with clients
        /// by MAC address is always logged: the query log does not know them.
        log: bool = true,
        /// Queries that a client of the group may ask of a worker in a second, in place of
        /// `rate_limit.per_second`, which has to be set. `0`: no limit. Not for a group with clients by
        /// MAC address, which the limiter does not know. Absent: the limit of all clients.
        per_second: Option<u32> = None,
        /// Queries that a client of the group may ask at once, after a pause. Absent: twice
        /// `per_second`, and at least 400.
        burst: Option<u32> = None,
    }
}

/// Name of the group of the clients in no other.
pub const DEFAULT_GROUP: &str = "default";

/// Group of clients.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientGroupConfig {
    /// Name of the group.
    pub name: String,
    /// Addresses of clients. The default group has none, nor MAC addresses.
    pub clients: Vec<Prefix>,
    /// MAC addresses of more clients.
    pub macs: Vec<MacAddress>,
    /// Names of the lists that block; `None`: all.
    pub blocklists: Option<Vec<String>>,
    /// Names of the lists that allow; `None`: all.
    pub allowlists: Option<Vec<String>>,
    /// Whether queries are in the query log.
    pub log: bool,
    /// Rate limit of a client; `None`: that of all clients.
    pub limit: Option<GroupLimit>,
}

/// Returns the checked groups, which may name the lists in `lists`.
pub fn check(raw: Vec<RawClientGroup>, lists: &ListsConfig) -> Result<Vec<ClientGroupConfig>, Problem> {
    let (mut groups, mut owners) = (Vec::<ClientGroupConfig>::new(), HashMap::new());
    let mut senders = HashMap::new();
    for (i, raw) in raw.into_iter().enumerate() {
        let table = format!("client_group[{i}]");
        let texts = raw.clients.clone();
        let group = raw.check(&table, lists)?;
        if groups.iter().any(|other| other.name == group.name) {
            let reason = format!("two groups have the name {:?}", group.name);
            return Err(Problem::new(format!("{table}.name"), reason, NAME));
        }
        let place = |text: &String, prefix: &Prefix| text.parse() == Ok(*prefix);
        for prefix in &group.clients {
            let at = texts.iter().position(|text| place(text, prefix)).unwrap_or(0);
            if let Some(owner) = owners.insert(*prefix, group.name.clone()) {
                let reason = format!("{prefix} is in the group {owner:?} too");
                let remedy = "Name each prefix in one group; a longer one may be in another";
                return Err(Problem::new(format!("{table}.clients[{at}]"), reason, remedy));
            }
        }
        for mac in &group.macs {
            if let Some(owner) = senders.insert(*mac, group.name.clone()) {
                let reason = format!("{mac} is in the group {owner:?} too");
                let remedy = "Name each MAC address in one group";
                return Err(Problem::new(format!("{table}.clients"), reason, remedy));
            }
        }
        groups.push(group);
    }
    let most = GROUPS - 1;
    if groups.iter().filter(|group| group.name != DEFAULT_GROUP).count() > most {
        let remedy = "Join groups for which the same lists decide";
        return Err(Problem::new("client_group", format!("there are more than {most} groups"), remedy));
    }
    Ok(groups)
}

/// Checks that there is a limit for all clients if groups have limits of their own.
pub fn check_limits(groups: &[ClientGroupConfig], all: Option<&RateLimitConfig>) -> Result<(), Problem> {
    let limited = groups.iter().position(|group| group.limit.is_some() && all.is_none());
    limited.map_or(Ok(()), |i| {
        let remedy = "Set rate_limit.per_second: it is the limit of clients in no such group";
        let reason = "a group has a rate limit, and there is none for other clients";
        Err(Problem::new(format!("client_group[{i}].per_second"), reason, remedy))
    })
}

const NAME: &str = "Write a name of its own, such as \"kids\": at most 64 letters, digits, -, _ and .";

impl RawClientGroup {
    fn check(self, table: &str, lists: &ListsConfig) -> Result<ClientGroupConfig, Problem> {
        let name = self.name.ok_or_else(|| Problem::new(table, "a group needs a name", NAME))?;
        if !super::blocklist::is_name(&name) {
            return Err(Problem::new(
                format!("{table}.name"),
                format!("{name:?} is no name of a group"),
                NAME,
            ));
        }
        let (clients, macs) = clients(&format!("{table}.clients"), &self.clients)?;
        match (name == DEFAULT_GROUP, self.clients.is_empty()) {
            (true, false) => {
                let remedy = "Leave clients out: all clients in no other group are in this one";
                return Err(Problem::new(
                    format!("{table}.clients"),
                    "the default group names clients",
                    remedy,
                ));
            }
            (false, true) => {
                let remedy = "Add clients = [\"192.168.20.0/24\"]";
                return Err(Problem::new(table, format!("the group {name:?} has no clients"), remedy));
            }
            _ => {}
        }
        if !(self.log || macs.is_empty()) {
            let reason = "the query log does not know clients by MAC address";
            let remedy = "List prefixes alone, or use query_log.exclude_clients";
            return Err(Problem::new(format!("{table}.log"), reason, remedy));
        }
        let limit = group_limit(table, self.per_second, self.burst)?;
        if limit.is_some() && !macs.is_empty() {
            let reason = "the limiter does not know clients by MAC address";
            let remedy = "List prefixes alone, or put the MAC addresses into a group of their own";
            return Err(Problem::new(format!("{table}.per_second"), reason, remedy));
        }
        let block: Vec<&str> = lists.block.iter().map(|list| list.name.as_str()).collect();
        let allow: Vec<&str> = lists.allow.iter().map(|list| list.name.as_str()).collect();
        known(&format!("{table}.blocklists"), self.blocklists.as_deref(), &block)?;
        known(&format!("{table}.allowlists"), self.allowlists.as_deref(), &allow)?;
        Ok(ClientGroupConfig {
            name,
            clients,
            macs,
            blocklists: self.blocklists,
            allowlists: self.allowlists,
            log: self.log,
            limit,
        })
    }
}

/// Parses clients by address and by MAC address.
fn clients(key: &str, texts: &[String]) -> Result<(Vec<Prefix>, Vec<MacAddress>), Problem> {
    let (mut addresses, mut macs) = (Vec::new(), Vec::new());
    for (at, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(mac) => macs.push(mac),
            Err(MacError::Syntax) => addresses.push(prefix(&format!("{key}[{at}]"), text)?),
            Err(error @ MacError::NoHost) => {
                let remedy =
                    "Write the address of one network interface: `ip neigh` lists those of neighbours";
                return Err(Problem::new(format!("{key}[{at}]"), format!("{text:?}: {error}"), remedy));
            }
        }
    }
    Ok((addresses, macs))
}

/// Checks that all names are those of lists.
fn known(key: &str, names: Option<&[String]>, lists: &[&str]) -> Result<(), Problem> {
    let unknown = |(i, name): (usize, &String)| {
        let remedy = match lists {
            [] => "Add a table for the list, or remove the name".to_owned(),
            lists => format!("Write one of {}, or add a table for the list", lists.join(", ")),
        };
        Problem::new(format!("{key}[{i}]"), format!("there is no list {name:?}"), remedy)
    };
    let mut unknowns =
        names.unwrap_or_default().iter().enumerate().filter(|(_, name)| !lists.contains(&name.as_str()));
    unknowns.next().map_or(Ok(()), |found| Err(unknown(found)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    const LISTS: &str = "[[blocklist]]\nname = \"ads\"\nsource = \"/a\"\n\
                         [[allowlist]]\nname = \"ours\"\nnames = [\"corp.example\"]\n";

    #[test]
    fn groups_are_read() {
        let groups = minimal_with(&format!(
            "{LISTS}[[client_group]]\nname = \"kids\"\nclients = [\"192.168.20.0/24\", \"02-00-00-00-00-0A\", \"2001:db8::7\"]\n\
             blocklists = [\"ads\"]\nallowlists = []\n[[client_group]]\nname = \"default\"\nblocklists = []\nlog = false\n"
        ))
        .lists
        .groups;
        let [kids, default] = &groups[..] else { panic!("{groups:?}") };
        assert_eq!(kids.macs, ["02:00:00:00:00:0a".parse().unwrap()]);
        assert_eq!(kids.clients, ["192.168.20.0/24", "2001:db8::7"].map(|text| text.parse().unwrap()));
        assert_eq!(
            (kids.blocklists.clone(), kids.allowlists.clone()),
            (Some(vec!["ads".into()]), Some(vec![]))
        );
        assert!(default.clients.is_empty() && default.allowlists.is_none());
        assert_eq!((kids.log, default.log), (true, false));
    }

    #[test]
    fn wrong_values_are_refused() {
        let macs = "name = \"a\"\nclients = [\"02:00:00:00:00:01\"]\n\
                    [[client_group]]\nname = \"b\"\nclients = [\"::1\", \"02-00-00-00-00-01\"]";
        let twice = "name = \"a\"\nclients = [\"10.0.0.0/8\"]\n\
                     [[client_group]]\nname = \"b\"\nclients = [\"10.0.0.0/8\"]";
        let same = "name = \"a\"\nclients = [\"10.0.0.0/8\"]\n\
                    [[client_group]]\nname = \"a\"\nclients = [\"10.0.0.0/9\"]";
        refused(
            &format!("{MINIMAL}{LISTS}[[client_group]]\n"),
            &[
                ["clients = [\"10.0.0.0/8\"]", "11", "client_group[0]", "needs a name", "kids"],
                ["name = \"a b\"", "12", "client_group[0].name", "\"a b\"", "kids"],
                ["name = \"a\"", "11", "client_group[0]", "no clients", "Add clients"],
                ["name = \"a\"\nclients = [\"10/8\"]", "13", "client_group[0].clients[0]", "10/8", "198"],
                [
                    "name = \"a\"\nclients = [\"10.0.0.1\", \"01:00:5e:00:00:01\"]",
                    "13",
                    "client_group[0].clients[1]",
                    "no host",
                    "ip neigh",
                ],
                [macs, "16", "client_group[1].clients", "in the group \"a\"", "one group"],
                [
                    "name = \"default\"\nclients = [\"::/0\"]",
                    "13",
                    "client_group[0].clients",
                    "default",
                    "Leave",
                ],
                [
                    "name = \"a\"\nclients = [\"::1\", \"02:00:00:00:00:01\"]\nlog = false",
                    "14",
                    "client_group[0].log",
                    "by MAC address",
                    "exclude_clients",
                ],
                [twice, "16", "client_group[1].clients[0]", "in the group \"a\"", "longer"],
                [same, "15", "client_group[1].name", "two groups", "of its own"],
                [
                    "name = \"a\"\nclients = [\"10.0.0.0/8\"]\nblocklists = [\"adds\"]",
                    "14",
                    "client_group[0].blocklists[0]",
                    "no list \"adds\"",
                    "one of ads",
                ],
            ],
        );
        let many: String = (0..GROUPS)
            .map(|n| format!("[[client_group]]\nname = \"g{n}\"\nclients = [\"10.0.{n}.0/24\"]\n"))
            .collect();
        refused(MINIMAL, &[[&many, "5", "client_group", "more than 31", "Join"]]);
    }
}
