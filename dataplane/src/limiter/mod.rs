//! Limiter of the queries that a client may ask.
//!
//! Each query has a price, which is charged to prefixes of several lengths around its client. A
//! prefix is over its limit while its counter holds more than a burst; counters drain at the limit's
//! rate. Queries over the limit are dropped, or answered with TC=1, and charge nothing.
//!
//! Hits are charged by sampling, so that they cost next to nothing: of [`SAMPLE`] answers, a random
//! one is charged for all. Of the shorter prefixes, a random one is charged for all of them. Queries
//! that get a closer look are charged one by one, and so are those of a prefix once a counter has
//! found it over its limit: the [set](LimitedSet) of these prefixes counts exactly.
//!
//! Sampling makes a counter wander around the true load. A client that asks for a share `s` of the
//! limit is taken for one over the limit with a chance below `exp(-2 (1 - s) burst / (s SAMPLE))`
//! a time: at 0.7 of the limit and the least burst, 5e-10.

mod kru;
mod limited;
mod terms;
#[cfg(test)]
mod tests;

pub use kru::{BYTES, SECOND, Ticks};
pub use terms::{GroupLimit, GroupLimits};

use crate::{
    access::AccessList,
    cache::KeyedHash,
    clock::Nanos,
    dns::{header, rcode},
    frame::{Frame, Frames},
    group::{GROUPS, Group},
    packet::{
        header::EtherType,
        plain::{self, Window, bytes},
    },
    port::BURST,
    prefix::Prefix,
};
use arrayvec::ArrayVec;
use kru::Kru;
use limited::LimitedSet;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};
use terms::Terms;

/// One in this many hits is charged, for all of them.
pub const SAMPLE: u32 = 16;

/// Least burst: sampling would mistake clients with a lower one.
pub const BURST_MIN: u32 = 400;

/// Prefix lengths of IPv4 clients, each with the number of clients' limits that such a prefix has:
/// those of Knot Resolver.
pub const V4_PREFIXES: [(u8, u32); LEVELS] = [(32, 1), (24, 32), (20, 256), (18, 768)];

/// Prefix lengths of IPv6 clients, likewise. A /64 is the least that a link has, as a /24 is for
/// IPv4.
pub const V6_PREFIXES: [(u8, u32); LEVELS] = [(128, 1), (64, 32), (56, 64), (48, 256)];

/// Number of prefix lengths.
const LEVELS: usize = 4;

/// Bytes of a reply that a price of one pays for. Each further ones cost one more.
const PRICED_BYTES: u32 = 512;

/// Price of a query that is answered without a lookup.
pub const REJECTION: u32 = 1;
/// Price of a query that the worker cache cannot answer.
pub const MISS: u32 = 2;

/// Returns the price of an answer: one for each 512 bytes of its frame or part of them, and one more
/// if the name does not exist.
#[inline(always)]
pub fn price(frame_len: usize, rcode: u8) -> u32 {
    1 + frame_len as u32 / PRICED_BYTES + u32::from(rcode == rcode::NXDOMAIN)
}

/// Limits of clients.
#[derive(Clone, Debug)]
pub struct LimitConfig {
    /// Queries that a client may ask in a second.
    pub per_second: u32,
    /// Queries that a client may ask at once, at least [`BURST_MIN`].
    pub burst: u32,
    /// One in this many queries over the limit is answered with TC=1; zero: none.
    pub slip: u32,
    /// Clients without a limit.
    pub exempt: AccessList,
    /// Limits of groups; `None`: no group has one of its own.
    pub groups: Option<Arc<GroupLimits>>,
    /// Whether queries over the limit are counted and answered all the same.
    pub dry_run: bool,
    /// A prefix is [far above its limit](Limiter::take_flood) if so many times the queries that it may ask
    /// in a second are refused in one; zero: no prefix ever is.
    pub flood_times: u32,
}

/// Treatment of a query over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// No answer.
    Drop,
    /// An answer without records, and with TC=1: a client that is no forgery asks again over TCP.
    Slip,
    /// An answer as if there were no limit.
    DryRun,
}

/// Limiter of one worker.
pub struct Limiter {
    config: LimitConfig,
    has_exempt: bool,
    /// Terms by group.
    terms: [Terms; GROUPS],
    /// Prefix lengths of IPv4 clients, then those of IPv6 clients.
    levels: [[Level; LEVELS]; 2],
    kru: Kru,
    limited: LimitedSet,
    now: Ticks,
    dice: Dice,
    /// Number of answers before the next sample.
    skip: u32,
    /// Position of the last sample among its [`SAMPLE`] answers.
    phase: u32,
    /// Number of queries over the limit since the last one that was answered.
    since_slip: u32,
    /// Frames of the burst that are [hidden](Self::hide_limited), with their lengths.
    hidden: ArrayVec<(usize, usize), BURST>,
    /// Prefixes found far above their limit.
    floods: ArrayVec<Prefix, FLOODS>,
}

