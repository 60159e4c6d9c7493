//! Changes of candidates: at random, and by mixing two of them.

use super::{
    genome::{
        FORMS_MAX, Genome, NAME_MAX, PREFIXES_MAX, PROOFS_MAX, RECORDS_MAX, TAGS_MAX, TEXT_MAX, frame_len,
    },
    site::{Audience, Groups, Limit, Log, Site, Verification},
};
use crate::{
    instructions::{
        answer::Content,
        form::Form,
        parts::{Client, CookieKind, EdnsOption, Labels, Owner, Place, Records, Sum},
    },
    stage::Ip,
};
use rand::{Rng, rngs::SmallRng, seq::IndexedRandom};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Share of changes that concern the set-up of the server, in percent.
const SITE_SHARE: u32 = 25;
/// Most changes at once.
const CHANGES_MAX: usize = 4;

/// Returns a candidate that differs from another in one thing, or in a few.
pub fn mutated(genome: &Genome, frame_max: usize, rng: &mut SmallRng) -> Genome {
    let mut genome = genome.clone();
    for _ in 0..rng.random_range(1..=CHANGES_MAX) {
        if rng.random_ratio(SITE_SHARE, 100) {
            change_site(&mut genome.site, rng);
        } else if rng.random_ratio(1, 12) {
            change_packets(&mut genome.packets, rng);
        } else if let Some(form) = choose_mut(&mut genome.packets, rng) {
            change_form(form, rng);
        }
    }
    repair(&mut genome, frame_max);
    genome
}

/// Returns a candidate that has each property of one of two others.
pub fn crossed(one: &Genome, other: &Genome, frame_max: usize, rng: &mut SmallRng) -> Genome {
    let mut genome = one.clone();
    for (nth, form) in genome.packets.iter_mut().enumerate() {
        *form = mixed(form, other.form(nth), rng);
    }
    if rng.random() {
        genome.site = mixed(&genome.site, &other.site, rng);
    }
    repair(&mut genome, frame_max);
    genome
}

/// Returns a value that has each member of one of two others.
fn mixed<T: Clone + Serialize + DeserializeOwned>(one: &T, other: &T, rng: &mut SmallRng) -> T {
    let (Ok(Value::Object(mut members)), Ok(others)) =
        (serde_json::to_value(one), serde_json::to_value(other))
    else {
        return one.clone();
    };
    for (key, member) in &mut members {
        if let Some(value) = others.get(key).filter(|_| rng.random()) {
            *member = value.clone();
        }
    }
    serde_json::from_value(Value::Object(members)).unwrap_or_else(|_| one.clone())
}

/// Makes a candidate valid: shortens frames to `frame_max` bytes without their tags, and limits numbers.
pub fn repair(genome: &mut Genome, frame_max: usize) {
    genome.packets.truncate(FORMS_MAX);
    if genome.packets.is_empty() {
        genome.packets.push(Form::default());
    }
    for form in &mut genome.packets {
        form.tags = form.tags.min(TAGS_MAX);
        form.content = match form.content {
            Content::Addresses(count) => Content::Addresses(count.clamp(1, RECORDS_MAX)),
            Content::Aliases(count) => Content::Aliases(count.clamp(1, RECORDS_MAX)),
            Content::Glue(count) => Content::Glue(count.clamp(1, RECORDS_MAX)),
            Content::Text(bytes) => Content::Text(bytes.clamp(1, TEXT_MAX)),
            Content::Proof(count) => Content::Proof(count.clamp(1, PROOFS_MAX)),
            other => other,
        };
        while let Some(excess) = frame_len(form).checked_sub(frame_max).filter(|excess| *excess > 0) {
            shorten(form, excess);
        }
    }
    let site = &mut genome.site;
    site.access = site.access.map(|(v4, v6)| (v4.clamp(1, 32), v6.clamp(1, 128)));
    site.other_prefixes = site.other_prefixes.min(PREFIXES_MAX);
    site.name = site.name.min(NAME_MAX);
    // A client that may not ask never comes to its limit.
    match site.limit.client_over() {
        Some(Client::USUAL) => site.is_denied = false,
        Some(_) => site.access = site.access.map(|(v4, v6)| (v4.max(24), v6.max(64))),
        None => {}
    }
}

