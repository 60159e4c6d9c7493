//! Runtime of the control plane.

use core_affinity::CoreId;
use ringdns_common::{cores, shared_core};
use std::io;
use tokio::runtime::{Builder, Runtime};

/// Most threads of the control plane: it mostly waits.
const THREADS_MAX: usize = 4;

/// Returns a small runtime on the cores that no worker has to itself. `is_shared`: each has a worker
/// nevertheless, and the threads yield them to those.
pub fn on_cores(spare_cores: Vec<CoreId>, is_shared: bool) -> io::Result<Runtime> {
    let threads = spare_cores.len().clamp(1, THREADS_MAX);
    Builder::new_multi_thread()
        .worker_threads(threads)
        .thread_name("control")
        .on_thread_start(move || {
            cores::sit(&spare_cores);
            shared_core::set_shared(is_shared);
        })
        .on_thread_unpark(shared_core::begin_turn)
        .enable_all()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_common::shared_core::{TURN_MAX, YIELDS};
    use std::time::Instant;

    #[test]
    fn threads_yield_cores_that_they_share_and_no_others() {
        for is_shared in [false, true] {
            let before = YIELDS.get();
            let runtime = on_cores(Vec::new(), is_shared).unwrap();
            let step = runtime.spawn(async {
                let began = Instant::now();
                while began.elapsed() < 2 * TURN_MAX {}
                shared_core::end_step();
            });
            runtime.block_on(step).unwrap();
            assert_eq!(YIELDS.get() > before, is_shared);
        }
    }
}
