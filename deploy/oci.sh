#!/usr/bin/env bash
# Builds a container image of ringdnsd and ringctl from the Debian package. docs/operation.md tells how
# to run it.
#
#   oci.sh [--packages FOLDER] [--tag NAME] [--out FILE] [-- OPTION...]
#
#   --packages FOLDER   folder of the package that package.sh built (target/package)
#   --tag NAME          name of the image (ringdns:VERSION)
#   --out FILE          also write the image to this file, for `podman load` or `docker load`
#   OPTION              options of podman, such as --root FOLDER
#
# Takes podman, or else docker. The libraries, CA certificates and their licences are those of this
# host, which is to be the Debian that the package was built on. Nothing is downloaded. The same
# package on the same Debian gives the same files in the image, with the time of the package.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
root=$(dirname "$here")
readonly here root

# Number of the user and the group `ringdns` in the image: none that a Debian host gives by itself.
readonly USER_ID=10053

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

# add_package FILE: records the Debian package that a file is from, with its licence, where scanners of
# images look.
add_package() {
    local name
    # Debian 12 knows files of /lib by that name, others by the name in /usr.
    name=$(dpkg-query --search "$1" 2>/dev/null || dpkg-query --search "/usr$1" 2>/dev/null) ||
        die "no package of this host has $1: take the libraries of a Debian"
    name=${name%%:*}
    [[ ! -e $tree/var/lib/dpkg/status.d/$name ]] || return 0
    install -d "$tree/var/lib/dpkg/status.d"
    dpkg-query --status "$name" | grep -v '^Conffiles:\|^ /' >"$tree/var/lib/dpkg/status.d/$name"
    install -D --mode 644 "/usr/share/doc/$name/copyright" "$tree/usr/share/doc/$name/copyright"
}

add_programs() {
    local unpacked=$work/unpacked file
    dpkg-deb --extract "$package" "$unpacked"
    for file in usr/sbin/ringdnsd usr/bin/ringctl; do
        install -D --mode 755 "$unpacked/$file" "$tree/$file"
    done
    for file in etc/ringdns/ringdns.toml usr/share/doc/ringdns/{copyright,ringdnsd.cdx.json,ringctl.cdx.json}; do
        install -D --mode 644 "$unpacked/$file" "$tree/$file"
    done
}

add_libraries() {
    local library libraries
    # The loader has no arrow, and its name is its path.
    mapfile -t libraries < <(ldd "$tree/usr/sbin/ringdnsd" "$tree/usr/bin/ringctl" | sed -n 's/^\t\(.* => \)\?\(\/[^ ]*\) (0x.*/\2/p' | sort -u)
    ((${#libraries[@]})) || die "ldd names no library of ringdnsd"
    for library in "${libraries[@]}"; do
        install -D --mode 755 "$library" "$tree$library"
        add_package "$library"
    done
}

# Names of users and hosts, and CA certificates. Time zones are in ringdnsd.
add_system() {
    local certificates=(/usr/share/ca-certificates/mozilla/*.crt)
    [[ -e ${certificates[0]} ]] || die "there are no CA certificates: deploy/setup.sh build installs them"
    install -d "$tree/etc/ssl/certs"
    # Debian's, without those that were added to this host.
    cat "${certificates[@]}" >"$tree/etc/ssl/certs/ca-certificates.crt"
    add_package "${certificates[0]}"
    printf 'root:x:0:0:root:/:/nonexistent\nringdns:x:%s:%s:ringdns:/var/lib/ringdns:/nonexistent\n' \
        "$USER_ID" "$USER_ID" >"$tree/etc/passwd"
    printf 'root:x:0:\nringdns:x:%s:\n' "$USER_ID" >"$tree/etc/group"
    printf 'hosts: files dns\n' >"$tree/etc/nsswitch.conf"
}

# Packs the tree, whose files belong to root but for the folders of ringdnsd.
pack() {
    local flags=(--sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --numeric-owner)
    tar --create --file "$context/root.tar" "${flags[@]}" --owner=0 --group=0 --directory "$tree" .
    mkdir -p "$work/own/run/ringdns" "$work/own/var/lib/ringdns" "$work/shared/tmp"
    chmod 700 "$work/own/var/lib/ringdns"
    chmod 1777 "$work/shared/tmp"
    tar --append --file "$context/root.tar" "${flags[@]}" --owner="$USER_ID" --group="$USER_ID" \
        --directory "$work/own" run/ringdns var/lib/ringdns
    tar --append --file "$context/root.tar" "${flags[@]}" --owner=0 --group=0 --directory "$work/shared" tmp
}

build() {
    local builder=(podman "${options[@]}") flags=(--format docker --timestamp "$SOURCE_DATE_EPOCH" --isolation chroot)
    if ! command -v podman >/dev/null; then
        command -v docker >/dev/null || die "there is neither podman nor docker: apt install podman"
        builder=(docker "${options[@]}") flags=()
    fi
    # OCI's own format has no health check.
    "${builder[@]}" build "${flags[@]}" --tag "$tag" --file "$here/oci/Containerfile" \
        --build-arg VERSION="$version" --build-arg SOURCE="$(sed -n 's/^repository = "\(.*\)"/\1/p' "$root/Cargo.toml")" \
        --build-arg REVISION="$(git -C "$root" rev-parse HEAD 2>/dev/null || echo unknown)" \
        --build-arg CREATED="$(date --utc --date "@$SOURCE_DATE_EPOCH" +%FT%TZ)" "$context" >&2
    [[ -z $out ]] || "${builder[@]}" save --output "$out" "$tag" >&2
    say "the image is $tag: $(stat --format %s "$context/root.tar" | numfmt --to=iec-i --suffix=B) of files"
}

packages=$root/target/package tag='' out='' options=()
while (($#)); do
    case $1 in
    --packages | --tag | --out)
        (($# > 1)) || die "$1 needs a value"
        [[ $1 != --packages ]] || packages=$2
        [[ $1 != --tag ]] || tag=$2
        [[ $1 != --out ]] || out=$2
        shift 2
        ;;
    --) shift && options=("$@") && break ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown option '$1': --packages, --tag or --out" ;;
    esac
done
mapfile -t found < <(find "$packages" -maxdepth 1 -name 'ringdns_*.deb' 2>/dev/null)
((${#found[@]} == 1)) || die "$packages has ${#found[@]} packages ringdns_*.deb, and not one: run deploy/package.sh"
package=${found[0]}
version=$(dpkg-deb --field "$package" Version)
tag=${tag:-ringdns:$version}
# The time that package.sh gave all files.
SOURCE_DATE_EPOCH=$(dpkg-deb --fsys-tarfile "$package" | tar --list --verbose --full-time --utc --file - ./usr/sbin/ringdnsd | awk '{ print $4 " " $5 }')
SOURCE_DATE_EPOCH=$(date --utc --date "$SOURCE_DATE_EPOCH" +%s)
umask 022
work=$(mktemp --directory --tmpdir ringdns-oci.XXXXXX)
trap 'rm -rf "$work"' EXIT
tree=$work/tree context=$work/context
mkdir -p "$tree" "$context"
add_programs
add_libraries
add_system
pack
build
