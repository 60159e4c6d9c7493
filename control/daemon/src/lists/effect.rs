//! Lists in effect at a time: schedules, overrides and pauses.

use super::overrides;
use jiff::{Timestamp, tz::TimeZone};
use ringdns_api::Overrides;
use ringdns_common::names;
use ringdns_config::ListsConfig;
use ringdns_policy::{names::NameKey, overrides::Overrides as NameOverrides};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Longest time until the clock is looked at again, in seconds: it may be set at any time.
const LOOK: i64 = 60;

/// Difference between the lists of the configuration and those in effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InEffect {
    /// Lists that their schedules switch off.
    off: BTreeSet<String>,
    /// Whether no list decides for anybody.
    is_paused: bool,
    /// Groups for which no list decides.
    paused: BTreeSet<String>,
    /// Clients for which no list decides.
    clients: BTreeSet<IpAddr>,
    /// Names in wire format, whether they are blocked, and the group for which they are.
    names: Vec<(Box<[u8]>, bool, Option<String>)>,
}

impl InEffect {
    /// Returns the effect at a Unix time.
    pub fn at(config: &ListsConfig, overrides: &Overrides, now: i64) -> Self {
        let zone = config.fetch.time_zone.as_deref();
        let zone = zone.and_then(|name| TimeZone::get(name).ok()).unwrap_or_else(TimeZone::system);
        let here = Timestamp::from_second(now).unwrap_or_default().to_zoned(zone);
        let day = here.weekday().to_monday_zero_offset().unsigned_abs();
        let minute = u16::from(here.hour().unsigned_abs()) * 60 + u16::from(here.minute().unsigned_abs());
        let is_off = |schedule: &ringdns_config::schedule::Schedule| !schedule.has(day, minute);
        let off = config.block.iter().filter(|list| is_off(&list.schedule)).map(|list| list.name.clone());
        let mut overrides = overrides.clone();
        overrides::expire(&mut overrides, now);
        let names = overrides.overrides.iter().filter_map(|entry| {
            let name = names::name(&entry.name).ok()?;
            Some((name.into(), overrides::blocks(entry), entry.group.clone()))
        });
        InEffect {
            off: off.collect(),
            is_paused: overrides.pauses.iter().any(|pause| pause.group.is_none() && pause.client.is_none()),
            paused: overrides.pauses.iter().filter_map(|pause| pause.group.clone()).collect(),
            clients: overrides.pauses.iter().filter_map(overrides::client).collect(),
            names: names.collect(),
        }
    }

    /// Whether a list is in effect.
    pub fn has(&self, list: &str) -> bool {
        !self.off.contains(list)
    }

    /// Whether no list decides for a group.
    pub fn is_paused(&self, group: &str) -> bool {
        self.is_paused || self.paused.contains(group)
    }

    /// Clients for which no list decides.
    pub fn clients(&self) -> &BTreeSet<IpAddr> {
        &self.clients
    }

    /// Returns the overrides for a group: of those for a name, the group's own counts.
    pub fn overrides(&self, key: NameKey, group: &str) -> Option<Arc<NameOverrides>> {
        let of = |own: bool| {
            let is_its = move |of: &Option<String>| of.as_deref().map_or(!own, |of| own && of == group);
            self.names.iter().filter(move |(_, _, of)| is_its(of))
        };
        let names = of(false).chain(of(true));
        NameOverrides::new(key, names.map(|(name, is_blocked, _)| (name.clone(), *is_blocked)))
    }

    /// Returns the overrides of all groups together.
    pub fn all_overrides(&self, key: NameKey) -> Option<Arc<NameOverrides>> {
        NameOverrides::new(key, self.names.iter().map(|(name, is_blocked, _)| (name.clone(), *is_blocked)))
    }
}

/// Returns the time in seconds after which the effect may be another, at most a minute; `None`: it
/// changes only with the configuration.
pub fn next_look(config: &ListsConfig, overrides: &Overrides, now: i64) -> Option<u64> {
    let has_schedule = config.block.iter().any(|list| !list.schedule.is_always());
    // Offsets of time zones from UTC are whole minutes in this century.
    let minute = has_schedule.then(|| LOOK - now.rem_euclid(LOOK));
    let untils = overrides.overrides.iter().map(|entry| &entry.until);
    let untils = untils.chain(overrides.pauses.iter().map(|pause| &pause.until));
    let ends =
        untils.filter_map(|until| overrides::end_of(until.as_deref())).map(|end| (end - now).clamp(0, LOOK));
    ends.chain(minute).min().map(|left| left.unsigned_abs().max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_api::{Override, OverrideAction, Pause};
    use ringdns_config::Config;
    use std::path::Path;

    /// Friday, 23 October 2026, 20:00 UTC: 22:00 in Berlin. Summer time ends on Sunday.
    const FRIDAY: i64 = 1_792_785_600;

    fn config(more: &str) -> ListsConfig {
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
             [lists]\ntime_zone = \"Europe/Berlin\"\n[[blocklist]]\nname = \"games\"\nsource = \"/games\"\n{more}"
        );
        Config::parse(&text, Path::new("test")).unwrap().lists
    }

    #[test]
    fn a_schedule_follows_the_clock_on_the_wall() {
        let config = config("schedule = [\"fri-sun 22:00-06:00\"]\n");
        let none = Overrides::default();
        let has = |seconds: i64| InEffect::at(&config, &none, FRIDAY + seconds).has("games");
        assert!(!has(-1) && has(0) && has(8 * 3600 - 1) && !has(8 * 3600));
        let day = 24 * 3600;
        // The night to Sunday has an hour more.
        assert!(!has(day - 1) && has(day) && has(day + 9 * 3600 - 1) && !has(day + 9 * 3600));
        assert!(!has(2 * day) && has(2 * day + 3600), "22:00 is an hour later by UTC");
        assert_eq!(next_look(&config, &none, FRIDAY - 7), Some(7));
        assert_eq!(next_look(&self::config(""), &none, FRIDAY), None);
    }

    #[test]
    fn overrides_and_pauses_end() {
        let until = overrides::at(FRIDAY + 30);
        let overrides = Overrides {
            overrides: vec![Override {
                name: "a.example.".into(),
                action: OverrideAction::Allow,
                group: None,
                until: until.clone(),
            }],
            pauses: vec![Pause { group: Some("kids".into()), client: None, until }],
        };
        let config = config("");
        let key = NameKey::new(&[7; 16]);
        let before = InEffect::at(&config, &overrides, FRIDAY + 29);
        assert!(before.is_paused("kids") && !before.is_paused("default"));
        assert!(before.overrides(key, "default").is_some());
        assert_eq!(next_look(&config, &overrides, FRIDAY + 29), Some(1));
        let after = InEffect::at(&config, &overrides, FRIDAY + 30);
        assert!(!after.is_paused("kids") && after.overrides(key, "default").is_none());
        assert_eq!(after, InEffect::default());
    }
}
