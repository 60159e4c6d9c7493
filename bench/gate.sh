#!/usr/bin/env bash
# Counts the instructions of the data plane under valgrind and fails if they rose: see `ringbench
# gate --help`.
#
#   bench/gate.sh [--profile PROFILE]             compare with bench/instructions.json
#   bench/gate.sh [--profile PROFILE] --update    write the counts to bench/instructions.json
#
#   --profile PROFILE   profile of cargo: release-lto, that of the packages (default), or release, that
#                       of the tests, which is built already where they run
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

profile=release-lto
if [[ ${1:-} == --profile ]]; then
    profile=${2:?--profile needs a name}
    shift 2
fi
# With `release`, the whole workspace, as deploy/test.sh builds it: other features would be other builds.
packages=(--package ringdns-bench --bin ringbench)
[[ $profile != release ]] || packages=(--workspace)
cargo build --locked --quiet --profile "$profile" "${packages[@]}"
exec "${CARGO_TARGET_DIR:-target}/$profile/ringbench" gate --baseline bench/instructions.json --worst bench/worst.json "$@"
