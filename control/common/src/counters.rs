//! Counters of the control plane: named, documented, and listed by one declaration each.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count that only rises.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A counter's reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Its name in statistics.
    pub name: &'static str,
    /// What it counts.
    pub doc: &'static str,
    /// The count.
    pub value: u64,
}

/// Declares a struct of counters whose readings come with their names and docs.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $(#[doc = $doc:literal] $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name { $(#[doc = $doc] pub $field: $crate::counters::Counter,)* }

        impl $name {
            /// All readings, in the order of declaration.
            pub fn totals(&self) -> Vec<$crate::counters::Total> {
                vec![$($crate::counters::Total {
                    name: stringify!($field),
                    doc: $doc.trim_ascii(),
                    value: self.$field.get(),
                }),*]
            }
        }
    };
}
