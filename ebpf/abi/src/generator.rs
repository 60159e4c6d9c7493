//! Definitions that the load generator's two programs share with the process that drives them.
//!
//! `BPF_PROG_TEST_RUN` runs `ringdns_gen` on live frames: each run is a slot, in which one query is
//! sent if one is due. `ringdns_sink` is attached to the interface on which the answers arrive; it
//! counts and drops them.
//!
//! A query is identified by its sequence number, which its source port (the low bits) and DNS ID
//! (the bits above) carry over to the answer. The sequence number also selects the query: entry
//! `sequence mod order_len` of [`ORDER_MAP`] is the index of a [`Template`], so user space can
//! shuffle any mix of names in advance.

mod flow;
mod histogram;
mod template;

pub use flow::{Flow, FlowError};
pub use histogram::{BUCKETS, bucket, bucket_start};
pub use template::Template;

/// Name of the program that sends queries.
pub const GENERATE_PROGRAM: &str = "ringdns_gen";
/// Name of the program that counts answers.
pub const SINK_PROGRAM: &str = "ringdns_sink";

/// Array of one [`Config`].
pub const CONFIG_MAP: &str = "CONFIG";
/// Array of [`Template`]; may be created smaller than [`MAX_TEMPLATES`].
pub const TEMPLATES_MAP: &str = "TEMPLATES";
/// Array of `u32`, indices of templates; may be created smaller than [`MAX_ORDER`].
pub const ORDER_MAP: &str = "ORDER";
/// Array of one [`Progress`].
pub const PROGRESS_MAP: &str = "PROGRESS";
/// Array of `u64`: time at which the query of a [slot](Config::slot) was due, in `CLOCK_MONOTONIC`
/// nanoseconds; zero if no answer is awaited.
pub const DUE_TIMES_MAP: &str = "DUE_TIMES";
/// Per-CPU array of one [`Received`].
pub const RECEIVED_MAP: &str = "RECEIVED";
/// Per-CPU array of `u64`: answers by latency [`bucket`].
pub const LATENCIES_MAP: &str = "LATENCIES";

pub const MAX_TEMPLATES: u32 = 131_072;
pub const MAX_ORDER: u32 = 1 << 20;
/// Most queries that can await an answer at once. A power of two; that many queries later, an
/// answer is attributed to another query.
pub const SLOTS: u32 = 1 << 20;

/// Length in bytes of a frame for `BPF_PROG_TEST_RUN`: longer than any query, so that every query
/// is trimmed to its length. The kernel recycles frames, and notices a frame's new length only if
/// the program changes it.
pub const FRAME_LEN: usize = 384;
const _: () = assert!(FRAME_LEN > HEADER_CAPACITY + template::MAX_MESSAGE);

/// Most bytes of headers: Ethernet, IPv6 and UDP; IPv4 takes 20 less.
const HEADER_CAPACITY: usize = 62;

/// Fixed settings of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Time between two queries; zero sends one in every slot.
    pub interval_ns: u64,
    /// Most by which a query may be late. Later ones count as [`Progress::skipped`] and are not
    /// sent: those missed while off the CPU must not reach the server as a burst.
    pub max_lag_ns: u64,
    /// Number of queries after which to stop; zero never stops.
    pub limit: u64,
    /// Ethernet, IP and UDP header, with lengths, checksums and source port zero.
    pub header: Header,
    /// Length of `header` in bytes: 42 for IPv4, 62 for IPv6.
    pub header_len: u32,
    /// Number of entries of [`ORDER_MAP`] in use.
    pub order_len: u32,
    /// Index of the interface that queries leave by.
    pub interface: u32,
    /// Sum over the IPv4 header without its length; zero for IPv6.
    pub ip_sum: u32,
    /// Sum of the constant part of UDP's checksum: addresses, protocol, server port.
    pub udp_sum: u32,
    pub first_port: u16,
    pub server_port: u16,
    /// Binary logarithm of the number of source ports.
    pub ports_log2: u32,
    pub reserved: u32,
}

/// Header bytes, aligned so that the program copies them in few steps.
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

    /// Returns the position of the query in [`DUE_TIMES_MAP`].
    #[inline(always)]
    pub fn slot(&self, sequence: u64) -> u32 {
        // ID and port may carry fewer values than there are slots.
        let carried = (0x1_0000 << self.ports_log2) - 1;
        (sequence & carried) as u32 & (SLOTS - 1)
    }

    /// Returns the slot of the query that an answer with this ID, to this port, belongs to, if the
    /// port is the generator's.
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

/// Progress of the generator. One thread at a time runs it, on changing CPUs, so this is not per
/// CPU. User space may set `sequence`, and clears `due_ns` before each run.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Sequence number of the next query.
    pub sequence: u64,
    /// Time at which the next query is due; zero starts the schedule at the next slot.
    pub due_ns: u64,
    pub sent: u64,
    /// Queries never sent because the generator was too far behind.
    pub skipped: u64,
    /// Slots in which no query was due, or the limit was reached.
    pub idle: u64,
    /// Slots in which a query was due but could not be built: the maps do not match [`Config`].
    pub failed: u64,
}

/// Received frames, as counted by one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Answers to queries that awaited one: the first answer to each.
    pub answers: u64,
    /// Answers that no query awaited: a second one, or one whose query was forgotten.
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
