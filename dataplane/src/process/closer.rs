//! The closer look: everything about a query is found out, and everything that may become of it.

use super::{Rules, Tally, Verdict, count};
use crate::{
    cache::{Cache, Freshness, KeyedHash},
    clock::Secs,
    dns::{
        query::{Query, Reject},
        rcode,
        reply::{self, Age},
    },
    frame::{Frame, Frames},
    packet::Envelope,
    port::Checksums,
    stats::{Counter, DropReason, WorkerStats},
};

/// What a closer look needs.
pub struct Closer<'a> {
    pub cache: &'a mut Cache,
    pub hash: KeyedHash,
    pub rules: &'a Rules,
    pub now: Secs,
    pub checksums: Checksums,
    pub stats: &'a WorkerStats,
    pub tally: &'a mut Tally,
}

impl Closer<'_> {
    /// Finishes a frame, whose query is taken apart into `query`.
    pub fn finish(&mut self, query: &mut Query, frames: &mut Frames, frame: &mut Frame) -> Verdict {
        let packet = frames.packet(frame);
        let (envelope, len) = match Envelope::open(packet, self.checksums) {
            Ok(opened) => opened,
            Err(reason) => return self.drop(reason),
        };
        let message = &packet[envelope.message()..][..len];
        match query.parse(message) {
            Err(Reject::Drop(reason)) => return self.drop(reason),
            Err(reject) => return self.reject(query, envelope, reject, frames, frame),
            Ok(()) => {}
        }
        match self.cache.lookup(self.hash.of(&query.key), &query.key, self.now) {
            Some(hit) => {
                let (age, verdict) = match hit.freshness {
                    Freshness::Fresh(age) => (Age::Fresh(age), Verdict::Reply),
                    Freshness::Stale { refresh: false } => (Age::Stale(self.rules.stale_ttl), Verdict::Reply),
                    Freshness::Stale { refresh: true } => {
                        (Age::Stale(self.rules.stale_ttl), Verdict::ReplyAndRefresh(envelope))
                    }
                };
                count(hit.view.status, age, self.stats, self.tally);
                let buffer = frames.buffer(frame);
                let limits = self.rules.limits(query);
                let reply =
                    reply::answer(&mut buffer[envelope.message()..], len, query, hit.view, age, limits);
                self.stats.add(Counter::Truncated, u64::from(reply.cut));
                frame.set_len(envelope.seal(buffer, reply.len, Some(reply.change)));
                verdict
            }
            None => Verdict::Punt(envelope),
        }
    }

    fn drop(&self, reason: DropReason) -> Verdict {
        self.stats.drop(reason);
        Verdict::Drop(reason)
    }

    fn reject(
        &self,
        query: &Query,
        envelope: Envelope,
        reject: Reject,
        frames: &mut Frames,
        frame: &mut Frame,
    ) -> Verdict {
        self.stats.add(
            match reject {
                Reject::BadVersion => Counter::BadVers,
                Reject::Header(rcode::NOTIMP) => Counter::NotImp,
                Reject::Header(_) | Reject::Question(rcode::FORMERR) => Counter::FormErr,
                Reject::Question(_) | Reject::Drop(_) => Counter::Refused,
            },
            1,
        );
        let buffer = frames.buffer(frame);
        let len = reply::reject(&mut buffer[envelope.message()..], query, reject, self.rules.limits(query));
        frame.set_len(envelope.seal(buffer, len, None));
        Verdict::Reply
    }
}
