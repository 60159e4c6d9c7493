//! Segments of the query log: rows, how they are written, and how they are read again.
//!
//! `ringdnsd` writes them, ClickHouse takes them as they are, and `ringctl log` reads those that lie in the folder.

#![forbid(unsafe_code)]

pub mod folder;
pub mod row;
pub mod rowbinary;
pub mod segment;
pub mod show;

pub use row::Row;
