//! What comes in goes out: the sums of the statistics, added up as an operator would, by the names that are published.

use serde_json::Value;

/// How a worker answers by itself.
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
/// What a lookup in Redis ends in.
const FOUND: [&str; 10] =
    ["hit", "stale", "due", "missing", "purged", "foreign", "damaged", "timed_out", "failed", "warmed"];
/// What becomes of an answer that Redis could have.
const STORED: [&str; 6] =
    ["stored", "store_failed", "store_dropped", "store_skipped", "store_outdated", "store_unwanted"];

/// A number that was counted.
///
/// # Panics
/// If it is none.
#[track_caller]
pub fn count(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a count: {value}"))
}

#[track_caller]
fn sum(counters: &Value, names: &[&str]) -> u64 {
    names.iter().map(|name| count(&counters[*name])).sum()
}

/// All that is dropped, by reason.
///
/// # Panics
/// If there are no reasons.
#[track_caller]
pub fn dropped(counters: &Value) -> u64 {
    counters["dropped"].as_object().expect("reasons").values().map(count).sum()
}

/// Queries that were answered, of `total` in the statistics.
///
/// # Panics
/// If a counter is missing.
#[track_caller]
pub fn answered(total: &Value) -> u64 {
    sum(total, &ANSWERED) + sum(total, &["punt_answered"])
}

/// Every frame has exactly one outcome, answered, punted or dropped, and every punt was answered.
///
/// # Panics
/// If that is not so in `total` of the statistics.
#[track_caller]
pub fn queries_close(total: &Value) {
    let ends = sum(total, &ANSWERED) + sum(total, &["punted"]) + dropped(total);
    assert_eq!(count(&total["received"]), ends, "{total:#}");
    assert_eq!(
        count(&total["punted"]),
        sum(total, &["punt_answered", "punt_no_frame", "punt_port_gone"]),
        "{total:#}"
    );
    assert_eq!((&total["unaccounted"], &total["punts_waiting"]), (&0.into(), &0.into()), "{total:#}");
}

/// Every lookup in Redis, and every answer for it, has one end.
///
/// # Panics
/// If that is not so in `fleet` of the statistics.
#[track_caller]
pub fn fleet_closes(fleet: &Value) {
    let counters = &fleet["counters"];
    assert_eq!(count(&counters["lookups"]), sum(counters, &FOUND), "{fleet:#}");
    assert_eq!(count(&counters["offered"]), sum(counters, &STORED), "{fleet:#}");
    assert!(count(&counters["renewals_hurried"]) <= count(&counters["renewals_alone"]), "{fleet:#}");
}

/// Every record was handed on, unwanted or dropped, and is one of an answer that was not excluded.
///
/// # Panics
/// If that is not so in `stats`, the statistics.
#[track_caller]
pub fn records_close(stats: &Value) {
    let (log, total) = (&stats["query_log"], &stats["total"]);
    assert_eq!(count(&log["recorded"]), sum(log, &["handed_on", "unwanted"]) + dropped(log), "{log:#}");
    assert_eq!(sum(total, &["log_recorded", "log_excluded"]), answered(total), "{total:#}");
}
