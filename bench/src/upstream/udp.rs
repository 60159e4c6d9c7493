//! Serves datagrams.

use super::{Over, Shared, wait_readable};
use crate::mmsg::{Receiver, Sender};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    collections::VecDeque,
    net::{SocketAddr, UdpSocket},
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

/// Delayed answer.
struct Held {
    due: Instant,
    to: SocketAddr,
    reply: Vec<u8>,
}

/// Serves one socket until told to stop.
pub(super) fn serve(socket: &UdpSocket, shared: &Shared) {
    let mut receiver = Receiver::default();
    let mut sender = Sender::default();
    // All answers are delayed equally, so the first one queued is the first one due.
    let mut held: VecDeque<Held> = VecDeque::new();
    let mut rng = SmallRng::from_os_rng();
    let mut reply = Vec::new();

    while !shared.stop.load(Relaxed) {
        wait_readable(socket, held.front().map(|held| held.due));
        // An error reports some client's closed port; there is nothing to do about it.
        let received = receiver.recv(socket).unwrap_or(0);
        shared.served.udp.fetch_add(received as u64, Relaxed);
        for (query, from) in receiver.messages() {
            let dropped = shared.drop > 0.0 && rng.random_bool(shared.drop);
            let Some(to) = from.filter(|_| !dropped && shared.answerer.answer(query, Over::Udp, &mut reply))
            else {
                shared.served.unanswered.fetch_add(1, Relaxed);
                continue;
            };
            if shared.delay.is_zero() {
                queue(&mut sender, to, &reply);
            } else {
                held.push_back(Held { due: Instant::now() + shared.delay, to, reply: reply.clone() });
            }
        }
        while let Some(due) = held.pop_front_if(|held| held.due <= Instant::now()) {
            if sender.is_full() {
                flush(&mut sender, socket);
            }
            queue(&mut sender, due.to, &due.reply);
        }
        flush(&mut sender, socket);
    }
}

fn queue(sender: &mut Sender, to: SocketAddr, reply: &[u8]) {
    sender.push(Some(to), |buffer| {
        buffer[..reply.len()].copy_from_slice(reply);
        reply.len()
    });
}

fn flush(sender: &mut Sender, socket: &UdpSocket) {
    // Datagrams that a full socket buffer refuses are lost, as on any network, and the client asks
    // again.
    let _ = sender.flush(socket);
}
