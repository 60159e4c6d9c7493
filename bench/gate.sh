#!/usr/bin/env bash
# Counts the instructions of the data plane under valgrind and fails if they rose: see `ringbench
# gate --help`.
#
#   bench/gate.sh             compare with bench/instructions.json
#   bench/gate.sh --update    write the counts to bench/instructions.json
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The profile of the release builds: inlining differs between profiles.
cargo build --locked --quiet --profile release-lto --package ringdns-bench --bin ringbench
exec "${CARGO_TARGET_DIR:-target}/release-lto/ringbench" gate --baseline bench/instructions.json --worst bench/worst.json "$@"
