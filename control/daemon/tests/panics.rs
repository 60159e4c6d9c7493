//! Test of panics, in a process of its own, since it counts those of the process.

use ringdns_daemon::panics;
use std::{
    io::{self, Write},
    panic,
    sync::{Arc, Mutex},
};

/// Log that a test reads.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_panic_ends_its_task_and_is_told() {
    let lines = Lines::default();
    let log = lines.clone();
    let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || log.clone()).finish();
    let _log = tracing::subscriber::set_default(log);
    assert_eq!((panics::count(), panics::notice()), (0, None));
    panics::watch();
    let panicked = tokio::spawn(async { panic!("seven of {}", 9) }).await;
    drop(panic::take_hook());
    assert!(panicked.is_err_and(|error| error.is_panic()));
    assert_eq!(panics::count(), 1);
    assert!(panics::notice().is_some_and(|notice| notice.contains("once")));
    let logged = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    assert!(logged.contains("ERROR") && logged.contains("panicked: seven of 9"), "{logged}");
    assert!(logged.contains("place=\"control/daemon/tests/panics.rs:"), "{logged}");
}
