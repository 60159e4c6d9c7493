//! Quantities in text form: `"64MiB"`, `"800ms"`.

use serde::{Deserialize, Deserializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// Number of bytes: an integer, or a string with `KiB`, `MiB`, `GiB` (powers of 1024) or `kB`,
/// `MB`, `GB` (powers of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    const UNITS: [(&'static str, u64); 7] = [
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
        ("B", 1),
    ];

    fn parse(text: &str) -> Option<Self> {
        scaled(text, &Self::UNITS).map(Bytes)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(self.0, &Self::UNITS, f)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BytesVisitor;
        impl de::Visitor<'_> for BytesVisitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes such as 67108864 or \"64MiB\"")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Bytes, E> {
                let invalid = |_| E::invalid_value(de::Unexpected::Signed(value), &self);
                u64::try_from(value).map(Bytes).map_err(invalid)
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Bytes, E> {
                Bytes::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(BytesVisitor)
    }
}

/// Length of time: a string with `us`, `ms`, `s`, `m`, `h` or `d`. A bare number is refused: its
/// unit would be a guess.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeSpan(pub Duration);

impl TimeSpan {
    const UNITS: [(&'static str, u64); 6] = [
        ("d", 86_400_000_000),
        ("h", 3_600_000_000),
        ("m", 60_000_000),
        ("ms", 1_000),
        ("us", 1),
        ("s", 1_000_000),
    ];

    /// Returns a span of `secs` seconds.
    pub const fn secs(secs: u64) -> Self {
        TimeSpan(Duration::from_secs(secs))
    }

    /// Returns a span of `millis` milliseconds.
    pub const fn millis(millis: u64) -> Self {
        TimeSpan(Duration::from_millis(millis))
    }

    fn parse(text: &str) -> Option<Self> {
        scaled(text, &Self::UNITS).map(|micros| TimeSpan(Duration::from_micros(micros)))
    }
}

impl fmt::Display for TimeSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_zero() {
            return f.write_str("0s");
        }
        let mut units = Self::UNITS;
        units.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
        show(self.0.as_micros() as u64, &units, f)
    }
}

impl FromStr for TimeSpan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text).ok_or("it is not a length of time; write it as 90s, 10m or 1h")
    }
}

impl<'de> Deserialize<'de> for TimeSpan {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TimeSpanVisitor;
        impl de::Visitor<'_> for TimeSpanVisitor {
            type Value = TimeSpan;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time such as \"800ms\", \"5s\" or \"1h\"")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<TimeSpan, E> {
                TimeSpan::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(TimeSpanVisitor)
    }
}

/// Writes a number of things: "1 worker", "2 workers".
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Parses a whole number with a unit and returns their product. In `units`, none may be a suffix of
/// a later one.
fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (digits, size) = units.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)))?;
    let digits = digits.trim_end();
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    plain.then(|| digits.parse::<u64>().ok()?.checked_mul(size)).flatten()
}

/// Writes `value` in the first unit that divides it without remainder.
fn show(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let whole = units.iter().find(|(_, size)| value >= *size && value.is_multiple_of(*size));
    match whole.or(units.last()) {
        Some((unit, size)) => write!(f, "{}{unit}", value / size),
        None => write!(f, "{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_written_alike() {
        for (text, bytes) in [("64MiB", 64 << 20), ("1KiB", 1024), ("3GB", 3_000_000_000), ("17B", 17)] {
            assert_eq!(Bytes::parse(text), Some(Bytes(bytes)), "{text}");
            assert_eq!(Bytes(bytes).to_string(), text);
        }
        for (text, micros) in
            [("800ms", 800_000), ("5s", 5_000_000), ("90s", 90_000_000), ("2h", 7_200_000_000), ("50us", 50)]
        {
            assert_eq!(TimeSpan::parse(text), Some(TimeSpan(Duration::from_micros(micros))), "{text}");
            assert_eq!(TimeSpan(Duration::from_micros(micros)).to_string(), text);
        }
        assert_eq!(TimeSpan::parse("1d"), Some(TimeSpan::secs(86_400)));
    }

    #[test]
    fn one_thing_is_no_plural() {
        let counts = [0, 1, 2].map(|number| counted(number, "entry", "entries"));
        assert_eq!(counts, ["0 entries", "1 entry", "2 entries"]);
    }

    #[test]
    fn what_is_no_quantity_is_refused() {
        for text in ["", "64", "MiB", "-1MiB", "1.5GiB", "64 MB extra", "99999999999999GiB", "+1B"] {
            assert_eq!(Bytes::parse(text), None, "{text:?}");
        }
        for text in ["5", "s", "5 seconds", "-5s", "999999999999999999d", ""] {
            assert_eq!(TimeSpan::parse(text), None, "{text:?}");
        }
    }
}
