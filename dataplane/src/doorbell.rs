//! Wakes the other side of a queue, only when it sleeps.
//!
//! A consumer that finds its queue empty announces that it is about to sleep ([`Doorbell::arm`]),
//! checks once more, and sleeps on the eventfd. A producer pushes first and rings afterwards: while
//! the consumer is awake, that costs one load. Either the consumer's second check sees the item, or
//! the producer sees the consumer armed. Both fences are needed for that; a loom test tries all
//! orders.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
use rustix::event::{EventfdFlags, eventfd};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

/// An eventfd, rung by producers of work for one sleeper.
#[derive(Debug)]
pub struct Doorbell {
    armed: AtomicBool,
    event: OwnedFd,
}

impl Doorbell {
    /// Creates a bell that nobody waits for.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Doorbell { armed: AtomicBool::new(false), event })
    }

    /// Consumer: announces that it is about to sleep. It must check its queues once more before it
    /// does.
    pub fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Consumer: is awake again. Forgets rings so far.
    pub fn disarm(&self) {
        // A producer that rang has cleared the flag; only then is there something to read.
        if !self.armed.swap(false, Ordering::Relaxed) {
            let mut count = [0; 8];
            // Finding nothing to read is harmless: a ring that is still in progress wakes us once
            // for nothing.
            let _ = rustix::io::read(&self.event, &mut count);
        }
    }

    /// Producer: announces that work was queued. Returns true if the consumer slept and was woken.
    #[inline]
    pub fn ring(&self) -> bool {
        fence(Ordering::SeqCst);
        if !self.armed.load(Ordering::Relaxed) {
            return false;
        }
        self.wake()
    }

    #[cold]
    fn wake(&self) -> bool {
        if !self.armed.swap(false, Ordering::Relaxed) {
            return false;
        }
        // The write fails only if the counter is full, and then the sleeper has been woken already.
        let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        true
    }

    /// Returns the descriptor that the consumer sleeps on: readable after a ring.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(all(loom, test))]
mod tests {
    use super::*;
    use loom::sync::atomic::AtomicUsize;
    use std::sync::Arc;

    fn rung(bell: &Doorbell) -> bool {
        rustix::io::read(&bell.event, &mut [0; 8]).is_ok()
    }

    /// A counter stands for the queue. The consumer "sleeps" when its second check finds nothing.
    /// Then the bell must have rung by the time the producer is done.
    #[test]
    fn loom_no_wakeup_is_lost() {
        loom::model(|| {
            let bell = Arc::new(Doorbell::new().unwrap());
            let queue = Arc::new(AtomicUsize::new(0));
            let producer = {
                let (bell, queue) = (bell.clone(), queue.clone());
                loom::thread::spawn(move || {
                    queue.fetch_add(1, Ordering::Relaxed);
                    bell.ring();
                })
            };
            bell.arm();
            let seen = queue.load(Ordering::Relaxed);
            producer.join().unwrap();
            assert!(seen == 1 || rung(&bell), "asleep with work queued and no ring");
        });
    }
}
