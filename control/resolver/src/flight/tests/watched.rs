//! Addresses that firewalls know before clients do.

use super::*;
use crate::policy::testing::{blocking, blocking_for};
use ringdns_policy::{
    data::{DataBuilder, LocalRecord},
    rule::RuleAnswer,
};
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

/// Returns the addresses that firewalls were shown with a name, and the lifetimes.
fn shown_of(slow: &Slow, name: &str) -> Vec<(Vec<String>, Secs)> {
    let (shown, name) = (slow.shown.lock(), names::name(name).unwrap());
    let of_name = shown.iter().filter(|shown| shown.0 == name);
    of_name.map(|shown| (shown.1.iter().map(ToString::to_string).collect(), shown.2)).collect()
}

fn local_data(records: &[(&str, u16, &str)]) -> ringdns_policy::data::LocalData {
    let mut builder = DataBuilder::default();
    for (owner, rtype, data) in records {
        builder.record(LocalRecord::parse(owner, *rtype, 77, data).unwrap()).unwrap();
    }
    builder.finish(None)
}

#[tokio::test]
async fn firewalls_know_addresses_that_are_made_here() {
    let fake = playing(|seen| {
        let is_v4 = seen.query.qtype() == 1;
        Some(if is_v4 { seen.query.answer(60) } else { seen.query.response(0, &[]) })
    });
    let (resolver, slow) = watched(&fake, "[dns64]\nprefix = \"64:ff9b::/96\"\n");
    resolver.set_local_data(local_data(&[
        ("nas.fw", 1, "192.0.2.70"),
        ("alias.fw", 5, "nas.elsewhere"),
        ("nas.elsewhere", 1, "192.0.2.71"),
        ("null.fw", 1, "0.0.0.0"),
        ("txt.fw", 16, "192.0.2.72"),
    ]));
    for (name, qtype) in
        [("nas.fw", 1), ("alias.fw", 1), ("null.fw", 1), ("txt.fw", 16), ("nas.elsewhere", 1)]
    {
        let resolved = resolver.resolve_for(CLIENT, &key_of(name, qtype, false)).await;
        assert_eq!(rcode_of(&resolved), rcode::NOERROR, "{name}");
    }
    assert_eq!(shown_of(&slow, "nas.fw"), [(vec!["192.0.2.70".into()], 77)]);
    assert_eq!(shown_of(&slow, "alias.fw"), [(vec!["192.0.2.71".into()], 77)], "the target of an alias");
    assert_eq!(slow.shown.lock().len(), 2, "neither null addresses, nor other types, nor other names");
    // IPv6 addresses that DNS64 makes of one of an upstream, which clients may ask for too, and of one of
    // local data.
    for (name, expected) in [("v4.fw", "64:ff9b::c000:201"), ("nas.fw", "64:ff9b::c000:246")] {
        resolver.resolve_for(CLIENT, &key_of(name, 28, false)).await;
        let made = shown_of(&slow, name);
        assert_eq!(made.len(), 2, "{name}: {made:?}");
        assert_eq!((&made[1].0[..], made[1].1 <= 77), (&[expected.to_owned()][..], true), "{name}");
    }
    assert_eq!(slow.late.load(Ordering::Relaxed), slow.shown.lock().len() as u64, "each answer waited");
}

#[tokio::test]
async fn firewalls_know_addresses_of_lists() {
    let fake = playing(|seen| Some(seen.query.answer(60)));
    let (resolver, slow) = watched(&fake, "");
    let chosen = RuleAnswer::Address(IpAddr::from([192, 0, 2, 80]));
    resolver.set_policy(blocking_for(Group::DEFAULT, "ads.fw", chosen));
    // Validation alone.
    resolver.resolve(&key("ads.fw")).await;
    assert!(slow.shown.lock().is_empty());
    resolver.resolve_for(CLIENT, &key("ads.fw")).await;
    assert_eq!(shown_of(&slow, "ads.fw"), [(vec!["192.0.2.80".into()], 60)]);
    resolver.set_policy(blocking_for(Group::DEFAULT, "ads.fw", RuleAnswer::Null));
    resolver.resolve_for(CLIENT, &key("ads.fw")).await;
    assert_eq!(slow.shown.lock().len(), 1, "the null address is no host's");
    // The alias of a list, whose target is resolved.
    let alias = RuleAnswer::Alias(names::name("garden.example").unwrap().into());
    resolver.set_policy(blocking_for(Group::DEFAULT, "led.fw", alias));
    resolver.resolve_for(CLIENT, &key("led.fw")).await;
    let led = shown_of(&slow, "led.fw");
    assert_eq!(led.last().map(|shown| &shown.0[..]), Some(&["192.0.2.1".to_owned()][..]), "{led:?}");
}

#[tokio::test]
async fn firewalls_know_hints_of_services() {
    const HTTPS: u16 = 65;
    let v6 = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    let rdata = [&[0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 90, 0, 6, 0, 16][..], &v6].concat();
    let fake = playing(move |seen| Some(seen.query.response(0, &[record(HTTPS, 60, &rdata)])));
    let (resolver, slow) = watched(&fake, "");
    resolver.resolve_for(CLIENT, &key_of("www.fw", HTTPS, false)).await;
    let expected = vec!["192.0.2.90".to_owned(), "2001:db8::9".to_owned()];
    assert_eq!(shown_of(&slow, "www.fw"), [(expected, 60 + resolver.rules.ttl.stale)]);
}

#[tokio::test]
async fn firewalls_know_addresses_of_wildcards_of_other_names() {
    let root = Arc::new(super::validation::Root::new());
    let (fake, resolver) = super::validation::validating_coded(&root, "", super::denied::with_wildcard);
    let slow = Arc::<Slow>::default();
    resolver.set_watch(slow.clone());
    resolver.resolve_for(CLIENT, &key("c.fw")).await;
    resolver.resolve_for(CLIENT, &key("d.fw")).await;
    assert_eq!(shown_of(&slow, "d.fw"), [(vec!["192.0.2.1".into()], 60 + resolver.rules.ttl.stale)]);
    assert_eq!((fake.asked(), resolver.counters.expanded.get()), (2, 1));
}
