//! List of the entries of the host cache.

use super::{
    SharedService,
    cache::view,
    guard::{ApiError, Parameters, Turns},
    streamed::{LINES, Pieces, stream},
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
    sync::{Arc, LazyLock},
};
use utoipa::{IntoParams, ToSchema};

/// Most entries of a list that is sorted: they are in memory until the last entry was seen.
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
    fn write(&self, host: &HostTier, out: &mut Pieces) -> io::Result<()> {
        if let Some(name) = &self.name {
            return self.write_of(host.entries_of(name, self.qtype).into_iter(), out);
        }
        let beside = host.tiers_beside();
        self.write_of(host.iter().chain(beside.iter().flat_map(|tier| tier.iter())), out)
    }

    fn write_of(
        &self,
        entries: impl Iterator<Item = (StoredKey, Arc<Entry>)>,
        out: &mut Pieces,
    ) -> io::Result<()> {
        let mut wanted = entries.filter(|(key, entry)| self.wants(key, entry));
        let Some(order) = self.sort else {
            return wanted.take(self.limit).try_for_each(|(key, entry)| self.write_one(&key, &entry, out));
        };
        let mut first = BinaryHeap::new();
        wanted.try_for_each(|(key, entry)| {
            first.push(Ranked { rank: Rank::of(order, &key, &entry, self.now), key, entry });
            if first.len() > self.limit {
                first.pop();
            }
            io::Result::Ok(())
        })?;
        let sorted = first.into_sorted_vec();
        sorted.iter().try_for_each(|Ranked { key, entry, .. }| self.write_one(key, entry, out))
    }

    fn wants(&self, key: &StoredKey, entry: &Entry) -> bool {
        let asked = key.asked();
        self.qtype.is_none_or(|qtype| asked.qtype() == qtype)
            && self.suffix.as_ref().is_none_or(|suffix| is_within(asked.name(), suffix))
            && self.state.is_none_or(|state| EntryState::of(entry, self.now) == state)
            && entry.demand.get(self.now) >= self.demand
    }

    fn write_one(&self, key: &StoredKey, entry: &Arc<Entry>, out: &mut Pieces) -> io::Result<()> {
        serde_json::to_writer(&mut *out, &view(key, entry, self.now, self.has_records))?;
        out.write_all(b"\n")
    }
}

/// Place of an entry in a list that is sorted: lower ones come first, and names decide between equals.
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

/// Entry and its place in a list that is sorted.
struct Ranked {
    rank: Rank,
    key: StoredKey,
    entry: Arc<Entry>,
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.rank == other.rank
    }
}

impl Eq for Ranked {}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank.cmp(&other.rank)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
