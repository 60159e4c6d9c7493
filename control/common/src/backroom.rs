//! Background thread for long jobs that are not urgent, such as walks over the whole store.

use crate::cores;
use core_affinity::CoreId;
use std::{io, sync::mpsc, thread};
use tokio::sync::oneshot;

/// Niceness of the thread: cache misses come first.
const NICENESS: i32 = 5;

type BackroomJob = Box<dyn FnOnce() + Send>;

/// Handle of the thread. The thread ends once the handle is dropped and the last job is done.
#[derive(Debug)]
pub struct Backroom(mpsc::Sender<BackroomJob>);

impl Backroom {
    /// Starts the thread with this name on these cores.
    pub fn open(name: &str, cores: Vec<CoreId>) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<BackroomJob>();
        thread::Builder::new().name(name.into()).spawn(move || {
            cores::sit(&cores);
            // Without permission the niceness stays as it is.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            jobs.into_iter().for_each(|job| job());
        })?;
        Ok(Backroom(sender))
    }

    /// Runs a job after all earlier ones and returns its result. `None`: a job panicked and the
    /// thread is gone.
    pub async fn have<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        // The caller may have stopped waiting.
        self.0.send(Box::new(move || drop(sender.send(job())))).ok()?;
        receiver.await.ok()
    }
}
