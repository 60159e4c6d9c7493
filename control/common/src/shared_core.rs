//! Turns of threads that share their core with a worker.
//!
//! The kernel lets a thread run until its slice is over, and looks at that once a tick. So a thread
//! with much to do keeps a worker waiting for up to 4 ms (`CONFIG_HZ=250`), and with it the hits that
//! arrive meanwhile. With a lower priority, the worker would run after each few answers, and misses
//! would cost twice as much. So a thread that shares its core yields it between two steps of its work
//! once its turn has taken [`TURN_MAX`]. The worker runs then if it has something to do and has had no
//! more than its part of the core. Otherwise the yield costs a system call.

use crate::counters::Counter;
use std::{
    cell::Cell,
    thread,
    time::{Duration, Instant},
};

/// Time after which a turn ends with the step at hand.
pub const TURN_MAX: Duration = Duration::from_micros(100);

/// Times that threads of this process have yielded a core that they share.
pub static YIELDS: Counter = Counter::new();

thread_local! {
    /// Beginning of this thread's turn; `None`: it shares its core with no worker.
    static BEGAN: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Declares whether this thread shares its core with a worker.
pub fn set_shared(is_shared: bool) {
    BEGAN.set(is_shared.then(Instant::now));
}

/// Begins a turn, after the thread has slept.
pub fn begin_turn() {
    set_shared(BEGAN.get().is_some());
}

/// Ends a step of work. Yields the core if the thread shares it and its turn has taken long.
pub fn end_step() {
    if BEGAN.get().is_some_and(|began| began.elapsed() >= TURN_MAX) {
        YIELDS.inc();
        thread::yield_now();
        begin_turn();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends a step after `busy`, and returns whether that yielded the core.
    fn yields(busy: Duration) -> bool {
        let (began, before) = (Instant::now(), YIELDS.get());
        while began.elapsed() < busy {
            std::hint::spin_loop();
        }
        end_step();
        YIELDS.get() > before
    }

    // One test, since the counter is that of the process.
    #[test]
    fn a_thread_yields_a_core_that_it_shares_after_a_turn_and_no_other() {
        assert!(!yields(2 * TURN_MAX), "it has the core to itself");
        begin_turn();
        assert!(!yields(2 * TURN_MAX), "sleep has not changed that");
        set_shared(true);
        assert!(yields(2 * TURN_MAX));
        assert!(yields(2 * TURN_MAX), "each turn ends");
        // Only a turn without an interruption is short.
        let is_short = |_| {
            begin_turn();
            let began = Instant::now();
            end_step_is_quiet(began)
        };
        assert!((0..1000).all(is_short));
        set_shared(false);
        assert!(!yields(2 * TURN_MAX));
    }

    /// Ends a step at once. Returns false if that yielded the core before the turn had taken long.
    fn end_step_is_quiet(began: Instant) -> bool {
        let before = YIELDS.get();
        end_step();
        YIELDS.get() == before || began.elapsed() >= TURN_MAX
    }
}
