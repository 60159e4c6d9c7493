//! A second query to another upstream when the first takes longer than usual.

use super::{
    sockets::{Heard, Stage, ask},
    *,
};
use tokio::time::{Instant, timeout};

const ON: &str = "[resolver]\nhedge = 95\n";
const USUAL: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_millis(800);

/// Returns a resolver for these upstreams, whose answers have usually taken 20 ms so far.
fn used_to(upstreams: &[UpstreamConfig]) -> Arc<Resolver> {
    let resolver = resolver_for(upstreams, ON);
    for upstream in resolver.upstreams().iter() {
        (0..64).for_each(|_| upstream.answered(USUAL));
    }
    resolver
}

/// Returns three upstreams that the test plays.
async fn stages() -> ([Stage; 3], Arc<Resolver>) {
    let stages = [Stage::open().await, Stage::open().await, Stage::open().await];
    let resolver = used_to(&stages.each_ref().map(|stage| stage.upstream(TIMEOUT)));
    (stages, resolver)
}

fn hedges(resolver: &Resolver) -> u64 {
    (0..resolver.upstreams().iter().len()).map(|number| count_of(resolver, number, "hedges")).sum()
}

fn failure(heard: &Heard) -> Vec<u8> {
    heard.query.response(2, &[])
}

/// Waits, without letting time pass, until an upstream's counter reaches `value`.
async fn until(resolver: &Resolver, number: usize, name: &str, value: u64) {
    while count_of(resolver, number, name) < value {
        tokio::task::yield_now().await;
    }
}

