#!/usr/bin/env bash
# Installs the packages that ringdns needs on Debian 12, as far as they are missing. A second run
# changes nothing and needs no network.
#
#   setup.sh [build|run|test|bench|all]...     default: test
#
#   build   compilers, headers and, unless a recent Rust is installed, Debian's
#   run     tools of the lab of namespaces
#   test    build and run, real servers and clients for tests, and the toolchain of the eBPF object
#   bench   run, and the servers and generators that `ringbench compare` compares ringdnsd with
#   all     test and bench
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"

readonly BUILD_PACKAGES=(
    ca-certificates gcc libc6-dev make
    binutils dpkg-dev python3 # package.sh
)
readonly RUN_PACKAGES=(iproute2 ethtool procps)
readonly TEST_PACKAGES=(
    knot knot-dnsutils unbound dnsperf bind9-dnsutils # peers: servers and clients
    bpftool                                           # detaches a program that another process attached
    bind9-utils                                       # signs zones
    libfaketime                                       # other dates, for changes of trust anchors
    knot-resolver pdns-recursor                       # peers of ringbench differential
    redis-server redis-tools                          # store that a fleet shares
    clickhouse-server python3-venv                    # query log: Debian's ClickHouse, and today's
    podman                                            # oci.sh: builds the container image, and runs it
    bird2 exabgp                                      # routers that a route follows readiness in
    prometheus python3-prometheus-client              # readers of metrics
    fstrm-bin dnstap-ldns                             # readers of dnstap
    golang-github-dnstap-golang-dnstap-cli            # another one
    chromium fonts-liberation nodejs                  # a browser for the console, and its figures alone
    iputils-ping tcpdump valgrind jq shellcheck       # instruments
    tshark                                            # reader of captures
    clang                                             # lab.sh --vlan: BPF programs that tag and untag
    g++                                               # fuzz/run.sh: compiles libFuzzer
    rustc-web libstd-rust-web-dev-bpf llvm-22-dev     # ebpf/build.sh: a core library for BPF, and its linker's LLVM
)
readonly BENCH_PACKAGES=(
    unbound knot knot-resolver pdns-recursor dnsdist bind9 dnsmasq-base # bench/servers/
    knot-dnsutils dnsperf                                               # other generators, for comparison
    gnuplot-nox                                                         # bench/plot.py
)
readonly RUST_PACKAGES=(rustc-web cargo-web)
# Only with Debian's compiler: rustup installs these itself.
readonly RUST_TOOL_PACKAGES=(rustfmt-web rust-web-clippy)

# Debian has neither a current ClickHouse nor Schemathesis: tests run them from PyPI, in an environment of
# its own (210 MB to download, 650 MB on disk).
readonly PYTHON_FOLDER=${RINGDNS_PYTHON:-/opt/ringdns-tests}
readonly PYTHON_PACKAGES=("$here"/../testkit/{clickhouse,schemathesis}/requirements.txt)
# Debian has no reader of CycloneDX: supply.sh checks bills of materials with one from PyPI (3 MB).
readonly SBOM_FOLDER=${RINGDNS_SBOM_PYTHON:-/opt/ringdns-sbom}
readonly SBOM_PACKAGES=$here/../testkit/sbom/requirements.txt

# Debian runs this program to decide whether a package may start its service: status 101 forbids it.
readonly POLICY=/usr/sbin/policy-rc.d
readonly POLICY_KEPT=$POLICY.before-ringdns
readonly LOCK=/run/ringdns-setup.lock

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

forbid_service_starts() {
    # A policy kept by a killed run is the original one: never overwrite it.
    if [[ -e $POLICY || -L $POLICY ]] && [[ ! -e $POLICY_KEPT && ! -L $POLICY_KEPT ]]; then
        mv "$POLICY" "$POLICY_KEPT"
    fi
    rm -f "$POLICY"
    printf '#!/bin/sh\n# ringdns setup.sh is at work and removes this when it is done.\nexit 101\n' >"$POLICY"
    chmod 755 "$POLICY"
}

