//! Carries out steps of changes.

use ringdns_api::{Step, quoted};
use std::{fs, io, path::PathBuf, process::Command};

/// Reason why a step was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A file cannot be written.
    #[error("cannot write {text} to {path}: {source}. Run this as root")]
    Write {
        /// Path of the file.
        path: PathBuf,
        /// Text.
        text: String,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A program cannot be started.
    #[error("cannot run {program}: {source}. Install it")]
    Start {
        /// Name of the program.
        program: String,
        /// Error of the kernel.
        source: io::Error,
    },
    /// A command has failed.
    #[error("`{command}` failed: {said}")]
    Failed {
        /// Command.
        command: String,
        /// Last words of the program.
        said: String,
    },
}

/// Carries out a step.
pub fn perform(step: &Step) -> Result<(), StepError> {
    match step {
        Step::Write { path, text } => {
            let failed = |source| StepError::Write { path: path.clone(), text: text.clone(), source };
            fs::write(path, text).map_err(failed)
        }
        Step::Run(words) => run(&words.iter().map(String::as_str).collect::<Vec<_>>()),
    }
}

/// Runs a command that prints nothing when it succeeds.
pub fn run(words: &[&str]) -> Result<(), StepError> {
    let (program, arguments) = words.split_first().unwrap_or((&"", &[]));
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|source| StepError::Start { program: (*program).to_owned(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
    Err(StepError::Failed { command: words.join(" "), said })
}
