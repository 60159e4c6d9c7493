//! Compact sets of names, found by keyed fingerprints.

mod filter;
mod hash;
mod table;
#[cfg(test)]
mod tests;

pub use hash::{LABELS_MAX, NameKey, Path, last_labels};
pub use table::{Full, Mark, Match, Reach, Sign, Table, TableBuilder};
