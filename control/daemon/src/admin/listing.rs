//! List of the entries of the host cache.

use super::{
    SharedService,
    cache::view,
    guard::{ApiError, Parameters, Turns},
    streamed::{LINES, stream},
};
use axum::{extract::State, response::Response};
use ringdns_api::EntryView;
use ringdns_common::names;
use ringdns_dataplane::{clock::Secs, dns::is_within};
use ringdns_resolver::host::{Entry, HostTier, StoredKey};
use serde::Deserialize;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Write},
    iter,
    sync::LazyLock,
};
use utoipa::{IntoParams, ToSchema};

/// Most entries of a list that is sorted: their keys are in memory until the list is written.
const SORTED_MAX: usize = 10_000;
/// Entries of a list that is sorted and has no limit.
const SORTED: usize = 1_000;

/// State of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EntryState {
    /// Within its TTL.
    Fresh,
    /// Expired, and may still be served.
    Stale,
    /// Neither: the next sweep removes it.
    Expired,
}

impl EntryState {
    /// Returns the state of an entry at `now`.
    pub(super) fn of(entry: &Entry, now: Secs) -> Self {
        match now {
            now if now < entry.answer.expires() => EntryState::Fresh,
            now if now < entry.answer.dead() => EntryState::Stale,
            _ => EntryState::Expired,
        }
    }

    /// Returns the name in the API.
    pub(super) fn label(self) -> &'static str {
        match self {
            EntryState::Fresh => "fresh",
            EntryState::Stale => "stale",
            EntryState::Expired => "expired",
        }
    }
}

/// Order of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EntryOrder {
    /// Names in order, a zone before the names below it (RFC 4034 section 6.1).
    Name,
    /// Entries in most demand first.
    Demand,
    /// Oldest entries first.
    Age,
    /// Entries that expire soonest first.
    Left,
    /// Largest entries first.
    Bytes,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    /// Name whose entries are listed; absent: all names.
    name: Option<String>,
    /// Name whose entries are listed, with those of all names below it.
    suffix: Option<String>,
    /// Record type; absent: all.
    #[serde(rename = "type")]
    rtype: Option<String>,
    /// State; absent: all.
    #[param(inline)]
    state: Option<EntryState>,
    /// Least recent demand.
    #[serde(default)]
    demand: u16,
    /// Order; absent: none.
    #[param(inline)]
    sort: Option<EntryOrder>,
    /// Most entries; absent: all, or 1,000 if they are sorted. A list that is sorted has 10,000 at most.
    limit: Option<usize>,
    /// Whether the records are listed too; absent: true.
    records: Option<bool>,
}

/// Lists entries of the host caches, one JSON object a line.
#[utoipa::path(
    get,
    path = "/v1/cache/list",
    operation_id = "cache_list",
    params(ListQuery),
    responses(
        (status = 200, description = "Entries, one a line", body = EntryView, content_type = "application/x-ndjson"),
    ),
)]
pub(super) async fn list(
    State(service): SharedService,
    Parameters(query): Parameters<ListQuery>,
) -> Result<Response, ApiError> {
    static TURNS: LazyLock<Turns> = LazyLock::new(Turns::default);
    let listing = Listing::of(&query, service.clock.secs())?;
    let host = service.resolver.host().clone();
    stream(&TURNS, LINES, move |out| listing.write(&host, out)).await
}

/// List that is asked for.
struct Listing {
    name: Option<Vec<u8>>,
    suffix: Option<Vec<u8>>,
    qtype: Option<u16>,
    state: Option<EntryState>,
    demand: u16,
    sort: Option<EntryOrder>,
    limit: usize,
    has_records: bool,
    now: Secs,
}

impl Listing {
    fn of(query: &ListQuery, now: Secs) -> Result<Self, ApiError> {
        let name = |text: &Option<String>| text.as_deref().map(names::name).transpose();
        let qtype = query.rtype.as_deref().map(names::record_type).transpose();
        let limit = match (query.sort, query.limit) {
            (Some(_), Some(limit)) if limit > SORTED_MAX => {
                return Err(ApiError::bad(format!(
                    "a list that is sorted has {SORTED_MAX} entries at most: give a lower limit, or no sort"
                )));
            }
            (Some(_), limit) => limit.unwrap_or(SORTED),
            (None, limit) => limit.unwrap_or(usize::MAX),
        };
        Ok(Listing {
            name: name(&query.name).map_err(ApiError::bad)?,
            suffix: name(&query.suffix).map_err(ApiError::bad)?,
            qtype: qtype.map_err(ApiError::bad)?,
            state: query.state,
            demand: query.demand,
            sort: query.sort,
            limit,
            has_records: query.records.unwrap_or(true),
            now,
        })
    }

