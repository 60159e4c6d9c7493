//! Watch on the addresses that names have, for firewalls.

use crate::{hints::hints, message::Message, resolved::Resolved, upstream::turn::Turn};
use ringdns_dataplane::{
    clock::{Clock, Secs},
    dns::{CLASS_IN, answer::Answer, key::Key, rcode, reply::Age, rtype},
    log::Tier,
};
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::timeout};

/// Extended error (RFC 8914): Synthesized.
pub(crate) const SYNTHESIZED: u16 = 29;
/// Longest time that an answer waits for firewalls to know its addresses.
const PATIENCE: Duration = Duration::from_millis(200);

/// Watch on addresses.
pub trait AddressWatch: Send + Sync {
    /// Whether the addresses of a name, in wire format and lowercased, are watched.
    fn wants(&self, name: &[u8]) -> bool;

    /// Takes the addresses of a name. Clients may be given them for `lifetime` seconds from now on.
    /// Returns a message to wait for before the first client gets them.
    fn take(&self, name: &[u8], addresses: &[IpAddr], lifetime: Secs) -> Option<oneshot::Receiver<()>>;

    /// Counts an answer that did not wait any longer.
    fn late(&self);
}

/// Watch on the answers to a question.
pub(crate) struct Watched {
    watch: Arc<dyn AddressWatch>,
    key: Key,
    clock: Clock,
}

impl Watched {
    /// Returns the watch on the answers to a question. `None`: they have no addresses to be watched.
    pub fn new(watch: &Arc<dyn AddressWatch>, key: &Key, clock: Clock) -> Option<Box<Self>> {
        let is_of_use = is_of_addresses(key) && watch.wants(key.asked().name());
        is_of_use.then(|| Box::new(Watched { watch: watch.clone(), key: key.clone(), clock }))
    }

    /// Shows the addresses of answers that were made here, of local data, of lists or by DNS64, and
    /// hands the answer to `then` once firewalls know them. Those of upstreams are shown when they
    /// land.
    pub fn show_made(
        self: Box<Self>,
        resolved: Resolved,
        turn: &mut Turn,
        then: impl FnOnce(Resolved, &mut Turn) + Send + 'static,
    ) {
        // The host tier does not keep what was made of a wildcard for another name.
        let is_made = resolved.source.tier == Tier::Local || resolved.answer.ede == Some(SYNTHESIZED);
        let whole = Some(&resolved.answer).filter(|_| is_made && !resolved.groups.is_empty());
        let listed = resolved.listed.iter().filter(|listed| {
            (is_made || listed.is_of_list) && !listed.is_withheld && !listed.groups.is_empty()
        });
        let made = whole.into_iter().chain(listed.map(|listed| &listed.answer));
        let now = self.clock.secs();
        let known: Vec<_> =
            made.filter_map(|answer| show_answer(&*self.watch, &self.key, answer, now)).collect();
        if known.is_empty() {
            return then(resolved, turn);
        }
        tokio::spawn(async move {
            wait(&*self.watch, known).await;
            then(resolved, &mut Turn::default());
        });
    }
}

/// Gives the addresses of an answer to a watch. Returns a message to wait for before clients get the
/// answer.
pub(crate) fn show(
    watch: &dyn AddressWatch,
    key: &Key,
    resolved: &Resolved,
    now: Secs,
) -> Option<oneshot::Receiver<()>> {
    if !is_of_addresses(key) || !watch.wants(key.asked().name()) {
        return None;
    }
    let (answer, groups) = resolved.shown();
    if groups.is_empty() { None } else { show_answer(watch, key, answer, now) }
}

fn show_answer(
    watch: &dyn AddressWatch,
    key: &Key,
    answer: &Answer,
    now: Secs,
) -> Option<oneshot::Receiver<()>> {
    if answer.status.rcode() != rcode::NOERROR {
        return None;
    }
    let message = Message::of(key, answer, Age::Fresh(0))?;
    let addresses = message.answers.iter().flat_map(|record| addresses(record.rtype, &record.rdata));
    // The null address, with which lists block, is no host's.
    let addresses: Vec<_> = addresses.filter(|address| !address.is_unspecified()).collect();
    if addresses.is_empty() {
        return None;
    }
    watch.take(key.asked().name(), &addresses, answer.dead().saturating_sub(now))
}

/// Waits until firewalls know the addresses of answers, but not for long.
pub(crate) async fn wait(watch: &dyn AddressWatch, known: impl IntoIterator<Item = oneshot::Receiver<()>>) {
    let all = async {
        for known in known {
            // A firewall that is gone is not waited for.
            let _ = known.await;
        }
    };
    if timeout(PATIENCE, all).await.is_err() {
        watch.late();
    }
}

/// Whether a question asks for addresses, or for a service, which may have addresses as hints.
fn is_of_addresses(key: &Key) -> bool {
    let asked = key.asked();
    let is_of_addresses = matches!(asked.qtype(), rtype::A | rtype::AAAA | rtype::SVCB | rtype::HTTPS);
    is_of_addresses && asked.qclass() == CLASS_IN
}

fn addresses(rtype: u16, rdata: &[u8]) -> Vec<IpAddr> {
    match rtype {
        rtype::A => <[u8; 4]>::try_from(rdata).map(IpAddr::from).into_iter().collect(),
        rtype::AAAA => <[u8; 16]>::try_from(rdata).map(IpAddr::from).into_iter().collect(),
        rtype::SVCB | rtype::HTTPS => hints(rdata).unwrap_or_default(),
        _ => Vec::new(),
    }
}
