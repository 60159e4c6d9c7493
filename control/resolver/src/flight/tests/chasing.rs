//! Aliases that lead to names which the answering upstream does not serve.

use super::*;
use tokio::time::{Instant, timeout};

const CNAME: u16 = 5;
const SOA: u16 = 6;
const AA: u16 = 0x0400;

fn alias(seen: &Seen, flags: u16, ttl: u32, to: &str) -> Vec<u8> {
    seen.query.response(flags, &[record(CNAME, ttl, &names::name(to).unwrap())])
}

/// Returns an upstream for `corp.example` that plays `script`, one for all other names that plays
/// `others`, and their resolver.
struct Two {
    corp: Upstream,
    others: Upstream,
    resolver: Arc<Resolver>,
}

impl Two {
    fn play(
        corp: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static,
        others: impl Fn(&Seen) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (corp, others) = (playing(corp), playing(others));
        let zones = vec![names::name("corp.example").unwrap()];
        let upstreams =
            [upstream(others.address(), LONG), UpstreamConfig { zones, ..upstream(corp.address(), LONG) }];
        Two { corp, others, resolver: resolver(&upstreams) }
    }

    fn asked(&self) -> [usize; 2] {
        [self.corp.asked(), self.others.asked()]
    }
}

/// Types and last bytes of the records of an answer.
fn records(answer: &Answer) -> Vec<(u16, u32)> {
    let question = 12 + names::name("www.corp.example").unwrap().len() + 4;
    answer
        .ttls
        .iter()
        .map(|at| {
            let at = usize::from(u16::from_le_bytes(*at)) - question;
            let field = |at: usize| u16::from_be_bytes([answer.wire[at], answer.wire[at + 1]]);
            (field(at - 4), u32::from(field(at)) << 16 | u32::from(field(at + 2)))
        })
        .collect()
}

#[tokio::test]
async fn an_alias_out_of_the_zone_is_followed_once_and_kept() {
    // With authority, and from a resolver that has been asked for its zone alone.
    for flags in [AA, 0] {
        let corp = move |seen: &Seen| Some(alias(seen, flags, 300, "www.public.example"));
        let two = Two::play(corp, |seen| Some(seen.query.answer(60)));
        for _ in 0..2 {
            let resolved = two.resolver.resolve(&key("www.corp.example")).await;
            assert_eq!(
                (rcode_of(&resolved), resolved.answer.counts, resolved.answer.ttl),
                (0, [2, 0, 0], 60)
            );
            assert_eq!(records(&resolved.answer), [(CNAME, 300), (1, 60)]);
            assert_eq!(resolved.answer.wire[resolved.answer.wire.len() - 4..], [192, 0, 2, 1]);
        }
        assert!(two.others.seen()[0].query.is_for("www.public.example"));
        // The target is known by its own name too.
        assert_eq!(two.resolver.resolve(&key("www.public.example")).await.answer.counts, [1, 0, 0]);
        assert_eq!(two.asked(), [1, 1]);
        assert_eq!((two.resolver.counters.followed.get(), two.resolver.under_way()), (1, 0));
    }
}

#[tokio::test]
async fn a_target_that_is_known_is_not_asked_for() {
    let two = Two::play(
        |seen| Some(alias(seen, AA, 300, "www.public.example")),
        |seen| Some(seen.query.answer(60)),
    );
    two.resolver.resolve(&key("www.public.example")).await;
    assert_eq!(two.resolver.resolve(&key("www.corp.example")).await.answer.counts, [2, 0, 0]);
    assert_eq!(two.asked(), [1, 1]);
}

/// DO and the type are kept for the target.
#[tokio::test]
async fn a_target_is_asked_for_as_the_name_was() {
    let two = Two::play(
        |seen| Some(alias(seen, AA, 300, "www.public.example")),
        |seen| Some(seen.query.response(0, &[record(28, 60, &[1; 16])])),
    );
    let resolved = two.resolver.resolve(&key_of("www.corp.example", 28, true)).await;
    assert_eq!(records(&resolved.answer), [(CNAME, 300), (28, 60)]);
    let query = &two.others.seen()[0].query;
    assert_eq!((query.qtype(), query.dnssec()), (28, (true, false)));
}

#[tokio::test]
async fn what_is_said_of_the_target_is_said_of_the_name() {
    // No such name, with its SOA: kept for no longer than that says.
    let soa = [&[0, 0][..], &[0, 0, 0, 1].repeat(4), &[0, 0, 0, 20]].concat();
    let nothing = move |seen: &Seen| {
        let mut message = seen.query.response(u16::from(rcode::NXDOMAIN), &[]);
        message[9] = 1;
        message.extend(record_of(&names::name("public.example").unwrap(), SOA, 60, &soa));
        Some(message)
    };
    let two = Two::play(|seen| Some(alias(seen, AA, 300, "www.public.example")), nothing);
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.counts), (rcode::NXDOMAIN, [1, 1, 0]));
    assert_eq!(resolved.answer.ttl, 20);

    // A target that cannot be resolved is a failure, with its reason.
    let failing = |seen: &Seen| Some(with_opt(seen.query.response(2, &[]), 0, &[0, 15, 0, 2, 0, 9]));
    let two = Two::play(|seen| Some(alias(seen, AA, 300, "www.public.example")), failing);
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.ede), (rcode::SERVFAIL, Some(9)));
}

