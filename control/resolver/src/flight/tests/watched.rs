//! Addresses that firewalls know before clients do.

use super::*;
use crate::policy::testing::blocking;
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::atomic::AtomicU64,
};
use tokio::time::{Instant, timeout};

const CLIENT: Option<Client> =
    Some(Client { address: IpAddr::V4(Ipv4Addr::LOCALHOST), group: Group::DEFAULT });

/// Addresses of a name, and the time for which clients may be given them.
type Shown = (Vec<u8>, Vec<IpAddr>, Secs);

/// Firewall that is told of names below `fw`, and that answers when the test lets it.
#[derive(Default)]
struct Slow {
    shown: Mutex<Vec<Shown>>,
    waiting: Mutex<Vec<oneshot::Sender<()>>>,
    late: AtomicU64,
}

impl AddressWatch for Slow {
    fn wants(&self, name: &[u8]) -> bool {
        name.ends_with(b"\x02fw\0")
    }

    fn take(&self, name: &[u8], addresses: &[IpAddr], lifetime: Secs) -> Option<oneshot::Receiver<()>> {
        self.shown.lock().push((name.to_vec(), addresses.to_vec(), lifetime));
        let (known, wait) = oneshot::channel();
        self.waiting.lock().push(known);
        Some(wait)
    }

    fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }
}

fn watched(fake: &Upstream, more: &str) -> (Arc<Resolver>, Arc<Slow>) {
    let resolver = resolver_for(&[upstream(fake.address(), LONG)], more);
    let slow = Arc::<Slow>::default();
    resolver.set_watch(slow.clone());
    (resolver, slow)
}

#[tokio::test]
async fn an_answer_waits_until_firewalls_know_its_addresses() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let (resolver, slow) = watched(&fake, "");
    let key = key("www.fw");
    let asking = tokio::spawn({
        let (resolver, key) = (resolver.clone(), key.clone());
        async move { resolver.resolve_for(CLIENT, &key).await }
    });
    while slow.waiting.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    assert!(!asking.is_finished() && resolver.host().peek(&key).is_none(), "nobody finds it meanwhile");
    // Another client joins the question.
    let joined = resolver.resolve_for(CLIENT, &key);
    let mut joined = Box::pin(joined);
    assert!(timeout(Duration::from_millis(20), &mut joined).await.is_err());
    slow.waiting.lock().drain(..).for_each(|known| known.send(()).unwrap());
    assert_eq!((rcode_of(&asking.await.unwrap()), rcode_of(&joined.await)), (rcode::NOERROR, rcode::NOERROR));
    let stale = resolver.rules.ttl.stale;
    let expected = (names::name("www.fw").unwrap(), vec![IpAddr::from([192, 0, 2, 1])], 60 + stale);
    assert_eq!(*slow.shown.lock(), [expected], "while it may be served, as a stale one too");
    // From the host tier, it has been shown already.
    resolver.resolve_for(CLIENT, &key).await;
    assert_eq!((slow.shown.lock().len(), fake.asked(), slow.late.load(Ordering::Relaxed)), (1, 1, 0));
}

#[tokio::test]
async fn a_firewall_that_is_late_or_gone_holds_nobody_up_for_long() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let (resolver, slow) = watched(&fake, "");
    let begun = Instant::now();
    assert_eq!(rcode_of(&resolver.resolve_for(CLIENT, &key("late.fw")).await), rcode::NOERROR);
    assert!((Duration::from_millis(150)..Duration::from_secs(2)).contains(&begun.elapsed()));
    assert_eq!(slow.late.load(Ordering::Relaxed), 1);
    let gone = tokio::spawn({
        let resolver = resolver.clone();
        async move { resolver.resolve_for(CLIENT, &key("gone.fw")).await }
    });
    while slow.waiting.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    slow.waiting.lock().clear();
    assert_eq!(rcode_of(&gone.await.unwrap()), rcode::NOERROR);
    assert_eq!(slow.late.load(Ordering::Relaxed), 1, "it is not waited for");
}

#[tokio::test]
async fn firewalls_know_what_clients_get_and_nothing_else() {
    let fake = playing(|seen| {
        let addresses = [record(1, 60, &[192, 168, 1, 1]), record(1, 60, &[192, 0, 2, 7])];
        Some(seen.query.response(0, &addresses))
    });
    let (resolver, slow) = watched(&fake, "[rebinding]\nenabled = true\n");
    // Another name, and another type.
    resolver.resolve_for(CLIENT, &key("www.example")).await;
    resolver.resolve_for(CLIENT, &key_of("txt.fw", 16, false)).await;
    assert!(slow.shown.lock().is_empty());
    resolver.resolve_for(CLIENT, &key("evil.fw")).await;
    let public = vec![IpAddr::from([192, 0, 2, 7])];
    assert_eq!(slow.shown.lock()[0].1, public, "the private address is removed for clients");
    // A blocked name is resolved for validation alone.
    resolver.set_policy(blocking("ads.fw"));
    resolver.resolve(&key("ads.fw")).await;
    assert_eq!(slow.shown.lock().len(), 1);
    // Failures have no addresses.
    let failing = failing(2);
    let (resolver, slow) = watched(&failing, "");
    resolver.resolve_for(CLIENT, &key("www.fw")).await;
    assert!(slow.shown.lock().is_empty());
}
