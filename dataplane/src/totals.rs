//! Totals: counters that are read with their names and help texts.

/// Reading of a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// Name in statistics.
    pub name: &'static str,
    /// Help text.
    pub doc: &'static str,
    /// Value when read.
    pub value: u64,
}

/// Declares a struct of totals that one thread keeps. Its readings carry their names and help texts,
/// so that a total that is declared is in statistics and metrics.
#[macro_export]
macro_rules! totals {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $field:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: u64,)* }

        impl $name {
            /// Returns all readings in the order of declaration.
            pub fn totals(&self) -> Vec<$crate::totals::Total> {
                vec![$($crate::totals::Total {
                    name: stringify!($field),
                    doc: concat!($($doc),+).trim_ascii(),
                    value: self.$field,
                }),*]
            }
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}
