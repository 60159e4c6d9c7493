//! `[local]`, `[[local_record]]` and `[[local_zone]]`: names answered locally, without asking an
//! upstream.

use super::{client_group::ClientGroupConfig, group_names};
use crate::{
    bounds::{secs, within},
    error::Problem,
    table::table,
};
use ringdns_common::{names, units::TimeSpan};
use ringdns_dataplane::clock::Secs;
use std::path::PathBuf;

table! {
    /// Names answered locally, without asking an upstream.
    "[local]" RawLocal {
        /// Whether names without a meaning in the public DNS are answered locally: `localhost`,
        /// `invalid`, `test`, `onion`, `alt`, `local`, `home.arpa`, and the reverse zones of
        /// private addresses (RFC 6761, 6762, 6303, 7686, 8375, 9476). A zone of an `[[upstream]]`
        /// takes precedence, and so do `[[local_record]]`, `[[local_zone]]` and `hosts_files`.
        special_names: bool = true,
        /// Whether the names do not exist by which clients ask whether they may bypass this server:
        /// `use-application-dns.net` (DNS over HTTPS of browsers), `mask.icloud.com` and
        /// `mask-h2.icloud.com` (relays of Apple). They then keep to it.
        canary_names: bool = false,
        /// Absolute paths of hosts files whose names are answered locally: `["/etc/hosts"]`. They
        /// are read again within seconds after they change. A file that has become wrong is logged,
        /// and what it said before stays in effect.
        hosts_files: Vec<String> = Vec::new(),
        /// TTL of records from hosts files and of PTR records: one second to a day.
        ttl: TimeSpan = TimeSpan::secs(300),
        /// Whether a PTR record is made of the first name of each address in A and AAAA records of
        /// local data.
        ptr: bool = false,
    }
}

table! {
    /// A record that is answered locally. It wins over lists. Other types of its name have no data;
    /// other names of its zone are resolved as usual. docs/policy.md has more about local data.
    "[[local_record]]" RawLocalRecord {
        /// Name of the record: `"nas.home.arpa"`. `"*.dev.example"` stands for all names below
        /// `dev.example` that have no records of their own (RFC 4592). Required.
        name: Option<String> = None,
        /// Type: `"A"`, `"AAAA"`, `"CNAME"`, `"TXT"`, `"PTR"`, `"MX"`, `"SRV"`, `"CAA"`, `"HTTPS"`,
        /// `"SVCB"`, `"NAPTR"`, `"TLSA"`, `"SSHFP"`; any other, such as `"TYPE65280"`, with data in
        /// the form of RFC 3597. Required.
        r#type: Option<String> = None,
        /// Data as in a zone file, with complete names: `"10 mail.example"`. Required.
        data: Option<String> = None,
        /// TTL: zero to a week.
        ttl: TimeSpan = TimeSpan::secs(300),
        /// Names of the `[[client_group]]` tables whose clients get the record, or `"default"`; for the
        /// others there is none. Absent: all clients.
        groups: Option<Vec<String>> = None,
    }
}

table! {
    /// A zone that is answered locally: its names without records do not exist. `[[local_record]]`
    /// may add records to it.
    "[[local_zone]]" RawLocalZone {
        /// Name of the zone: `"corp.example"`. Required.
        name: Option<String> = None,
        /// Absolute path of its zone file (RFC 1035). `$INCLUDE` and `$GENERATE` are not
        /// supported. Without a file, the zone has the records of `[[local_record]]` alone.
        file: Option<String> = None,
        /// Names of the `[[client_group]]` tables for whose clients there is the zone, or `"default"`.
        /// Zones of one name may have files of their own for different groups. Absent: all clients.
        groups: Option<Vec<String>> = None,
    }
}

/// Names answered locally, without asking an upstream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LocalConfig {
    /// Whether special-use names are answered locally.
    pub special_names: bool,
    /// Whether canary names do not exist.
    pub canary_names: bool,
    /// Hosts files.
    pub hosts_files: Vec<PathBuf>,
    /// TTL of records from hosts files and of PTR records.
    pub ttl: Secs,
    /// Whether PTR records are made of addresses.
    pub ptr: bool,
    /// Records.
    pub records: Vec<LocalRecordConfig>,
    /// Zones.
    pub zones: Vec<LocalZoneConfig>,
}

/// Record answered locally.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalRecordConfig {
    /// Name as written.
    pub name: String,
    /// Type.
    pub rtype: u16,
    /// Data as written.
    pub data: String,
    /// TTL.
    pub ttl: Secs,
    /// Names of the groups of clients that get it; `None`: all.
    pub groups: Option<Vec<String>>,
}

