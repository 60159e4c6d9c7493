#!/usr/bin/env bash
# Runs fuzz targets two at a time, each on a copy of its seeds. Fails if any input makes one panic,
# take more than ten seconds, or take more than a GiB of memory. Such inputs are kept in
# fuzz/artifacts.
#
#   run.sh [--seconds N] [TARGET]...    default: 60 seconds each, all targets
#
# Needs no cargo-fuzz and no nightly Rust, but a C++ compiler for libFuzzer. To try one input again:
# target/fuzz-run/x86_64-unknown-linux-gnu/release/TARGET FILE
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$here/../deploy/lib.sh"

# A target, so that build scripts and macros are not instrumented.
readonly PLATFORM=x86_64-unknown-linux-gnu
readonly FOLDER=${CARGO_TARGET_DIR:-$here/../target}/fuzz-run
readonly ARTIFACTS=$here/artifacts
# Coverage of edges, with counters and comparisons, as libFuzzer reads them: what cargo-fuzz passes.
readonly FLAGS=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    -Cdebug-assertions --cfg fuzzing
)

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

build() {
    RUSTFLAGS="${FLAGS[*]}" CARGO_TARGET_DIR=$FOLDER \
        cargo build --locked --quiet --release --target "$PLATFORM" --manifest-path "$here/Cargo.toml"
}

# Prints the names of all targets.
targets() {
    local file
    for file in "$here"/fuzz_targets/*.rs; do
        if grep --quiet 'fuzz_target!' "$file"; then basename "$file" .rs; fi
    done
}

# run_target TARGET SECONDS: prints one line, and the end of the log of a finding.
run_target() {
    local target=$1 seconds=$2 corpus=$work/$1 log=$work/$1.log status=0 runs coverage
    mkdir "$corpus"
    if [[ -d $here/seeds/$target ]]; then cp "$here/seeds/$target"/* "$corpus"; fi
    "$FOLDER/$PLATFORM/release/$target" -timeout=10 -rss_limit_mb=1024 -max_total_time="$seconds" \
        -print_final_stats=1 -artifact_prefix="$ARTIFACTS/$target-" "$corpus" >"$log" 2>&1 &
    # shellcheck disable=SC2064 # The process of now.
    trap "kill $! 2>/dev/null; exit 143" TERM
    wait "$!" || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    coverage=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    printf '%-9s %10s executions, %6s edges, %s\n' "$target" "${runs:-no}" "${coverage:-no}" \
        "$( ((status)) && printf 'FOUND something (status %d)' "$status" || printf 'nothing found in %d s' "$seconds")"
    ((status)) || return 0
    # Without the progress.
    grep --invert-match --extended-regexp '^#[0-9]|NEW_FUNC' "$log" | tail -n 40
    sed -n 's/.*Test unit written to /kept: /p' "$log"
    touch "$work/failed"
}

main() {
    local seconds=60 all target chosen=()
    mapfile -t all < <(targets)
    while (($#)); do
        case $1 in
        -h | --help) usage && exit 0 ;;
        --seconds)
            [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || die "--seconds needs a number of seconds"
            seconds=$2
            shift
            ;;
        *)
            [[ " ${all[*]} " == *" $1 "* ]] || die "unknown target '$1': targets are ${all[*]}"
            chosen+=("$1")
            ;;
        esac
        shift
    done
    ((${#chosen[@]})) || chosen=("${all[@]}")
    select_rust || die "no Rust $RUST_MINIMUM or later: deploy/setup.sh build"
    build
    mkdir -p "$ARTIFACTS"
    work=$(mktemp --directory --tmpdir ringdns-fuzz.XXXXXX)
    trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$work"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    for target in "${chosen[@]}"; do
        if (($(jobs -pr | wc -l) >= 2)); then wait -n; fi
        run_target "$target" "$seconds" &
    done
    wait
    [[ ! -e $work/failed ]] || die "fix what was found, and add the input to fuzz/seeds"
}

main "$@"
