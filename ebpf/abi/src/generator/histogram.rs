//! Latency buckets that are exact below 64 ns and at most 1/32 wide above: logarithmic over the
//! octaves, linear within each, so that the program finds a bucket with a shift and no table.

/// Number of buckets: they cover 2^36 ns, 68 s; longer times count in the last.
pub const BUCKETS: u32 = 1024;

const LINEAR_LOG2: u32 = 5;
const LINEAR: u32 = 1 << LINEAR_LOG2;

/// Returns the bucket that counts `value`.
#[inline(always)]
pub fn bucket(value: u64) -> u32 {
    // Below 2 * LINEAR, no bits are shifted out.
    let octave = (value | 1).ilog2().saturating_sub(LINEAR_LOG2);
    let index = octave * LINEAR + (value >> octave) as u32;
    if index < BUCKETS { index } else { BUCKETS - 1 }
}

/// Returns the least value of `bucket`; the next bucket's is one more than the greatest.
pub const fn bucket_start(bucket: u32) -> u64 {
    if bucket < 2 * LINEAR {
        return bucket as u64;
    }
    let octave = bucket / LINEAR - 1;
    ((bucket - octave * LINEAR) as u64) << octave
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_join_without_gap_or_overlap() {
        for index in 0..BUCKETS - 1 {
            assert_eq!(bucket(bucket_start(index)), index);
            assert_eq!(bucket(bucket_start(index + 1) - 1), index);
        }
    }

    #[test]
    fn buckets_are_narrow() {
        for index in 64..BUCKETS - 1 {
            let start = bucket_start(index);
            assert!((bucket_start(index + 1) - start) * 32 <= start, "bucket {index} at {start} ns");
        }
    }

    #[test]
    fn the_last_bucket_takes_the_rest() {
        assert_eq!(bucket(1 << 36), BUCKETS - 1);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }
}
