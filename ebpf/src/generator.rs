//! Programs of the load generator: one writes queries into recycled frames and sends them, the
//! other counts the answers. See `ringdns_abi::generator`.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::{Array, PerCpuArray},
    helpers::{
        bpf_ktime_get_ns, bpf_redirect, bpf_xdp_adjust_tail, bpf_xdp_get_buff_len, bpf_xdp_store_bytes,
    },
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ringdns_abi::{
    Packet, classify, fold,
    generator::{BUCKETS, Config, MAX_ORDER, MAX_TEMPLATES, Progress, Received, SLOTS, Template, bucket},
};
use ringdns_ebpf::Frame;

#[btf_map]
static CONFIG: Array<Config, 1> = Array::new();

#[btf_map]
static TEMPLATES: Array<Template, { MAX_TEMPLATES as usize }> = Array::new();

#[btf_map]
static ORDER: Array<u32, { MAX_ORDER as usize }> = Array::new();

#[btf_map]
static PROGRESS: Array<Progress, 1> = Array::new();

#[btf_map]
static DUE_TIMES: Array<u64, { SLOTS as usize }> = Array::new();

#[btf_map]
static RECEIVED: PerCpuArray<Received, 1> = PerCpuArray::new();

#[btf_map]
static LATENCIES: PerCpuArray<u64, { BUCKETS as usize }> = PerCpuArray::new();

const ETHERNET_LEN: usize = 14;
const IPV4_UDP: usize = ETHERNET_LEN + 20;
const IPV6_UDP: usize = ETHERNET_LEN + 40;
const UDP_LEN: usize = 8;
const ID_LEN: usize = 2;

// ----------- Sending
// --------------------------------------------------------------------------------------------------

#[xdp]
pub fn ringdns_gen(context: XdpContext) -> u32 {
    let (Some(config), Some(progress)) = (CONFIG.get(0), PROGRESS.get_ptr_mut(0)) else {
        return XDP_DROP;
    };
    // SAFETY: one thread at a time runs the generator, and user space writes only between runs.
    let progress = unsafe { &mut *progress };
    let Some(due) = next_due(config, progress) else {
        progress.idle += 1;
        return XDP_DROP;
    };

    let sequence = progress.sequence;
    progress.sequence += 1;
    if send(&context, config, sequence, due).is_none() {
        progress.failed += 1;
        return XDP_DROP;
    }
    progress.sent += 1;
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(config.interface, 0) as u32 }
}

/// Returns the time at which this slot's query is due; `None` if not yet. Advances the schedule.
#[inline(always)]
fn next_due(config: &Config, progress: &mut Progress) -> Option<u64> {
    if config.limit != 0 && progress.sent >= config.limit {
        return None;
    }
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    if config.interval_ns == 0 {
        return Some(now);
    }
    if progress.due_ns == 0 {
        progress.due_ns = now;
    }
    let lag = now.checked_sub(progress.due_ns)?;
    if lag > config.max_lag_ns {
        let missed = lag / config.interval_ns;
        progress.skipped += missed;
        progress.due_ns += missed * config.interval_ns;
    }
    let due = progress.due_ns;
    progress.due_ns += config.interval_ns;
    Some(due)
}

/// Writes the whole query, whatever the frame held before, and records when it was due.
#[inline(always)]
fn send(context: &XdpContext, config: &Config, sequence: u64, due: u64) -> Option<()> {
    let position = sequence.checked_rem(u64::from(config.order_len))?;
    let template = TEMPLATES.get(*ORDER.get(position as u32)?)?;
    let message_len = template.message_len()?;
    let udp_len = UDP_LEN + message_len;
    let port = config.port(sequence);
    let id = config.id(sequence);

    let length = udp_len as u32;
    let checksum = !fold(config.udp_sum + 2 * length + u32::from(port) + u32::from(id) + template.sum());
    // Zero would mean that there is no checksum (RFC 768).
    let udp =
        Udp { port, length: length as u16, checksum: if checksum == 0 { 0xffff } else { checksum }, id };

    let mut header = config.header;
    let bytes = &mut header.0;
    let message = if config.header_len as usize == IPV4_UDP + UDP_LEN {
        let total = length as u16 + 20;
        put(bytes, 16, total);
        put(bytes, 24, !fold(config.ip_sum + u32::from(total)));
        udp.put::<IPV4_UDP>(bytes)
    } else {
        put(bytes, 18, length as u16);
        udp.put::<IPV6_UDP>(bytes)
    };

    resize(context, message + message_len)?;
    store(context, 0, bytes, message + ID_LEN)?;
    store(context, message + ID_LEN, template.rest(), message_len - ID_LEN)?;
    let due_time = DUE_TIMES.get_ptr_mut(config.slot(sequence))?;
    // SAFETY: one aligned word, which the sink may read on another CPU: it sees the old value or the new one.
    unsafe { due_time.write_volatile(due) };
    Some(())
}

