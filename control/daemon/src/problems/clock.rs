//! Watch on the system clock: certificates and signatures are judged by it.

use std::time::Duration;

/// Least difference from the time that went by that counts as a jump, in milliseconds: time
/// synchronisation steps a clock by less, or not at all.
const JUMP_MS: i64 = 5_000;
/// Number of looks, one a second, in which a jump is told.
const SHOWN: u32 = 600;

/// Readings of the system clock beside those of a clock that only goes forward.
#[derive(Debug, Default)]
pub(super) struct ClockWatch {
    last: Option<(i64, i64)>,
    jump: Option<Jump>,
}

/// Jump of the system clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jump {
    /// Difference in milliseconds; negative: backward.
    by_ms: i64,
    looks_left: u32,
}

impl ClockWatch {
    /// Compares both clocks, in milliseconds. Returns a jump that has just happened.
    pub(super) fn look(&mut self, wall_ms: i64, steady_ms: i64) -> Option<Jump> {
        let before = self.last.replace((wall_ms, steady_ms));
        let jump = before.and_then(|(wall, steady)| {
            let by_ms = (wall_ms - wall) - (steady_ms - steady);
            (by_ms.abs() >= JUMP_MS).then_some(Jump { by_ms, looks_left: SHOWN })
        });
        self.jump = jump.or_else(|| {
            let left = |jump: Jump| Jump { looks_left: jump.looks_left - 1, ..jump };
            self.jump.map(left).filter(|jump| jump.looks_left > 0)
        });
        jump
    }

    /// Returns the last jump, for some minutes.
    pub(super) fn jump(&self) -> Option<Jump> {
        self.jump
    }
}

impl std::fmt::Display for Jump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let direction = if self.by_ms < 0 { "backward" } else { "forward" };
        let secs = Duration::from_millis(self.by_ms.unsigned_abs()).as_secs();
        write!(
            f,
            "the system clock jumped {direction} by {secs} s: certificates of upstreams and DNSSEC signatures are \
             judged by it. Ages in the cache are not. `timedatectl` shows whether it is synchronised"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_told_once_and_shown_for_ten_minutes() {
        let mut watch = ClockWatch::default();
        assert_eq!(watch.look(1_000_000, 0), None, "nothing to compare with yet");
        assert_eq!(watch.look(1_001_000, 1_000), None);
        assert_eq!(watch.look(1_007_800, 2_900), None, "a correction");
        let jump = watch.look(1_007_800 - 3_600_000, 3_900).unwrap();
        assert!(jump.to_string().starts_with("the system clock jumped backward by 3601 s:"), "{jump}");
        for second in 1..=i64::from(SHOWN) {
            assert!(watch.jump().is_some(), "{second}");
            let now = (1_007_800 - 3_600_000 + second * 1_000, 3_900 + second * 1_000);
            assert_eq!(watch.look(now.0, now.1), None);
        }
        assert_eq!(watch.jump(), None);
    }

    #[test]
    fn a_host_that_slept_is_no_jump_if_the_steady_clock_counts_it() {
        let mut watch = ClockWatch::default();
        watch.look(0, 0);
        assert_eq!(watch.look(7_200_000, 7_200_000), None);
    }
}
