//! Parts of the control plane: tasks that last as long as the process.

use crate::error::DaemonError;
use std::io;
use tokio::task::{JoinError, JoinSet};

/// Part of the control plane: its name and how it ended.
pub type Part = (&'static str, io::Result<()>);

/// Returns the error of a part that has ended though nobody asked it to.
pub fn part_error(ended: Result<Part, JoinError>) -> DaemonError {
    let (what, reason) = match ended {
        Ok((what, Ok(()))) => (what, "it returned without a request to stop".into()),
        Ok((what, Err(error))) => (what, error.to_string()),
        Err(error) => ("a part of the control plane", error.to_string()),
    };
    DaemonError::Task { what, reason }
}

/// Begins a part that lasts as long as the process.
pub fn lasting(
    parts: &mut JoinSet<Part>,
    name: &'static str,
    work: impl Future<Output = ()> + Send + 'static,
) {
    parts.spawn(async move {
        work.await;
        (name, Ok(()))
    });
}
