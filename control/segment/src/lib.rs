//! Segments of the query log: rows, and their encoding in files.
//!
//! `ringdnsd` writes segments, ClickHouse accepts them unchanged, and `ringctl log` reads those in
//! the spool directory.

#![forbid(unsafe_code)]

pub mod folder;
pub mod row;
pub mod rowbinary;
pub mod segment;
pub mod show;

pub use row::Row;
