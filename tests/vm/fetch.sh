#!/usr/bin/env bash
# Fetches QEMU, busybox and Debian's kernels for the lab of virtual machines, each from the Debian
# release that has it. Packages are unpacked into a cache folder; nothing is installed, and apt's
# lists stay as they are.
#
#   fetch.sh [--refresh]
#
#   --refresh    also fetch newer packages; without it, only parts that the cache lacks are fetched
#
# The cache is $RINGDNS_VM_CACHE, else ringdns/vm below $XDG_CACHE_HOME or ~/.cache:
#
#   qemu/ busybox             a root folder; a program
#   kernels/NAME/             vmlinuz, release, and lib/modules, as far as network drivers need them
#   missing/NAME              reason why a part could not be fetched, in one sentence
#
# A part that cannot be fetched causes a message, not a failure: the lab skips whatever needs it.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=../../deploy/lib.sh
. "$here/../../deploy/lib.sh"

readonly CACHE=${RINGDNS_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/ringdns/vm}
readonly KEYS=/usr/share/keyrings/debian-archive-keyring.gpg

# Kernels, and the suites that may have each. The newest of several packages is taken.
readonly KERNELS=(5.10 6.1 6.12 newest)
declare -rA SUITES=(
    [5.10]="bullseye-security bullseye"
    [6.1]="bookworm-security bookworm"
    [6.12]="trixie-security trixie"
    [newest]="trixie-backports sid"
)

# Modules of a kernel to unpack: network drivers, and the modules that they depend on.
readonly MODULES=(
    'kernel/drivers/net/virtio_net.ko*' 'kernel/drivers/net/net_failover.ko*' 'kernel/drivers/net/veth.ko*'
    'kernel/drivers/net/ethernet/intel/*' 'kernel/drivers/net/vmxnet3/*' 'kernel/drivers/virtio/*'
    'kernel/drivers/ptp/*' 'kernel/drivers/pps/*' 'kernel/drivers/i2c/*' 'kernel/drivers/dca/*' 'kernel/drivers/hwmon/*'
    'kernel/net/core/*' 'kernel/lib/*'
    'kernel/net/8021q/*' 'kernel/net/802/*' 'kernel/net/llc/*'
)

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

#----------- The mirror -------------------------------------------------------

# Prints the mirror from which this machine's apt takes Debian, without a slash at its end.
find_mirror() {
    local uri
    # shellcheck disable=SC2016  # apt-get fills in the names
    uri=$(apt-get indextargets --format '$(REPO_URI)' 'Identifier: Packages' 'Origin: Debian' 2>/dev/null |
        grep --max-count 1 '/debian/*$') || uri=http://deb.debian.org/debian
    printf '%s\n' "${uri%%/}"
}

# apt NAME COMMAND ARGUMENT...: runs an apt command that knows only the suites of NAME.
apt() {
    local folder=$CACHE/apt/$1 command=$2
    shift 2
    # Lists of frozen releases have expired, but are still signed.
    "$command" -oDir::Etc::SourceList="$folder/sources.list" -oDir::Etc::SourceParts=/dev/null \
        -oDir::State::Lists="$folder/lists" -oDir::Cache="$folder/cache" -oAPT::Sandbox::User=root \
        -oAcquire::Languages=none -oAcquire::Retries=3 -oAcquire::Check-Valid-Until=false -qq "$@"
}

# read_lists NAME SUITE...: reads the package lists of these suites, as far as they exist.
read_lists() {
    local name=$1 suite archive folder=$CACHE/apt/$1
    shift
    rm -rf "$folder"
    mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial"
    for suite in "$@"; do
        archive=$mirror
        [[ $suite != *-security ]] || archive=$mirror-security
        printf 'deb [signed-by=%s] %s %s main\n' "$KEYS" "$archive" "$suite"
    done >"$folder/sources.list"
    # A suite that is gone fails the whole command, but the lists of the others are read.
    apt "$name" apt-get update 2>"$folder/errors" || true
}

# download NAME FOLDER PACKAGE...
download() {
    local name=$1 folder=$2
    shift 2
    mkdir -p "$folder"
    (cd "$folder" && apt "$name" apt-get download "$@" 2>>"$CACHE/apt/$name/errors")
}

#----------- The parts --------------------------------------------------------

# Each function fetches a part into the folder $1. On failure it returns 1, with a sentence on
# standard output.