/// Fields of the UDP header and the message that differ between queries.
struct Udp {
    port: u16,
    length: u16,
    checksum: u16,
    id: u16,
}

impl Udp {
    /// Returns the offset of the message.
    #[inline(always)]
    fn put<const AT: usize>(&self, header: &mut [u8; 64]) -> usize {
        put(header, AT, self.port);
        put(header, AT + 4, self.length);
        put(header, AT + 6, self.checksum);
        put(header, AT + UDP_LEN, self.id);
        AT + UDP_LEN
    }
}

#[inline(always)]
fn put(header: &mut [u8; 64], at: usize, word: u16) {
    [header[at], header[at + 1]] = word.to_be_bytes();
}

#[inline(always)]
fn resize(context: &XdpContext, length: usize) -> Option<()> {
    // SAFETY: the context is the kernel's own.
    let present = unsafe { bpf_xdp_get_buff_len(context.ctx) };
    // SAFETY: as above, and no pointer into the packet is held.
    let result = unsafe { bpf_xdp_adjust_tail(context.ctx, length as i32 - present as i32) };
    (result == 0).then_some(())
}

/// Copies the first `length` bytes of `bytes` to `offset` in the packet.
#[inline(always)]
fn store<const N: usize>(context: &XdpContext, offset: usize, bytes: &[u8; N], length: usize) -> Option<()> {
    if length > N {
        return None;
    }
    let bytes = bytes.as_ptr().cast_mut().cast();
    // SAFETY: `bytes` has at least `length` bytes, and the helper checks offset and length against the
    // packet.
    let result = unsafe { bpf_xdp_store_bytes(context.ctx, offset as u32, bytes, length as u32) };
    (result == 0).then_some(())
}

// ----------- Counting
// -------------------------------------------------------------------------------------------------

#[xdp]
pub fn ringdns_sink(context: XdpContext) -> u32 {
    let (Some(config), Some(received)) = (CONFIG.get(0), RECEIVED.get_ptr_mut(0)) else {
        return XDP_PASS;
    };
    // SAFETY: the entry is this CPU's own, and XDP programs do not interrupt each other on a CPU.
    let received = unsafe { &mut *received };
    match count_answer(&Frame::new(&context), config, received) {
        Some(()) => XDP_DROP,
        None => {
            received.passed += 1;
            XDP_PASS
        }
    }
}

/// Counts an answer; `None` if the frame is not one from the server to the generator.
#[inline(always)]
fn count_answer(frame: &Frame<'_>, config: &Config, received: &mut Received) -> Option<()> {
    let datagram = classify(frame).ok()?;
    // Ports, length and checksum of UDP, then the first four bytes of the message.
    let head = frame.window::<12>(datagram.offset)?;
    let is_answer = head[10] & 0x80 != 0;
    if u16::from_be_bytes([head[0], head[1]]) != config.server_port || !is_answer {
        return None;
    }
    let port = u16::from_be_bytes([head[2], head[3]]);
    let slot = config.slot_of_answer(u16::from_be_bytes([head[8], head[9]]), port)?;

    let due_time = DUE_TIMES.get_ptr_mut(slot)?;
    // SAFETY: one aligned word, which the generator may write on another CPU: the old value or the new one.
    let due = unsafe { due_time.read_volatile() };
    if due == 0 {
        received.unmatched += 1;
        return Some(());
    }
    // SAFETY: as above. Nobody waits for a second answer.
    unsafe { due_time.write_volatile(0) };

    received.answers += 1;
    received.bytes += (datagram.offset + datagram.length) as u64;
    received.truncated += u64::from(head[10] & 0x02 != 0);
    received.rcodes[usize::from(head[11] & 0x0f)] += 1;
    // SAFETY: a helper without arguments.
    let now = unsafe { bpf_ktime_get_ns() };
    let latency = LATENCIES.get_ptr_mut(bucket(now.saturating_sub(due)))?;
    // SAFETY: the entry is this CPU's own.
    unsafe { *latency += 1 };
    Some(())
}
