#!/usr/bin/env bash
# Checks where ringdns comes from: its crates, and its packages.
#
#   supply.sh [crates|packages|advisories]... [--profile PROFILE]      default: crates packages
#
#   crates       licences, banned crates and sources, by deny.toml, of all three workspaces
#   packages     builds the packages twice, in two places, and compares them byte by byte; checks their
#                bills of materials
#   advisories   known defects of crates and crates that were withdrawn. Takes a database from the
#                network, by git: no part of the tests
#
#   --profile PROFILE   profile of cargo for `packages`: dev, which is quick (default), or another
#
# cargo-deny is built once, from crates.io, and kept in ~/.cache/ringdns/tools, or $RINGDNS_TOOLS.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
root=$(dirname "$here")
readonly here root

readonly DENY_VERSION=0.20.2
readonly DENY_FOLDER=${RINGDNS_TOOLS:-$HOME/.cache/ringdns/tools}/cargo-deny-$DENY_VERSION
# Environment that deploy/setup.sh makes.
readonly PYTHON=${RINGDNS_SBOM_PYTHON:-/opt/ringdns-sbom}/bin/python
readonly WORKSPACES=(. ebpf fuzz)

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

#----------- Crates -----------------------------------------------------------

# Without optimisation, it builds in a minute, and checks a workspace in half a second.
install_deny() {
    [[ ! -x $DENY_FOLDER/bin/cargo-deny ]] || return 0
    say "building cargo-deny $DENY_VERSION"
    CARGO_PROFILE_DEV_DEBUG=0 CARGO_TARGET_DIR=$work/cargo-deny \
        cargo install --quiet cargo-deny --version "$DENY_VERSION" --locked --debug --no-default-features \
        --root "$DENY_FOLDER" || die "cargo-deny could not be built. Is crates.io reachable?"
    rm -rf "$work/cargo-deny"
}

# deny MANIFEST ARGUMENT...
deny() {
    local manifest=$1
    shift
    "$DENY_FOLDER/bin/cargo-deny" --log-level error --locked --manifest-path "$manifest" --config "$root/deny.toml" \
        check "$@"
}

# crate FOLDER NAME VERSION LICENCE [DEPENDENCY]: writes a crate without code.
crate() {
    mkdir -p "$1/src"
    : >"$1/src/lib.rs"
    printf '[package]\nname = "%s"\nversion = "%s"\nlicense = "%s"\nedition = "2024"\n[dependencies]\n%s\n' \
        "$2" "$3" "$4" "${5:-}" >"$1/Cargo.toml"
}

# refuses WHAT REASON FOLDER CHECK: fails unless a check refuses the crate in a folder, for the reason.
refuses() {
    local said
    (cd "$3" && cargo generate-lockfile --quiet) || die "the crate with $1 has no lock file"
    if said=$(deny "$3/Cargo.toml" "${@:4}" 2>&1); then
        die "deny.toml lets a crate with $1 pass"
    fi
    [[ $said == *"error[$2]"* ]] || die "a crate with $1 is refused for another reason: $said"
}

# Checks that the rules refuse what they are to refuse.
check_rules() {
    local crates=$work/crates
    crate "$crates/good" good 1.0.0 MIT
    (cd "$crates/good" && cargo generate-lockfile --quiet)
    deny "$crates/good/Cargo.toml" bans licenses sources || die "deny.toml refuses a crate without a fault"

    crate "$crates/licence" licence 1.0.0 GPL-3.0-only
    refuses "a licence that is not allowed" rejected "$crates/licence" licenses

    crate "$crates/openssl" openssl 0.10.0 MIT
    crate "$crates/banned" banned 1.0.0 MIT 'openssl = { path = "../openssl" }'
    refuses "a banned crate in it" banned "$crates/banned" bans

    crate "$crates/one" twin 1.0.0 MIT
    crate "$crates/two" twin 2.0.0 MIT
    crate "$crates/twins" twins 1.0.0 MIT \
        $'one = { package = "twin", path = "../one" }\ntwo = { package = "twin", path = "../two" }'
    refuses "two versions of another" duplicate "$crates/twins" bans

    crate "$crates/far" far 1.0.0 MIT
    git -C "$crates/far" init --quiet
    git -C "$crates/far" add .
    git -C "$crates/far" -c user.name=test -c user.email=test@ringdns.invalid commit --quiet --message crate
    crate "$crates/source" source 1.0.0 MIT "far = { git = \"file://$crates/far\" }"
    # Cargo clones it; nothing of that stays in the user's folder.
    CARGO_HOME=$work/home refuses "a dependency from a git repository" source-not-allowed "$crates/source" sources
}

check_crates() {
    install_deny
    check_rules
    local workspace strict
    for workspace in "${WORKSPACES[@]}"; do
        strict=()
        # Exceptions that nobody needs any more go; the other workspaces have fewer crates.
        [[ $workspace != . ]] || strict=(--deny unmatched-skip --deny unnecessary-skip --deny license-not-encountered)
        deny "$root/$workspace/Cargo.toml" "${strict[@]}" bans licenses sources ||
            die "crates of workspace '$workspace' break the rules of deny.toml, see above"
    done
    say "licences, bans and sources: ${#WORKSPACES[@]} workspaces pass, and bad crates are refused"
}

check_advisories() {
    install_deny
    local workspace status=0
    for workspace in "${WORKSPACES[@]}"; do
        deny "$root/$workspace/Cargo.toml" advisories || status=1
    done
    return "$status"
}

#----------- Packages ---------------------------------------------------------

