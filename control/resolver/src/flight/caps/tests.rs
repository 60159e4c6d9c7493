use super::*;

mod wild;

const SECOND: Nanos = 1_000_000_000;

/// Course of questions, at a steady rate.
struct Course {
    caps: ZoneCaps,
    now: Nanos,
    asked: u64,
}

impl Course {
    fn new(per_second: u32) -> Self {
        Course { caps: ZoneCaps::new(per_second), now: 100 * SECOND, asked: 0 }
    }

    /// Asks in each zone so many times a second, for so many seconds; `worthless`: the share of each
    /// zone's questions that find nothing. Returns the questions of each zone that took off.
    fn ask<const N: usize>(&mut self, seconds: u64, zones: [(&str, u64, f64); N]) -> [u64; N] {
        let mut taken = [0; N];
        for tick in 0..seconds * 1000 {
            self.now += SECOND / 1000;
            for (nth, (zone, rate, worthless)) in zones.into_iter().enumerate() {
                for _ in rate * tick / 1000..rate * (tick + 1) / 1000 {
                    self.asked += 1;
                    let name = names::name(&format!("r{}.{zone}", self.asked)).unwrap();
                    if self.caps.check(&name, Transport::Udp, self.now).is_err() {
                        continue;
                    }
                    taken[nth] += 1;
                    self.caps.note(&name, 1, self.now);
                    if (self.asked % 100) as f64 / 100.0 < worthless {
                        self.caps.note_worthless(&name, self.now);
                    }
                }
            }
            if tick % 1000 == 0 {
                self.caps.keep(self.now);
            }
        }
        taken
    }

    fn capped(&self) -> Vec<String> {
        self.caps.list(self.now).into_iter().map(|flood| flood.zone).collect()
    }
}

#[test]
fn a_flooded_zone_is_capped_and_no_other() {
    let mut course = Course::new(100);
    course.ask(5, [("victim.example", 2000, 1.0), ("good.example", 80, 1.0), ("cdn.example", 200, 0.0)]);
    assert_eq!(course.capped(), ["victim.example."]);
    let [victim, good, cdn] =
        course.ask(10, [("victim.example", 2000, 1.0), ("good.example", 80, 1.0), ("cdn.example", 200, 0.0)]);
    assert!((950..=1050).contains(&victim), "{victim}");
    assert_eq!((good, cdn), (800, 2000));
    let flood = &course.caps.list(course.now)[0];
    assert!((1900..2100).contains(&flood.per_second) && flood.refused > 19_000, "{flood:?}");
}

#[test]
fn a_cap_ends_when_the_flood_is_over() {
    let mut course = Course::new(100);
    course.ask(5, [("victim.example", 2000, 1.0)]);
    assert_eq!(course.caps.len(), 1);
    // Demand that is below the rate, but not far below, may be the flood's.
    course.ask(30, [("victim.example", 60, 1.0)]);
    assert_eq!(course.caps.len(), 1);
    course.ask(40, [("victim.example", 30, 1.0)]);
    assert_eq!((course.caps.len(), course.capped().len()), (0, 0));
}

#[test]
fn a_cap_ends_when_names_are_found_again() {
    let mut course = Course::new(100);
    course.ask(5, [("corp.example", 2000, 1.0)]);
    assert_eq!(course.caps.len(), 1);
    course.ask(30, [("corp.example", 2000, 0.1)]);
    assert!(course.capped().is_empty());
}

#[test]
fn names_that_exist_are_no_flood() {
    let mut course = Course::new(100);
    let zones = [("cdn.example", 2000, 0.4), ("good.example", 50, 0.0)];
    assert_eq!(course.ask(10, zones), [20_000, 500]);
    assert!(course.capped().is_empty());
}

#[test]
fn nobody_is_capped_while_upstreams_are_out() {
    let mut course = Course::new(100);
    let all = ["a.example", "b.example", "c.example"].map(|zone| (zone, 300, 1.0));
    course.ask(10, all);
    assert!(course.capped().is_empty(), "{:?}", course.capped());
}

#[test]
fn a_zone_with_a_small_share_is_not_capped() {
    let mut course = Course::new(100);
    // Lists of addresses of spammers: most of their names do not exist.
    course.ask(5, [("dnsbl.example", 200, 0.9), ("good.example", 2000, 0.0)]);
    assert!(!course.capped().contains(&"dnsbl.example.".into()), "{:?}", course.capped());
}

#[test]
fn the_deepest_zone_with_the_flood_is_capped() {
    let mut course = Course::new(100);
    let zones = [("a.provider.example", 2000, 1.0), ("b.provider.example", 90, 0.0)];
    course.ask(5, zones);
    assert_eq!(course.capped(), ["a.provider.example."]);
    assert_eq!(course.ask(5, zones)[1], 450);
    // Two random labels: each zone of the lower one is small.
    let mut course = Course::new(100);
    for nth in 0..3000 {
        let name = names::name(&format!("x.r{nth}.victim.example")).unwrap();
        course.now += SECOND / 1000;
        course.caps.note(&name, 1, course.now);
        course.caps.note_worthless(&name, course.now);
    }
    assert_eq!(course.capped(), ["victim.example."]);
}

#[test]
fn over_udp_every_second_one_is_answered_and_tcp_has_an_allowance_of_its_own() {
    let mut course = Course::new(100);
    course.ask(5, [("victim.example", 2000, 1.0)]);
    let name = names::name("www.victim.example").unwrap();
    let check = |transport| course.caps.check(&name, transport, course.now);
    assert!(check(Transport::Tcp).is_ok());
    let over: Vec<_> = (0..100).filter_map(|_| check(Transport::Udp).err()).collect();
    let withheld = over.iter().filter(|over| **over == Over::Withhold).count();
    assert!(over.len() > 80 && withheld.abs_diff(over.len() / 2) <= 1, "{withheld} of {}", over.len());
    assert!((0..50).any(|_| check(Transport::Tcp) == Err(Over::Refuse)));
    assert!((0..50).all(|_| check(Transport::Tcp) != Err(Over::Withhold)));
}

#[test]
fn caps_are_bounded_and_can_be_turned_off() {
    let course = Course::new(1);
    for zone in 0..5 * CAPS_MAX {
        for nth in 0..200 {
            let name = names::name(&format!("r{nth}.z{zone}.example")).unwrap();
            let now = course.now + zone as Nanos * 4 * SECOND;
            course.caps.note(&name, 1, now);
            course.caps.note_worthless(&name, now);
        }
    }
    assert_eq!(course.caps.len(), CAPS_MAX);
    course.caps.set(0, course.now);
    assert_eq!(course.caps.len(), 0);
    let mut course = Course::new(0);
    assert_eq!(course.ask(3, [("victim.example", 2000, 1.0)]), [6000]);
}
