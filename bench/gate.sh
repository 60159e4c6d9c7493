#!/usr/bin/env bash
# Counts the instructions of the data plane under valgrind and fails if they rose: see `ringbench gate --help`.
#
#   bench/gate.sh             compare with bench/instructions.json
#   bench/gate.sh --update    write what is counted now there
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The profile that ships: with another, other things are inlined.
cargo build --locked --quiet --profile release-lto --package ringdns-bench --bin ringbench
exec "${CARGO_TARGET_DIR:-target}/release-lto/ringbench" gate --baseline bench/instructions.json "$@"
