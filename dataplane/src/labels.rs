//! Numbers for upstreams and lists, small enough for a cache entry and for a record of the query log.
//! A number keeps its meaning as long as the process runs, even if the configuration is reloaded.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

/// Most labels that can have a number.
const LABELS_MAX: usize = 256;

/// Labels that have a number. They are read without a lock, by workers too.
pub struct Labels(Box<[OnceLock<Arc<str>>; LABELS_MAX]>);

impl Default for Labels {
    fn default() -> Self {
        Labels(Box::new([const { OnceLock::new() }; LABELS_MAX]))
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map_while(OnceLock::get)).finish()
    }
}

impl Labels {
    /// Returns the number of a label, and assigns one if it has none. `None`: all numbers are taken.
    pub fn number(&self, label: &str) -> Option<u8> {
        // Labels are added in their order, and none is removed.
        let at = self.0.iter().position(|known| **known.get_or_init(|| label.into()) == *label)?;
        u8::try_from(at).ok()
    }

    /// Returns the label with this number.
    pub fn get(&self, number: u8) -> Option<&Arc<str>> {
        self.0.get(usize::from(number))?.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_once_and_there_are_256() {
        let labels = Labels::default();
        assert_eq!(labels.get(0), None);
        let numbers: Vec<_> = (0..300).map(|n| labels.number(&format!("udp://192.0.2.{n}"))).collect();
        assert_eq!((numbers[0], numbers[255], numbers[256]), (Some(0), Some(255), None));
        assert_eq!(labels.number("udp://192.0.2.7"), Some(7));
        assert_eq!(labels.get(7).map(|label| &**label), Some("udp://192.0.2.7"));
    }
}
