//! Tests of the limiter over a simulated clock. All randomness has fixed seeds.

use super::*;
use std::collections::HashMap;

mod groups;

/// Turns in a second.
const TURNS: u64 = 1_000;

fn config(per_second: u32) -> LimitConfig {
    LimitConfig {
        per_second,
        burst: 2 * per_second,
        slip: 2,
        exempt: AccessList::new(&[], &[]).unwrap(),
        groups: None,
        dry_run: false,
        flood_times: 10,
    }
}

/// A limiter, a burst of frames, and the hits that were answered, by client.
struct Bench {
    limiter: Limiter,
    frames: Frames,
    burst: Vec<Frame>,
    nanos: Nanos,
    dice: Dice,
    answered: HashMap<IpAddr, u64>,
    refused: HashMap<IpAddr, u64>,
}

impl Bench {
    fn new(config: LimitConfig) -> Self {
        let hash = KeyedHash::with_seeds([11, 22, 33, 44].map(|seed| (seed << 40) | (seed * 0x9e37_79b9)));
        let mut frames = Frames::new(BURST as u32, 0).unwrap();
        let burst = std::iter::from_fn(|| frames.alloc()).collect();
        Bench {
            limiter: Limiter::new(config, hash).unwrap(),
            frames,
            burst,
            nanos: 0,
            dice: Dice(7),
            answered: HashMap::new(),
            refused: HashMap::new(),
        }
    }

    /// Passes hits of these clients through the limiter, as the processor does.
    fn hits(&mut self, clients: &[IpAddr]) {
        for chunk in clients.chunks(BURST) {
            for (client, frame) in chunk.iter().zip(&mut self.burst) {
                write(self.frames.buffer(frame), *client, 0);
                frame.set_len(100);
            }
            let burst = &mut self.burst[..chunk.len()];
            self.limiter.hide_limited(&self.frames, burst);
            let hidden = burst.iter().enumerate().filter(|(_, frame)| frame.is_empty());
            let over = hidden.fold(0, |bits, (nth, _)| bits | 1u64 << nth);
            for (nth, client) in chunk.iter().enumerate() {
                let is_refused = over >> nth & 1 != 0 && self.limiter.refuse(*client).is_some();
                let count = if is_refused { &mut self.refused } else { &mut self.answered };
                *count.entry(*client).or_default() += 1;
            }
            self.limiter.charge_answered(&self.frames, burst, over);
            assert!(burst.iter().all(|frame| frame.len() == 100), "hidden frames come back");
        }
    }

    /// Runs for some seconds. Each client sends this many queries a second, at random times.
    fn run(&mut self, seconds: u64, clients: &[(IpAddr, f64)]) {
        for turn in 0..seconds * TURNS {
            self.nanos += 1_000_000_000 / TURNS;
            self.limiter.set_time(self.nanos);
            let mut turn_clients = Vec::new();
            for (client, rate) in clients {
                turn_clients.extend(std::iter::repeat_n(*client, self.draw(rate / TURNS as f64)));
            }
            self.hits(&turn_clients);
            if turn % TURNS == 0 {
                self.limiter.keep();
            }
        }
    }

    /// Draws a number of queries with this mean, at most eight more.
    fn draw(&mut self, mean: f64) -> usize {
        let (whole, part) = (mean.floor(), mean.fract());
        // Eight chances, so that the number varies nearly as that of a Poisson process.
        let chance = (part / 8.0 * f64::from(u32::MAX)) as u64;
        whole as usize + (0..8).filter(|_| self.dice.roll() >> 32 < chance).count()
    }

    fn answered(&self, client: IpAddr) -> u64 {
        self.answered.get(&client).copied().unwrap_or(0)
    }

    fn refused(&self, client: IpAddr) -> u64 {
        self.refused.get(&client).copied().unwrap_or(0)
    }
}