get_qemu() {
    local release wanted=() deb
    release=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    # QEMU emulates igb since 8.0, which Debian 12 has in its backports.
    read_lists qemu "$release" "$release-security" "$release-backports"
    # Names of the packages that this machine lacks. Installed libraries are used as they are.
    mapfile -t wanted < <(apt qemu apt-get --print-uris --yes --no-install-recommends \
        --target-release "$release-backports" install qemu-system-x86 2>>"$CACHE/apt/qemu/errors" |
        sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p")
    ((${#wanted[@]})) || { echo "no qemu-system-x86 in $release or $release-backports on $mirror" && return 1; }
    download qemu "$1/debs" --target-release "$release-backports" "${wanted[@]}" ||
        { echo "$mirror does not deliver QEMU's packages" && return 1; }
    for deb in "$1"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$1"
    done
    [[ -x $1/usr/bin/qemu-system-x86_64 ]] || { echo "qemu-system-x86 has no qemu-system-x86_64" && return 1; }
}

get_busybox() {
    local release
    release=$(. /etc/os-release && printf %s "$VERSION_CODENAME")
    read_lists busybox "$release"
    download busybox "$1/debs" busybox-static || { echo "no busybox-static in $release on $mirror" && return 1; }
    dpkg-deb --fsys-tarfile "$1"/debs/*.deb | tar --extract --directory "$1" --strip-components 2 ./bin/busybox
}

# get_kernel FOLDER NAME
get_kernel() {
    local folder=$1 name=$2 suites version package packages deb modules=()
    read -ra suites <<<"${SUITES[$name]}"
    read_lists "$name" "${suites[@]}"
    # The package without a version in its name depends on the one with it.
    version=$(apt "$name" apt-cache show linux-image-amd64 2>/dev/null |
        sed -n 's/^Depends: .*linux-image-\([0-9][^ ,]*-amd64\).*/\1/p' | sort --version-sort | tail -n 1)
    [[ -n $version ]] || { echo "no linux-image-amd64 in ${suites[*]} on $mirror" && return 1; }
    packages=("linux-image-$version")
    # From Linux 7.1 on, that package is empty, and these have the kernel and its modules.
    for package in "linux-binary-$version" "linux-modules-$version"; do
        ! apt "$name" apt-cache show "$package" >/dev/null 2>&1 || packages+=("$package")
    done
    download "$name" "$folder/debs" "${packages[@]}" ||
        { echo "$mirror does not deliver ${packages[*]}" && return 1; }
    for deb in "$folder"/debs/*.deb; do
        # A pattern without a match is an error, but tar unpacks the other matches first.
        dpkg-deb --fsys-tarfile "$deb" | tar --extract --directory "$folder" --wildcards --no-anchored \
            'vmlinuz*' "${MODULES[@]}" 2>/dev/null || true
    done
    # Some packages have a link of that name too; the size excludes it.
    find "$folder" -name 'vmlinuz*' -size +1M -exec mv {} "$folder/vmlinuz" \;
    modules=("$folder"/lib/modules/*/kernel "$folder"/usr/lib/modules/*/kernel)
    [[ -s $folder/vmlinuz && -n $(find "${modules[@]}" -name 'virtio_net.ko*' 2>/dev/null) ]] ||
        { echo "${packages[*]} have no kernel with network drivers" && return 1; }
    printf '%s\n' "$version" >"$folder/release"
    printf '%s\n' "${MODULES[*]}" >"$folder/modules"
}

#----------- Putting them in place --------------------------------------------

# Whether the cache has a part; a kernel, with the modules that are wanted now.
is_cached() {
    [[ -e $CACHE/$1 ]] && { [[ $1 != kernels/* ]] || [[ $(cat "$CACHE/$1/modules" 2>/dev/null) == "${MODULES[*]}" ]]; }
}

# fetch PART COMMAND...: calls COMMAND with a folder to fill, and moves the folder to $CACHE/PART.
fetch() {
    local part=$1 folder reason missing error
    local name=${part##*/}
    shift
    if is_cached "$part" && ! $refresh; then
        return
    fi
    say "fetching $name"
    missing=$CACHE/missing/$name
    folder=$(mktemp --directory "$CACHE/new.XXXXXX")
    if reason=$("$1" "$folder" "${@:2}"); then
        rm -rf "$folder/debs" "$missing"
        mkdir -p "$CACHE/${part%"$name"}"
        # A running guest has its files open already.
        [[ ! -e $CACHE/$part ]] || mv "$CACHE/$part" "$folder.old"
        mv "$folder" "$CACHE/$part"
        rm -rf "$folder.old"
    else
        error=$(tail -n 1 "$CACHE/apt/$name/errors" 2>/dev/null || true)
        reason="${reason:-unpacking failed}${error:+: $error}"
        say "cannot fetch $name: $reason"
        rm -rf "$folder"
        # With --refresh, an older version may still be in place.
        [[ -e $CACHE/$part ]] || printf '%s\n' "$reason" >"$missing"
    fi
}

main() {
    local kernel
    refresh=false
    case ${1:-} in
    "") ;;
    --refresh) refresh=true ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown argument '$1': the only one is --refresh" ;;
    esac
    mkdir -p "$CACHE/missing"
    # Two labs that start at the same time fetch once.
    exec 9>"$CACHE/lock"
    flock --nonblock 9 || { say "waiting for another run of fetch.sh" && flock 9; }
    # Left by a killed run.
    rm -rf "$CACHE"/new.*

    mirror=$(find_mirror)
    fetch qemu get_qemu
    fetch busybox get_busybox
    for kernel in "${KERNELS[@]}"; do
        fetch "kernels/$kernel" get_kernel "$kernel"
    done
    rm -rf "$CACHE/apt"
}

main "$@"
