//! Transport of a generator. Everything else - queries, their times, the check of answers - is
//! common to all transports.

use crate::tally::Tally;
use anyhow::Result;
use std::{io, time::Duration};

/// Sender and flow that an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Index of the sender.
    pub lane: usize,
    /// Flow of the sender.
    pub flow: u32,
}

/// Kind of transport to the server.
pub trait Transport: Sync {
    /// Transport of one sender.
    type Wire: Wire;

    /// Opens the transport of the `lane`th sender, on its thread.
    fn open(&self, lane: usize) -> Result<Self::Wire>;

    /// Returns the number of flows of a sender: addresses and ports that answers come back to, each
    /// with IDs of its own.
    fn flows(&self) -> u32;
}

/// Transport to the server, of one sender.
pub trait Wire {
    /// Sends up to `count` queries from one flow, without waiting; `write` writes the nth into a
    /// buffer that holds any query and returns its length. Returns the number sent: the first ones.
    fn send(
        &mut self,
        flow: u32,
        count: usize,
        write: impl FnMut(usize, &mut [u8]) -> usize,
    ) -> io::Result<usize>;

    /// Passes messages that have arrived to `take`, without waiting, and returns their number. All
    /// of them must have arrived before the first is passed on, since that is when the clock is
    /// read.
    fn receive(&mut self, take: impl FnMut(Route, &[u8])) -> io::Result<usize>;

    /// Sleeps until something arrives, or for `time`.
    fn wait(&mut self, time: Duration);

    /// Adds the transport's own counters.
    fn count(&mut self, _: &mut Tally) {}
}
