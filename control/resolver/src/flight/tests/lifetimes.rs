//! Work that is begun for one client continues without it, and holds no more than it needs.

use super::*;

async fn landed(resolver: &Resolver) {
    while resolver.under_way() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_away_takes_nothing_with_it() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let client = resolver.clone();
    let asking = tokio::spawn(async move { client.resolve(&key("www.example.com")).await });
    while resolver.under_way() == 0 {
        std::thread::yield_now();
    }
    asking.abort();
    while !asking.is_finished() {
        std::thread::yield_now();
    }
    gate.open();
    assert!(asking.await.is_err(), "the client is gone");
    landed(&resolver).await;
    assert_eq!(resolver.resolve(&key("www.example.com")).await.answer.ttl, 60);
    assert_eq!((fake.asked(), resolver.host().len()), (1, 1), "the answer was thrown away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_renewal_holds_the_question_and_nothing_of_the_answer() {
    let (fake, gate) = gated();
    let resolver = resolver(&[upstream(fake.address(), LONG)]);
    let now = resolver.clock().secs();
    let stale = Arc::new(Answer { stale: 1000, ..Answer::error(rcode::NOERROR, None, now, 0) });
    resolver.host().insert_expired(&key("www.example.com"), stale);
    let given = resolver.lookup(&key("www.example.com"), &mut Turn::default()).unwrap();
    let old = Arc::downgrade(&given.answer);
    drop(given);
    assert_eq!((resolver.under_way(), old.strong_count()), (1, 0), "the renewal holds what was given");
    gate.open();
    landed(&resolver).await;
    assert_eq!(fake.asked(), 1);
}
