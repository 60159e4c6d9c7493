//! Faults that last until a part works again.

use parking_lot::Mutex;
use std::fmt::Display;

/// Fault of a part, if it has one at the moment.
#[derive(Debug, Default)]
pub struct Fault(Mutex<Option<String>>);

impl Fault {
    /// Records that the part fails, and the reason. Returns whether it worked before.
    pub fn set(&self, reason: impl Display) -> bool {
        self.0.lock().replace(reason.to_string()).is_none()
    }

    /// Records that the part works. Returns whether it failed before.
    pub fn clear(&self) -> bool {
        self.0.lock().take().is_some()
    }

    /// Returns the reason of the last failure, if the part fails.
    pub fn reason(&self) -> Option<String> {
        self.0.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lasts_until_the_part_works() {
        let fault = Fault::default();
        assert!(!fault.clear() && fault.reason().is_none());
        assert!(fault.set("disk full") && !fault.set("disk gone"));
        assert_eq!(fault.reason().as_deref(), Some("disk gone"));
        assert!(fault.clear() && !fault.clear() && fault.reason().is_none());
    }
}