    /// Writes the entries. Walks the whole stores, unless it is about one name.
    fn write(&self, host: &HostTier, out: &mut impl Write) -> io::Result<()> {
        let beside = host.tiers_beside();
        let tiers: Vec<&HostTier> = iter::once(host).chain(beside.iter().map(|tier| &**tier)).collect();
        let tiers = tiers.into_iter();
        let Some(name) = &self.name else {
            let all =
                tiers.flat_map(|tier| tier.iter().map(move |(key, entry)| (Place { tier, key }, entry)));
            return self.write_of(all, out);
        };
        let places: Vec<_> = tiers
            .flat_map(|tier| {
                let entries = tier.own_entries_of(name, self.qtype).into_iter();
                entries.map(move |(key, _)| Place { tier, key })
            })
            .collect();
        self.write_of(places.into_iter().filter_map(|place| place.entry().map(|entry| (place, entry))), out)
    }

    /// Writes those of the entries that are wanted. A reader may take minutes, so no other entry is held
    /// meanwhile.
    fn write_of<'a>(
        &self,
        entries: impl Iterator<Item = (Place<'a>, Entry)>,
        out: &mut impl Write,
    ) -> io::Result<()> {
        let wanted = entries.filter(|(place, entry)| self.wants(&place.key, entry));
        match self.sort {
            Some(order) => self.write_ranked(self.rank(order, wanted), out),
            None => {
                let mut first = wanted.take(self.limit);
                first.try_for_each(|(place, entry)| self.write_one(&place.key, &entry, out))
            }
        }
    }

    /// Returns the first places in an order.
    fn rank<'a>(
        &self,
        order: EntryOrder,
        entries: impl Iterator<Item = (Place<'a>, Entry)>,
    ) -> Vec<Ranked<'a>> {
        let mut first = BinaryHeap::new();
        for (place, entry) in entries {
            first.push(Ranked { rank: Rank::of(order, &place.key, &entry, self.now), place });
            if first.len() > self.limit {
                first.pop();
            }
        }
        first.into_sorted_vec()
    }

    /// Writes the entries at places, without those that are gone or no longer wanted.
    fn write_ranked(&self, ranked: Vec<Ranked<'_>>, out: &mut impl Write) -> io::Result<()> {
        ranked.into_iter().try_for_each(|Ranked { place, .. }| match place.entry() {
            Some(entry) if self.wants(&place.key, &entry) => self.write_one(&place.key, &entry, out),
            _ => Ok(()),
        })
    }

    fn wants(&self, key: &StoredKey, entry: &Entry) -> bool {
        let asked = key.asked();
        self.qtype.is_none_or(|qtype| asked.qtype() == qtype)
            && self.suffix.as_ref().is_none_or(|suffix| is_within(asked.name(), suffix))
            && self.state.is_none_or(|state| EntryState::of(entry, self.now) == state)
            && entry.demand.get(self.now) >= self.demand
    }

    fn write_one(&self, key: &StoredKey, entry: &Entry, out: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &view(key, entry, self.now, self.has_records))?;
        out.write_all(b"\n")
    }
}

/// Rank of an entry in a list that is sorted: lower ones come first, and names decide between equals.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    number: Reverse<u64>,
    name: Vec<u8>,
}

impl Rank {
    fn of(order: EntryOrder, key: &StoredKey, entry: &Entry, now: Secs) -> Self {
        let number = match order {
            EntryOrder::Name => 0,
            EntryOrder::Demand => entry.demand.get(now).into(),
            EntryOrder::Age => now.saturating_sub(entry.answer.received).into(),
            EntryOrder::Left => u64::MAX - u64::from(entry.answer.expires()),
            EntryOrder::Bytes => entry.answer.wire.len() as u64,
        };
        Rank { number: Reverse(number), name: canonical(key.asked().name()) }
    }
}

