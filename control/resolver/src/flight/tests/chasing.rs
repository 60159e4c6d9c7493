//! Aliases that lead to names which the answering upstream does not serve.

use super::*;
use tokio::time::{Instant, timeout};

const CNAME: u16 = 5;
const SOA: u16 = 6;
const AA: u16 = 0x0400;

fn alias(query: &[u8], flags: u16, ttl: u32, to: &str) -> Vec<u8> {
    response(query, flags, &[&record(CNAME, ttl, &names::name(to).unwrap())])
}

/// Returns an upstream for `corp.example` that plays `script`, one for all other names that plays
/// `others`, and their resolver.
struct Two {
    corp: Log,
    others: Log,
    resolver: Arc<Resolver>,
    _fakes: [FakeUpstream; 2],
}

impl Two {
    async fn play(
        corp: impl Fn(&Seen, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
        others: impl Fn(&Seen, &[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        let (inner, corp) = playing(corp).await;
        let (outer, others) = playing(others).await;
        let zones = vec![names::name("corp.example").unwrap()];
        let upstreams =
            [upstream(outer.address, LONG), UpstreamConfig { zones, ..upstream(inner.address, LONG) }];
        Two { corp, others, resolver: resolver(&upstreams), _fakes: [inner, outer] }
    }

    fn asked(&self) -> [usize; 2] {
        [self.corp.lock().len(), self.others.lock().len()]
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
        let corp = move |_: &Seen, query: &[u8]| Some(alias(query, flags, 300, "www.public.example"));
        let two = Two::play(corp, |_, query| Some(a_record(query, 60))).await;
        for _ in 0..2 {
            let resolved = two.resolver.resolve(&key("www.corp.example")).await;
            assert_eq!(
                (rcode_of(&resolved), resolved.answer.counts, resolved.answer.ttl),
                (0, [2, 0, 0], 60)
            );
            assert_eq!(records(&resolved.answer), [(CNAME, 300), (1, 60)]);
            assert_eq!(resolved.answer.wire[resolved.answer.wire.len() - 4..], [192, 0, 2, 1]);
        }
        assert!(two.others.lock()[0].is_for("www.public.example"));
        // The target is known by its own name too.
        assert_eq!(two.resolver.resolve(&key("www.public.example")).await.answer.counts, [1, 0, 0]);
        assert_eq!(two.asked(), [1, 1]);
        assert_eq!((two.resolver.counters.followed.get(), two.resolver.under_way()), (1, 0));
    }
}

#[tokio::test]
async fn a_target_that_is_known_is_not_asked_for() {
    let two = Two::play(
        |_, query| Some(alias(query, AA, 300, "www.public.example")),
        |_, query| Some(a_record(query, 60)),
    )
    .await;
    two.resolver.resolve(&key("www.public.example")).await;
    assert_eq!(two.resolver.resolve(&key("www.corp.example")).await.answer.counts, [2, 0, 0]);
    assert_eq!(two.asked(), [1, 1]);
}

/// DO and the type are kept for the target.
#[tokio::test]
async fn a_target_is_asked_for_as_the_name_was() {
    let two = Two::play(
        |_, query| Some(alias(query, AA, 300, "www.public.example")),
        |_, query| Some(response(query, 0, &[&record(28, 60, &[1; 16])])),
    )
    .await;
    let resolved = two.resolver.resolve(&key_of("www.corp.example", 28, true)).await;
    assert_eq!(records(&resolved.answer), [(CNAME, 300), (28, 60)]);
    let seen = two.others.lock()[0].clone();
    assert_eq!((seen.qtype, seen.dnssec_ok), (28, true));
}

#[tokio::test]
async fn what_is_said_of_the_target_is_said_of_the_name() {
    // No such name, with its SOA: kept for no longer than that says.
    let soa = [&[0, 0][..], &[0, 0, 0, 1].repeat(4), &[0, 0, 0, 20]].concat();
    let nothing = move |_: &Seen, query: &[u8]| {
        let mut message = response(query, u16::from(rcode::NXDOMAIN), &[]);
        message[9] = 1;
        message.extend(record_of(&names::name("public.example").unwrap(), SOA, 60, &soa));
        Some(message)
    };
    let two = Two::play(|_, query| Some(alias(query, AA, 300, "www.public.example")), nothing).await;
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.counts), (rcode::NXDOMAIN, [1, 1, 0]));
    assert_eq!(resolved.answer.ttl, 20);

    // A target that cannot be resolved is a failure, with its reason.
    let failing = |_: &Seen, query: &[u8]| Some(with_opt(response(query, 2, &[]), 0, &[0, 15, 0, 2, 0, 9]));
    let two = Two::play(|_, query| Some(alias(query, AA, 300, "www.public.example")), failing).await;
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!((rcode_of(&resolved), resolved.answer.ede), (rcode::SERVFAIL, Some(9)));
}

#[tokio::test]
async fn aliases_are_left_alone_where_there_is_nothing_to_follow() {
    let soa = [&[0, 0][..], &[0, 0, 0, 1].repeat(5)].concat();
    let corp = move |seen: &Seen, query: &[u8]| {
        let mut message = alias(query, AA, 300, "www.public.example");
        if seen.is_for("none.corp.example") {
            // It knows that there is no such record.
            message[9] = 1;
            message.extend(record_of(&names::name("public.example").unwrap(), SOA, 60, &soa));
        }
        Some(message)
    };
    // A resolver that is asked for all names says all that it knows.
    let others = |_: &Seen, query: &[u8]| Some(alias(query, 0, 300, "www.other.example"));
    let two = Two::play(corp, others).await;
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
            |_, query| Some(alias(query, AA, 300, "www.public.example")),
            |_, query| Some(alias(query, AA, 300, "www.corp.example")),
        )
        .await;
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
    let next = |seen: &Seen, query: &[u8]| {
        let number: u32 =
            std::str::from_utf8(&seen.name[2..=usize::from(seen.name[0])]).unwrap().parse().unwrap();
        Some(alias(query, AA, 300, &format!("n{}.corp.example", number + 1)))
    };
    let two = Two::play(next, |_, _| None).await;
    assert_eq!(rcode_of(&two.resolver.resolve(&key("n0.corp.example")).await), rcode::SERVFAIL);
    assert_eq!(two.asked(), [9, 0], "the name, and eight aliases");
}

