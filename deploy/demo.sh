#!/usr/bin/env bash
# Shows ringdns at work, on this machine alone: two hosts in network namespaces, a synthetic upstream, ringdnsd on
# AF_XDP, and a load generator. Prints a page of rates, hit ratios and latencies. Needs root.
#
#   demo.sh [SECONDS]        duration of each load; default: 10
#
# Leaves only cargo's target folder, with its results in target/demo, and the packages that setup.sh installs.
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
    # The whole workspace, as test.sh builds it: with other features, the same crates would be built once more.
    cargo build --locked --release --workspace --bins
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

# json_number FILE KEY: prints the first number of this key.
json_number() {
    sed -n "s/^ *\"$2\": \([0-9.]*\),\{0,1\}$/\1/p" "$1" | head -n 1
}

# load NAME TITLE ARGUMENT...: runs a load from the client, and adds a row about it to the page.
load() {
    local name=$1 title=$2 report=$folder/load-$1.json hits received
    shift 2
    hits=$(counter total.hit)
    received=$(counter total.received)
    say "load \"$name\": $seconds s"
    (in_lab client "$programs/ringbench" run --target "$SERVER" --duration "$seconds" --json "$@") \
        >"$report" 2>"$folder/load-$name.log"
    hits=$(($(counter total.hit) - hits))
    received=$(($(counter total.received) - received))
    rows+=("$(awk -v title="$title" -v rate="$(json_number "$report" answers_per_second)" -v hits="$hits" \
        -v received="$received" -v p50="$(json_number "$report" p50)" -v p99="$(json_number "$report" p99)" 'BEGIN {
        printf "%-44s %11d %8.2f %% %9.0f us %9.0f us", title, rate, received ? 100 * hits / received : 0, p50 / 1000, p99 / 1000
    }')")
}

# percentile_row OUTCOME: prints a row of service times, from the histogram that it writes to a file.
percentile_row() {
    local file=$folder/service-$1.hgrm
    ringctl histogram export --outcome "$1" --output "$file"
    awk -v outcome="$1" '
        $2 ~ /^[01]\.[0-9]+$/ {
            for (i = 1; i <= 4; i++)
                if (!(i in value) && $2 >= wanted[i]) value[i] = $1
            max = $1; count = $3
        }
        BEGIN { split("0.5 0.9 0.99 0.999", wanted, " ") }
        END { printf "%-10s %10d %10.1f %10.1f %10.1f %10.1f %10.1f\n", outcome, count, value[1], value[2], value[3], value[4], max }
    ' "$file"
}

# The page: what a person reads in half a minute. Everything else is in the files that it names.
page() {
    printf '\nringdns on this machine: veth in copy mode, %d cores of %s, Linux %s\n' "$(nproc)" \
        "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" "$(uname -r)"
    ringctl status | grep '^receiving'
    printf '\n%-44s %11s %10s %12s %12s\n' 'load' 'answers/s' 'hits' 'p50' 'p99'
    printf '%s\n' "${rows[@]}"
    printf '\n%-10s %10s %10s %10s %10s %10s %10s\n' 'service us' count p50 p90 p99 p99.9 max
    local outcome
    for outcome in hit miss; do
        percentile_row "$outcome"
    done
    ringctl status >"$folder/status.txt"
    ringctl stats --all >"$folder/stats.txt"
    cat <<-EOF_PAGE

	The XDP generator sends more than one core can answer: its latencies are those of full queues.
	Files: $folder (loads as JSON, service times as HdrHistogram text, status, all counters)
	Next:  deploy/lab.sh --help                         the same two hosts, to try things by hand
	       target/release/ringbench nic --help          your own NIC, in every mode that it has
	       docs/operation.md                            ringdnsd on a real machine
	EOF_PAGE
}

clean_up() {
    local pid
    for pid in "${started[@]}"; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    "$here/lab.sh" --name "$LAB" down
    rm -f "$folder/control.sock"
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
    folder=$programs/../demo
    rm -rf "$folder"
    mkdir -p "$folder"
    folder=$(cd "$folder" && pwd)
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    "$here/lab.sh" --name "$LAB" up
    write_configuration
    start upstream 'serving on' "$programs/ringbench" upstream --listen "$UPSTREAM"
    start ringdnsd ' ready ' "$programs/ringdnsd" --config "$folder/ringdns.toml"


    # Warms the cache, so that the loads find every name cached.
    (in_lab client "$programs/ringbench" run --target "$SERVER" --duration 0.1 --warm) >/dev/null 2>&1
    rows=()
    load sockets "10,000 names by Zipf, 1 % new; kernel sockets" --zipf 1 --random-share 1
    load xdp "the same, as fast as XDP sends" --backend xdp --interface vc --zipf 1 --random-share 1
    page
}

case ${1:-} in
-h | --help) usage ;;
*) main "$@" ;;
esac
