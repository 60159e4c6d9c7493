//! Counters of the resolver.

use ringdns_common::counters;

counters! {
    /// Counters of the resolver.
    ResolverCounters {
        /// Questions about special-use names, answered without upstreams.
        local,
        /// Questions of clients answered from local data (`[[local_record]]`, zones, hosts files), but
        /// for their repetition from worker caches.
        local_data,
        /// Answers of upstreams with private addresses for public names, which clients got without
        /// them or as REFUSED.
        rebinding,
        /// Changes of lists after which workers dropped only their answers about names of changed rules
        /// and answers with aliases.
        list_purges_of_names,
        /// Changes of lists after which workers dropped all answers, since the affected names could not
        /// be told or were too many.
        list_purges_of_all,
        /// Questions that were not in the host cache and were resolved, renewals among them.
        flights,
        /// Questions that joined the same question in flight.
        joined,
        /// Questions resolved to renew an expired answer.
        refreshes,
        /// Renewals of answers that had not expired yet, on behalf of workers.
        refreshed_ahead,
        /// Renewals not begun because too many questions were in flight.
        refresh_skipped,
        /// Renewals of answers that had not expired yet, not begun because refresh.per_second was
        /// spent.
        refresh_over_budget,
        /// Questions resolved with an answer.
        resolved,
        /// Questions whose resolution failed.
        failed,
        /// Answers that ended in an alias which the upstream does not serve, and whose target was
        /// resolved separately.
        followed,
        /// Failed resolutions answered with an expired answer (RFC 8767).
        stale_on_failure,
        /// Questions answered with an expired answer because resolution took too long (RFC 8767).
        stale_on_delay,
        /// Questions answered with SERVFAIL because too many questions were in flight.
        too_many_flights,
        /// Questions answered with SERVFAIL because too many waiters had the same question.
        too_many_waiters,
        /// Questions answered with SERVFAIL because the client had its share of the questions that
        /// may be in flight or may wait.
        client_over_share,
        /// Questions answered with SERVFAIL because the zone had its share of the questions that may
        /// be in flight or may wait.
        zone_over_share,
        /// Questions refused because their zone is capped (resolver.zone_misses): answered with SERVFAIL,
        /// or over UDP not at all.
        zone_over_cap,
        /// Caps on zones begun, because of floods of random names.
        zone_caps,
        /// Answers that were validated and found secure.
        validated_secure,
        /// Answers that were validated and found to be from unsigned zones (insecure).
        validated_insecure,
        /// Answers that were validated, found bogus and replaced by SERVFAIL.
        validated_bogus,
        /// Questions answered with NXDOMAIN or without data from validated denials of other
        /// questions, without asking upstreams (RFC 8198).
        synthesised,
        /// Questions answered from validated wildcards of other questions (RFC 8198 section 5.3).
        expanded,
        /// Questions answered with the NXDOMAIN of a name above, without asking upstreams (RFC 8020).
        below_nxdomain,
    }
}
