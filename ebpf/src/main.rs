//! The steering program: redirects UDP datagrams for a listener to the AF_XDP socket of their
//! queue, and leaves everything else unchanged to the kernel. It never drops or writes packets.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::XDP_PASS,
    btf_maps::{Array, HashMap, PerCpuArray, XskMap},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ringdns_abi::{
    ListenKey, MAX_FRAME, MAX_LINK_ADDRESSES, MAX_LISTEN, MAX_QUEUES, Packet, Verdict, classify,
    is_for_this_host,
};
use ringdns_ebpf::Frame;

#[btf_map]
static XSKS: XskMap<{ MAX_QUEUES as usize }> = XskMap::new();

#[btf_map]
static LISTEN: HashMap<ListenKey, u32, { MAX_LISTEN as usize }> = HashMap::new();

#[btf_map]
static LINK_ADDRESSES: Array<u64, { MAX_LINK_ADDRESSES as usize }> = Array::new();

#[btf_map]
static VERDICTS: PerCpuArray<u64, { Verdict::COUNT as usize }> = PerCpuArray::new();

#[xdp]
pub fn ringdns_steer(context: XdpContext) -> u32 {
    steer_and_count::<false>(&context)
}

#[xdp(frags)]
pub fn ringdns_steer_frags(context: XdpContext) -> u32 {
    steer_and_count::<true>(&context)
}

#[inline(always)]
fn steer_and_count<const FRAGS: bool>(context: &XdpContext) -> u32 {
    let (action, verdict) = steer::<FRAGS>(context);
    count(verdict);
    action
}

#[inline(always)]
fn steer<const FRAGS: bool>(context: &XdpContext) -> (u32, Verdict) {
    let frame = Frame::new(context);
    let destination = match classify(&frame) {
        Ok(datagram) => datagram.destination,
        // The lengths may contradict the first of several buffers alone.
        Err(Verdict::BadLength) if is_oversize::<FRAGS>(&frame) => return (XDP_PASS, Verdict::Oversize),
        Err(verdict) => return (XDP_PASS, verdict),
    };
    if !is_listener(&destination) && !is_listener(&destination.any_address()) {
        return (XDP_PASS, Verdict::OtherDestination);
    }
    let Some(mac) = frame.window::<6>(0) else { return (XDP_PASS, Verdict::BadLength) };
    if !is_for_this_host(*mac, |index| LINK_ADDRESSES.get(index).copied()) {
        return (XDP_PASS, Verdict::OtherLinkAddress);
    }
    if is_oversize::<FRAGS>(&frame) {
        return (XDP_PASS, Verdict::Oversize);
    }
    match XSKS.redirect(context.rx_queue_index(), u64::from(XDP_PASS)) {
        Ok(action) => (action, Verdict::Redirected),
        Err(action) => (action, Verdict::NoSocket),
    }
}

#[inline(always)]
fn is_oversize<const FRAGS: bool>(frame: &Frame<'_>) -> bool {
    let length = if FRAGS { frame.total_len() } else { frame.linear_len() };
    length > MAX_FRAME
}

#[inline(always)]
fn is_listener(destination: &ListenKey) -> bool {
    LISTEN.get_ptr(destination).is_some()
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict.index()) {
        // SAFETY: the slot is this CPU's own, and XDP programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
}