/// Zone answered locally.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalZoneConfig {
    /// Name in wire format.
    pub name: Vec<u8>,
    /// Zone file.
    pub file: Option<PathBuf>,
    /// Names of the groups of clients for which there is the zone; `None`: all.
    pub groups: Option<Vec<String>>,
}

/// Returns the checked tables, which may name `groups`. The data of records and the files are checked by
/// their reader.
pub fn check(
    local: RawLocal,
    records: Vec<RawLocalRecord>,
    zones: Vec<RawLocalZone>,
    groups: &[ClientGroupConfig],
) -> Result<LocalConfig, Problem> {
    let limits = [TimeSpan::secs(1), TimeSpan::secs(86_400)];
    let mut config = LocalConfig {
        special_names: local.special_names,
        canary_names: local.canary_names,
        ttl: secs(within("local.ttl", local.ttl, limits, "Give \"1s\" to \"1d\"")?),
        ptr: local.ptr,
        ..LocalConfig::default()
    };
    for (i, text) in local.hosts_files.into_iter().enumerate() {
        config.hosts_files.push(path(&format!("local.hosts_files[{i}]"), text, "/etc/hosts")?);
    }
    for (i, raw) in records.into_iter().enumerate() {
        config.records.push(raw.check(&format!("local_record[{i}]"), groups)?);
    }
    for (i, raw) in zones.into_iter().enumerate() {
        let table = format!("local_zone[{i}]");
        let zone = raw.check(&table, groups)?;
        let is_same = |known: &LocalZoneConfig| {
            known.name == zone.name && group_names::overlap(known.groups.as_ref(), zone.groups.as_ref())
        };
        if config.zones.iter().any(is_same) {
            let reason = format!("{} is a zone already", names::display(&zone.name));
            let remedy = "Give each zone one table, or tables for different groups";
            return Err(Problem::new(format!("{table}.name"), reason, remedy));
        }
        config.zones.push(zone);
    }
    Ok(config)
}

impl RawLocalRecord {
    fn check(self, table: &str, groups: &[ClientGroupConfig]) -> Result<LocalRecordConfig, Problem> {
        let missing = |key: &str, example: &str| {
            Problem::new(table, format!("the record has no {key}"), format!("Add {key} = \"{example}\""))
        };
        let name = self.name.ok_or_else(|| missing("name", "nas.home.arpa"))?;
        let kind = self.r#type.ok_or_else(|| missing("type", "A"))?;
        let data = self.data.ok_or_else(|| missing("data", "192.168.1.10"))?;
        let name = wire(&format!("{table}.name"), &name, "nas.home.arpa").map(|_| name)?;
        let rtype = names::record_type(&kind).map_err(|error| {
            Problem::new(format!("{table}.type"), error.to_string(), "Types are as in a zone file")
        })?;
        let limits = [TimeSpan::secs(0), TimeSpan::secs(604_800)];
        let ttl = within(&format!("{table}.ttl"), self.ttl, limits, "Give \"0s\" to \"7d\"")?;
        let groups = group_names::check(&format!("{table}.groups"), self.groups, groups)?;
        Ok(LocalRecordConfig { name, rtype, data, ttl: secs(ttl), groups })
    }
}

impl RawLocalZone {
    fn check(self, table: &str, groups: &[ClientGroupConfig]) -> Result<LocalZoneConfig, Problem> {
        let name = self
            .name
            .ok_or_else(|| Problem::new(table, "the zone has no name", "Add name = \"corp.example\""))?;
        let file = self.file.map(|file| path(&format!("{table}.file"), file, "/etc/ringdns/corp.zone"));
        Ok(LocalZoneConfig {
            name: wire(&format!("{table}.name"), &name, "corp.example")?,
            file: file.transpose()?,
            groups: group_names::check(&format!("{table}.groups"), self.groups, groups)?,
        })
    }
}

fn wire(key: &str, text: &str, example: &str) -> Result<Vec<u8>, Problem> {
    names::name(text).map_err(|error| Problem::new(key, error.to_string(), format!("Write \"{example}\"")))
}

