//! Steps of the closer look that need no cache, each over the frames of a burst.

use super::{Material, Meter, NAMES, NOW};
use crate::stage::{HASH_SEEDS, Ip, RULES};
use anyhow::{Context, Result, ensure};
use ringdns_dataplane::{
    cache::KeyedHash,
    checksum::Checksums,
    dns::{
        answer::Answer,
        option::Options,
        query::Query,
        reply::{self, Age},
    },
    frame::WINDOW,
    packet::Envelope,
    port::BURST,
};
use std::hint::black_box;

type Window = [u8; WINDOW];

/// Frame of a query, and the results of the steps before.
struct Prepared {
    window: Window,
    frame_len: usize,
    envelope: Envelope,
    message_len: usize,
    query: Query,
    answer: Answer,
}

fn prepared() -> Result<Vec<Prepared>> {
    let material = Material::new(&[], Ip::V4, &[])?;
    let prepare = |(index, packet): (usize, &Vec<u8>)| {
        let mut window = [0; WINDOW];
        window[..packet.len()].copy_from_slice(packet);
        let opened = Envelope::open(packet, Checksums::Verify);
        let (envelope, message_len) = opened.ok().context("the data plane rejects the packet")?;
        let mut query = Query::default();
        let parsed = query.parse(&window[envelope.message()..][..message_len]);
        ensure!(parsed.is_ok(), "the data plane rejects the query: {parsed:?}");
        // All names have one length, and all answers too: any will do.
        let answer = material.filed(index)?.answer;
        Ok(Prepared { window, frame_len: packet.len(), envelope, message_len, query, answer })
    };
    material.packets.iter().enumerate().map(prepare).collect()
}

/// Does `work` to all frames, a burst at a time; it must succeed for each.
fn each(meter: &mut dyn Meter, work: impl Fn(&mut Prepared) -> bool) -> Result<u64> {
    let mut prepared = prepared()?;
    for burst in prepared.chunks_exact_mut(BURST) {
        let mut good = 0;
        meter.measure(&mut || {
            for one in &mut *burst {
                good += usize::from(work(one));
            }
        });
        ensure!(good == BURST, "{good} of {BURST} succeeded");
    }
    Ok(NAMES as u64)
}

/// Opens frames.
pub fn open(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| black_box(Envelope::open(&one.window[..one.frame_len], Checksums::Verify)).is_ok())
}

/// Parses queries.
pub fn parse(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| {
        let parsed = one.query.parse(&one.window[one.envelope.message()..][..one.message_len]).is_ok();
        black_box(&one.query);
        parsed
    })
}

/// Hashes keys.
pub fn key(meter: &mut dyn Meter) -> Result<u64> {
    let hash = KeyedHash::with_seeds(HASH_SEEDS);
    each(meter, |one| black_box(hash.of(&one.query.key)) != 0)
}

#[inline(always)]
fn write(one: &mut Prepared) -> reply::Reply {
    let Prepared { window, envelope, message_len, query, answer, .. } = one;
    let message = &mut window[envelope.message()..];
    reply::answer(
        message,
        *message_len,
        query,
        answer.view(),
        Age::Fresh(NOW),
        &RULES.limits(query, Options::default(), RULES.udp_limit),
    )
}

/// Writes replies.
pub fn reply(meter: &mut dyn Meter) -> Result<u64> {
    each(meter, |one| !black_box(write(one)).cut)
}

/// Swaps source and destination in the headers.
pub fn seal(meter: &mut dyn Meter) -> Result<u64> {
    // The contents of the reply make no difference to the work.
    let reply::Reply { len, change, .. } = write(&mut prepared()?[0]);
    each(meter, |one| black_box(one.envelope.seal(&mut one.window, len, Some(black_box(change)))) > len)
}
