//! Sender of a worker's punts.

use crate::{
    clock::Nanos,
    mirror::Exchanges,
    packet::Envelope,
    pool::RecordPool,
    process::Slot,
    punt::{Link, Purpose},
    stats::{Counter, DropReason},
};

/// Client of all refreshes in the pool of records: they have one share together.
const REFRESHES: u64 = 0;

/// Borrowed parts of the worker that sending a punt needs while the burst is borrowed.
pub struct Punter<'a> {
    pub link: &'a Link,
    pub pool: &'a mut RecordPool,
    pub now: Nanos,
    pub port: u32,
    pub generation: u64,
    /// Numbers of the exchange in the mirrors, of the query at hand.
    pub exchanges: Exchanges,
}

impl Punter<'_> {
    /// Sends a query. Returns whether the control plane has got it.
    pub fn punt(&mut self, packet: &[u8], slot: &Slot, envelope: Envelope) -> bool {
        let client = envelope.client_network(packet);
        let sent = self.send(packet, slot, envelope, (Purpose::Answer(envelope), None), client);
        self.count(sent)
    }

    /// Sends a NOTIFY, all of it, since its signature comes last. Returns whether the control plane
    /// has got it.
    #[cold]
    pub fn notify(&mut self, packet: &[u8], slot: &Slot, envelope: Envelope) -> bool {
        let sent = match envelope.reply(packet) {
            None => Err(DropReason::BadLength),
            Some((_, message)) => {
                let purpose = (Purpose::Notify(envelope), Some(message));
                self.send(packet, slot, envelope, purpose, envelope.client_network(packet))
            }
        };
        self.count(sent)
    }

    /// Asks for the renewal of an entry. Returns whether the control plane has got the request.
    pub fn refresh(&mut self, packet: &[u8], slot: &Slot, envelope: Envelope) -> bool {
        let sent = self.send(packet, slot, envelope, (Purpose::Refresh, None), REFRESHES).is_ok();
        let counter = if sent { Counter::RefreshSent } else { Counter::RefreshSkipped };
        self.link.stats.add(counter, 1);
        sent
    }

    fn count(&self, sent: Result<(), DropReason>) -> bool {
        match sent {
            Ok(()) => self.link.stats.add(Counter::Punted, 1),
            Err(reason) => self.link.stats.drop(reason),
        }
        sent.is_ok()
    }

    fn send(
        &mut self,
        packet: &[u8],
        slot: &Slot,
        envelope: Envelope,
        (purpose, notify): (Purpose, Option<&[u8]>),
        client: u64,
    ) -> Result<(), DropReason> {
        let mut record = self.pool.take(client)?;
        record.fill(packet, envelope.message(), &slot.query);
        record.purpose = purpose;
        record.notify = notify.map(Box::from);
        record.group = slot.group;
        record.exchanges = self.exchanges;
        record.received = self.now;
        record.port = self.port;
        record.generation = self.generation;
        self.link.punt(record).map_err(|record| {
            self.pool.put_back(record);
            DropReason::PuntQueueFull
        })
    }
}