/// Most prefixes far above their limit that wait to be taken. A further one is found again within a
/// second.
pub const FLOODS: usize = 64;

/// Prefix length.
#[derive(Clone, Copy, Debug, Default)]
struct Level {
    mask: [u64; 2],
    seeds: [u64; 2],
    /// Number of bits.
    len: u8,
    /// Number of queries refused in a second that make a flood; zero: there is none.
    flood: u32,
}

impl Level {
    fn new((len, multiple): (u8, u32), config: &LimitConfig, seeds: [u64; 2]) -> Self {
        let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let flood = config.flood_times.saturating_mul(config.per_second).saturating_mul(multiple);
        Level { mask: [(mask >> 64) as u64, mask as u64], seeds, len, flood }
    }

    /// Returns the hash of a client's prefix; never zero.
    #[inline(always)]
    fn hash(&self, client: &Client) -> u64 {
        let [a, b] = client.words;
        let (a, b) = (a & self.mask[0] ^ self.seeds[0], b & self.mask[1] ^ self.seeds[1]);
        let product = u128::from(a) * u128::from(b);
        (product as u64 ^ (product >> 64) as u64).max(1)
    }
}

/// Address of a client, the first bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Client {
    words: [u64; 2],
    v6: bool,
}

impl Client {
    #[inline(always)]
    fn v4(address: [u8; 4]) -> Self {
        Client { words: [u64::from(u32::from_be_bytes(address)) << 32, 0], v6: false }
    }

    #[inline(always)]
    fn v6(address: [u8; 16]) -> Self {
        let bits = u128::from_be_bytes(address);
        Client { words: [(bits >> 64) as u64, bits as u64], v6: true }
    }

    fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::v4(address.octets()),
            IpAddr::V6(address) => Self::v6(address.octets()),
        }
    }

    /// Returns the client of a packet, whose address is at `v4` or at `v6` behind the VLAN tags.
    #[inline(always)]
    fn at(window: &Window, v4: usize, v6: usize) -> Option<Self> {
        let tags = plain::tags_len(window);
        match EtherType(*bytes(window, 12 + tags)) {
            EtherType::IPV4 => Some(Self::v4(*bytes(window, v4 + tags))),
            EtherType::IPV6 => Some(Self::v6(*bytes(window, v6 + tags))),
            _ => None,
        }
    }

    #[cold]
    fn address(&self) -> IpAddr {
        let [a, b] = self.words;
        match self.v6 {
            true => Ipv6Addr::from_bits(u128::from(a) << 64 | u128::from(b)).into(),
            false => Ipv4Addr::from_bits((a >> 32) as u32).into(),
        }
    }
}

/// Offsets of the source address in an untagged packet over IPv4 and over IPv6.
const SOURCE: [usize; 2] = [26, 22];
/// Offsets of the destination address.
const DESTINATION: [usize; 2] = [30, 38];
/// Offsets of the low byte of the flags of the message, which has the response code.
const RCODE: [usize; 2] = [42 + 3, 62 + 3];

impl Limiter {
    /// Creates a limiter with empty counters. `hash` makes its secrets.
    pub fn new(config: LimitConfig, hash: KeyedHash) -> io::Result<Self> {
        let mut dice = Dice::new(hash);
        let mut limiter = Limiter {
            has_exempt: false,
            terms: Terms::of_groups(&config),
            levels: [[Level::default(); LEVELS]; 2],
            kru: Kru::new()?,
            limited: LimitedSet::new(),
            now: 0,
            skip: 0,
            phase: 0,
            since_slip: 0,
            hidden: ArrayVec::new(),
            floods: ArrayVec::new(),
            config: config.clone(),
            dice,
        };
        for level in limiter.levels.as_flattened_mut() {
            level.seeds = [dice.roll(), dice.roll()];
        }
        limiter.dice = dice;
        limiter.set_config(config);
        Ok(limiter)
    }

    /// Replaces the limits. Counters keep their loads, in seconds to drain.
    pub fn set_config(&mut self, config: LimitConfig) {
        self.terms = Terms::of_groups(&config);
        for (levels, prefixes) in self.levels.iter_mut().zip([V4_PREFIXES, V6_PREFIXES]) {
            for (level, (len, multiple)) in levels.iter_mut().zip(prefixes) {
                *level = Level::new((len, multiple), &config, level.seeds);
            }
        }
        self.has_exempt = config.exempt.v4.share() > 0.0 || config.exempt.v6.share() > 0.0;
        self.config = config;
    }

