//! Counters of the control plane. One declaration gives each its name, help text and place in
//! listings.

pub use ringdns_dataplane::totals::Total;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Returns a counter at zero.
    pub const fn new() -> Self {
        Counter(AtomicU64::new(0))
    }

    /// Adds one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// Returns the current value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Declares a struct of counters whose readings carry their names and help texts.
#[macro_export]
macro_rules! counters {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Default)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $crate::counters::Counter,)* }

        impl $name {
            /// Returns all readings in the order of declaration.
            pub fn totals(&self) -> Vec<$crate::counters::Total> {
                vec![$($crate::counters::Total {
                    name: stringify!($field),
                    doc: concat!($($doc),+).trim_ascii(),
                    value: self.$field.get(),
                }),*]
            }
        }
    };
}
