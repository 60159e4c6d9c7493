//! Types of keys' values, as the reference names and writes them.

use ringdns_common::units::{Bytes, TimeSpan};
use serde::{Deserialize, Deserializer};

/// A type that a key's value can have.
pub trait KeyValue {
    /// Name of the type in the reference.
    const KIND: &'static str;
    /// Words that the value is one of; empty: it may be any value of its kind.
    const WORDS: &'static [&'static str] = &[];
    /// Largest number that the type holds; `None`: it is no number, or the type has no bound of its own.
    const MAX: Option<u64> = None;
    /// Returns this value as written in the file.
    fn written(&self) -> Option<String>;
}

macro_rules! values {
    ($($type:ty: $kind:literal $(to $max:expr)?, $value:ident => $written:expr;)*) => {
        $(impl KeyValue for $type {
            const KIND: &'static str = $kind;
            $(const MAX: Option<u64> = Some($max as u64);)?
            fn written(&self) -> Option<String> {
                let $value = self;
                Some($written)
            }
        })*
    };
}

values! {
    bool: "boolean", value => value.to_string();
    u16: "integer" to u16::MAX, value => value.to_string();
    u32: "integer" to u32::MAX, value => value.to_string();
    usize: "integer", value => value.to_string();
    Bytes: "bytes", value => format!("\"{value}\"");
    TimeSpan: "duration", value => format!("\"{value}\"");
    String: "string", value => format!("\"{value}\"");
    Vec<String>: "list of strings", value => format!("{value:?}");
    Vec<u32>: "list of integers" to u32::MAX, value => format!("{value:?}");
    Vec<u16>: "list of integers" to u16::MAX, value => format!("{value:?}");
}

/// Size that ringdnsd may lower to what fits, unless the file gives it.
#[derive(Clone, Copy, Debug)]
pub struct AdjustableBytes {
    /// Size.
    pub bytes: Bytes,
    /// Whether the file gives it.
    pub is_given: bool,
}

impl AdjustableBytes {
    /// Returns a default.
    pub const fn of(bytes: Bytes) -> Self {
        AdjustableBytes { bytes, is_given: false }
    }
}

impl<'de> Deserialize<'de> for AdjustableBytes {
    fn deserialize<D: Deserializer<'de>>(value: D) -> Result<Self, D::Error> {
        Ok(AdjustableBytes { bytes: Bytes::deserialize(value)?, is_given: true })
    }
}

impl KeyValue for AdjustableBytes {
    const KIND: &'static str = Bytes::KIND;
    fn written(&self) -> Option<String> {
        self.bytes.written()
    }
}

impl<T: KeyValue> KeyValue for Option<T> {
    const KIND: &'static str = T::KIND;
    const WORDS: &'static [&'static str] = T::WORDS;
    const MAX: Option<u64> = T::MAX;
    fn written(&self) -> Option<String> {
        self.as_ref().and_then(KeyValue::written)
    }
}

/// Defines the type of a key that chooses among a few words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            /// Returns the word in the file.
            pub fn label(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl $crate::values::KeyValue for $name {
            const KIND: &'static str = "string";
            const WORDS: &'static [&'static str] = &[$($word),*];
            fn written(&self) -> Option<String> {
                Some(format!("\"{}\"", self.label()))
            }
        }
    };
}
pub(crate) use choice;
