//! Replies to clients whose queries have come back from the control plane.

use super::Worker;
use crate::{
    clock::{self, Nanos},
    dns::{option::Options, rcode, reply},
    log::{self, AnswerSource},
    packet::{Envelope, mapped},
    policy::Asker,
    port::Port,
    punt::Punt,
    stats::Counter,
};

impl<P: Port> Worker<P> {
    /// Replies to the client that waits for an answer.
    pub(super) fn answer_record(&mut self, record: &Punt, envelope: Envelope, now: Nanos) {
        if record.port != self.port_number {
            self.link.stats.add(Counter::PuntPortGone, 1);
            return;
        }
        let (Some(answer), Some(mut frame)) = (&record.answer, self.port.frames().alloc()) else {
            self.link.stats.add(Counter::PuntNoFrame, 1);
            return;
        };
        let rules = *self.processor.rules();
        let seconds = clock::secs(now);
        let age = answer.age(record.known, seconds, rules.stale_ttl);
        let buffer = self.port.frames().buffer(&mut frame);
        buffer[..record.head().len()].copy_from_slice(record.head());
        let policy = self.processor.policy();
        let client = envelope.client(buffer).map(|client| client.ip());
        let options = client.map_or_else(Options::default, |client| {
            let now = self.processor.unix(seconds);
            policy.options(&record.query, &Asker { client, connected: false, now })
        });
        let limits = rules.limits(&record.query, options, self.processor.largest_replies().to(envelope));
        let message = &mut buffer[envelope.message()..];
        // The record has no copy of the query after its question, so the query's checksum cannot be
        // adjusted.
        let query_len = record.head().len() - envelope.message();
        let view = answer.view().by(record.source.list.and_then(|list| policy.name_of_list(list)));
        let reply = reply::answer(message, query_len, &record.query, view, age, &limits);
        frame.set_len(envelope.seal(buffer, reply.len, None));
        if let Some(log) = &mut self.log {
            let outcome = record.source.outcome(answer.status.rcode(), age);
            let packet = self.port.frames().packet(&frame);
            log.note_returned(record.received, packet, envelope, &record.query.key, (record.source, outcome));
        }
        let told = (record.source, record.source.outcome(answer.status.rcode(), age));
        let packet = self.port.frames().packet(&frame);
        self.mirrors.note_returned((record.received, record.exchanges), packet, envelope, told);
        self.port.send(frame);
        let rcode = answer.status.rcode();
        self.link.census.add_answers(record.query.key.asked().qtype(), rcode.into(), 1);
        if let (rcode::NXDOMAIN, Some(client)) = (rcode, client) {
            let client = mapped(client).octets();
            self.census.tell_absent(client, &record.query.key, &self.link.sightings);
        }
        self.link.stats.add(Counter::PuntAnswered, 1);
        self.link.stats.add(Counter::Truncated, u64::from(reply.cut));
        self.waited.push((record.received, record.source.tier));
    }

    /// Sends the reply to a NOTIFY, which the control plane has made.
    #[cold]
    pub(super) fn answer_notify(&mut self, record: &Punt, envelope: Envelope) {
        if record.port != self.port_number {
            self.link.stats.add(Counter::PuntPortGone, 1);
            return;
        }
        let (at, reply) = (envelope.message(), record.notify.as_deref().unwrap_or_default());
        let Some(mut frame) = self.port.frames().alloc() else {
            self.link.stats.add(Counter::PuntNoFrame, 1);
            return;
        };
        let buffer = self.port.frames().buffer(&mut frame);
        let (Some(headers), Some(room)) = (record.head().get(..at), buffer.get_mut(..at + reply.len()))
        else {
            self.port.frames().release(frame);
            self.link.stats.add(Counter::PuntNoFrame, 1);
            return;
        };
        room[..at].copy_from_slice(headers);
        room[at..].copy_from_slice(reply);
        frame.set_len(envelope.seal(buffer, reply.len(), None));
        // As other messages that ask for no data.
        let answer = (AnswerSource::default(), log::Outcome::Rejected);
        if let Some(log) = &mut self.log {
            let packet = self.port.frames().packet(&frame);
            log.note_returned(record.received, packet, envelope, &record.query.key, answer);
        }
        let packet = self.port.frames().packet(&frame);
        self.mirrors.note_returned((record.received, record.exchanges), packet, envelope, answer);
        self.port.send(frame);
        self.link.stats.add(Counter::PuntAnswered, 1);
        self.waited.push((record.received, log::Tier::None));
    }
}
