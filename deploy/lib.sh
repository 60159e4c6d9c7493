# shellcheck shell=bash
# Functions that the scripts of this folder share. Sourced, never run.

# Oldest Rust that builds the workspace: `rust-version` of the top Cargo.toml.
readonly RUST_MINIMUM=1.95

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

die() {
    say "error: $*"
    exit 1
}

require_root() {
    [[ $EUID -eq 0 ]] || die "$1 needs root. Try: sudo $0"
}

# version_at_least HAVE WANT
version_at_least() {
    [[ $(printf '%s\n%s\n' "$2" "$1" | sort --version-sort | head -n 1) == "$2" ]]
}

# Succeeds if folder $1 ("" for PATH) has a cargo and a rustc that are new enough.
rust_fits() {
    local rustc=${1:+$1/}rustc cargo=${1:+$1/}cargo version
    command -v "$cargo" >/dev/null || return 1
    version=$("$rustc" --version 2>/dev/null | cut -d ' ' -f 2) || return 1
    version_at_least "${version:-0}" "$RUST_MINIMUM"
}

# Puts a Rust that is new enough first on PATH, or fails. PATH is searched first, then ~/.cargo/bin,
# which sudo often hides, then /usr/bin, where Debian's is.
select_rust() {
    local folder
    for folder in "" "${CARGO_HOME:-$HOME/.cargo}/bin" /usr/bin; do
        if rust_fits "$folder"; then
            PATH=${folder:+$folder:}$PATH
            export PATH
            return 0
        fi
    done
    return 1
}
