#!/usr/bin/env bash
# Runs every test, in order, each step under a time limit. Needs root, for network namespaces and
# for setup.sh.
#
#   test.sh [STEP]...        default: all steps
#   test.sh drivers --all    or other options of tests/vm/drivers.py; write values as --NAME=VALUE
#
# Steps: setup lint supply build unit loom ebpf lab drivers differential faults hostile fuzz gate ratios. One more
# runs only if it is named, for it builds everything twice: packages.
# The last line is the summary: N passed, N failed, and N skipped if any are. Above it, the end of
# what each failed step printed is repeated. `drivers` is skipped if the mirror has no QEMU. A step
# that fails does not stop the steps after it. Leaves only cargo's target folder, the findings of
# `fuzz` in fuzz/artifacts, and in ~/.cache the packages that `drivers` runs on and the tools of `supply`.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
readonly self=$here/test.sh

# Steps in the order in which they run. The limits, in seconds, are against hangs, with room for a
# slow machine.
readonly STEPS=(setup lint supply build unit loom ebpf lab drivers differential faults hostile fuzz gate ratios)
declare -rA LIMIT=([setup]=900 [lint]=1800 [supply]=900 [packages]=2400 [build]=1800 [unit]=1800 [loom]=600 [ebpf]=900 [lab]=2400 [drivers]=1200
    [differential]=300 [faults]=900 [hostile]=300 [fuzz]=1800 [gate]=600 [ratios]=600)
# Steps that run only if they are named.
readonly NAMED_STEPS=(packages)
# Limit of `drivers` with options: the whole matrix, or a million queries on emulated machines.
readonly LIMIT_WITH_OPTIONS=14400

# Lines that the summary repeats of each step that failed: the steps after it print hundreds.
readonly REPEATED_LINES=25

# Exit status of a step that cannot run here.
readonly SKIPPED=77

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

#----------- The steps --------------------------------------------------------

step_setup() {
    "$here/setup.sh" test
}

step_lint() {
    shellcheck -x bench/*.sh deploy/*.sh fuzz/*.sh tests/vm/*.sh .ci/run
    # The guests of tests/vm have busybox's shell, which is close to dash.
    shellcheck --shell=dash tests/vm/guest/*
    if cargo fmt --version >/dev/null 2>&1; then
        cargo fmt --all --check
    else
        say "skipping the format check: this Rust has no cargo fmt"
    fi
    if cargo clippy --version >/dev/null 2>&1; then
        cargo clippy --locked --workspace --all-targets -- -D warnings
    else
        say "skipping clippy: this Rust has no cargo clippy"
    fi
}

# Licences, bans and sources of crates.
step_supply() {
    "$here/supply.sh" crates
}

# Packages that are built twice and are the same, and their bills of materials. To be run before a release, and when
# crates, build scripts or deploy/package.sh have changed.
step_packages() {
    "$here/supply.sh" packages
}

step_build() {
    cargo build --locked --workspace --release
}

step_unit() {
    cargo test --locked --workspace --exclude ringdns-tests --no-fail-fast
}

# In a target folder of its own: the flag is part of every crate's build, and would invalidate the
# other builds.
step_loom() {
    RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/loom \
        cargo test --locked --release --package ringdns-dataplane --lib loom
}

step_ebpf() {
    ebpf/build.sh --check
}

# The random faults are left to the step `faults`, which plays the same ones and goes on for longer.
step_lab() {
    tests/run.py -- --skip a_random_mix_of_faults_is_survived
}

# Kernels and NIC drivers in virtual machines: the short form, unless options ask for more. See docs/testing.md.
step_drivers() {
    step_build
    python3 -m unittest discover --quiet --start-directory tests/vm
    tests/vm/drivers.py "$@"
}

# The short form. The full one asks 20,000 queries; see docs/differential.md.
step_differential() {
    step_build
    "${CARGO_TARGET_DIR:-target}/release/ringbench" differential --queries 1200
}

# Checks that every query is answered and all sums add up while Redis and ClickHouse fail, and then
# three minutes of a random mix of faults. The full runs are in docs/testing.md.
step_faults() {
    step_build
    "${CARGO_TARGET_DIR:-target}/release/ringbench" faults --short --nice -15
    RINGDNS_CHAOS=180 cargo test --locked --release --package ringdns-tests --test chaos -- --nocapture
}

# Checks that ringdnsd keeps its limits against hostile clients, upstreams and networks. The full run
# compares it with other resolvers.
step_hostile() {
    step_build
    "${CARGO_TARGET_DIR:-target}/release/ringbench" hostile --short --nice -15
}

# Tries inputs of every kind on all parsers, for 20 seconds each. fuzz/run.sh takes more time. The targets are a
# workspace of their own, with other flags: Clippy checks them as they are built, where it is installed, since a
# check by itself would take as long as the build.
step_fuzz() {
    if command -v clippy-driver >/dev/null && clippy-driver --version >/dev/null 2>&1; then
        export RUSTC_WORKSPACE_WRAPPER=clippy-driver
    else
        say "skipping clippy: this Rust has no clippy-driver"
    fi
    fuzz/run.sh --seconds 20
}

# With the programs of step_build: the hot path takes as many instructions in them as in the packages.
step_gate() {
    bench/gate.sh --profile release
}

# Uses the programs of step_build, or builds them.
step_ratios() {
    step_build
    "${CARGO_TARGET_DIR:-target}/release/ringbench" compare --short --floors bench/ratios.json --nice -15
}

#----------- Running them -----------------------------------------------------

# run_step NAME [OPTION]...: runs a step in a process group of its own, which the time limit ends as
# a whole.
run_step() {
    local name=$1 limit=${LIMIT[$1]} start=$SECONDS status=0
    (($# == 1)) || limit=$LIMIT_WITH_OPTIONS
    printf '\n== %s\n' "$*"
    timeout --kill-after=15 "$limit" "$self" --only "$@" &
    running=$!
    wait "$running" || status=$?
    running=
    case $status in
    0) printf '== %s: passed in %d s\n' "$name" "$((SECONDS - start))" ;;
    "$SKIPPED") printf '== %s: SKIPPED, for the reason above\n' "$name" ;;
    124 | 137) printf '== %s: FAILED, still running after %d s\n' "$name" "$((SECONDS - start))" ;;
    *) printf '== %s: FAILED with status %d in %d s\n' "$name" "$status" "$((SECONDS - start))" ;;
    esac
    return "$status"
}

# Takes down the labs of killed tests; other tests take down their own.
remove_labs() {
    local namespace
    for namespace in /run/netns/"$RINGDNS_LAB_PREFIX"-*; do
        # The other half of a lab is gone already.
        [[ -e $namespace ]] || continue
        namespace=${namespace##*/}
        "$here/lab.sh" --name "${namespace%-*}" down
    done
}