/// The first of two answers is used, and the later one does no harm.
#[tokio::test(start_paused = true)]
async fn the_first_of_two_answers_wins() {
    for second_wins in [true, false] {
        let ([first, second, _third], resolver) = stages().await;
        let began = Instant::now();
        let mut waiting = ask(&resolver, 1, "a");
        let asked_first = first.hear().await;
        let asked_second = second.hear().await;
        let waited = began.elapsed();
        assert!((USUAL..USUAL * 2).contains(&waited), "the percentile is 20 ms: {waited:?}");
        let (early, late) = if second_wins { (1, 0) } else { (0, 1) };
        let plays = [(&first, &asked_first), (&second, &asked_second)];
        let say = async |number: usize, ttl| {
            let (stage, heard) = plays[number];
            stage.say(heard.from, &heard.query.answer(ttl)).await;
        };
        say(early, 60).await;
        assert_eq!(waiting.pop().unwrap().await.unwrap().answer.ttl, 60);
        assert_eq!(resolver.under_way(), 0);
        say(late, 61).await;
        until(&resolver, late, "answers", 1).await;
        assert_eq!(resolver.resolve(&key("a0.example")).await.answer.ttl, 60, "the late one is not kept");
        assert_eq!((hedges(&resolver), count_of(&resolver, 1, "hedges")), (1, 1));
        assert_eq!(count_of(&resolver, 1, "hedges_won"), u64::from(second_wins));
        assert_eq!(count_of(&resolver, 2, "queries_udp"), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_answers_in_time_is_the_only_one_asked() {
    let ([first, ..], resolver) = stages().await;
    for number in 0..10 {
        let mut waiting = ask(&resolver, 1, &format!("name{number}-"));
        let heard = first.hear().await;
        tokio::time::sleep(USUAL / 2).await;
        first.say(heard.from, &heard.query.answer(60)).await;
        assert_eq!(waiting.pop().unwrap().await.unwrap().answer.ttl, 60);
    }
    assert_eq!((hedges(&resolver), count(&resolver, "queries_udp")), (0, 10));
}

/// The third upstream is asked once both others have failed, in either order.
#[tokio::test(start_paused = true)]
async fn when_both_fail_the_next_is_asked() {
    for first_fails_first in [true, false] {
        let ([first, second, third], resolver) = stages().await;
        let mut waiting = ask(&resolver, 1, "a");
        let asked = [first.hear().await, second.hear().await];
        let mut plays = [(0, &first, &asked[0]), (1, &second, &asked[1])];
        if !first_fails_first {
            plays.reverse();
        }
        for (at, (number, stage, heard)) in plays.into_iter().enumerate() {
            assert_eq!(count_of(&resolver, 2, "queries_udp"), 0, "asked after {at} failures");
            stage.say(heard.from, &failure(heard)).await;
            until(&resolver, number, "failures", 1).await;
        }
        let heard = third.hear().await;
        third.say(heard.from, &heard.query.answer(60)).await;
        assert_eq!(waiting.pop().unwrap().await.unwrap().answer.ttl, 60);
        assert_eq!(hedges(&resolver), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_in_vain_when_all_fail_or_are_silent() {
    for silent in [[false, false], [true, false], [false, true], [true, true]] {
        let stages = [Stage::open().await, Stage::open().await];
        let resolver = used_to(&stages.each_ref().map(|stage| stage.upstream(TIMEOUT)));
        for (stage, silent) in stages.into_iter().zip(silent) {
            tokio::spawn(async move {
                loop {
                    let heard = stage.hear().await;
                    if !silent {
                        stage.say(heard.from, &failure(&heard)).await;
                    }
                }
            });
        }
        let began = Instant::now();
        assert_eq!(rcode_of(&resolver.resolve(&key("a.example")).await), rcode::SERVFAIL, "{silent:?}");
        assert!(began.elapsed() <= Duration::from_millis(3010), "{silent:?}: {:?}", began.elapsed());
        assert!(hedges(&resolver) <= 1, "{silent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_hedged_once_however_long_it_takes() {
    let ([first, second, third], resolver) = stages().await;
    let mut waiting = ask(&resolver, 1, "a");
    assert_eq!(rcode_of(&waiting.pop().unwrap().await.unwrap()), rcode::SERVFAIL);
    assert_eq!(hedges(&resolver), 1);
    for number in 0..3 {
        let asked = count_of(&resolver, number, "queries_udp");
        assert!((1..=3).contains(&asked), "upstream {number} was asked {asked} times");
    }
    drop((first, second, third));
}

#[tokio::test(start_paused = true)]
async fn one_upstream_alone_is_not_hedged() {
    let stage = Stage::open().await;
    let resolver = used_to(&[stage.upstream(TIMEOUT)]);
    let mut waiting = ask(&resolver, 1, "a");
    assert_eq!(rcode_of(&waiting.pop().unwrap().await.unwrap()), rcode::SERVFAIL);
    assert_eq!((hedges(&resolver), count(&resolver, "queries_udp")), (0, 3));
}

/// If the second upstream is unreachable, the first is still waited for.
#[tokio::test(start_paused = true)]
async fn a_hedge_that_comes_to_nothing_does_no_harm() {
    let stage = Stage::open().await;
    let (_closed, unreachable) = nowhere();
    let resolver = used_to(&[stage.upstream(TIMEOUT), upstream(unreachable, TIMEOUT)]);
    let mut waiting = ask(&resolver, 1, "a");
    let heard = stage.hear().await;
    until_later(&resolver, 1, "unreachable").await;
    stage.say(heard.from, &heard.query.answer(60)).await;
    assert_eq!(waiting.pop().unwrap().await.unwrap().answer.ttl, 60);
    assert_eq!(hedges(&resolver), 1);
}

/// Waits, letting time pass, until an upstream's counter is not zero.
async fn until_later(resolver: &Resolver, number: usize, name: &str) {
    while count_of(resolver, number, name) == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Both upstreams lose a third of their queries, so that each is asked for answers that the other
/// owes, from all threads.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn upstreams_that_hedge_for_each_other_do_not_lock_each_other_up() {
    const QUESTIONS: usize = 4000;
    let lossy = |salt: usize| {
        let asked = std::sync::atomic::AtomicUsize::new(salt);
        Upstream::local(move |seen| {
            let lost = asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
            if lost { Vec::new() } else { vec![Say::Send(seen.query.answer(60))] }
        })
    };
    let upstreams = [lossy(0), lossy(1)];
    let configured = upstreams.each_ref().map(|fake| upstream(fake.address(), Duration::from_millis(200)));
    let config = config(&configured, "[resolver]\nhedge = 50\nstrategy = \"round-robin\"\n");
    let resolver = resolver_of(&Config { cache: cache(), ..config }, FlightLimits::default());
    for upstream in resolver.upstreams().iter() {
        (0..64).for_each(|_| upstream.answered(Duration::from_millis(1)));
    }
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..40 {
        let resolver = resolver.clone();
        tasks.spawn(async move {
            for turn in 0..QUESTIONS / 400 {
                let asked: Vec<_> = ask(&resolver, 10, &format!("name{task}-{turn}-"));
                for receiver in asked {
                    receiver.await.unwrap();
                }
            }
        });
    }
    timeout(Duration::from_secs(60), tasks.join_all()).await.expect("somebody waits for ever");
    assert_eq!((resolver.under_way(), resolver.counters.flights.get()), (0, QUESTIONS as u64));
    let resolved = resolver.counters.resolved.get();
    assert!(resolved > QUESTIONS as u64 / 10 * 9, "{resolved} of {QUESTIONS} were answered");
    let hedges = hedges(&resolver);
    assert!((1..=QUESTIONS as u64).contains(&hedges), "{hedges}");
}
