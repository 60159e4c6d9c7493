//! Tables of the configuration file: their keys, their defaults, and their documentation.
//!
//! The macro [`table`] generates a table's struct and its part of the reference from one text, so
//! neither can exist without the other.

/// A table of the file, as the reference shows it.
pub struct TableDoc {
    /// Header as written in the file: `[server]`, `[[upstream]]`.
    pub header: &'static str,
    /// Purpose of the table.
    pub doc: &'static [&'static str],
    /// Keys of the table.
    pub keys: Vec<KeyDoc>,
}

/// A key of a table.
pub struct KeyDoc {
    /// Name of the key.
    pub name: &'static str,
    /// Kind of the value, such as "duration".
    pub kind: &'static str,
    /// Words that the value is one of; empty: it may be any value of its kind.
    pub words: &'static [&'static str],
    /// Largest number that the key's type holds, of each element of a list.
    pub max: Option<u64>,
    /// Value that an absent key has; `None` if it has none.
    pub default: Option<String>,
    /// Documentation of the key.
    pub doc: &'static [&'static str],
}

/// A table that the reference can show.
pub trait Documented {
    /// Returns the table's documentation.
    fn doc() -> TableDoc;
}

/// A table that may be repeated.
impl<T: Documented> Documented for Vec<T> {
    fn doc() -> TableDoc {
        T::doc()
    }
}

/// Defines a table's header, the struct that its keys are read into, and each key with its
/// documentation, type and default.
macro_rules! table {
    ($(#[doc = $doc:literal])* $header:literal $name:ident {
        $($(#[doc = $key_doc:literal])* $key:ident: $type:ty = $default:expr,)*
    }) => {
        $(#[doc = $doc])*
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $($(#[doc = $key_doc])* pub $key: $type,)* }

        impl Default for $name {
            fn default() -> Self {
                $name { $($key: $default,)* }
            }
        }

        impl $crate::table::Documented for $name {
            fn doc() -> $crate::table::TableDoc {
                let default = $name::default();
                $crate::table::TableDoc {
                    header: $header,
                    doc: &[$($doc),*],
                    keys: vec![$($crate::table::KeyDoc {
                        // Keywords of Rust are keys too.
                        name: stringify!($key).trim_start_matches("r#"),
                        kind: <$type as $crate::values::KeyValue>::KIND,
                        words: <$type as $crate::values::KeyValue>::WORDS,
                        max: <$type as $crate::values::KeyValue>::MAX,
                        default: $crate::values::KeyValue::written(&default.$key),
                        doc: &[$($key_doc),*],
                    },)*],
                }
            }
        }
    };
}
pub(crate) use table;
