//! The steps of a hit that need no cache, each over the frames of a burst.

use super::{Material, Meter, NAMES, NOW};
use crate::stage::{HASH_SEEDS, Ip, RULES};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    cache::KeyedHash,
    dns::{
        answer::Answer,
        query::Query,
        reply::{self, Age},
    },
    frame::WINDOW,
    packet::Envelope,
    port::{BURST, Checksums},
};
use std::hint::black_box;

type Window = [u8; WINDOW];

/// A query's frame, and what the steps before found in it.
struct Prepared {
    window: Window,
    frame_len: usize,
    message_len: usize,
    query: Query,
    answer: Answer,
}

const MESSAGE: fn() -> usize = || Envelope::PLAIN_V4.message();

fn prepared() -> Result<Vec<Prepared>> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let prepare = |(index, packet): (usize, &Vec<u8>)| {
        let mut window = [0; WINDOW];
        window[..packet.len()].copy_from_slice(packet);
        let opened = Envelope::open_plain_v4(packet, Checksums::Verify);
        let (envelope, message_len) = opened.ok().context("the data plane rejects the packet")?;
        ensure!(envelope == Envelope::PLAIN_V4, "the packet is not a plain one");
        let mut query = Query::default();
        let parsed = query.parse_within(&window[MESSAGE()..], message_len);
        ensure!(parsed.is_ok(), "the data plane rejects the query: {parsed:?}");
        // All names are of one length, and so are answers: any will do.
        let answer = material.filed(index)?.answer;
        Ok(Prepared { window, frame_len: packet.len(), message_len, query, answer })
    };
    material.packets.iter().enumerate().map(prepare).collect()
}

/// Does `work` to all frames, a burst at a time; each must say that it went well.
fn each(meter: &mut dyn Meter, work: impl Fn(&mut Prepared) -> bool) -> Result<u64> {
    let mut prepared = prepared()?;
    for burst in prepared.chunks_exact_mut(BURST) {
        let mut good = 0;
        meter.measure(&mut || {
            for one in &mut *burst {
                good += usize::from(work(one));
            }
        });
        ensure!(good == BURST, "{good} of {BURST} went well");
    }
    Ok(NAMES as u64)
}

/// Opens frames.
pub fn open(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| {
        let frame = &one.window[..one.frame_len];
        Envelope::is_plain_v4(frame) && black_box(Envelope::open_plain_v4(frame, Checksums::Verify)).is_ok()
    })
}

/// Reads queries closely.
pub fn parse(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| {
        let parsed = one.query.parse_within(&one.window[MESSAGE()..], one.message_len).is_ok();
        black_box(&one.query);
        parsed
    })
}

/// Reads queries and hashes them in passing.
pub fn key(meter: &mut dyn Meter) -> Result<u64> {
    let hash = KeyedHash::with_seeds(HASH_SEEDS);
    each(meter, |one| {
        let mut hasher = hash.hasher();
        let found = one.query.glance(&one.window[MESSAGE()..], one.message_len, |block| hasher.add(block));
        black_box(hasher.finish(&one.query.key));
        found
    })
}

#[inline(always)]
fn write(one: &mut Prepared) -> Option<reply::Reply> {
    let Prepared { window, message_len, query, answer, .. } = one;
    let message = &mut window[MESSAGE()..];
    reply::whole(message, *message_len, query, answer.view(), Age::Fresh(NOW), RULES.limits(query))
}

/// Writes replies.
pub fn reply(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| black_box(write(one)).is_some())
}

/// Turns headers round.
pub fn seal(meter: &mut dyn Meter) -> Result<u64> {
    // What the reply changes makes no difference to the work.
    let (len, change) =
        write(&mut prepared()?[0]).map(|reply| (reply.len, reply.change)).context("no reply")?;
    each(meter, |one| black_box(Envelope::PLAIN_V4.seal(&mut one.window, len, Some(black_box(change)))) > len)
}
