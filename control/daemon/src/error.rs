//! Reasons why ringdnsd does not start, or ends by itself.

use crate::{attach::EntranceError, control_socket::SocketError, preflight::ClaimError};
use ringdns_config::Problem;
use std::io;

/// Reason why ringdnsd did not start, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Something that the configuration names cannot be used.
    #[error("{0}")]
    Problem(#[from] Problem),
    /// Lists or local data that the configuration names cannot be used.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Lists(Vec<Problem>),
    /// A port cannot be opened.
    #[error("{0}")]
    Claim(#[from] ClaimError),
    /// Neither AF_XDP nor kernel sockets could be opened.
    #[error("{0}")]
    Entrance(#[from] EntranceError),
    /// The control socket cannot be created.
    #[error("{0}")]
    Socket(#[from] SocketError),
    /// The runtime or a doorbell cannot be created.
    #[error("the control plane cannot be started: {0}. Raise the limits of threads and open files")]
    Runtime(#[from] io::Error),
    /// A worker ended, and its queue is no longer served.
    #[error("worker {worker} ended: {reason}. Please report this with the lines above")]
    Worker {
        /// Number of the worker.
        worker: usize,
        /// Reason why it ended.
        reason: String,
    },
    /// A part of the control plane ended.
    #[error("{what} ended: {reason}. Please report this with the lines above")]
    Task {
        /// Name of the part.
        what: &'static str,
        /// Reason why it ended.
        reason: String,
    },
}

impl DaemonError {
    /// Whether this machine lacks something that the configuration requires: nothing was attached,
    /// and another try fails too unless machine or configuration change.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Problem(_) | Self::Lists(_) | Self::Claim(_) | Self::Entrance(_) | Self::Socket(_)
        )
    }

    /// Returns the key of the configuration that names what cannot be used.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Problem(problem) => Some(&problem.key),
            Self::Claim(error) => Some(error.key()),
            Self::Entrance(_) => Some("server.interface"),
            Self::Socket(_) => Some("control.socket"),
            Self::Lists(_) | Self::Runtime(_) | Self::Worker { .. } | Self::Task { .. } => None,
        }
    }
}