# Also cleans up after a killed run: restores a kept policy, or removes our own.
restore_service_policy() {
    if [[ -e $POLICY_KEPT || -L $POLICY_KEPT ]]; then
        mv -f "$POLICY_KEPT" "$POLICY"
    elif grep -qs '^# ringdns setup.sh' "$POLICY"; then
        rm -f "$POLICY"
    fi
}

is_installed() {
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# Prints the packages among its arguments that are not installed, each once.
missing_packages() {
    local package
    for package in "$@"; do
        is_installed "$package" || printf '%s\n' "$package"
    done | sort -u
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes -o DPkg::Lock::Timeout=600 "$@"
}

install_missing() {
    local missing
    mapfile -t missing < <(missing_packages "$@")
    if ((${#missing[@]} == 0)); then
        say "every package is installed already"
        return
    fi
    say "installing: ${missing[*]}"
    forbid_service_starts
    apt_get update || say "apt-get update had errors (see above): continuing with the existing package lists"
    apt_get install --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}. Are bookworm and bookworm-security in the apt sources?"
    restore_service_policy
}

# install_python_packages FOLDER VARIABLE REQUIREMENTS...: the folder, which the variable may name, has a
# copy of the requirements once all of them are installed.
install_python_packages() {
    local folder=$1 variable=$2 installed=$1/requirements.txt
    shift 2
    if cat "$@" | cmp --silent - "$installed"; then
        say "every Python package of $folder is installed already"
        return
    fi
    say "installing the packages of $(realpath "$@" | paste -sd ' ') in $folder"
    [[ ! -e $folder || -e $folder/pyvenv.cfg ]] || die "$folder exists, and is not a Python environment: remove it, or set $variable"
    rm -f "$installed"
    /usr/bin/python3 -m venv --clear "$folder"
    "$folder/bin/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --no-deps --require-hashes \
        --only-binary :all: "${@/#/--requirement=}" || die "pip could not install them. Is PyPI reachable?"
    cat "$@" >"$installed"
}

check_rust() {
    select_rust || die "no Rust $RUST_MINIMUM or later. Debian's rustc-web comes from bookworm-security: is it in the \
apt sources? Or install one with rustup."
    say "Rust: $(command -v cargo), $(rustc --version)"
}

main() {
    local wanted=() build=false python=false set
    (($#)) || set -- test
    for set in "$@"; do
        case $set in
        build) build=true wanted+=("${BUILD_PACKAGES[@]}") ;;
        run) wanted+=("${RUN_PACKAGES[@]}") ;;
        bench) wanted+=("${RUN_PACKAGES[@]}" "${BENCH_PACKAGES[@]}") ;;
        test | all)
            build=true python=true
            wanted+=("${BUILD_PACKAGES[@]}" "${RUN_PACKAGES[@]}" "${TEST_PACKAGES[@]}")
            [[ $set == test ]] || wanted+=("${BENCH_PACKAGES[@]}")
            ;;
        -h | --help) usage && exit 0 ;;
        *) die "unknown set '$set': build, run, test, bench or all" ;;
        esac
    done
    require_root "installing packages"
    command -v apt-get >/dev/null || die "this is not Debian: install by hand the packages that the top of this script names"

    # Two runs at once would restore each other's service policy.
    exec 9>"$LOCK"
    flock 9
    trap restore_service_policy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    restore_service_policy

    # In a subshell, so that PATH is unchanged for a Rust that is yet to be installed.
    if $build && ! (select_rust); then
        wanted+=("${RUST_PACKAGES[@]}" "${RUST_TOOL_PACKAGES[@]}")
    fi
    install_missing "${wanted[@]}"
    if $python; then
        install_python_packages "$PYTHON_FOLDER" RINGDNS_PYTHON "${PYTHON_PACKAGES[@]}"
        install_python_packages "$SBOM_FOLDER" RINGDNS_SBOM_PYTHON "$SBOM_PACKAGES"
    fi
    if $build; then check_rust; fi
}

main "$@"
