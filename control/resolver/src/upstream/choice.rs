//! Choice of upstreams and their order: by the zone of the name, the strategy, and their health.
//!
//! An upstream in back-off is asked after the others. If all are in back-off, they are asked all
//! the same, because a guess is better than none.

use crate::upstream::{Upstream, told::UpstreamReader};
use quick_cache::DefaultHashBuilder;
use ringdns_common::names;
use ringdns_config as config;
use ringdns_config::Strategy;
use ringdns_dataplane::{
    clock::Nanos,
    dns::{key::Asked, rtype},
    labels::Labels,
};
use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// All upstreams of the configuration.
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    /// Upstreams for all names that are in none of the zones.
    others: Group,
    /// Upstreams for the names of a zone. The hash key is drawn anew in each process: clients
    /// choose names.
    zones: HashMap<Vec<u8>, Group, DefaultHashBuilder>,
    strategy: Strategy,
}

/// Upstreams among which there is a choice.
#[derive(Default)]
struct Group {
    numbers: Vec<usize>,
    /// Number of choices made in this group. With one count for all groups, questions that
    /// alternate between two of them would always find the same upstreams.
    turns: AtomicUsize,
}

impl Upstreams {
    /// Returns the upstreams of a configuration, in its order. An upstream that was there `before`,
    /// and is asked in the same way, is kept.
    pub fn new(
        configs: &[config::UpstreamConfig],
        how: &config::ResolverConfig,
        labels: &Labels,
        before: Option<&Self>,
    ) -> Self {
        let known =
            |config| before.and_then(|before| before.all.iter().find(|upstream| upstream.is(config, how)));
        let one = |config| {
            known(config)
                .cloned()
                .unwrap_or_else(|| Arc::new(Upstream::new(config, how, labels, configs.len())))
        };
        let routes = configs.iter().map(|config| (one(config), config.zones.clone()));
        Upstreams::routed(routes.collect(), how.strategy)
    }

    /// Tells a reader of the messages that are exchanged with these upstreams.
    pub(crate) fn tell(&self, reader: &Arc<dyn UpstreamReader>) {
        // One that was there before has this reader.
        self.all.iter().for_each(|upstream| drop(upstream.reader.set(reader.clone())));
    }

    /// Returns those of the upstreams of a configuration that are asked for a group of clients with
    /// upstreams of its own, the numbers of which are `own`; none: for clients without. An upstream of
    /// the group takes the place of those for all clients in its zones, or for all names that are in no
    /// zone.
    pub fn for_group(&self, configs: &[config::UpstreamConfig], own: &[usize]) -> Self {
        let is_own = |number: usize| own.contains(&number);
        let own_zones = || own.iter().filter_map(|number| configs.get(*number));
        let has_rest = own_zones().any(config::UpstreamConfig::is_for_the_rest);
        let mut routes = Vec::new();
        for (number, (upstream, config)) in self.all.iter().zip(configs).enumerate() {
            if is_own(number) {
                routes.push((upstream.clone(), config.zones.clone()));
                continue;
            }
            if config.groups.is_some() {
                continue;
            }
            let is_taken = |zone: &Vec<u8>| match **zone == [0] {
                true => has_rest,
                false => own_zones().any(|own| own.zones.contains(zone)),
            };
            let zones: Vec<_> = config.zones.iter().filter(|zone| !is_taken(zone)).cloned().collect();
            // Without a zone of its own left, it must not become one for the rest.
            if !zones.is_empty() || config.zones.is_empty() && !has_rest {
                routes.push((upstream.clone(), zones));
            }
        }
        Upstreams::routed(routes, self.strategy)
    }

    /// Returns upstreams with the zones that each is asked for; none: for all names that are in no zone.
    fn routed(routes: Vec<(Arc<Upstream>, Vec<Vec<u8>>)>, strategy: Strategy) -> Self {
        let mut zones: HashMap<_, Group, _> = HashMap::default();
        let (mut all, mut others) = (Vec::new(), Group::default());
        for (number, (upstream, of_upstream)) in routes.into_iter().enumerate() {
            if of_upstream.is_empty() {
                others.numbers.push(number);
            }
            for zone in of_upstream {
                zones.entry(zone).or_default().numbers.push(number);
            }
            all.push(upstream);
        }
        Upstreams { all, others, zones, strategy }
    }

