//! Numbers for upstreams, small enough for a record of the query log. A number keeps its meaning as
//! long as the process runs, even if the configuration is reloaded.

use parking_lot::RwLock;
use std::sync::Arc;

/// Labels of all upstreams that have a number, ordered by number.
#[derive(Default)]
pub struct Labels(RwLock<Vec<Arc<str>>>);

impl Labels {
    /// Returns the number of the upstream with this label, and assigns one if it has none. `None`:
    /// all numbers are taken.
    pub fn number(&self, label: &str) -> Option<u8> {
        let mut labels = self.0.write();
        let known = labels.iter().position(|known| **known == *label);
        let number = u8::try_from(known.unwrap_or(labels.len())).ok()?;
        if known.is_none() {
            labels.push(label.into());
        }
        Some(number)
    }

    /// Returns the label of the upstream with this number.
    pub fn get(&self, number: u8) -> Option<Arc<str>> {
        self.0.read().get(usize::from(number)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_given_once_and_there_are_256() {
        let labels = Labels::default();
        let numbers: Vec<_> = (0..300).map(|n| labels.number(&format!("udp://192.0.2.{n}"))).collect();
        assert_eq!((numbers[0], numbers[255], numbers[256]), (Some(0), Some(255), None));
        assert_eq!(labels.number("udp://192.0.2.7"), Some(7));
        assert_eq!((labels.get(7).as_deref(), labels.0.read().len()), (Some("udp://192.0.2.7"), 256));
    }
}
