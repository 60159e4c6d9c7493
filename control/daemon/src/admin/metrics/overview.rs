//! The metrics that dashboards and alerts begin with: queries, answers and their times, over all workers
//! and transports.

use super::super::{Service, exposition::Families};
use ringdns_dataplane::{
    census::CensusTotals,
    latency::{Latencies, Outcome},
    stats::{Counter, StatsSnapshot},
};

/// Outcomes of queries over UDP that workers answer: label, tier, counter.
const ANSWERS: [(&str, &str, Counter); 12] = [
    ("hit", "worker", Counter::Hit),
    ("stale", "worker", Counter::Stale),
    ("failure", "worker", Counter::CachedFailure),
    ("formerr", "worker", Counter::FormErr),
    ("notimp", "worker", Counter::NotImp),
    ("refused", "worker", Counter::Refused),
    ("denied", "worker", Counter::Denied),
    ("badvers", "worker", Counter::BadVers),
    ("identity", "worker", Counter::Identity),
    ("cookie", "worker", Counter::Cookie),
    ("limited", "worker", Counter::Slipped),
    ("miss", "control", Counter::PuntAnswered),
];

/// Adds them.
pub(super) fn add(service: &Service, latencies: &Latencies, families: &mut Families) {
    families.gauges("ringdns_build_info", "Version of ringdnsd, and the target that it was built for.");
    let target = format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS);
    families.sample(&[("version", &env!("CARGO_PKG_VERSION")), ("target", &target)], 1u64);
    let start = service.clock.unix().saturating_sub(service.clock.secs().into());
    families.gauge("process_start_time_seconds", "Unix time of the start of ringdnsd.", start);

    let mut udp = StatsSnapshot::default();
    service.links.iter().for_each(|link| udp.merge(&link.stats.snapshot()));
    let listeners = (service.listeners)();
    let tcp = |name: &str| listeners.iter().find(|total| total.name == name).map_or(0, |total| total.value);
    let name = "ringdns_queries_total";
    families.counters(
        name,
        "Queries received, by transport and IP version. Over UDP, frames that are no queries count too; over TCP, queries \
         that got an answer count.",
    );
    let mut of_udp = CensusTotals::default();
    service.links.iter().for_each(|link| of_udp.merge(&link.census.totals()));
    let of_tcp = service.reloader.census_of_tcp();
    for (transport, census) in [("udp", &of_udp), ("tcp", &of_tcp)] {
        for (family, count) in ["ipv4", "ipv6"].iter().zip(census.versions) {
            families.sample(&[("transport", &transport), ("family", family)], count);
        }
    }
    let mut census = of_udp;
    census.merge(&of_tcp);
    families.counters(
        "ringdns_queries_by_type_total",
        "Queries answered, by type. Of each burst that a worker receives, one packet is counted for all.",
    );
    for (qtype, count) in census.by_type() {
        families.sample(&[("type", &qtype)], count);
    }
    families.counters(
        "ringdns_answers_by_rcode_total",
        "Answers by response code. Of each burst that a worker receives, one packet is counted for all.",
    );
    for (rcode, count) in census.by_rcode() {
        families.sample(&[("rcode", &rcode)], count);
    }
    let name = "ringdns_answers_total";
    families.counters(name, "Queries answered, by outcome, by the tier that answered, and by transport.");
    for (outcome, tier, counter) in ANSWERS {
        families.sample(&[("outcome", &outcome), ("tier", &tier), ("transport", &"udp")], udp.get(counter));
    }
    for (outcome, name) in [("resolved", "answered"), ("rejected", "rejected")] {
        families.sample(&[("outcome", &outcome), ("tier", &"control"), ("transport", &"tcp")], tcp(name));
    }
    let name = "ringdns_queries_dropped_total";
    families.counters(name, "Queries that get no answer, by transport; the counters by reason say why.");
    families.sample(&[("transport", &"udp")], udp.dropped_total() + udp.punts_unanswered());
    families.sample(&[("transport", &"tcp")], tcp("dropped") + tcp("withheld") + tcp("abandoned"));
    families.histograms(
        "ringdns_answer_duration_seconds",
        "Time from the turn of a worker that received a query to the kick that sends its answer, by outcome.",
    );
    for outcome in Outcome::ALL {
        families.sample(&[("outcome", &outcome.label())], &*latencies.get(outcome));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::stats::{UNANSWERED, WorkerStats};

    #[test]
    fn answers_and_drops_are_all_that_becomes_of_a_query() {
        let stats = WorkerStats::default();
        for (_, _, counter) in ANSWERS {
            stats.add(counter, 1);
            stats.add(Counter::Received, 1);
        }
        UNANSWERED.iter().for_each(|counter| stats.add(*counter, 1));
        let punted = 1 + UNANSWERED.len() as u64;
        stats.add(Counter::Punted, punted);
        stats.add(Counter::Received, punted - 1);
        let snapshot = stats.snapshot();
        assert_eq!((snapshot.unaccounted(), snapshot.punts_waiting()), (0, 0));
    }
}
