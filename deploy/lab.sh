#!/usr/bin/env bash
# Makes a lab of two linked hosts on one machine: two network namespaces and a veth pair between
# them. Needs root.
#
#   lab.sh [--name NAME] up [--queues N] [--vlan ID]
#   lab.sh [--name NAME] exec client|server COMMAND...
#   lab.sh [--name NAME] status
#   lab.sh [--name NAME] down
#
#   NAME-client                     NAME-server
#   vc  10.53.0.1/24  <- veth ->    vs  10.53.0.2/24
#       fd53::1/64                      fd53::2/64
#
# With --queues, each end has N queues. With --vlan, every frame on the link carries the 802.1Q tag
# ID; untagged ones are dropped at both ends.
#
# NAME is --name, else $RINGDNS_LAB, else ringdns. Labs of different names do not affect each other:
# a script takes a name of its own, such as ringdns-$$. `down` ends all processes in the two
# namespaces, and nothing else. `up` does nothing if the lab is up with the same shape, refuses if
# it has another shape, and makes an incomplete lab again.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

readonly CLIENT_MAC=02:00:00:00:53:01
readonly SERVER_MAC=02:00:00:00:53:02

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

has_namespace() {
    [[ -e /run/netns/$1 ]]
}

# The shape is the alias of the server's end, and is written last: a lab without it is incomplete.
read_shape() {
    ip -n "$server" -json link show dev vs 2>/dev/null | sed -n 's/.*"ifalias":"\([^"]*\)".*/\1/p'
}

make_cable() {
    local queues=$1
    ip netns add "$client"
    ip netns add "$server"
    # Each end gets the same number of queues: native XDP refuses an end whose peer transmits on
    # more queues than it receives on. The pair is made inside the namespaces, so that names of the
    # host's own interfaces never matter.
    ip -n "$client" link add vc address "$CLIENT_MAC" numrxqueues "$queues" numtxqueues "$queues" \
        type veth peer name vs address "$SERVER_MAC" netns "$server" numrxqueues "$queues" numtxqueues "$queues"
}

quiet_kernel() {
    local namespace=$1 device=$2
    # Without a link-local address there are no router solicitations. The only packets that the
    # kernel sends by itself are a few IPv6 multicast listener reports after `up`, which a server
    # counts as "not ours".
    ip -n "$namespace" link set dev "$device" addrgenmode none
    # Kernel sockets leave checksums and segmentation to the device, and veth never does that work:
    # a server that bypasses the kernel would see wrong checksums and frames beyond the MTU.
    # Likewise, a VLAN tag would travel beside the frame, where XDP cannot see it.
    ip netns exec "$namespace" ethtool -K "$device" \
        rx off tx off sg off tso off gso off rxvlan off txvlan off >/dev/null
    # A veth end has NAPI only with an XDP program of its own or with GRO. Without NAPI, packets
    # that its peer sends by XDP_TX or XDP_REDIRECT vanish, with no error at the sender.
    ip netns exec "$namespace" ethtool -K "$device" gro on >/dev/null
}

# await_local_route NAMESPACE ADDRESS
# The kernel adds the local route of an IPv6 address from a work queue, later than the address
# itself; without the route, packets to the address are dropped.
await_local_route() {
    local deadline=$((SECONDS + 10))
    while [[ -z $(ip -n "$1" -6 route show table local type local "$2") ]]; do
        ((SECONDS < deadline)) || die "the kernel has no local route for $2 after 10 s"
    done
}

# configure NAMESPACE DEVICE OWN-HOST PEER-HOST PEER-MAC
configure() {
    local namespace=$1 device=$2 own=$3 peer=$4 peer_mac=$5
    ip -n "$namespace" link set dev lo up
    ip -n "$namespace" address add "10.53.0.$own/24" dev "$device"
    ip -n "$namespace" address add "fd53::$own/64" dev "$device" nodad
    ip -n "$namespace" link set dev "$device" up
    await_local_route "$namespace" "fd53::$own"
    # Static neighbours keep ARP and neighbour discovery out of the packet counts.
    ip -n "$namespace" neighbour replace "10.53.0.$peer" lladdr "$peer_mac" dev "$device"
    ip -n "$namespace" neighbour replace "fd53::$peer" lladdr "$peer_mac" dev "$device"
}

# Uses tc and BPF instead of VLAN devices: kernels of virtual machines are often built without
# 802.1Q, but have these. XDP runs before the ingress hook and AF_XDP sends past the egress hook:
# both see the tag, as on a real trunk.
tag_frames() {
    local namespace=$1 device=$2 object=$3 way
    ip netns exec "$namespace" tc qdisc add dev "$device" clsact
    for way in ingress egress; do
        ip netns exec "$namespace" tc filter add dev "$device" "$way" \
            bpf direct-action object-file "$object" section "$way"
    done
}