/// Returns a form of a name in wire format whose order of bytes is the canonical order of names.
fn canonical(name: &[u8]) -> Vec<u8> {
    let mut labels = Vec::new();
    let mut rest = name;
    while let Some((length, tail)) = rest.split_first() {
        let (label, tail) = tail.split_at_checked(usize::from(*length)).unwrap_or((tail, &[]));
        labels.push(label);
        rest = tail;
    }
    // No label contains another's end: two bytes for 0 and 1, which no other byte begins.
    let spelled = labels.iter().rev().flat_map(|label| {
        let bytes = label.iter().flat_map(|byte| match byte {
            0 | 1 => [Some(1), Some(*byte)].into_iter().flatten(),
            byte => [Some(*byte), None].into_iter().flatten(),
        });
        bytes.chain([0])
    });
    spelled.collect()
}

/// Place of an entry: its tier, and its key there.
struct Place<'a> {
    tier: &'a HostTier,
    key: StoredKey,
}

impl Place<'_> {
    /// Returns the entry that is there now.
    fn entry(&self) -> Option<Entry> {
        self.tier.peek_stored(&self.key)
    }
}

/// Place of an entry, and its rank in a list that is sorted. Does not hold the entry, which may be large.
struct Ranked<'a> {
    rank: Rank,
    place: Place<'a>,
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked<'_> {}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::extract::Query;
    use ringdns_dataplane::{
        dns::answer::{Answer, TtlRules},
        purge::Purge,
    };
    use std::sync::Arc;

    const NOW: Secs = 100;

    /// Returns a tier with an A record of each name.
    fn tier(all: &[&str]) -> HostTier {
        let tier = HostTier::new(1 << 20, Arc::default());
        for name in all {
            let wire = names::name(name).unwrap();
            let key = names::key(&wire, 1, false, false).unwrap();
            let mut message = names::query_message(&wire, [1, 1], 0, 0x8180, None);
            message[7] = 1;
            message.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
            let rules = TtlRules { min: 0, max: 1000, negative_max: 0, stale: 0, ahead: 0 };
            let answer = Answer::from_response(&message, &key, &rules, NOW, false).unwrap();
            assert!(tier.insert(&key, Arc::new(answer), tier.generation()));
        }
        tier
    }

    fn listing(parameters: &str) -> Listing {
        let uri = format!("/v1/cache/list?{parameters}").parse().unwrap();
        let Query(query) = Query::<ListQuery>::try_from_uri(&uri).unwrap();
        Listing::of(&query, NOW).unwrap()
    }

    /// Returns the names that are written.
    fn written(write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> Vec<String> {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        let entries = serde_json::Deserializer::from_slice(&out).into_iter::<EntryView>();
        entries.map(|entry| entry.unwrap().name).collect()
    }

    #[test]
    fn a_sorted_list_leaves_out_what_is_gone() {
        let tier = tier(&["c.example", "a.example", "b.example", "d.example"]);
        let listing = listing("sort=name&limit=3");
        let all = || tier.iter().map(|(key, entry)| (Place { tier: &tier, key }, entry));
        let ranked = listing.rank(EntryOrder::Name, all());
        assert_eq!(ranked.len(), 3);
        tier.purge(&Purge::Name(names::name("b.example").unwrap()));
        assert_eq!(written(|out| listing.write_ranked(ranked, out)), ["a.example.", "c.example."]);
    }

    #[test]
    fn lists_are_of_all_tiers() {
        let (first, other) = (tier(&["b.example", "b.example.com"]), tier(&["a.example", "b.example"]));
        first.set_beside(vec![Arc::new(other)]);
        let told = |parameters: &str| written(|out| listing(parameters).write(&first, out));
        assert_eq!(told("sort=name&suffix=example"), ["a.example.", "b.example.", "b.example."]);
        assert_eq!(told("name=b.example"), ["b.example.", "b.example."]);
        assert_eq!(told("name=b.example&sort=bytes&limit=1"), ["b.example."]);
        assert_eq!(told("suffix=.").len(), 4);
    }

    #[test]
    fn names_are_in_canonical_order() {
        // RFC 4034 section 6.1, in lower case.
        let order = [
            "example",
            "a.example",
            "yljkjljk.a.example",
            "z.a.example",
            "zabc.a.example",
            "z.example",
            "\\001.z.example",
            "*.z.example",
            "\\200.z.example",
        ];
        let forms: Vec<_> = order.iter().map(|text| canonical(&names::name(text).unwrap())).collect();
        assert!(forms.is_sorted(), "{forms:?}");
        assert!(forms.windows(2).all(|pair| pair[0] != pair[1]));
    }
}
