//! The steering program: redirects UDP datagrams for a listener to the AF_XDP socket of their
//! queue, drops those from sources that no host on a link has, that are banned or that the access
//! list denies, and leaves everything else to the kernel. It never writes packets.

#![no_std]
#![no_main]

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS},
    btf_maps::{Array, HashMap, LpmTrie, PerCpuArray, XskMap, lpm_trie::Key},
    macros::{btf_map, xdp},
    programs::XdpContext,
};
use ringdns_abi::{
    AccessKey, AccessRule, AccessSide, AddressKind, HostAddress, ListenKey, MAX_ACCESS, MAX_BANS, MAX_FRAME,
    MAX_HOST_ADDRESSES, MAX_LINK_ADDRESSES, MAX_LISTEN, MAX_QUEUES, MAX_VLANS, Tables, Verdict, VlanKey,
    decide,
};
use ringdns_ebpf::Frame;

#[btf_map]
static XSKS: XskMap<{ MAX_QUEUES as usize }> = XskMap::new();

#[btf_map]
static LISTEN: HashMap<ListenKey, u32, { MAX_LISTEN as usize }> = HashMap::new();

#[btf_map]
static LINK_ADDRESSES: Array<u64, { MAX_LINK_ADDRESSES as usize }> = Array::new();

#[btf_map]
static VLANS: HashMap<VlanKey, u32, { MAX_VLANS as usize }> = HashMap::new();

#[btf_map]
static HOST_ADDRESSES: LpmTrie<HostAddress, AddressKind, { 2 * (MAX_HOST_ADDRESSES + MAX_BANS) as usize }> =
    LpmTrie::new();

#[btf_map]
static ACCESS: LpmTrie<AccessKey, AccessRule, { 2 * MAX_ACCESS as usize }> = LpmTrie::new();

#[btf_map]
static ACCESS_SIDE: Array<AccessSide, 1> = Array::new();

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
    match decide(&frame, &Maps) {
        // The lengths may contradict the first of several buffers alone.
        Verdict::BadLength | Verdict::Redirected if is_oversize::<FRAGS>(&frame) => {
            (XDP_PASS, Verdict::Oversize)
        }
        Verdict::Redirected => match XSKS.redirect(context.rx_queue_index(), u64::from(XDP_PASS)) {
            Ok(action) => (action, Verdict::Redirected),
            Err(action) => (action, Verdict::NoSocket),
        },
        // Loopback, which has no link address, carries what this host sends to itself.
        verdict if verdict.is_about_source() && Maps.link_address(0) != Some(0) => (XDP_DROP, verdict),
        verdict => (XDP_PASS, verdict),
    }
}

/// Maps of this program.
struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn is_listener(&self, key: &ListenKey) -> bool {
        LISTEN.get_ptr(key).is_some()
    }

    #[inline(always)]
    fn link_address(&self, index: u32) -> Option<u64> {
        LINK_ADDRESSES.get(index).copied()
    }

    #[inline(always)]
    fn has_vlan(&self, vlan: &VlanKey) -> bool {
        VLANS.get_ptr(vlan).is_some()
    }

    #[inline(always)]
    fn address_kind(&self, address: &HostAddress) -> AddressKind {
        let key = Key::new(HostAddress::BITS, *address);
        HOST_ADDRESSES.get(&key).copied().unwrap_or(AddressKind::OTHER)
    }

    #[inline(always)]
    fn is_denied(&self, client: &HostAddress) -> bool {
        let side = ACCESS_SIDE.get(0).copied().unwrap_or(AccessSide::NONE);
        if side == AccessSide::NONE {
            return false;
        }
        let key = Key::new(AccessKey::BITS, side.key(*client));
        ACCESS.get(&key).copied() != Some(AccessRule::ALLOWED)
    }
}

#[inline(always)]
fn is_oversize<const FRAGS: bool>(frame: &Frame<'_>) -> bool {
    let length = if FRAGS { frame.total_len() } else { frame.linear_len() };
    length > MAX_FRAME
}

#[inline(always)]
fn count(verdict: Verdict) {
    if let Some(counter) = VERDICTS.get_ptr_mut(verdict.index()) {
        // SAFETY: the slot is this CPU's own, and XDP programs do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
}