clean_up() {
    if [[ -n $running ]]; then
        # `timeout` passes the signal on to all processes of its step.
        kill -TERM "$running" 2>/dev/null || true
        wait "$running" || true
    fi
    remove_labs
    rm -rf "$TMPDIR"
}

is_step() {
    local step
    for step in "${STEPS[@]}" "${NAMED_STEPS[@]}"; do
        [[ $step != "$1" ]] || return 0
    done
    return 1
}

main() {
    local step='' status steps=() options=() passed=0 failed=() skipped=() argument
    for argument in "$@"; do
        # A step's options follow its name.
        if [[ $argument == -* && $step == drivers ]]; then
            options+=("$argument")
            continue
        fi
        step=$argument
        is_step "$step" || die "unknown step '$step': steps are ${STEPS[*]} ${NAMED_STEPS[*]}"
        steps+=("$step")
    done
    ((${#steps[@]})) || steps=("${STEPS[@]}")
    require_root "testing with network namespaces"

    # Builds that are never repeated gain nothing from incremental compilation, which takes gigabytes.
    [[ -z ${CI:-} ]] || export CARGO_INCREMENTAL=0

    # Names by which clean_up finds what a killed step left.
    export RINGDNS_LAB_PREFIX=ringdns-test-$$
    TMPDIR=$(mktemp --directory --tmpdir ringdns-test.XXXXXX)
    export TMPDIR
    running=
    trap clean_up EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP

    for step in "${steps[@]}"; do
        status=0
        if [[ $step == drivers ]]; then
            run_step "$step" "${options[@]}" || status=$?
        else
            run_step "$step" || status=$?
        fi
        case $status in
        0) passed=$((passed + 1)) ;;
        "$SKIPPED") skipped+=("$step") ;;
        *) failed+=("$step") ;;
        esac
    done
    for step in "${failed[@]}"; do
        printf '\n== end of what %s printed, again\n' "$step"
        tail --lines="$REPEATED_LINES" "$TMPDIR/$step.log"
    done
    printf '\ntook %d s%s%s\n' "$SECONDS" "${failed:+, failed: ${failed[*]}}" "${skipped:+, skipped: ${skipped[*]}}"
    printf '%d passed, %d failed%s\n' "$passed" "${#failed[@]}" "${skipped:+, ${#skipped[@]} skipped}"
    ((${#failed[@]} == 0))
}

cd "$here/.."
case ${1:-} in
-h | --help) usage ;;
--only)
    # setup installs a Rust; all other steps need one.
    [[ $2 == setup ]] || select_rust || die "no Rust $RUST_MINIMUM or later: deploy/setup.sh build"
    "step_$2" "${@:3}" 2>&1 | tee "$TMPDIR/$2.log"
    ;;
*) main "$@" ;;
esac