/// Shortens what makes a form long by `excess` bytes, or by a part of that.
fn shorten(form: &mut Form, excess: usize) {
    for part in [&mut form.padding, &mut form.trailer] {
        if *part > 0 {
            *part = part.saturating_sub(excess.try_into().unwrap_or(u16::MAX));
            return;
        }
    }
    let bare = Form { options: None, records: Vec::new(), cut: None, ..form.clone() };
    let with_options = Form { options: form.options.clone(), ..bare.clone() };
    let with_records = Form { records: form.records.clone(), ..bare.clone() };
    let bare = frame_len(&bare);
    let (options, records) = (frame_len(&with_options) - bare, frame_len(&with_records) - bare);
    if form.name > options.max(records) {
        form.name -= form.name / 8;
    } else if records > options {
        if let Some(records) = form.records.iter_mut().max_by_key(|records| records.times) {
            records.times -= (records.times / 8).max(1);
        }
        form.records.retain(|records| records.times > 0);
    } else if let Some(options) = &mut form.options {
        let longest =
            options.iter_mut().max_by_key(|(option, times)| option.wire_len() * usize::from(*times));
        match longest {
            Some((EdnsOption::Padding(len) | EdnsOption::Unknown(len), _)) if *len > 64 => *len -= *len / 8,
            Some((_, times)) => *times -= (*times / 8).max(1),
            None => form.name /= 2,
        }
        options.retain(|(_, times)| *times > 0);
    }
}

fn choose_mut<'a, T>(items: &'a mut [T], rng: &mut SmallRng) -> Option<&'a mut T> {
    let at = rng.random_range(0..items.len().max(1));
    items.get_mut(at)
}

/// Returns one of the values.
fn one_of<T: Copy>(values: &[T], rng: &mut SmallRng) -> T {
    values.choose(rng).copied().unwrap_or(values[0])
}

/// Returns a number near `number`, or one of those at which something may change.
fn near(number: usize, edges: &[usize], rng: &mut SmallRng) -> usize {
    match rng.random_range(0..8) {
        0 => number.saturating_sub(1),
        1 => number + 1,
        2 => number / 2,
        3 => number.saturating_mul(2).min(2_000),
        4 => number + number / 8,
        _ => one_of(edges, rng),
    }
}

fn near16(number: u16, edges: &[usize], rng: &mut SmallRng) -> u16 {
    near(number.into(), edges, rng).try_into().unwrap_or(u16::MAX)
}

fn change_packets(packets: &mut Vec<Form>, rng: &mut SmallRng) {
    let at = rng.random_range(0..packets.len().max(1));
    match rng.random_range(0..4) {
        0 if packets.len() > 1 => drop(packets.remove(at)),
        1 if packets.len() < FORMS_MAX => packets.push(Form::default()),
        2 => packets.truncate(1),
        _ if packets.len() < FORMS_MAX => packets.extend(packets.get(at).cloned()),
        _ => packets.truncate(1),
    }
}

fn change_form(form: &mut Form, rng: &mut SmallRng) {
    const FLAGS: [u16; 7] = [0x0100, 0x0010, 0x0020, 0x0040, 0x0200, 0x0400, 0x0001];
    const SUMS: [Sum; 4] = [Sum::Right, Sum::Zero, Sum::Partial, Sum::Wrong];
    const LABELS: [Labels; 5] =
        [Labels::Long, Labels::Short, Labels::Invalid, Labels::Pointer, Labels::Identity];
    const NAMES: [usize; 12] = [8, 20, 27, 28, 29, 59, 60, 61, 128, 255, 256, 1_400];
    match rng.random_range(0..20) {
        0 => form.tags = rng.random_range(0..=TAGS_MAX),
        1 => form.ip = if form.ip == Ip::V4 { Ip::V6 } else { Ip::V4 },
        2 => form.sum = one_of(&SUMS, rng),
        3 | 4 => form.name = near(form.name, &NAMES, rng),
        5 => form.labels = one_of(&LABELS, rng),
        6 => form.is_upper = !form.is_upper,
        7 => form.flags ^= one_of(&FLAGS, rng),
        8 if rng.random_ratio(1, 3) => form.flags ^= one_of(&[0x8000, 0x0800, 0x2000, 0x7800], rng),
        8 => form.flags = 0x0100,
        9 => {
            form.qtype =
                one_of(&[None, None, Some(0), Some(16), Some(41), Some(251), Some(252), Some(255)], rng);
            form.qclass = one_of(&[1, 1, 1, 3, 255], rng);
        }
        10 => change_odd(form, rng),
        11 | 12 => change_options(&mut form.options, rng),
        13 => form.udp_size = one_of(&[0, 512, 600, 1231, 1232, 4096, u16::MAX], rng),
        14 => form.dnssec_ok = !form.dnssec_ok,
        15 | 16 => change_records(&mut form.records, rng),
        17 | 18 => form.content = changed_content(form.content, rng),
        _ => form.is_stale = !form.is_stale,
    }
}

