//! What the load generator's two programs share with the process that drives them.
//!
//! `ringdns_gen` is run by `BPF_PROG_TEST_RUN` on live frames: each run is a slot, in which one query leaves
//! if one is due. `ringdns_sink` is attached to the interface where the answers come back; it counts and
//! drops them.
//!
//! A query is known by its sequence number, which its source port (the low bits) and DNS ID (the bits above)
//! carry over to the answer. The sequence number also picks the query: entry `sequence mod order_len` of
//! [`ORDER_MAP`] is the index of a [`Template`], so any mix of names is user space's to shuffle, ahead of
//! time.

mod flow;
mod histogram;
mod template;

pub use flow::{Flow, FlowError};
pub use histogram::{BUCKETS, bucket, bucket_start};
pub use template::Template;

/// The program that sends queries.
pub const GENERATE_PROGRAM: &str = "ringdns_gen";
/// The program that counts answers.
pub const SINK_PROGRAM: &str = "ringdns_sink";

/// Array of one [`Config`].
pub const CONFIG_MAP: &str = "CONFIG";
/// Array of [`Template`]; may be created smaller than [`MAX_TEMPLATES`].
pub const TEMPLATES_MAP: &str = "TEMPLATES";
/// Array of `u32`, indices of templates; may be created smaller than [`MAX_ORDER`].
pub const ORDER_MAP: &str = "ORDER";
/// Array of one [`Progress`].
pub const PROGRESS_MAP: &str = "PROGRESS";
/// Array of `u64`: when the query of a [slot](Config::slot) was due, in `CLOCK_MONOTONIC` nanoseconds; zero
/// when no answer is awaited.
pub const DUE_TIMES_MAP: &str = "DUE_TIMES";
/// Per-CPU array of one [`Received`].
pub const RECEIVED_MAP: &str = "RECEIVED";
/// Per-CPU array of `u64`: answers by latency [`bucket`].
pub const LATENCIES_MAP: &str = "LATENCIES";

pub const MAX_TEMPLATES: u32 = 131_072;
pub const MAX_ORDER: u32 = 1 << 20;
/// How many queries can be awaited at once. A power of two; more queries later, an answer is taken for
/// another's.
pub const SLOTS: u32 = 1 << 20;

/// How long a frame to give to `BPF_PROG_TEST_RUN`: longer than any query, so that every query is trimmed to
/// its length. The kernel recycles frames and takes note of a frame's new length only if the program changes
/// it.
pub const FRAME_LEN: usize = 384;
const _: () = assert!(FRAME_LEN > HEADER_CAPACITY + template::MAX_MESSAGE);

/// Ethernet, IPv6 and UDP; IPv4 takes 20 less.
const HEADER_CAPACITY: usize = 62;

/// The fixed part of what the programs do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Between two queries; zero sends one in every slot.
    pub interval_ns: u64,
    /// How late a query may leave. Those that are later are counted as [`Progress::skipped`] and never sent:
    /// what the generator missed while it was off the CPU must not reach the server as a burst.
    pub max_lag_ns: u64,
    /// Stop after so many queries; zero never stops.
    pub limit: u64,
    /// Ethernet, IP and UDP, lengths, checksums and source port left at zero.
    pub header: Header,
    /// Of `header`, in bytes: 42 for IPv4, 62 for IPv6.
    pub header_len: u32,
    /// Entries of [`ORDER_MAP`] that are in use.
    pub order_len: u32,
    /// Index of the interface that queries leave by.
    pub interface: u32,
    /// Sum over the IPv4 header but for its length; zero for IPv6.
    pub ip_sum: u32,
    /// Sum over what UDP's checksum covers and is the same for each query: addresses, protocol, server port.
    pub udp_sum: u32,
    pub first_port: u16,
    pub server_port: u16,
    /// Binary logarithm of the number of source ports.
    pub ports_log2: u32,
    pub reserved: u32,
}

/// Aligned, so that the program copies it in few steps.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug)]
pub struct Header(pub [u8; 64]);

impl Config {
    #[inline(always)]
    pub fn id(&self, sequence: u64) -> u16 {
        (sequence >> self.ports_log2) as u16
    }