    /// Sets the time of the turn.
    #[inline(always)]
    pub fn set_time(&mut self, now: Nanos) {
        self.now = now << 4;
    }

    /// Forgets the prefixes that have calmed down. For between turns, once a second.
    pub fn keep(&mut self) {
        if !self.limited.is_empty() {
            self.limited.sweep(self.now);
        }
    }

    /// Takes a prefix that is far above its limit.
    #[inline]
    pub fn take_flood(&mut self) -> Option<Prefix> {
        self.floods.pop()
    }

    /// Returns the number of prefixes over their limit.
    pub fn limited(&self) -> usize {
        self.limited.len()
    }

    /// Empties the frames of a burst whose clients are over their limit, as far as the set of limited
    /// prefixes knows, so that they get a closer look, which decides.
    /// [`charge_answered`](Self::charge_answered) restores them.
    #[inline(always)]
    pub fn hide_limited(&mut self, frames: &Frames, burst: &mut [Frame]) {
        if !self.limited.is_empty() {
            self.look_for_limited(frames, burst);
        }
    }

    #[cold]
    fn look_for_limited(&mut self, frames: &Frames, burst: &mut [Frame]) {
        let now = self.now;
        for (nth, frame) in burst.iter_mut().enumerate() {
            let Some(client) = Client::at(frames.window(frame), SOURCE[0], SOURCE[1]) else { continue };
            let is_over = self.levels[usize::from(client.v6)]
                .iter()
                .any(|level| self.limited.get(level.hash(&client)).is_some_and(|entry| entry.is_over(now)));
            if is_over && self.hidden.try_push((nth, frame.len())).is_ok() {
                frame.set_len(0);
            }
        }
    }

    /// Returns the treatment of a query from this client, if the client is over its limit.
    pub fn refuse(&mut self, address: IpAddr) -> Option<Action> {
        let client = Client::of(address);
        let group = self.payer(&client)?;
        if !self.is_over(&client, group) {
            return None;
        }
        if self.config.dry_run {
            return Some(Action::DryRun);
        }
        self.since_slip += 1;
        if self.config.slip == 0 || self.since_slip < self.config.slip {
            return Some(Action::Drop);
        }
        self.since_slip = 0;
        Some(Action::Slip)
    }

    /// Charges a client whose query gets an answer at a closer look, or is punted.
    pub fn charge(&mut self, address: IpAddr, price: u32) {
        let client = Client::of(address);
        let Some(group) = self.payer(&client) else { return };
        let (costs, capacities) = self.terms_of(group, &client);
        let levels = self.levels[usize::from(client.v6)];
        for ((level, cost), capacity) in levels.iter().zip(costs).zip(capacities) {
            let (hash, span) = (level.hash(&client), cost * Ticks::from(price));
            if !self.limited.is_empty()
                && let Some(entry) = self.limited.get(hash)
            {
                entry.add(self.now, span, capacity);
            }
            self.add(hash, span, capacity);
        }
    }

    /// Charges the clients of a burst for the frames that were answered at a glance: all of them but
    /// those whose bits are set in `left`. Restores the hidden ones.
    #[inline(never)]
    pub fn charge_answered(&mut self, frames: &Frames, burst: &mut [Frame], left: u64) {
        for (nth, len) in self.hidden.drain(..) {
            burst[nth].set_len(len);
        }
        if !self.limited.is_empty() {
            self.charge_limited(frames, burst, left);
        }
        let len = burst.len() as u32;
        while self.skip < len {
            let nth = self.skip as usize;
            if left >> (nth % BURST) & 1 == 0 {
                self.sample(frames.window(&burst[nth]), burst[nth].len());
            }
            let phase = self.dice.below(SAMPLE);
            self.skip += SAMPLE - self.phase + phase;
            self.phase = phase;
        }
        self.skip -= len;
    }

    /// Charges limited prefixes, one answer at a time.
    #[cold]
    fn charge_limited(&mut self, frames: &Frames, burst: &[Frame], left: u64) {
        for (nth, frame) in burst.iter().enumerate() {
            let window = frames.window(frame);
            let Some(client) = Client::at(window, DESTINATION[0], DESTINATION[1]) else { continue };
            if left >> (nth % BURST) & 1 != 0 {
                continue;
            }
            let Some(group) = self.payer(&client) else { continue };
            let price = price_of(window, frame.len(), &client);
            let (costs, capacities) = self.terms_of(group, &client);
            let levels = &self.levels[usize::from(client.v6)];
            for ((level, cost), capacity) in levels.iter().zip(costs).zip(capacities) {
                if let Some(entry) = self.limited.get(level.hash(&client)) {
                    entry.add(self.now, cost * price, capacity);
                }
            }
        }
    }

