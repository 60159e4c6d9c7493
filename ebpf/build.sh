#!/usr/bin/env bash
# Builds the XDP programs. The objects are committed, so that building ringdns itself takes no BPF toolchain.
#
#   build.sh             build, and replace the objects beside this script
#   build.sh --check     build in a temporary folder, and fail unless the objects beside this script are the same
#
# Installs what is missing on Debian 12: Debian's Rust, which has a core library for BPF, LLVM 22, and bpf-linker from
# crates.io, which goes to cargo's target folder. The same sources give the same bytes wherever clone and CARGO_HOME are;
# another rustc, LLVM or bpf-linker may not: toolchain.txt says which built the committed objects.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../deploy/lib.sh
. "$here/../deploy/lib.sh"

readonly PACKAGES=(ca-certificates rustc-web libstd-rust-web-dev-bpf llvm-22-dev g++ zlib1g-dev)
readonly LLVM=/usr/lib/llvm-22
# Debian's, whatever else is on PATH: rustup has no core library for BPF without nightly and its sources.
readonly RUSTC=/usr/bin/rustc
readonly LINKER_VERSION=0.13.0
readonly TARGET=bpfel-unknown-none
# The binaries of Cargo.toml; each becomes NAME.bpf.o.
readonly PROGRAMS=(steer generator)
export RUSTC CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$here/target}
readonly TOOLS=$CARGO_TARGET_DIR/bpf-linker-$LINKER_VERSION

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

install_packages() {
    local package missing=()
    for package in "${PACKAGES[@]}"; do
        [[ $(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null) == installed ]] || missing+=("$package")
    done
    # Debian's cargo only where there is no other: any that reads the lock file will do.
    select_rust || missing+=(cargo-web)
    ((${#missing[@]})) || return 0
    require_root "installing ${missing[*]}"
    say "installing: ${missing[*]}"
    DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes update
    DEBIAN_FRONTEND=noninteractive apt-get --quiet --yes install --no-install-recommends "${missing[@]}" ||
        die "apt-get could not install: ${missing[*]}. Are bookworm and bookworm-security in the apt sources?"
}

# Without optimisation: LLVM, which does nearly all of its work, is optimised by Debian.
install_linker() {
    [[ ! -x $TOOLS/bin/bpf-linker ]] || return 0
    say "building bpf-linker $LINKER_VERSION"
    CARGO_PROFILE_DEV_DEBUG=0 LLVM_PREFIX=$LLVM \
        cargo install --quiet bpf-linker --version "$LINKER_VERSION" --locked --debug --no-default-features \
        --features llvm-22 --root "$TOOLS"
}

# The folder in which cargo keeps the sources of crates: part of every path in the debug information.
crates_folder() {
    local manifest
    manifest=$(cargo metadata --locked --format-version 1 --filter-platform "$TARGET" |
        grep --only-matching '"manifest_path":"[^"]*/aya-ebpf-[0-9.]*/Cargo.toml"')
    manifest=${manifest#*:\"}
    dirname "$(dirname "${manifest%\"}")"
}

# build_into FOLDER
build_into() {
    local folder=$1 program crates
    cd "$here"
    crates=$(crates_folder)
    # Encoded, because a path may have spaces. Debug information is what BTF is made from.
    local flags=(
        -Cdebuginfo=2 -Clink-arg=--btf
        "--remap-path-prefix=$here=ebpf"
        "--remap-path-prefix=$crates=crates"
    )
    # The bootstrap variable lets this one crate use inline assembly for BPF, which stable Rust does not have yet.
    env --unset=RUSTC_WRAPPER PATH="$TOOLS/bin:$PATH" RUSTC_BOOTSTRAP=aya_ebpf \
        CARGO_ENCODED_RUSTFLAGS="$(IFS=$'\x1f' && printf %s "${flags[*]}")" \
        cargo build --quiet --locked --release --target "$TARGET"
    for program in "${PROGRAMS[@]}"; do
        # DWARF goes, BTF stays.
        "$LLVM/bin/llvm-objcopy" --strip-debug \
            "$CARGO_TARGET_DIR/$TARGET/release/$program" "$folder/$program.bpf.o"
    done
    "$RUSTC" --version >"$folder/toolchain.txt"
    "$TOOLS/bin/bpf-linker" --version >>"$folder/toolchain.txt"
    printf 'LLVM %s\n' "$("$LLVM/bin/llvm-config" --version)" >>"$folder/toolchain.txt"
}

disassembly() {
    "$LLVM/bin/llvm-objdump" --disassemble --no-show-raw-insn "$1" | tail -n +3
}

check() {
    local program differ=()
    for program in "${PROGRAMS[@]}"; do
        cmp --silent "$here/$program.bpf.o" "$1/$program.bpf.o" || differ+=("$program")
    done
    if ((${#differ[@]} == 0)); then
        say "the committed objects are what these sources build"
        return
    fi
    for program in "${differ[@]}"; do
        say "$program.bpf.o differs. The first instructions that do (no lines: only BTF or line numbers differ):"
        diff <(disassembly "$here/$program.bpf.o") <(disassembly "$1/$program.bpf.o") | head -n 20 >&2 || true
    done
    say "committed objects were built by: $(paste --serial --delimiters=, "$here/toolchain.txt")"
    say "this check was built by:         $(paste --serial --delimiters=, "$1/toolchain.txt")"
    die "${differ[*]/%/.bpf.o}: not what these sources build. Run ebpf/build.sh and commit the objects with the change"
}

main() {
    local mode=build
    case ${1:-} in
    "") ;;
    --check) mode=check ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown argument '$1': --check or none" ;;
    esac
    install_packages
    select_rust || die "no cargo $RUST_MINIMUM or later on PATH, in \$CARGO_HOME/bin or in /usr/bin"
    install_linker

    # Not local: the trap runs when this function is gone.
    built=$(mktemp --directory)
    trap 'rm -rf "$built"' EXIT
    build_into "$built"
    if [[ $mode == check ]]; then
        check "$built"
    else
        # Plain copies: the objects keep the owner and mode of files of this clone.
        cp "$built"/*.bpf.o "$built/toolchain.txt" "$here/"
        say "built ${PROGRAMS[*]/%/.bpf.o}"
    fi
}

main "$@"