/// Writes the headers of a packet from and to `client`.
fn write(packet: &mut [u8], client: IpAddr, rcode: u8) {
    match client {
        IpAddr::V4(address) => {
            packet[12..14].copy_from_slice(&EtherType::IPV4.0);
            packet[26..30].copy_from_slice(&address.octets());
            packet[30..34].copy_from_slice(&address.octets());
            packet[45] = rcode;
        }
        IpAddr::V6(address) => {
            packet[12..14].copy_from_slice(&EtherType::IPV6.0);
            packet[22..38].copy_from_slice(&address.octets());
            packet[38..54].copy_from_slice(&address.octets());
            packet[65] = rcode;
        }
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_client_below_the_limit_is_never_refused() {
    let mut bench = Bench::new(config(200));
    let clients: Vec<_> = (1..=20).map(|host| (address(&format!("192.0.2.{host}")), 140.0)).collect();
    bench.run(200, &clients);
    let refused: u64 = bench.refused.values().sum();
    assert_eq!(refused, 0, "of {} queries", bench.answered.values().sum::<u64>());
}

#[test]
fn clients_above_the_limit_are_cut_to_it_and_others_are_not() {
    for (loud, quiet) in [("192.0.2.1", "192.0.2.2"), ("2001:db8::1", "2001:db8::2")] {
        let (loud, quiet) = (address(loud), address(quiet));
        for times in [1.5, 3.0, 50.0] {
            let mut bench = Bench::new(config(200));
            bench.run(100, &[(loud, 200.0 * times), (quiet, 140.0)]);
            // A burst, and the limit for 100 s.
            let due = 400.0 + 200.0 * 100.0;
            let share = bench.answered(loud) as f64 / due;
            assert!((0.97..1.03).contains(&share), "{times} times the limit: {share}");
            assert_eq!(bench.refused(quiet), 0, "beside {times} times the limit");
        }
    }
}

#[test]
fn a_prefix_has_a_limit_of_its_own() {
    let mut bench = Bench::new(config(200));
    // Each below its own limit, all of them at four times that of their /24.
    let clients: Vec<_> = (0..=255).map(|host| (address(&format!("192.0.2.{host}")), 100.0)).collect();
    let neighbour = address("192.0.3.1");
    bench.run(30, &[&clients[..], &[(neighbour, 140.0)]].concat());
    let answered: u64 = clients.iter().map(|(client, _)| bench.answered(*client)).sum();
    let share = answered as f64 / (32.0 * (400.0 + 200.0 * 30.0));
    assert!((0.97..1.03).contains(&share), "{share}");
    assert_eq!(bench.refused(neighbour), 0);
}

/// Sources that are used once each leave the counters of others alone.
#[test]
fn a_flood_of_forged_sources_limits_nobody() {
    let mut bench = Bench::new(config(200));
    let client = address("192.0.2.1");
    let mut forged = Dice(3);
    for turn in 0..4 * TURNS {
        bench.nanos += 1_000_000_000 / TURNS;
        bench.limiter.set_time(bench.nanos);
        let mut clients: Vec<IpAddr> =
            (0..1_000).map(|_| Ipv4Addr::from_bits(forged.roll() as u32).into()).collect();
        if turn % 7 == 0 {
            clients.push(client);
        }
        bench.hits(&clients);
    }
    let refused: u64 = bench.refused.values().sum();
    assert_eq!((refused, bench.answered(client)), (0, 572));
}

#[test]
fn a_closer_look_is_charged_exactly_and_by_its_price() {
    for (price, answered) in [(REJECTION, 401), (MISS, 201), (5, 81)] {
        let mut bench = Bench::new(config(200));
        let client = address("198.51.100.7");
        let mut count = 0;
        for _ in 0..1_000 {
            if bench.limiter.refuse(client).is_none() {
                bench.limiter.charge(client, price);
                count += 1;
            }
        }
        assert_eq!(count, answered, "price {price}");
        // Half a second later, half as many as in a second are due again.
        bench.limiter.set_time(500_000_000);
        let again = (0..1_000).take_while(|_| {
            let is_refused = bench.limiter.refuse(client).is_some();
            bench.limiter.charge(client, price);
            !is_refused
        });
        let again = again.count();
        assert!(again.abs_diff(100 / price as usize) <= 1, "{again} after half a second, price {price}");
    }
}

#[test]
fn prices_follow_size_and_response_code() {
    for (len, rcode, expected) in
        [(100, 0, 1), (100, rcode::NXDOMAIN, 2), (511, 0, 1), (512, 0, 2), (1274, 0, 3), (100, 2, 1)]
    {
        assert_eq!(price(len, rcode), expected, "{len} bytes, {rcode}");
    }
}

#[test]
fn one_in_slip_refusals_is_answered() {
    for (slip, expected) in [(0, 0), (1, 12), (2, 6), (3, 4)] {
        let mut bench = Bench::new(LimitConfig { slip, ..config(200) });
        let client = address("198.51.100.7");
        bench.limiter.charge(client, 1_000);
        let slips = (0..12).filter(|_| bench.limiter.refuse(client) == Some(Action::Slip)).count();
        assert_eq!(slips, expected, "slip = {slip}");
    }
    let mut bench = Bench::new(LimitConfig { dry_run: true, ..config(200) });
    bench.limiter.charge(address("198.51.100.7"), 1_000);
    assert_eq!(bench.limiter.refuse(address("198.51.100.7")), Some(Action::DryRun));
}

#[test]
fn exempt_clients_are_neither_limited_nor_charged() {
    let exempt = ["192.0.2.0/25", "2001:db8:1::/48"].map(|prefix| prefix.parse().unwrap());
    let exempt = AccessList::new(&exempt, &[]).unwrap();
    let mut bench = Bench::new(LimitConfig { exempt, ..config(200) });
    let (free, free_v6, other) = (address("192.0.2.1"), address("2001:db8:1::1"), address("192.0.2.129"));
    bench.run(10, &[(free, 20_000.0), (free_v6, 5_000.0), (other, 140.0)]);
    assert_eq!((bench.refused.len(), bench.limiter.limited()), (0, 0));
    bench.limiter.charge(free, 1_000_000);
    assert_eq!(bench.limiter.refuse(free), None);
    assert_eq!(bench.limiter.refuse(other), None, "a neighbour does not pay for it");
}

#[test]
fn a_calm_prefix_is_forgotten_and_another_limit_applies_at_once() {
    let mut bench = Bench::new(config(200));
    let client = address("192.0.2.1");
    bench.run(3, &[(client, 2_000.0)]);
    assert!(bench.limiter.limited() == 1 && bench.refused(client) > 0);
    bench.run(4, &[(client, 10.0)]);
    assert_eq!(bench.limiter.limited(), 0);
    bench.limiter.set_config(config(4_000));
    let before = bench.refused(client);
    bench.run(20, &[(client, 2_000.0)]);
    assert_eq!(bench.refused(client), before);
}

#[test]
fn floods_are_told_once_a_second_and_by_the_prefix_that_exceeds() {
    let mut bench = Bench::new(config(200));
    let (loud, louder) = (address("192.0.2.1"), address("198.51.100.1"));
    // Of the first, eight times the limit are refused; of the second, fourteen times.
    bench.run(5, &[(loud, 9.0 * 200.0), (louder, 15.0 * 200.0)]);
    let told: Vec<_> = std::iter::from_fn(|| bench.limiter.take_flood()).map(|it| it.to_string()).collect();
    assert!((4..=5).contains(&told.len()), "{told:?}");
    assert!(told.iter().all(|prefix| prefix == "198.51.100.1/32"), "{told:?}");
    let mut bench = Bench::new(config(200));
    let hosts: Vec<_> = (0..=255).map(|host| (address(&format!("192.0.2.{host}")), 190.0)).collect();
    bench.run(2, &hosts);
    assert_eq!(bench.limiter.take_flood(), None, "of a /24 that is at eight times its limit");
}
