//! Tests of limits that groups of clients have of their own.

use super::*;
use crate::group::ClientGroups;

/// Groups by prefix, each with its limit.
const GROUPS_BY_PREFIX: [(&str, u32); 6] = [
    ("10.1.0.0/16", 20),
    ("10.2.0.0/16", 1_000),
    ("10.3.0.0/16", 0),
    ("2001:db8:1::/48", 20),
    ("2001:db8:2::/48", 1_000),
    ("192.0.2.128/25", 50),
];

/// Returns a limit of 200 queries a second, and those of the groups.
fn grouped() -> LimitConfig {
    let group = |nth: usize| Group::new(nth + 1).unwrap();
    let clients: Vec<_> = GROUPS_BY_PREFIX
        .iter()
        .enumerate()
        .map(|(nth, (prefix, _))| (prefix.parse().unwrap(), group(nth)))
        .collect();
    let limit =
        |per_second: u32| GroupLimit { per_second, burst: per_second.saturating_mul(2).max(BURST_MIN) };
    let limits =
        GROUPS_BY_PREFIX.iter().enumerate().map(|(nth, (_, per_second))| (group(nth), limit(*per_second)));
    let groups = GroupLimits { clients: ClientGroups::new(&clients).unwrap(), limits: limits.collect() };
    LimitConfig { groups: Some(Arc::new(groups)), ..config(200) }
}

#[test]
fn a_client_below_the_limit_of_its_group_is_never_refused() {
    let mut bench = Bench::new(grouped());
    let mut clients = Vec::new();
    for host in 1..=16 {
        clients.push((address(&format!("10.1.0.{host}")), 14.0));
        clients.push((address(&format!("10.2.0.{host}")), 700.0));
        clients.push((address(&format!("10.4.0.{host}")), 140.0));
        clients.push((address(&format!("2001:db8:1::{host}")), 14.0));
        clients.push((address(&format!("2001:db8:2::{host}")), 700.0));
    }
    bench.run(100, &clients);
    let refused: u64 = bench.refused.values().sum();
    assert_eq!(refused, 0, "of {} queries", bench.answered.values().sum::<u64>());
}

#[test]
fn clients_are_cut_to_the_limit_of_their_group() {
    for (loud, limit, burst, quiet) in [
        ("10.1.0.1", 20.0, 400.0, ("10.1.0.2", 14.0)),
        ("10.2.0.1", 1_000.0, 2_000.0, ("10.2.0.2", 700.0)),
        ("10.4.0.1", 200.0, 400.0, ("10.4.0.2", 140.0)),
        ("2001:db8:1::1", 20.0, 400.0, ("2001:db8:1::2", 14.0)),
        ("2001:db8:2::1", 1_000.0, 2_000.0, ("2001:db8:2::2", 700.0)),
    ] {
        for times in [3.0, 20.0] {
            let mut bench = Bench::new(grouped());
            let (loud, quiet) = (address(loud), (address(quiet.0), quiet.1));
            bench.run(100, &[(loud, limit * times), quiet]);
            let share = bench.answered(loud) as f64 / (burst + limit * 100.0);
            assert!((0.97..1.03).contains(&share), "{loud} at {times} times its limit: {share}");
            assert_eq!(bench.refused(quiet.0), 0, "beside {loud} at {times} times its limit");
        }
    }
}

#[test]
fn a_closer_look_is_charged_by_the_limit_of_the_group() {
    for (client, answered, second) in [("10.1.0.1", 401, 20), ("10.2.0.1", 2_001, 1_000)] {
        let mut bench = Bench::new(grouped());
        let client = address(client);
        let ask = |bench: &mut Bench| {
            let asked = (0..10_000).take_while(|_| {
                let is_refused = bench.limiter.refuse(client).is_some();
                bench.limiter.charge(client, REJECTION);
                !is_refused
            });
            asked.count()
        };
        assert_eq!(ask(&mut bench), answered);
        bench.limiter.set_time(1_000_000_000);
        assert!(ask(&mut bench).abs_diff(second) <= 2, "{client}");
    }
}

#[test]
fn a_group_without_a_limit_is_neither_refused_nor_charged() {
    let mut bench = Bench::new(grouped());
    let (free, other) = (address("10.3.0.1"), address("10.4.0.1"));
    bench.run(10, &[(free, 50_000.0), (other, 140.0)]);
    assert_eq!((bench.refused.len(), bench.limiter.limited()), (0, 0));
    bench.limiter.charge(free, 1_000_000);
    assert_eq!(bench.limiter.refuse(free), None);
}

/// A prefix has the room of 32 clients, whatever the limits of its clients are.
#[test]
fn shares_of_a_prefix_add_up() {
    let mut bench = Bench::new(grouped());
    // Half of the /24 have a limit of 50, the others one of 200. Each client asks for half of its limit:
    // 128 shares, of which there are 32.
    let rate = |host: u32| if host < 128 { 100.0 } else { 25.0 };
    let clients: Vec<_> = (0..=255).map(|host| (address(&format!("192.0.2.{host}")), rate(host))).collect();
    bench.run(40, &clients);
    let share = |(nth, (client, rate)): (usize, &(IpAddr, f64))| {
        (nth < 128, bench.answered(*client) as f64 / (2.0 * rate))
    };
    let shares: Vec<(bool, f64)> = clients.iter().enumerate().map(share).collect();
    let sum: f64 = shares.iter().map(|(_, share)| share).sum();
    // The burst is that of a client with the limit of 200: two seconds.
    assert!((0.97..1.03).contains(&(sum / (32.0 * 42.0))), "{sum}");
    let fast: f64 = shares.iter().filter(|(is_fast, _)| *is_fast).map(|(_, share)| share).sum();
    assert!((0.4..0.6).contains(&(fast / sum)), "both halves get their part: {fast} of {sum}");
}

/// A change of limits acts at once, also for clients that were over the old one.
#[test]
fn another_limit_of_a_group_applies_at_once() {
    let mut bench = Bench::new(grouped());
    let client = address("10.1.0.1");
    bench.run(30, &[(client, 100.0)]);
    assert!(bench.refused(client) > 0);
    bench.limiter.set_config(LimitConfig { groups: None, ..grouped() });
    bench.run(30, &[(client, 140.0)]);
    let before = bench.refused(client);
    bench.run(60, &[(client, 140.0)]);
    assert_eq!(bench.refused(client), before, "by the limit of all clients");
    bench.limiter.set_config(grouped());
    let before = bench.answered(client);
    bench.run(60, &[(client, 140.0)]);
    let answered = bench.answered(client) - before;
    assert!((1_200..1_800).contains(&answered), "{answered}");
}

#[test]
fn a_flood_is_one_by_the_limit_of_the_group() {
    let mut bench = Bench::new(grouped());
    // Of the first, fourteen times its limit are refused; of the second, the same number of queries.
    bench.run(45, &[(address("10.1.0.1"), 15.0 * 20.0), (address("10.4.0.1"), 200.0 + 14.0 * 20.0)]);
    let told: Vec<_> = std::iter::from_fn(|| bench.limiter.take_flood()).map(|it| it.to_string()).collect();
    assert!(!told.is_empty() && told.iter().all(|prefix| prefix == "10.1.0.1/32"), "{told:?}");
}