    /// Returns all upstreams in the order of the configuration.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Upstream>> {
        self.all.iter()
    }

    /// Returns an upstream by the number that [`Upstreams::order`] gives.
    pub(crate) fn get(&self, number: usize) -> &Arc<Upstream> {
        &self.all[number]
    }

    /// Returns the upstreams that are asked a question, in the order of the configuration, and the zone
    /// that decides so; `.`: the rest.
    pub(crate) fn asked_for(&self, asked: Asked<'_>) -> (String, Vec<Arc<Upstream>>) {
        let (zone, group) = self.route(asked).unwrap_or((&[0], &self.others));
        (names::display(zone), group.numbers.iter().map(|number| self.all[*number].clone()).collect())
    }

    /// Whether a question is in one of the zones that the configuration names.
    pub(crate) fn has_zone_of(&self, asked: Asked<'_>) -> bool {
        self.route(asked).is_some_and(|(zone, _)| *zone != [0])
    }

    /// Whether the same upstreams are asked both questions.
    pub(crate) fn are_the_same_for(&self, one: Asked<'_>, other: Asked<'_>) -> bool {
        let zone = |asked| self.route(asked).map(|(zone, _)| zone);
        zone(one) == zone(other)
    }

    /// Returns the zones, `.` for all names that are in none, of which no upstream answers.
    pub fn silent_zones(&self) -> Vec<String> {
        let is_silent = |number: &usize| self.all[*number].health().is_silent();
        let is_lost = |group: &Group| !group.numbers.is_empty() && group.numbers.iter().all(is_silent);
        let zones = self.zones.iter().filter(|(_, group)| is_lost(group));
        let mut names: Vec<_> = zones.map(|(zone, _)| names::display(zone)).collect();
        names.sort_unstable();
        names.extend(is_lost(&self.others).then(|| ".".to_owned()));
        names
    }

    fn route(&self, asked: Asked<'_>) -> Option<(&[u8], &Group)> {
        if self.zones.is_empty() {
            return None;
        }
        let mut name = asked.name();
        if asked.qtype() == rtype::DS {
            // The DS record is on the parent's side of a zone cut (RFC 4035 section 2.4).
            name = parent(name).unwrap_or(name);
        }
        loop {
            if let Some((zone, group)) = self.zones.get_key_value(name) {
                return Some((zone, group));
            }
            name = parent(name)?;
        }
    }

    /// Returns the upstreams to ask for a question, the first one last. Those in back-off come
    /// after all others, the one whose back-off ends soonest first.
    pub(crate) fn order(&self, asked: Asked<'_>, now: Nanos) -> Vec<usize> {
        let group = self.route(asked).map_or(&self.others, |(_, group)| group);
        let mut order = group.numbers.clone();
        if order.len() < 2 {
            return order;
        }
        match self.strategy {
            Strategy::Failover => {}
            Strategy::RoundRobin => {
                let turn = group.turns.fetch_add(1, Relaxed) % order.len();
                order.rotate_left(turn);
            }
            Strategy::LowestLatency => {
                order.sort_by_cached_key(|number| self.all[*number].health().estimate(now));
            }
        }
        order.reverse();
        order.sort_by_cached_key(|number| {
            let until = self.all[*number].health().until;
            Reverse(if now < until { until } else { 0 })
        });
        order
    }
}