# copy_sources FOLDER [OPTION]...: copies the files of the project as they are, without what is built.
# Options are those of tar.
copy_sources() {
    mkdir -p "$1"
    # Of files that were removed, git still knows the names.
    git -C "$root" ls-files -z --cached --others --exclude-standard |
        (cd "$root" && while IFS= read -r -d '' file; do [[ ! -e $file ]] || printf '%s\0' "$file"; done) |
        tar --create --directory "$root" --null --no-recursion --files-from - |
        tar --extract --directory "$@"
}

# copy_cargo_home FOLDER: makes a folder from which cargo builds without network, with the same crates.
copy_cargo_home() {
    local from=${CARGO_HOME:-$HOME/.cargo} file
    mkdir -p "$1/registry"
    cp --archive --link "$from/registry/cache" "$from/registry/index" "$1/registry/" 2>/dev/null ||
        cp --archive "$from/registry/cache" "$from/registry/index" "$1/registry/"
    for file in config config.toml; do
        [[ ! -e $from/$file ]] || cp "$from/$file" "$1/"
    done
}

# same_packages FOLDER FOLDER: compares packages. Names the files that differ.
same_packages() {
    local package name status=0
    [[ $(cd "$1" && ls -- *.deb) == "$(cd "$2" && ls -- *.deb)" ]] || die "the two builds made other packages"
    for package in "$1"/*.deb; do
        name=${package##*/}
        ! cmp --silent "$package" "$2/$name" || continue
        status=1
        say "$name differs:"
        rm -rf "$work/left" "$work/right"
        dpkg-deb --raw-extract "$package" "$work/left"
        dpkg-deb --raw-extract "$2/$name" "$work/right"
        # If no file differs, what the archive says about the files does.
        diff --recursive --brief "$work/left" "$work/right" >&2 && diff <(dpkg-deb --contents "$package") \
            <(dpkg-deb --contents "$2/$name") >&2 && say "  the files are the same: look at the compression"
    done
    return "$status"
}

# Checks that a difference of one byte is noticed, and that its file is named.
check_comparison() {
    local said
    rm -rf "$work/spoilt" "$work/tree"
    cp --recursive "$1" "$work/spoilt"
    dpkg-deb --raw-extract "$1"/ringdns-bench_*.deb "$work/tree"
    printf x >>"$work/tree/usr/bin/ringbench"
    dpkg-deb --root-owner-group -Zgzip -z1 --build "$work/tree" "$(echo "$work"/spoilt/ringdns-bench_*.deb)" >/dev/null
    if said=$(same_packages "$1" "$work/spoilt" 2>&1); then
        die "a package with a changed program is taken for the same"
    fi
    [[ $said == *usr/bin/ringbench* ]] || die "the comparison does not name the changed file: $said"
}

# build_packages FOLDER: builds the packages of the sources in FOLDER/ringdns into FOLDER/out.
build_packages() {
    "$1/ringdns/deploy/package.sh" --profile "$profile" --out "$1/out" 2>"$1/log" || {
        tail --lines 30 "$1/log" >&2
        die "the packages could not be built in $1"
    }
}

check_packages() {
    local one=$work/one two=$work/two/a/folder/with-a-longer-name start=$SECONDS
    copy_sources "$one/ringdns"
    # With the modes and the time of a clone that was made by somebody else.
    (umask 077 && copy_sources "$two/ringdns" --no-same-permissions --touch)
    cargo fetch --quiet --locked --manifest-path "$root/Cargo.toml"
    cargo fetch --quiet --locked --manifest-path "$root/ebpf/Cargo.toml"
    copy_cargo_home "$work/cargo"
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
    export SOURCE_DATE_EPOCH CARGO_INCREMENTAL=0
    unset CARGO_TARGET_DIR
    (umask 022 && TZ=UTC LC_ALL=C build_packages "$one")
    (umask 077 && TZ=Pacific/Kiritimati LC_ALL=C.UTF-8 CARGO_HOME=$work/cargo CARGO_NET_OFFLINE=true build_packages "$two")
    same_packages "$one/out" "$two/out" || die "the build is not reproducible, see above"
    check_comparison "$one/out"
    say "two builds ($profile) in different places are the same, in $((SECONDS - start)) s:"
    (cd "$one/out" && sha256sum -- *.deb) >&2
    check_bills "$one"
}

# check_bills FOLDER: checks the bills of materials of the packages that were built in a folder.
check_bills() {
    local package folder=$profile
    [[ $profile != dev ]] || folder=debug
    [[ -x $PYTHON ]] || die "there is no $PYTHON: deploy/setup.sh test installs it"
    for package in "$1"/out/ringdns_*.deb "$1"/out/ringdns-bench_*.deb; do
        dpkg-deb --extract "$package" "$1/documents"
    done
    "$PYTHON" "$root/testkit/sbom/check.py" --documents "$1/documents" --programs "$1/ringdns/target/package-build/$folder"
}

#----------- Command line -----------------------------------------------------

checks=() profile=dev
while (($#)); do
    case $1 in
    crates | packages | advisories) checks+=("$1") && shift ;;
    --profile)
        (($# > 1)) || die "$1 needs a value"
        profile=$2
        shift 2
        ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown check '$1': crates, packages or advisories" ;;
    esac
done
((${#checks[@]})) || checks=(crates packages)
select_rust || die "no Rust $RUST_MINIMUM or later: deploy/setup.sh build installs one"
work=$(mktemp --directory --tmpdir ringdns-supply.XXXXXX)
trap 'rm -rf "$work"' EXIT
for check in "${checks[@]}"; do
    "check_$check"
done