fn path(key: &str, text: String, example: &str) -> Result<PathBuf, Problem> {
    if !text.starts_with('/') || text.ends_with('/') {
        let reason = format!("{text:?} is not the absolute path of a file");
        return Err(Problem::new(key, reason, format!("Write \"{example}\"")));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn special_names_can_be_switched_off() {
        assert!(minimal_with("").local.special_names);
        assert!(!minimal_with("[local]\nspecial_names = false").local.special_names);
    }

    #[test]
    fn records_zones_and_files_are_read() {
        let local = minimal_with(
            "[local]\nhosts_files = [\"/etc/hosts\"]\nttl = \"1m\"\nptr = true\n\
             [[local_record]]\nname = \"Nas.home.arpa\"\ntype = \"aaaa\"\ndata = \"2001:db8::1\"\n\
             [[local_record]]\nname = \"*.x\"\ntype = \"TYPE65280\"\ndata = '\\# 0'\nttl = \"0s\"\n\
             [[local_zone]]\nname = \"corp.example\"\nfile = \"/corp\"\n[[local_zone]]\nname = \"x\"\n",
        )
        .local;
        assert_eq!((&local.hosts_files[..], local.ttl, local.ptr), (&["/etc/hosts".into()][..], 60, true));
        let nas = LocalRecordConfig {
            name: "Nas.home.arpa".into(),
            rtype: 28,
            data: "2001:db8::1".into(),
            ttl: 300,
            groups: None,
        };
        assert_eq!(local.records[0], nas);
        assert_eq!((local.records[1].rtype, local.records[1].ttl), (65280, 0));
        let corp = LocalZoneConfig {
            name: b"\x04corp\x07example\0".to_vec(),
            file: Some("/corp".into()),
            groups: None,
        };
        assert_eq!(
            local.zones,
            [corp, LocalZoneConfig { name: b"\x01x\0".to_vec(), file: None, groups: None }]
        );
    }

    #[test]
    fn data_may_be_for_groups() {
        let kids = "[[client_group]]\nname = \"kids\"\nclients = [\"192.0.2.0/24\"]\n";
        let record = "name = \"a\"\ntype = \"A\"\ndata = \"192.0.2.1\"\n";
        let local = minimal_with(&format!(
            "{kids}[[local_record]]\n{record}groups = [\"kids\", \"default\"]\n\
             [[local_zone]]\nname = \"a\"\ngroups = [\"kids\"]\n\
             [[local_zone]]\nname = \"a\"\ngroups = [\"default\"]\n"
        ))
        .local;
        assert_eq!(local.records[0].groups, Some(vec!["kids".into(), "default".into()]));
        assert_eq!(local.zones[1].groups, Some(vec!["default".into()]));
        refused(
            &format!("{MINIMAL}{kids}[[local_record]]\n{record}"),
            &[
                [
                    "groups = [\"default\", \"adults\"]",
                    "12",
                    "local_record[0].groups[1]",
                    "\"adults\"",
                    "kids, def",
                ],
                ["groups = []", "12", "local_record[0].groups", "for nobody", "all clients"],
            ],
        );
        refused(
            &format!("{MINIMAL}{kids}[[local_zone]]\nname = \"a\"\n"),
            &[
                [
                    "[[local_zone]]\nname = \"a\"\ngroups = [\"kids\"]",
                    "11",
                    "local_zone[1].name",
                    "already",
                    "different",
                ],
                ["groups = [\"adults\"]", "10", "local_zone[0].groups[0]", "\"adults\"", "kids"],
            ],
        );
    }

    #[test]
    fn wrong_values_are_refused() {
        let record = "name = \"a\"\ntype = \"A\"\ndata = \"192.0.2.1\"\n";
        refused(
            &format!("{MINIMAL}[[local_record]]\n"),
            &[
                ["type = \"A\"\ndata = \"x\"", "5", "local_record[0]", "no name", "Add name"],
                ["name = \"a\"\ndata = \"x\"", "5", "local_record[0]", "no type", "Add type"],
                ["name = \"a\"\ntype = \"A\"", "5", "local_record[0]", "no data", "Add data"],
                ["name = \"a..b\"\ntype = \"A\"\ndata = \"x\"", "6", "local_record[0].name", "a..b", "nas"],
                ["name = \"a\"\ntype = \"B\"\ndata = \"x\"", "7", "local_record[0].type", "\"B\"", "zone"],
                [&format!("{record}ttl = \"8d\""), "9", "local_record[0].ttl", "too long", "7d"],
            ],
        );
        refused(
            &format!("{MINIMAL}[[local_zone]]\n"),
            &[
                ["file = \"/a\"", "5", "local_zone[0]", "no name", "Add name"],
                ["name = \"a\"\nfile = \"a\"", "7", "local_zone[0].file", "absolute", "/etc"],
                ["name = \"a\"\n[[local_zone]]\nname = \"A\"", "8", "local_zone[1].name", "already", "one"],
            ],
        );
        refused(
            &format!("{MINIMAL}[local]\n"),
            &[
                ["hosts_files = [\"hosts\"]", "6", "local.hosts_files[0]", "absolute", "/etc/hosts"],
                ["ttl = \"0s\"", "6", "local.ttl", "too short", "1s"],
            ],
        );
    }
}