/// Returns the name without its first label; `None` for the root.
fn parent(name: &[u8]) -> Option<&[u8]> {
    match name {
        [] | [0] => None,
        [len, ..] => name.get(1 + usize::from(*len)..),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::key::Flags;
    use std::{path::Path, time::Duration};

    fn upstreams(text: &str) -> Upstreams {
        let text = format!("[server]\nlisten = [\"127.0.0.1:53\"]\n{text}");
        let config = config::Config::parse(&text, Path::new("test")).unwrap();
        Upstreams::new(&config.upstreams, &config.resolver, &Labels::default(), None)
    }

    fn first(upstreams: &Upstreams, name: &str, qtype: u16, now: Nanos) -> usize {
        let mut question = names::name(name).unwrap();
        question.extend(qtype.to_be_bytes());
        question.extend([0, 1]);
        let asked = Asked { question: &question, flags: Flags::default() };
        *upstreams.order(asked, now).last().unwrap()
    }

    const THREE: &str = "[[upstream]]\naddress = \"192.0.2.1\"\n[[upstream]]\naddress = \"192.0.2.2\"\n\
                         [[upstream]]\naddress = \"192.0.2.3\"\n";

    #[test]
    fn the_longest_zone_decides() {
        let upstreams = upstreams(
            "[[upstream]]\naddress = \"192.0.2.1\"\n\
             [[upstream]]\naddress = \"192.0.2.2\"\nzones = [\"corp.example\", \"10.in-addr.arpa\"]\n\
             [[upstream]]\naddress = \"192.0.2.3\"\nzones = [\"lab.corp.example\"]\n",
        );
        for (name, number) in [
            ("example", 0),
            ("corp.example", 1),
            ("www.corp.example", 1),
            ("notcorp.example", 0),
            ("lab.corp.example", 2),
            ("a.b.lab.corp.example", 2),
            ("4.3.2.10.in-addr.arpa", 1),
            (".", 0),
        ] {
            assert_eq!(first(&upstreams, name, 1, 0), number, "{name}");
        }
        assert_eq!(first(&upstreams, "corp.example", rtype::DS, 0), 0, "the parent has it");
        assert_eq!(first(&upstreams, "lab.corp.example", rtype::DS, 0), 1);
        assert_eq!(first(&upstreams, "www.lab.corp.example", rtype::DS, 0), 2);
    }

    #[test]
    fn upstreams_of_a_group_take_the_place_of_the_common_ones_in_their_zones() {
        let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n\
                    [[client_group]]\nname = \"kids\"\nclients = [\"10.0.0.0/8\"]\n\
                    [[upstream]]\naddress = \"192.0.2.1\"\n\
                    [[upstream]]\naddress = \"192.0.2.2\"\nzones = [\"corp.example\", \"lab.example\", \".\"]\n\
                    [[upstream]]\naddress = \"192.0.2.3\"\nzones = [\".\"]\n\
                    [[upstream]]\naddress = \"192.0.2.4\"\nzones = [\"lab.example\"]\ngroups = [\"kids\"]\n\
                    [[upstream]]\naddress = \"192.0.2.5\"\ngroups = [\"kids\"]\n";
        let config = config::Config::parse(text, Path::new("test")).unwrap();
        let all = Upstreams::new(&config.upstreams, &config.resolver, &Labels::default(), None);
        let asked = |own: &[usize], name: &str| {
            let part = all.for_group(&config.upstreams, own);
            let mut question = names::name(name).unwrap();
            question.extend([0, 1, 0, 1]);
            let asked = Asked { question: &question, flags: Flags::default() };
            let mut labels: Vec<_> =
                part.order(asked, 0).into_iter().map(|at| part.get(at).label.clone()).collect();
            labels.sort();
            labels.iter().map(|label| label.as_bytes()["udp://192.0.2.".len()] - b'0').collect::<Vec<_>>()
        };
        for (own, name, expected) in [
            (&[][..], "www.example", &[2, 3][..]),
            (&[], "corp.example", &[2]),
            (&[], "lab.example", &[2]),
            (&[3, 4], "www.example", &[5]),
            (&[3, 4], "corp.example", &[2]),
            (&[3, 4], "a.lab.example", &[4]),
            (&[3], "www.example", &[2, 3]),
            (&[3], "lab.example", &[4]),
            (&[4], "www.example", &[5]),
            (&[4], "lab.example", &[2]),
        ] {
            assert_eq!(asked(own, name), expected, "{own:?} {name}");
        }
    }

    #[test]
    fn who_is_first_follows_the_strategy_and_who_is_put_back_is_last() {
        let turns = upstreams(&format!("{THREE}[resolver]\nstrategy = \"round-robin\"\n"));
        let order: Vec<_> = (0..6).map(|_| first(&turns, "example", 1, 0)).collect();
        assert_eq!(order, [0, 1, 2, 0, 1, 2]);
        let two = THREE
            .replace(".1\"", ".1\"\nzones = [\"corp.example\"]")
            .replace(".2\"", ".2\"\nzones = [\"corp.example\"]");
        let two = upstreams(&format!(
            "{two}[[upstream]]\naddress = \"192.0.2.4\"\n[resolver]\nstrategy = \"round-robin\"\n"
        ));
        let names = ["corp.example", "example"].into_iter().cycle().take(8);
        let order: Vec<_> = names.map(|name| first(&two, name, 1, 0)).collect();
        assert_eq!(order, [0, 2, 1, 3, 0, 2, 1, 3], "each zone has its own turns");

        let soonest = upstreams(&format!("{THREE}[resolver]\nstrategy = \"lowest-latency\"\n"));
        for (number, millis) in [(0, 30), (1, 10), (2, 20)] {
            let mut health = soonest.get(number).health.lock();
            health.asked(0);
            health.answered(Duration::from_millis(millis));
        }
        assert_eq!(first(&soonest, "example", 1, 0), 1);
        // The fastest is asked all the time. In the end the others' times are forgotten.
        soonest.get(1).health.lock().asked(30_000_000_000);
        assert_ne!(first(&soonest, "example", 1, 30_000_000_000), 1);

        for of in [&turns, &soonest, &upstreams(THREE)] {
            for number in [0, 1] {
                let mut health = of.get(number).health.lock();
                for name in ["a.example", "b.example", "c.example"] {
                    health.failed(false, 0, Duration::from_secs(1), &names::name(name).unwrap());
                }
            }
            assert_eq!(first(of, "example", 1, 1), 2);
        }
    }
}