/// Changes something that well-formed queries do not have.
fn change_odd(form: &mut Form, rng: &mut SmallRng) {
    match rng.random_range(0..8) {
        0 => form.has_question = !form.has_question,
        1 => form.counts = None,
        2 => {
            let mut counts = form.counts.unwrap_or([1, 0, 0, 1]);
            if let Some(count) = choose_mut(&mut counts, rng) {
                *count = one_of(&[0, 1, 2, 100, u16::MAX], rng);
            }
            form.counts = Some(counts);
        }
        3 => form.version = one_of(&[0, 0, 1], rng),
        4 => form.cut = one_of(&[None, None, Some(0), Some(11), Some(12), Some(40), Some(1_400)], rng),
        5 => form.trailer = near16(form.trailer, &[0, 0, 1, 1_400], rng),
        6 => form.padding = near16(form.padding, &[0, 0, 1, 1_400], rng),
        _ => (form.cut, form.trailer, form.padding, form.version) = (None, 0, 0, 0),
    }
}

fn random_option(rng: &mut SmallRng) -> EdnsOption {
    const COOKIES: [CookieKind; 7] = [
        CookieKind::Client,
        CookieKind::Server,
        CookieKind::Old,
        CookieKind::Aged,
        CookieKind::Wrong,
        CookieKind::Foreign,
        CookieKind::Malformed,
    ];
    match rng.random_range(0..8) {
        0 => EdnsOption::Padding(one_of(&[0, 1, 64, 468, 1_300], rng)),
        1 => EdnsOption::Nsid,
        2 => EdnsOption::Keepalive,
        3 => EdnsOption::Subnet,
        4 | 5 => EdnsOption::Unknown(one_of(&[0, 0, 1, 3, 64, 1_300], rng)),
        _ => EdnsOption::Cookie(one_of(&COOKIES, rng)),
    }
}

fn change_options(options: &mut Option<Vec<(EdnsOption, u16)>>, rng: &mut SmallRng) {
    let Some(list) = options else {
        *options = Some(if rng.random() { vec![(random_option(rng), 1)] } else { Vec::new() });
        return;
    };
    match rng.random_range(0..8) {
        0 => *options = None,
        1 | 2 if list.len() < 6 => {
            let at = rng.random_range(0..=list.len());
            list.insert(at, (random_option(rng), one_of(&[1, 1, 8, 64, 370], rng)));
        }
        3 if !list.is_empty() => {
            let at = rng.random_range(0..list.len());
            list.remove(at);
        }
        4 => list.reverse(),
        _ => {
            if let Some((_, times)) = choose_mut(list, rng) {
                *times = near16(*times, &[1, 8, 64, 370], rng).max(1);
            }
        }
    }
}

fn change_records(all: &mut Vec<Records>, rng: &mut SmallRng) {
    const PLACES: [Place; 4] = [Place::Before, Place::After, Place::Answer, Place::Authority];
    const OWNERS: [Owner; 5] =
        [Owner::Root, Owner::Pointer, Owner::Labels(1), Owner::Labels(120), Owner::Labels(127)];
    let at = rng.random_range(0..all.len().max(1));
    match rng.random_range(0..8) {
        0 if !all.is_empty() => drop(all.remove(at)),
        1 if all.len() < 3 => all.push(Records {
            place: one_of(&PLACES, rng),
            owner: one_of(&OWNERS, rng),
            rtype: one_of(&[1, 16, 41, 250], rng),
            data: 0,
            times: one_of(&[1, 8, 130], rng),
        }),
        1 => all.clear(),
        kind => {
            let Some(records) = all.get_mut(at) else { return };
            match kind {
                2 => records.place = one_of(&PLACES, rng),
                3 => records.owner = one_of(&OWNERS, rng),
                4 => records.rtype = one_of(&[1, 16, 41, 250], rng),
                5 => records.data = near16(records.data, &[0, 1, 16, 64], rng),
                _ => records.times = near16(records.times, &[1, 8, 64, 130], rng).max(1),
            }
        }
    }
}

fn changed_content(content: Content, rng: &mut SmallRng) -> Content {
    const COUNTS: [usize; 8] = [1, 2, 10, 28, 29, 40, 60, 70];
    let kinds = [
        Content::Addresses(one_of(&COUNTS, rng)),
        Content::Aaaa,
        Content::Aliases(one_of(&[1, 2, 8, 30, 40], rng)),
        Content::Text(one_of(&[1, 100, 400, 600, 1_000, 1_100], rng)),
        Content::Signed,
        Content::Authentic,
        Content::Glue(one_of(&COUNTS, rng)),
        Content::Nxdomain,
        Content::Proof(one_of(&[1, 2, 4, 6], rng)),
        Content::NoData,
        Content::Failure,
    ];
    match content {
        Content::Addresses(count) if rng.random() => Content::Addresses(near(count, &COUNTS, rng)),
        Content::Aliases(count) if rng.random() => Content::Aliases(near(count, &COUNTS, rng)),
        Content::Glue(count) if rng.random() => Content::Glue(near(count, &COUNTS, rng)),
        Content::Text(bytes) if rng.random() => Content::Text(near(bytes, &[400, 1_100], rng)),
        _ => one_of(&kinds, rng),
    }
}

