//! cache
/// Occupancy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Live entries.
    pub entries: u64,
    /// Bytes in use, headers and padding included.
    pub used: u64,
    /// Bytes in all, the index included.
    pub capacity: u64,
}
