//! Watch on the addresses that names have, for firewalls.

use crate::{message::Message, resolved::Resolved};
use ringdns_dataplane::{
    clock::Secs,
    dns::{CLASS_IN, key::Key, rcode, reply::Age, rtype},
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};
use tokio::{sync::oneshot, time::timeout};

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

/// Gives the addresses of an answer to a watch. Returns a message to wait for before clients get the
/// answer.
pub(crate) fn show(
    watch: &dyn AddressWatch,
    key: &Key,
    resolved: &Resolved,
    now: Secs,
) -> Option<oneshot::Receiver<()>> {
    let asked = key.asked();
    let is_of_addresses = matches!(asked.qtype(), rtype::A | rtype::AAAA) && asked.qclass() == CLASS_IN;
    if !is_of_addresses || !watch.wants(asked.name()) {
        return None;
    }
    let (answer, groups) = resolved.shown();
    if groups.is_empty() || answer.status.rcode() != rcode::NOERROR {
        return None;
    }
    let message = Message::of(key, answer, Age::Fresh(0))?;
    let addresses = message.answers.iter().filter_map(|record| address(record.rtype, &record.rdata));
    let addresses: Vec<_> = addresses.collect();
    if addresses.is_empty() {
        return None;
    }
    watch.take(asked.name(), &addresses, answer.dead().saturating_sub(now))
}

/// Waits until firewalls know the addresses of an answer, but not for long.
pub(crate) async fn wait(watch: &dyn AddressWatch, known: oneshot::Receiver<()>) {
    if timeout(PATIENCE, known).await.is_err() {
        watch.late();
    }
}

fn address(rtype: u16, rdata: &[u8]) -> Option<IpAddr> {
    match rtype {
        rtype::A => Some(Ipv4Addr::from(<[u8; 4]>::try_from(rdata).ok()?).into()),
        rtype::AAAA => Some(Ipv6Addr::from(<[u8; 16]>::try_from(rdata).ok()?).into()),
        _ => None,
    }
}