#[tokio::test]
async fn several_aliases_are_followed_over_several_upstreams() {
    let corp = |seen: &Seen, query: &[u8]| {
        let to = if seen.is_for("www.corp.example") { "one.public.example" } else { "two.public.example" };
        Some(alias(query, AA, 300, to))
    };
    let others = |seen: &Seen, query: &[u8]| {
        Some(if seen.is_for("one.public.example") {
            alias(query, AA, 200, "back.corp.example")
        } else {
            a_record(query, 60)
        })
    };
    let two = Two::play(corp, others).await;
    let resolved = two.resolver.resolve(&key("www.corp.example")).await;
    assert_eq!(records(&resolved.answer), [(CNAME, 300), (CNAME, 200), (CNAME, 300), (1, 60)]);
    assert_eq!(two.asked(), [2, 2]);
    // Halves of answers are not kept: this one is whole as well.
    let resolved = two.resolver.resolve(&key("one.public.example")).await;
    assert_eq!(resolved.answer.counts, [3, 0, 0]);
}

/// Following an alias takes no longer than any other question may.
#[tokio::test(start_paused = true)]
async fn a_target_that_nobody_answers_for_is_given_up_in_time() {
    let two = Two::play(|_, query| Some(alias(query, AA, 300, "www.public.example")), |_, _| None).await;
    let began = Instant::now();
    assert_eq!(rcode_of(&two.resolver.resolve(&key("www.corp.example")).await), rcode::SERVFAIL);
    assert!(began.elapsed() <= Duration::from_millis(3010), "{:?}", began.elapsed());
    assert_eq!(two.resolver.under_way(), 0);
}