    #[inline(always)]
    pub fn port(&self, sequence: u64) -> u16 {
        self.first_port.wrapping_add((sequence & self.port_mask()) as u16)
    }

    /// Where in [`DUE_TIMES_MAP`] the query is remembered.
    #[inline(always)]
    pub fn slot(&self, sequence: u64) -> u32 {
        // What ID and port can carry may be less than there are slots.
        let carried = (0x1_0000 << self.ports_log2) - 1;
        (sequence & carried) as u32 & (SLOTS - 1)
    }

    /// The slot of the query that an answer with this ID, to this port, belongs to, if the port is the
    /// generator's.
    #[inline(always)]
    pub fn slot_of_answer(&self, id: u16, port: u16) -> Option<u32> {
        let port = u64::from(port.wrapping_sub(self.first_port));
        if port > self.port_mask() {
            return None;
        }
        Some(self.slot((u64::from(id) << self.ports_log2) | port))
    }

    #[inline(always)]
    fn port_mask(&self) -> u64 {
        (1 << self.ports_log2) - 1
    }
}

/// How far the generator has come. One thread at a time may run it; the scheduler may move that thread between
/// batches, so this is no CPU's own. User space may set `sequence`, and clears `due_ns` before each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Of the next query.
    pub sequence: u64,
    /// When the next query is due; zero starts the schedule at the next slot.
    pub due_ns: u64,
    pub sent: u64,
    /// Queries never sent because the generator was too far behind.
    pub skipped: u64,
    /// Slots in which no query was due, or the limit was reached.
    pub idle: u64,
    /// Slots in which a query was due but could not be built: the maps are not filled as [`Config`] says.
    pub failed: u64,
}

/// What came back, as one CPU counted it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Answers to queries that were awaited: the first answer to each.
    pub answers: u64,
    /// Answers that nobody waited for: a second answer, or one whose query was forgotten.
    pub unmatched: u64,
    /// Answers with the TC bit.
    pub truncated: u64,
    /// Length of the answers' frames, from Ethernet header to the end of UDP.
    pub bytes: u64,
    /// Frames that were not answers, left to the kernel.
    pub passed: u64,
    /// Answers by RCODE.
    pub rcodes: [u64; 16],
}

#[cfg(feature = "aya")]
mod pod {
    // SAFETY: `repr(C)` and integers or arrays of them only. `Config`, `Progress` and `Received` have no
    // padding (see below); any bytes are a valid value.
    unsafe impl aya::Pod for super::Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Progress {}
    // SAFETY: as above.
    unsafe impl aya::Pod for super::Received {}
}

const _: () = assert!(size_of::<Config>() == 3 * 8 + 64 + 5 * 4 + 2 * 2 + 2 * 4);
const _: () = assert!(size_of::<Progress>() == 6 * 8);
const _: () = assert!(size_of::<Received>() == 21 * 8);

#[cfg(test)]
mod tests {
    use super::*;

    fn config(ports_log2: u32) -> Config {
        let flow = Flow { ports_log2, ..flow::tests::IPV4 };
        Config::new(&flow).expect("a flow that can be")
    }

    #[test]
    fn an_answer_leads_back_to_its_query() {
        for ports_log2 in [0, 3, 4, 8, 14] {
            let config = config(ports_log2);
            for sequence in [0, 1, 15, 16, 65_535, 65_536, 1 << 20, 0x1234_5678, u64::MAX] {
                let slot = config.slot_of_answer(config.id(sequence), config.port(sequence));
                assert_eq!(slot, Some(config.slot(sequence)), "{sequence} over 2^{ports_log2} ports");
            }
        }
    }

    #[test]
    fn queries_in_flight_have_slots_of_their_own() {
        let config = config(4);
        let mut slots: Vec<u32> = (0..u64::from(SLOTS)).map(|sequence| config.slot(sequence)).collect();
        slots.sort_unstable();
        slots.dedup();
        assert_eq!(slots.len(), SLOTS as usize);
    }

    #[test]
    fn ports_that_are_not_the_generators_have_no_slot() {
        let config = config(4);
        assert_eq!(config.slot_of_answer(7, config.first_port - 1), None);
        assert_eq!(config.slot_of_answer(7, config.first_port + 16), None);
    }

    extern crate std;
    use std::vec::Vec;
}
