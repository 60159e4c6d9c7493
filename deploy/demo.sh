#!/usr/bin/env bash
# Shows ringdns at work, on this machine alone: two hosts in network namespaces, a synthetic upstream, ringdnsd on
# AF_XDP, and a load generator. Prints the rate, the hit ratio, latency percentiles and the histogram. Needs root.
#
#   demo.sh [SECONDS]        duration of each load; default: 10
#
# Leaves only cargo's target folder and the packages that setup.sh installs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

readonly LAB=ringdns-demo-$$
readonly UPSTREAM=127.0.0.1:5301
readonly SERVER=10.53.0.2:53

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

# in_lab client|server COMMAND...: replaces this process, so that its pid is the command's.
in_lab() {
    exec "$here/lab.sh" --name "$LAB" exec "$@"
}

build() {
    cargo build --locked --release -p ringdns-daemon -p ringdns-ctl -p ringdns-bench
    programs=$(cargo metadata --format-version 1 --no-deps --locked |
        sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')/release
}

# start NAME READY-PATTERN COMMAND...: starts it on the server, and waits until its output has the
# pattern. The output goes to a file.
start() {
    local name=$1 pattern=$2 log=$folder/$1.log pid
    shift 2
    : >"$log"
    (in_lab server "$@") >"$log" 2>&1 &
    pid=$!
    started+=("$pid")
    SECONDS=0
    until grep -q "$pattern" "$log"; do
        if ! kill -0 "$pid" 2>/dev/null || ((SECONDS > 60)); then
            cat "$log" >&2
            die "$name did not start, see above"
        fi
        sleep 0.1
    done
}

write_configuration() {
    cat >"$folder/ringdns.toml" <<-EOF_TOML
	[server]
	listen = ["$SERVER", "[fd53::2]:53"]
	interface = "vs"

	[[upstream]]
	address = "$UPSTREAM"

	[control]
	socket = "$folder/control.sock"
	EOF_TOML
}

ringctl() {
    "$programs/ringctl" --socket "$folder/control.sock" "$@"
}

# counter NAME: prints a counter of `ringctl stats`, 0 if it is not shown.
counter() {
    ringctl stats | awk -v name="$1" '$1 == name { found = $2 } END { print found + 0 }'
}

# load TITLE ARGUMENT...: runs a load from the client, and prints ringdnsd's hit ratio under it.
load() {
    local title=$1 hits received
    shift
    hits=$(counter total.hit)
    received=$(counter total.received)
    printf '\n== %s\n' "$title"
    (in_lab client "$programs/ringbench" run --target "$SERVER" --duration "$seconds" "$@")
    hits=$(($(counter total.hit) - hits))
    received=$(($(counter total.received) - received))
    awk -v hits="$hits" -v received="$received" 'BEGIN {
        printf "hit ratio: %.2f %% of the %d queries that ringdnsd received\n", received ? 100 * hits / received : 0, received
    }'
}

clean_up() {
    local pid
    for pid in "${started[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    "$here/lab.sh" --name "$LAB" down
    rm -rf "$folder"
}

main() {
    seconds=${1:-10}
    [[ $seconds =~ ^[1-9][0-9]{0,3}$ ]] || die "the only argument is a number of seconds from 1 to 9999, not '$seconds'"
    require_root "the demonstration's lab of network namespaces"
    "$here/setup.sh" build run
    select_rust || die "no Rust $RUST_MINIMUM or later: deploy/setup.sh build"
    cd "$here/.."
    build

    started=()
    folder=$(mktemp --directory --tmpdir ringdns-demo.XXXXXX)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    "$here/lab.sh" --name "$LAB" up
    write_configuration
    start upstream 'serving on' "$programs/ringbench" upstream --listen "$UPSTREAM"
    start ringdnsd ' ready ' "$programs/ringdnsd" --config "$folder/ringdns.toml"
    ringctl status

    # Warms the cache, so that the loads find every name cached.
    (in_lab client "$programs/ringbench" run --target "$SERVER" --duration 0.1 --warm) >/dev/null
    load "10,000 names by Zipf's law, one query in a hundred for a new name: from kernel sockets" \
        --zipf 1 --random-share 1
    load "The same names by XDP, more than ringdnsd can receive: lost queries never reached it" \
        --backend xdp --interface vc --zipf 1 --random-share 1
    local outcome
    for outcome in hit miss; do
        printf '\n== Service times inside ringdnsd, in microseconds: %s\n' "$outcome"
        ringctl histogram export --outcome "$outcome"
    done
    printf '\n== Counters\n'
    ringctl stats
}

case ${1:-} in
-h | --help) usage ;;
*) main "$@" ;;
esac
