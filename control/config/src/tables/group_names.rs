//! `groups`, a key of several tables: names of the groups of clients that a table is for.

use super::client_group::{ClientGroupConfig, DEFAULT_GROUP};
use crate::error::Problem;

/// Checks the names of groups that a table is for. `None`: it is for all clients.
pub fn check(
    key: &str,
    names: Option<Vec<String>>,
    groups: &[ClientGroupConfig],
) -> Result<Option<Vec<String>>, Problem> {
    let Some(names) = names else { return Ok(None) };
    if names.is_empty() {
        let remedy = "Name a group, or remove the key for all clients";
        return Err(Problem::new(key, "the list has no group, so the table is for nobody", remedy));
    }
    for (i, name) in names.iter().enumerate() {
        let is_known = |name: &str| name == DEFAULT_GROUP || groups.iter().any(|group| group.name == name);
        if is_known(name) {
            continue;
        }
        let mut known: Vec<&str> = groups.iter().map(|group| group.name.as_str()).collect();
        known.push(DEFAULT_GROUP);
        known.dedup();
        let remedy = format!("Write one of {}, or add a [[client_group]] with this name", known.join(", "));
        return Err(Problem::new(format!("{key}[{i}]"), format!("there is no group {name:?}"), remedy));
    }
    Ok(Some(names))
}

/// Whether a client may be in the groups of both.
pub fn overlap(one: Option<&Vec<String>>, other: Option<&Vec<String>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.iter().any(|name| other.contains(name)),
        _ => true,
    }
}
