//! Words for the reasons why lookups in the host cache found no fresh answer.

use jiff::Timestamp;
use ringdns_api::ExplainedMiss;
use ringdns_common::names;
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::key::Flags,
    purge::Purge,
};
use ringdns_resolver::{
    flight::explain,
    host::{MissCause, PurgeNote},
};

/// Returns a miss as the API shows it. Who purged is told to those only who may read the audit log
/// (`shows_names`).
pub(super) fn view(miss: &explain::ExplainedMiss, clock: Clock, shows_names: bool) -> ExplainedMiss {
    let (unix, now) = (clock.unix(), clock.secs());
    let time = |at: Secs| (unix + u64::from(at)).saturating_sub(u64::from(now));
    let explain::ExplainedMiss { flags, miss, purge, other, other_group } = miss;
    let since = miss.since.map(time);
    let cause = match (miss.cause, other, other_group) {
        (MissCause::Expired, ..) => "expired",
        (MissCause::Evicted, ..) => "evicted",
        (MissCause::Purged, ..) => "purged",
        (MissCause::NotKept, ..) => "not_kept",
        (MissCause::Unknown, Some(_), _) => "variant",
        (MissCause::Unknown, None, true) => "group",
        (MissCause::Unknown, None, false) => "unknown",
    };
    ExplainedMiss {
        dnssec_ok: flags.0 & Flags::DO != 0,
        checking_disabled: flags.0 & Flags::CD != 0,
        at: time(miss.at),
        cause: cause.to_owned(),
        since,
        by: purge.as_ref().filter(|_| shows_names).map(|purge| purge.by.to_string()),
        text: text(cause, since, (purge.as_ref(), shows_names), *other),
    }
}

/// Returns the cause in words.
fn text(
    cause: &str,
    since: Option<u64>,
    (purge, shows_names): (Option<&PurgeNote>, bool),
    other: Option<Flags>,
) -> String {
    let since = since.and_then(|since| Timestamp::from_second(i64::try_from(since).ok()?).ok());
    let since = since.map(|since| format!(" at {since}")).unwrap_or_default();
    match cause {
        "expired" => format!("the answer had expired{since} and was not renewed"),
        "evicted" => format!("the answer was evicted{since}: cache.host_bytes was in use"),
        "purged" => {
            let by = purge.filter(|_| shows_names).map(|note| format!(" by {}", note.by));
            let what = purge.map(|note| format!(" ({})", scope(&note.purge)));
            format!("the answer was purged{since}{}{}", by.unwrap_or_default(), what.unwrap_or_default())
        }
        "not_kept" => format!("the answer{since} was not to be kept: its TTL was 0"),
        "variant" => {
            format!("it was asked for the first time{}: answers with other flags do not count", with(other))
        }
        "group" => "only clients with other upstreams had asked before".to_owned(),
        _ => "it was asked for the first time, as far as is remembered".to_owned(),
    }
}

/// Returns the flags of another variant, in words.
fn with(other: Option<Flags>) -> String {
    let Some(other) = other else { return String::new() };
    let told = match (other.0 & Flags::DO != 0, other.0 & Flags::CD != 0) {
        (false, false) => "without DO and CD",
        (true, false) => "with DO",
        (false, true) => "with CD",
        (true, true) => "with DO and CD",
    };
    format!(" with these flags, after it was asked {told}")
}

/// Returns the scope of a purge.
fn scope(purge: &Purge) -> String {
    match purge {
        Purge::Name(name) => format!("name {}", names::display(name)),
        Purge::Suffix(name) => format!("suffix {}", names::display(name)),
        Purge::All | Purge::Verdicts | Purge::VerdictsOn(_) => "all".to_owned(),
    }
}
