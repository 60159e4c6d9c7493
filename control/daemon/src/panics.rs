//! Panics: defects of this program. Each is logged in the log's form and counted. A task that
//! panics loses its own work only: a connection is closed, a question in flight fails. A part that
//! the daemon cannot be without ends it, as any end of that part does.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::{self, PanicHookInfo},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    thread,
};

#[cfg(panic = "abort")]
compile_error!("with panic = \"abort\", one client's query that meets a defect would end the service of all");

static PANICS: AtomicU64 = AtomicU64::new(0);

/// Logs and counts panics from now on.
pub fn watch() {
    panic::set_hook(Box::new(report));
}

/// Returns the number of panics since the start.
pub fn count() -> u64 {
    PANICS.load(Relaxed)
}

/// Returns the notice for the operator, if anything has panicked.
pub fn notice() -> Option<String> {
    let times = match count() {
        0 => return None,
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    Some(format!("ringdnsd met a defect of its own {times}: the log says where. Report it"))
}

fn report(panic: &PanicHookInfo<'_>) {
    PANICS.fetch_add(1, Relaxed);
    let thread = thread::current();
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let message = panic.payload_as_str().unwrap_or("without a message");
    tracing::error!(
        thread = thread.name().unwrap_or_default(),
        place,
        "panicked: {message}. This is a defect of ringdnsd: report this line"
    );
    // Captured if RUST_BACKTRACE is set.
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        backtrace.to_string().lines().for_each(|line| tracing::error!("{line}"));
    }
}