#[tokio::test]
async fn aliases_are_left_alone_where_there_is_nothing_to_follow() {
    let soa = [&[0, 0][..], &[0, 0, 0, 1].repeat(5)].concat();
    let corp = move |seen: &Seen| {
        let mut message = alias(seen, AA, 300, "www.public.example");
        if seen.query.is_for("none.corp.example") {
            // It knows that there is no such record.
            message[9] = 1;
            message.extend(record_of(&names::name("public.example").unwrap(), SOA, 60, &soa));
        }
        Some(message)
    };
    // A resolver that is asked for all names says all that it knows.
    let others = |seen: &Seen| Some(alias(seen, 0, 300, "www.other.example"));
    let two = Two::play(corp, others);
    for (name, qtype) in [("www.corp.example", CNAME), ("none.corp.example", 1), ("www.public.example", 1)] {
        let resolved = two.resolver.resolve(&key_of(name, qtype, false)).await;
        assert_eq!((rcode_of(&resolved), resolved.answer.counts[0]), (0, 1), "{name}");
    }
    assert_eq!((two.asked(), two.resolver.counters.followed.get()), ([2, 1], 0));
}

/// Two names that are aliases of each other, asked for one after the other and at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn circles_across_upstreams_end() {
    for _ in 0..20 {
        let two = Two::play(
            |seen| Some(alias(seen, AA, 300, "www.public.example")),
            |seen| Some(alias(seen, AA, 300, "www.corp.example")),
        );
        let began = Instant::now();
        let ask = |name: &'static str| {
            let resolver = two.resolver.clone();
            tokio::spawn(async move { rcode_of(&resolver.resolve(&key(name)).await) })
        };
        for asked in [ask("www.corp.example"), ask("www.public.example")] {
            assert_eq!(
                timeout(LONG, asked).await.expect("they wait for each other").unwrap(),
                rcode::SERVFAIL
            );
        }
        assert!(began.elapsed() < Duration::from_secs(2), "only when the time was over");
        assert!(two.asked()[0] <= 3 && two.asked()[1] <= 3, "{:?}", two.asked());
    }
}

#[tokio::test]
async fn aliases_without_end_are_given_up() {
    let next = |seen: &Seen| {
        let name = seen.query.name();
        let number: u32 = name[1..].split('.').next().unwrap().parse().unwrap();
        Some(alias(seen, AA, 300, &format!("n{}.corp.example", number + 1)))
    };
    let two = Two::play(next, |_| None);
    assert_eq!(rcode_of(&two.resolver.resolve(&key("n0.corp.example")).await), rcode::SERVFAIL);
    assert_eq!(two.asked(), [9, 0], "the name, and eight aliases");
}

#[tokio::test]
async fn several_aliases_are_followed_over_several_upstreams() {
    let corp = |seen: &Seen| {
        let to =
            if seen.query.is_for("www.corp.example") { "one.public.example" } else { "two.public.example" };
        Some(alias(seen, AA, 300, to))
    };
    let others = |seen: &Seen| {
        Some(if seen.query.is_for("one.public.example") {
            alias(seen, AA, 200, "back.corp.example")
        } else {
            seen.query.answer(60)
        })
    };
    let two = Two::play(corp, others);
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!(records(&resolved.answer), [(CNAME, 300), (CNAME, 200), (CNAME, 300), (1, 60)]);
    assert_eq!(two.asked(), [2, 2]);
    // Halves of answers are not kept: this one is whole as well.
    let resolved = two.resolver.resolve(&key("one.public.example")).await;
    assert_eq!(resolved.answer.counts, [3, 0, 0]);
}

/// Following an alias takes no longer than any other question may.
#[tokio::test]
async fn a_target_that_nobody_answers_for_is_given_up_in_time() {
    let two = Two::play(|seen| Some(alias(seen, AA, 300, "www.public.example")), |_| None);
    let (began, resolver) = (Instant::now(), two.resolver.clone());
    let asking = tokio::spawn(async move { rcode_of(&resolver.resolve(&key("www.corp.example")).await) });
    while two.asked()[1] == 0 {
        tokio::task::yield_now().await;
    }
    // From here on, nothing but timers can happen.
    tokio::time::pause();
    assert_eq!(asking.await.unwrap(), rcode::SERVFAIL);
    assert!(began.elapsed() <= Duration::from_millis(3010), "{:?}", began.elapsed());
    // The target was asked for a moment later than the name.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(two.resolver.under_way(), 0);
}
