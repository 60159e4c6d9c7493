//! Captures: a second mirror that a worker has for a time, while it runs.
//!
//! The control plane makes the mirror with its memory and hands it to the worker, which takes it
//! between two turns, and gives it back in the same way at the end. So no worker allocates or frees
//! for a capture, and when the mirror is back, so are all packets that it has copied.

use crate::{
    log::Protocol,
    mirror::MirrorConfig,
    process::{Mirror, MirrorUse},
};
use crossbeam_queue::ArrayQueue;

/// Order of the control plane to a worker.
#[derive(Debug)]
enum Order {
    /// Copy packets from now on.
    Begin(Box<Mirror>),
    /// Give the mirror back.
    End,
}

/// Place in which the control plane puts a mirror, and the worker gives it back.
#[derive(Debug)]
pub struct CaptureDesk {
    orders: ArrayQueue<Order>,
    returned: ArrayQueue<Box<Mirror>>,
}

impl Default for CaptureDesk {
    fn default() -> Self {
        CaptureDesk { orders: ArrayQueue::new(1), returned: ArrayQueue::new(1) }
    }
}

impl CaptureDesk {
    /// Control plane: begins a capture, of which there is one at a time. Exchanges get numbers from
    /// `first` on, which must be above those of earlier captures.
    pub fn begin(&self, setup: MirrorConfig, first: u64) {
        let mirror = Mirror::new(setup, Protocol::Udp, MirrorUse::Capture { first });
        self.orders.force_push(Order::Begin(Box::new(mirror)));
    }

    /// Control plane: ends the capture. Returns whether that is all: the worker had not begun. If not,
    /// [`is_over`](CaptureDesk::is_over) tells when the worker has given the mirror back.
    pub fn end(&self) -> bool {
        matches!(self.orders.force_push(Order::End), Some(Order::Begin(_)))
    }

    /// Control plane: whether the worker has given the mirror back, which is freed now.
    pub fn is_over(&self) -> bool {
        self.returned.pop().is_some()
    }

    /// Worker: follows an order, if there is one. `capture` is the mirror of the capture under way.
    pub(crate) fn serve(&self, mut capture: Option<Box<Mirror>>) -> Option<Box<Mirror>> {
        match self.orders.pop() {
            None => return capture,
            Some(Order::Begin(mirror)) => return Some(mirror),
            Some(Order::End) => {}
        }
        if let Some(mut mirror) = capture.take() {
            mirror.hand_on();
            mirror.count();
            // One capture at a time, whose mirror the control plane waits for.
            let returned = self.returned.push(mirror);
            debug_assert!(returned.is_ok(), "a mirror that nobody has taken back");
        }
        None
    }

    /// Whether an order waits for the worker.
    #[inline]
    pub fn has_order(&self) -> bool {
        !self.orders.is_empty()
    }
}

#[cfg(test)]
mod tests;