    /// Charges the client of a reply for [`SAMPLE`] replies.
    #[inline(never)]
    fn sample(&mut self, window: &Window, len: usize) {
        let Some(client) = Client::at(window, DESTINATION[0], DESTINATION[1]) else { return };
        let Some(group) = self.payer(&client) else { return };
        let price = price_of(window, len, &client) * Ticks::from(SAMPLE);
        let drawn = 1 + self.dice.below(LEVELS as u32 - 1) as usize % (LEVELS - 1);
        let (levels, v6) = (&self.levels[usize::from(client.v6)], usize::from(client.v6));
        let terms = &self.terms[group.number() % GROUPS];
        let charge = |nth: usize, price: Ticks| {
            (levels[nth].hash(&client), terms.costs[v6][nth] * price, terms.capacities[nth])
        };
        let charges = [charge(0, price), charge(drawn, price * (LEVELS - 1) as Ticks)];
        for (hash, span, capacity) in charges {
            self.add(hash, span, capacity);
        }
    }

    /// Returns the group of a client that has a limit; `None`: it has none.
    #[inline(always)]
    fn payer(&self, client: &Client) -> Option<Group> {
        match self.has_exempt || self.config.groups.is_some() {
            true => self.look_up_payer(client.address()),
            false => Some(Group::DEFAULT),
        }
    }

    #[inline(never)]
    fn look_up_payer(&self, address: IpAddr) -> Option<Group> {
        if self.has_exempt && self.config.exempt.allows(address) {
            return None;
        }
        let group = self.config.groups.as_ref().map_or(Group::DEFAULT, |groups| groups.of(address));
        self.terms[group.number() % GROUPS].is_limited.then_some(group)
    }

    /// Returns the costs of a price of one for the prefixes around a client of `group`, and the loads
    /// above which they are over their limits.
    #[inline(always)]
    fn terms_of(&self, group: Group, client: &Client) -> ([Ticks; LEVELS], [Ticks; LEVELS]) {
        let terms = &self.terms[group.number() % GROUPS];
        (terms.costs[usize::from(client.v6)], terms.capacities)
    }

    /// Adds `span` to a counter, and lists its prefix if that is over the limit then.
    #[inline(always)]
    fn add(&mut self, hash: u64, span: Ticks, capacity: Ticks) {
        let load = self.kru.add(hash, self.now, span);
        if load > capacity {
            self.list(hash, load, capacity);
        }
    }

    #[cold]
    fn list(&mut self, hash: u64, load: Ticks, capacity: Ticks) {
        if self.limited.get(hash).is_none() {
            self.limited.list(hash, self.now.saturating_add(load), capacity);
        }
    }

    /// Whether a prefix of a client of `group` is over its limit. Counts the refusal.
    fn is_over(&mut self, client: &Client, group: Group) -> bool {
        let (_, capacities) = self.terms_of(group, client);
        let levels = self.levels[usize::from(client.v6)];
        for (nth, (level, capacity)) in levels.iter().zip(capacities).enumerate() {
            let flood = if nth == 0 { self.terms[group.number() % GROUPS].flood } else { level.flood };
            let (hash, full) = (level.hash(client), self.now.saturating_add(capacity));
            if self.limited.is_empty() || self.limited.get(hash).is_none() {
                let load = self.kru.load(hash, self.now);
                if load <= capacity {
                    continue;
                }
                self.list(hash, load, capacity);
            }
            let Some(entry) = self.limited.get(hash).filter(|entry| entry.empty_at > full) else { continue };
            if entry.refuse((self.now / SECOND) as u32) == flood {
                let _ = self.floods.try_push(Prefix::around(client.address(), level.len));
            }
            return true;
        }
        false
    }
}

/// Returns the price of a reply to a plain packet.
#[inline(always)]
fn price_of(window: &Window, len: usize, client: &Client) -> Ticks {
    let flags = window[plain::tags_len(window) + RCODE[usize::from(client.v6)]];
    price(len, flags & header::RCODE as u8).into()
}

/// Random numbers that nobody without the secret can foresee: wyrand (Wang Yi).
#[derive(Clone, Copy, Debug)]
struct Dice(u64);

impl Dice {
    fn new(hash: KeyedHash) -> Self {
        Dice(hash.of_network(hash.of_network(u64::MAX)))
    }

    #[inline(always)]
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x2d35_8dcc_aa6c_78a5);
        let product = u128::from(self.0) * u128::from(self.0 ^ 0x8bb8_4b93_962e_acc9);
        product as u64 ^ (product >> 64) as u64
    }

    /// Returns a number below `bound`.
    #[inline(always)]
    fn below(&mut self, bound: u32) -> u32 {
        ((u64::from(self.roll() as u32) * u64::from(bound)) >> 32) as u32
    }
}
