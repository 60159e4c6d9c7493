// SPDX-License-Identifier: MIT OR Apache-2.0
// Makes an end of the lab's link a port of VLAN_ID: the kernel's packets leave tagged, packets with
// another tag or none are dropped on arrival, and the kernel itself never sees the tag. For
// `lab.sh up --vlan`, which explains why it is not a VLAN device. Needs no headers: the context is
// part of the kernel's stable interface, and so are the numbers of the helpers.

struct __sk_buff {
    unsigned int len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto;
};

enum { TC_ACT_OK = 0, TC_ACT_SHOT = 2, ETH_P_8021Q_BIG_ENDIAN = 0x0081, VLAN_VID_MASK = 0x0fff };

static long (*const skb_vlan_push)(struct __sk_buff *, unsigned short proto, unsigned short tci) = (void *)18;
static long (*const skb_vlan_pop)(struct __sk_buff *) = (void *)19;

__attribute__((section("egress"), used)) int tag(struct __sk_buff *skb) {
    return skb_vlan_push(skb, ETH_P_8021Q_BIG_ENDIAN, VLAN_ID) ? TC_ACT_SHOT : TC_ACT_OK;
}

__attribute__((section("ingress"), used)) int untag(struct __sk_buff *skb) {
    if (!skb->vlan_present || (skb->vlan_tci & VLAN_VID_MASK) != VLAN_ID)
        return TC_ACT_SHOT;
    return skb_vlan_pop(skb) ? TC_ACT_SHOT : TC_ACT_OK;
}

// The helpers for VLAN tags allow every licence, but the loader requires one.
__attribute__((section("license"), used)) char _license[] = "Dual MIT/GPL";