tag_both_ends() {
    local id=$1 object
    command -v clang >/dev/null || die "--vlan needs clang: deploy/setup.sh test"
    object=$(mktemp --suffix=.o)
    clang -target bpf -O2 -Wall -Werror -DVLAN_ID="$id" -c "$here/vlan.bpf.c" -o "$object"
    tag_frames "$client" vc "$object"
    tag_frames "$server" vs "$object"
    rm "$object"
}

make_lab() {
    local queues=$1 vlan=$2
    make_cable "$queues"
    quiet_kernel "$client" vc
    quiet_kernel "$server" vs
    configure "$client" vc 1 2 "$SERVER_MAC"
    configure "$server" vs 2 1 "$CLIENT_MAC"
    ((vlan == 0)) || tag_both_ends "$vlan"
    ip -n "$server" link set dev vs alias "$(shape "$queues" "$vlan")"
}

shape() {
    printf 'queues=%d vlan=%d' "$1" "$2"
}

# option_number OPTION VALUE LOWEST HIGHEST
option_number() {
    if ! [[ $2 =~ ^[0-9]{1,4}$ ]] || ((10#$2 < $3 || 10#$2 > $4)); then
        die "$1 needs a number from $3 to $4, not '$2'"
    fi
    printf '%d' "$((10#$2))"
}

up() {
    local queues=1 vlan=0 found
    while (($#)); do
        case $1 in
        --queues) queues=$(option_number --queues "${2:-}" 1 64) ;;
        --vlan) vlan=$(option_number --vlan "${2:-}" 1 4094) ;;
        *) die "up takes --queues N and --vlan ID, not '$1'" ;;
        esac
        shift 2
    done
    if has_namespace "$client" || has_namespace "$server"; then
        found=$(read_shape || true)
        if [[ $found == "$(shape "$queues" "$vlan")" ]]; then
            say "lab $name is up already"
            return
        fi
        [[ -z $found ]] || die "lab $name is up already, with $found. Take it down first, or choose another --name."
        say "lab $name was incomplete: making it again"
        down
    fi
    trap 'down' EXIT
    make_lab "$queues" "$vlan"
    trap - EXIT
    say "lab $name is up: $(shape "$queues" "$vlan")"
}

# Ends the processes of one namespace, by pid: SIGTERM first, and SIGKILL after three seconds.
end_processes() {
    local namespace=$1 patience=3 pids pid
    mapfile -t pids < <(ip netns pids "$namespace")
    ((${#pids[@]})) || return 0
    kill -TERM "${pids[@]}" 2>/dev/null || true
    SECONDS=0
    for pid in "${pids[@]}"; do
        ((SECONDS < patience)) || break
        timeout "$((patience - SECONDS))" tail --sleep-interval=0.05 --pid="$pid" -f /dev/null || true
    done
    mapfile -t pids < <(ip netns pids "$namespace")
    ((${#pids[@]} == 0)) || kill -KILL "${pids[@]}" 2>/dev/null || true
}

down() {
    local namespace
    for namespace in "$client" "$server"; do
        has_namespace "$namespace" || continue
        end_processes "$namespace"
        # The link first: a namespace and its devices outlive its name for as long as it has an open
        # socket.
        ip -n "$namespace" link delete dev vc 2>/dev/null || true
        ip -n "$namespace" link delete dev vs 2>/dev/null || true
        ip netns delete "$namespace"
    done
}

run_in() {
    (($# >= 2)) || die "exec needs client or server, and a command"
    local side=$1 namespace
    shift
    case $side in
    client) namespace=$client ;;
    server) namespace=$server ;;
    *) die "exec needs client or server, not '$side'" ;;
    esac
    has_namespace "$namespace" || die "lab $name is not up"
    # `ip netns exec` mounts a new /sys, so the command does not see the host's /sys/fs/bpf.
    exec ip netns exec "$namespace" "$@"
}

status() {
    local namespace
    if ! has_namespace "$client" || ! has_namespace "$server"; then
        die "lab $name is not up"
    fi
    printf 'lab %s: %s\n' "$name" "$(read_shape)"
    for namespace in "$client" "$server"; do
        printf '\n%s\n' "$namespace"
        ip -n "$namespace" -brief address show
        ip -n "$namespace" -details link show | sed -n 's/^ *\(prog\/xdp .*\)/XDP: \1/p'
        ip netns pids "$namespace" | while read -r pid; do
            printf 'process %d: %s\n' "$pid" "$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)"
        done
    done
}

main() {
    name=${RINGDNS_LAB:-ringdns}
    if [[ ${1:-} == --name ]]; then
        name=${2:-}
        shift 2 || die "--name needs a name"
    fi
    [[ $name =~ ^[A-Za-z0-9._-]{1,64}$ ]] || die "a name has 1 to 64 letters, digits, dots, dashes and underscores, not '$name'"
    client=$name-client
    server=$name-server

    local verb=${1:-}
    (($# == 0)) || shift
    case $verb in
    up | down | exec | status) require_root "a lab of network namespaces" ;;&
    up) up "$@" ;;
    down) down ;;
    exec) run_in "$@" ;;
    status) status ;;
    -h | --help) usage ;;
    *) usage >&2 && exit 2 ;;
    esac
}

main "$@"
