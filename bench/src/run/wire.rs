//! What a generator needs of a way to the server. Everything else - what to ask, when, what an answer is worth - is the
//! same for all of them.

use crate::tally::Tally;
use anyhow::Result;
use std::{io, time::Duration};

/// Whose query an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The sender.
    pub lane: usize,
    /// Which of its flows.
    pub flow: u32,
}

/// A kind of ways to the server.
pub trait Transport: Sync {
    /// The way of one sender.
    type Wire: Wire;

    /// Opens the way of the `lane`th sender, on its thread.
    fn open(&self, lane: usize) -> Result<Self::Wire>;

    /// How many flows a sender has: addresses and ports that answers come back to, each with IDs of its own.
    fn flows(&self) -> u32;
}

/// A way to the server, of one sender.
pub trait Wire {
    /// Sends up to `count` queries from one flow, without waiting; `write` writes the nth into a buffer that holds any query and
    /// returns its length. Returns how many were sent: the first ones.
    fn send(
        &mut self,
        flow: u32,
        count: usize,
        write: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> io::Result<usize>;

    /// Hands over messages that have arrived, without waiting, and returns how many. All of them were there before the first
    /// is handed over, since that is when the clock is read.
    fn receive(&mut self, take: impl FnMut(Route, &[u8])) -> io::Result<usize>;

    /// Sleeps until something arrives, or for `time`.
    fn wait(&mut self, time: Duration);

    /// Adds what the way itself has counted.
    fn count(&mut self, _: &mut Tally) {}
}
