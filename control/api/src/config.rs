//! Configuration of a running ringdnsd.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// Configuration in effect. Passwords and parameters of URLs are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ConfigView {
    /// File that it was read from; `None`: the command line has it.
    pub file: Option<String>,
    /// Tables with all keys that have a value, defaults among them.
    pub effective: Value,
    /// Tables as written.
    pub written: Value,
}

/// Difference between the configuration in effect and a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfigDifference {
    /// Path of the key, or the name of the table if only files have changed that it names.
    pub key: String,
    /// Value in effect; `None`: there is none.
    pub running: Option<String>,
    /// Value in the file; `None`: there is none.
    pub file: Option<String>,
    /// Reason why it takes effect only at a restart; `None`: a reload applies it.
    pub restart: Option<String>,
}
