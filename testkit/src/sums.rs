//! Checks that everything received has an outcome: adds up the statistics as an operator would, by
//! their published names.

use serde_json::Value;

/// Counters of queries that a worker answers by itself.
const ANSWERED: [&str; 10] = [
    "hit",
    "stale",
    "cached_failure",
    "formerr",
    "notimp",
    "refused",
    "denied",
    "badvers",
    "identity",
    "cookie",
];
/// Counters of the outcomes of punted queries.
const PUNTS: [&str; 7] = [
    "punt_answered",
    "punt_no_frame",
    "punt_port_gone",
    "punt_late",
    "punt_paced",
    "punt_blocked",
    "punt_capped",
];
/// Counters of the outcomes of a lookup in Redis.
const FOUND: [&str; 10] =
    ["hit", "stale", "due", "missing", "purged", "foreign", "damaged", "timed_out", "failed", "warmed"];
/// Counters of the outcomes of an answer offered to Redis.
const STORED: [&str; 6] =
    ["stored", "store_failed", "store_dropped", "store_skipped", "store_outdated", "store_unwanted"];

/// Returns the value of a counter.
///
/// If the value is not a count.
#[track_caller]
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}"))
}

#[track_caller]
fn sum(counters: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| count(&counters[*name])).sum()
}

/// Returns the sum of all drops.
///
/// If there are no drop reasons.
#[track_caller]
pub fn dropped(counters: &Value) -> u64 {
    counters["dropped"].as_object().expect("reasons").values().map(count).sum()
}

/// Returns the number of answered queries in `total` of the statistics.
///
/// # Panics
/// If a counter is missing.
#[track_caller]
pub fn answered(total: &Value) -> u64 {
    sum(total, &ANSWERED) + sum(total, &["punt_answered"])
}

/// Checks that every frame has exactly one outcome, answered, punted or dropped, and that every
/// punt has one too.
///
/// If that is not true in `total` of the statistics.
#[track_caller]
pub fn queries_close(total: &Value) {
    let ends = sum(total, &ANSWERED) + sum(total, &["punted"]) + dropped(total);
    assert_eq!(count(&total["received"]), ends, "{total:#}");
    assert_eq!(count(&total["punted"]), sum(total, &PUNTS), "{total:#}");
    assert_eq!((&total["unaccounted"], &total["punts_waiting"]), (&0.into(), &0.into()), "{total:#}");
}

/// Whether no lookup and no store is under way: a batch that is being written is in no queue, and not
/// counted yet.
pub fn fleet_is_at_rest(fleet: &Value) -> bool {
    let counters = &fleet["counters"];
    count(&fleet["queued"]) == 0
        && count(&counters["lookups"]) == sum(counters, &FOUND)
        && count(&counters["offered"]) == sum(counters, &STORED)
}

/// Checks that every lookup in Redis, and every answer offered to it, has one outcome.
///
/// If that is not true in `fleet` of the statistics.
#[track_caller]
pub fn fleet_closes(fleet: &Value) {
    let counters = &fleet["counters"];
    assert_eq!(count(&counters["lookups"]), sum(counters, &FOUND), "{fleet:#}");
    assert_eq!(count(&counters["offered"]), sum(counters, &STORED), "{fleet:#}");
    assert!(count(&counters["renewals_hurried"]) <= count(&counters["renewals_alone"]), "{fleet:#}");
}

/// Checks that every record was handed on, left out, unwanted or dropped, and that every answer was recorded
/// or excluded.
///
/// If that is not true in the statistics `stats`.
#[track_caller]
pub fn records_close(stats: &Value) {
    let (log, total) = (&stats["query_log"], &stats["total"]);
    assert_eq!(
        count(&log["recorded"]),
        sum(log, &["handed_on", "unlogged", "unwanted"]) + dropped(log),
        "{log:#}"
    );
    assert_eq!(sum(total, &["log_recorded", "log_excluded"]), answered(total), "{total:#}");
}

/// Whether each answer was sent or is counted as lost, and each frame of AF_XDP is in one place. Ports
/// publish their counters once a second, so this is true a moment after traffic has ended.
#[track_caller]
pub fn ports_close(stats: &Value) -> bool {
    let workers = stats["workers"].as_array().expect("workers");
    let port = |name: &str| workers.iter().map(|worker| count(&worker["port"][name])).sum::<u64>();
    let whole = |worker: &Value| {
        let places = ["free", "fill", "held", "tx"].map(|place| count(&worker["frames"][place]));
        matches!(places.iter().sum::<u64>(), 1024 | 4096) && places[2..] == [0, 0]
    };
    let (answered, sent) = (answered(&stats["total"]), port("sent"));
    let is_sent = sent <= answered && answered <= sent + port("send_failed");
    is_sent && port("bad_descriptors") == 0 && workers.iter().all(whole)
}