fn change_site(site: &mut Site, rng: &mut SmallRng) {
    const VERIFICATIONS: [Verification; 4] =
        [Verification::Verify, Verification::AllowPartial, Verification::Trust, Verification::Unused];
    const GROUPS: [Groups; 5] =
        [Groups::None, Groups::Others, Groups::Address, Groups::Mac, Groups::OtherMacs];
    const LIMITS: [Limit; 8] = [
        Limit::Off,
        Limit::Below,
        Limit::Terms,
        Limit::OtherOver,
        Limit::TermsOtherOver,
        Limit::Over,
        Limit::Slip,
        Limit::DryRun,
    ];
    const LOGS: [Log; 4] = [Log::Off, Log::Sampled, Log::All, Log::Sieved];
    match rng.random_range(0..16) {
        0 => *site = Site::default(),
        1 | 2 => site.checksums = one_of(&VERIFICATIONS, rng),
        3 => site.access = one_of(&[None, Some((8, 7)), Some((24, 64)), Some((32, 128))], rng),
        4 => site.other_prefixes = one_of(&[0, 0, 100, 1_000], rng),
        5 => site.is_denied = !site.is_denied,
        6 => site.is_silent = !site.is_silent,
        7 => site.groups = one_of(&GROUPS, rng),
        8 => {
            let list = Audience::List(one_of(&[1, 20, 64], rng));
            site.audience = one_of(&[Audience::All, Audience::ButOthers, Audience::Own, list], rng);
        }
        9 | 10 => site.limit = one_of(&LIMITS, rng),
        11 => site.log = one_of(&LOGS, rng),
        12 => site.has_cookies = !site.has_cookies,
        13 => site.has_old_secret = !site.has_old_secret,
        14 => site.name = one_of(&[0, 8, NAME_MAX], rng),
        _ => {
            site.requires_cookies = !site.requires_cookies;
            site.primaries = one_of(&[0, 1, 32], rng);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        instructions::shapes::SHAPES,
        worst::genome::{FRAME_MAX, FRAME_MIN},
    };
    use rand::SeedableRng;
    use std::collections::BTreeSet;

    fn seeds() -> Vec<Genome> {
        SHAPES.iter().map(|shape| Genome::of((shape.form)())).collect()
    }

    #[test]
    fn changed_candidates_are_valid_and_can_be_read_again() {
        let mut rng = SmallRng::seed_from_u64(1);
        let mut all = seeds();
        for _ in 0..3_000 {
            let (Some(one), Some(other)) = (all.choose(&mut rng), all.choose(&mut rng)) else { continue };
            let child = match rng.random_ratio(1, 3) {
                true => crossed(one, other, FRAME_MAX, &mut rng),
                false => mutated(one, FRAME_MAX, &mut rng),
            };
            child.check().unwrap();
            for (number, form) in child.packets.iter().enumerate() {
                let packet = form.packet(number, 600).unwrap();
                assert!(packet.len() <= FRAME_MAX + 4 * TAGS_MAX, "{} {form:?}", packet.len());
            }
            child.site.policy().unwrap();
            assert_eq!(child.to_string().parse::<Genome>().unwrap(), child);
            all.push(child);
        }
        let families: BTreeSet<String> = all.iter().map(Genome::family).collect();
        assert!(families.len() > 1_000, "{}", families.len());
    }

    #[test]
    fn equal_seeds_give_equal_candidates() {
        let children = |seed| {
            let mut rng = SmallRng::seed_from_u64(seed);
            (0..50).map(|_| mutated(&Genome::of(Form::default()), FRAME_MAX, &mut rng)).collect::<Vec<_>>()
        };
        assert_eq!(children(7), children(7));
        assert_ne!(children(7), children(8));
    }

    #[test]
    fn what_is_too_long_becomes_short_enough() {
        let records =
            Records { place: Place::After, owner: Owner::Labels(127), rtype: 1, data: 64, times: u16::MAX };
        let form = Form {
            options: Some(vec![(EdnsOption::Padding(u16::MAX), u16::MAX)]),
            records: vec![records],
            name: 4_000,
            trailer: u16::MAX,
            ..Form::default()
        };
        let mut genome = Genome::of(form);
        repair(&mut genome, FRAME_MAX);
        genome.check().unwrap();
        for frame_max in [FRAME_MIN, 200] {
            repair(&mut genome, frame_max);
            assert!(frame_len(&genome.packets[0]) <= frame_max, "{genome}");
        }
    }
}
