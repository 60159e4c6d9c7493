//! A thread for what takes long and is not urgent: walks over the whole store.

use crate::cores;
use core_affinity::CoreId;
use std::{io, sync::mpsc, thread};
use tokio::sync::oneshot;

/// Its place behind the other threads: misses come first.
const NICENESS: i32 = 5;

type Job = Box<dyn FnOnce() + Send>;

/// The way to the thread. It ends when this is dropped, and its last job is done.
#[derive(Debug)]
pub struct Backroom(mpsc::Sender<Job>);

impl Backroom {
    /// Starts the thread, under a name, on some cores.
    pub fn open(name: &str, cores: Vec<CoreId>) -> io::Result<Self> {
        let (sender, jobs) = mpsc::channel::<Job>();
        thread::Builder::new().name(name.into()).spawn(move || {
            cores::sit(&cores);
            // Where it may not be, it is as it is.
            let _ = rustix::process::setpriority_process(None, NICENESS);
            jobs.into_iter().for_each(|job| job());
        })?;
        Ok(Backroom(sender))
    }

    /// Has something done, after what was asked for before. `None`: it ended in a panic, of which the thread died.
    pub async fn have<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        // Nobody may wait any more.
        self.0.send(Box::new(move || drop(sender.send(job())))).ok()?;
        receiver.await.ok()
    }
}
