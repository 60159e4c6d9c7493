//! Roles of callers, and the audit log.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Requests that a caller may make. Each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Requests that show something, names and clients included.
    Read,
    /// Requests that change something, and profiles.
    Operate,
}

impl Role {
    /// Name of it, as in files and JSON.
    pub fn label(self) -> &'static str {
        match self {
            Role::Read => "read",
            Role::Operate => "operate",
        }
    }
}

/// Answer to a request that is refused or fails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Refused {
    /// Reason and remedy.
    pub error: String,
}

/// Answer of `GET /v1/caller`: who asks, and what it may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallerView {
    /// User of the Unix socket, as `user:NAME` or `uid:NUMBER`, or the token, as `token:NAME`.
    pub who: String,
    /// Role of the caller.
    pub role: Role,
}

/// Line of the audit log: a change that somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Time (RFC 3339).
    pub time: String,
    /// User of the Unix socket, as `user:NAME` or `uid:NUMBER`, the token, as `token:NAME`, or
    /// `signal:SIGHUP`.
    pub who: String,
    /// Address of the client; `None`: the Unix socket, or a signal.
    pub peer: Option<String>,
    /// Path of the request.
    pub what: String,
    /// Parameters of the request, as they were sent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub parameters: String,
    /// Status code of the answer; 0: the client left before there was one.
    pub status: u16,
    /// Reason why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}
