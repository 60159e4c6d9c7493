#!/usr/bin/env bash
# Builds the Debian packages ringdns, ringdns-dbgsym and ringdns-bench.
#
#   package.sh [--out FOLDER] [--programs FOLDER] [--profile PROFILE] [--version VERSION]
#
#   --out FOLDER        folder of the packages (target/package)
#   --programs FOLDER   take the programs from here instead of building them
#   --profile PROFILE   profile of cargo to build with (release-lto)
#   --version VERSION   version of the packages (that of Cargo.toml)
#
# A build is reproducible: the same sources and compilers give the same bytes, wherever the project
# and CARGO_HOME are. Files bear the time of the last commit, or SOURCE_DATE_EPOCH.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$here/lib.sh"
root=$(dirname "$here")
readonly here root

usage() {
    sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"
}

# Builds the programs without the paths of this machine in them. Prints their folder.
build() {
    local target=$root/target/package-build cargo=${CARGO_HOME:-$HOME/.cargo} folder=$profile
    # The profile `dev` has another folder.
    [[ $profile != dev ]] || folder=debug
    # CFLAGS are for the C of some crates: compression, cryptography, the allocator.
    RINGDNS_SOURCES=/usr/src/ringdns \
        RUSTFLAGS="--remap-path-prefix=$root=/usr/src/ringdns --remap-path-prefix=$cargo=/usr/src/cargo" \
        CFLAGS="-ffile-prefix-map=$root=/usr/src/ringdns -ffile-prefix-map=$cargo=/usr/src/cargo" \
        cargo build --locked --quiet --manifest-path "$root/Cargo.toml" --target-dir "$target" --profile "$profile" \
        --package ringdns-daemon --package ringdns-ctl --package ringdns-bench >&2
    printf '%s\n' "$target/$folder"
}

# install_program PROGRAM FOLDER TREE [SYMBOLS]: installs a stripped program, and its symbols where
# debuggers and ringdnsd itself look for them.
install_program() {
    local program=$1 installed=$3$2/${1##*/} id
    install -D --mode 755 "$program" "$installed"
    strip --strip-unneeded --remove-section=.comment "$installed"
    if (($# == 4)); then
        id=$(readelf --notes "$program" | sed -n 's/.*Build ID: //p')
        [[ $id =~ ^[0-9a-f]{4,}$ ]] || die "$program has no build id: link it with --build-id"
        local symbols=$4/usr/lib/debug/.build-id/${id:0:2}/${id:2}.debug
        install -d "${symbols%/*}"
        objcopy --only-keep-debug --compress-debug-sections "$program" "$symbols"
        chmod 644 "$symbols"
    fi
}

# bill_of_materials PROGRAM FOLDER: writes the crates of a program, as CycloneDX.
bill_of_materials() {
    local rustc
    rustc=$(readelf --string-dump=.comment "$1" | sed -n 's/.*\(rustc version .*\)/\1/p')
    [[ -n $rustc ]] || die "$1 does not say which rustc built it: it has no section .comment"
    install -d "$2"
    "$here/sbom.py" --version "$version" --rustc "${rustc#rustc version }" "${1##*/}" >"$2/${1##*/}.cdx.json"
}

# Prints the packages that the programs of a tree need, as Depends: has them.
depends() {
    local tree=$1 work
    work=$(mktemp --directory "$stage/shlibdeps.XXXX")
    mkdir "$work/debian"
    printf 'Source: ringdns\n\nPackage: ringdns\nArchitecture: any\n' >"$work/debian/control"
    local binaries
    mapfile -t binaries < <(find "$tree/usr/bin" "$tree/usr/sbin" -type f 2>/dev/null)
    (cd "$work" && dpkg-shlibdeps -O "${binaries[@]}") | sed -n 's/^shlibs:Depends=//p'
}

# control TREE PACKAGE DEPENDS SUMMARY DESCRIPTION [FIELD]...
control() {
    local tree=$1 package=$2 depends=$3 summary=$4 description=$5
    shift 5
    install -d "$tree/DEBIAN"
    {
        printf 'Package: %s\nVersion: %s\nArchitecture: %s\n' "$package" "$version" "$architecture"
        printf 'Maintainer: ringdns maintainers <maintainers@ringdns.invalid>\nSection: net\nPriority: optional\n'
        printf 'Homepage: %s\nInstalled-Size: %s\n' "$homepage" "$(du --summarize --apparent-size --block-size=1K "$tree" | cut -f 1)"
        [[ -z $depends ]] || printf 'Depends: %s\n' "$depends"
        (($# == 0)) || printf '%s\n' "$@"
        printf 'Description: %s\n %s\n' "$summary" "$description"
    } >"$tree/DEBIAN/control"
}

# Compresses pages and the changelog, as Debian's policy asks (12.1, 12.7).
compress() {
    find "$1/usr/share" \( -path '*/man/*' -o -name changelog \) -type f -exec gzip --best --no-name {} +
}

# pack TREE PACKAGE [LEVEL]: adds what each package has, and packs it, at a level of compression.
pack() {
    local tree=$1 package=$2 level=${3:-6}
    local documents=$tree/usr/share/doc/$package
    install -D --mode 644 "$here/debian/copyright" "$documents/copyright"
    install --mode 644 "$root/CHANGELOG.md" "$documents/changelog"
    compress "$tree"
    (cd "$tree" && find usr -type f -print0 | sort --zero-terminated | xargs --null md5sum) >"$tree/DEBIAN/md5sums"
    # Sources have the modes and times of whoever cloned them.
    chmod --recursive u=rwX,go=rX "$tree"
    find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
    dpkg-deb --root-owner-group -Zxz "-z$level" --build "$tree" "$out/${package}_${version}_$architecture.deb" >&2
}

server() {
    local tree=$stage/ringdns symbols=$stage/ringdns-dbgsym
    install_program "$programs/ringdnsd" /usr/sbin "$tree" "$symbols"
    install_program "$programs/ringctl" /usr/bin "$tree" "$symbols"
    "$programs/ringdnsd" --write-share "$tree/usr/share"
    "$programs/ringctl" write-share "$tree/usr/share"
    install -D --mode 644 "$here/ringdns.toml" "$tree/etc/ringdns/ringdns.toml"
    install -D --mode 644 "$here/ringdnsd.service" "$tree/lib/systemd/system/ringdnsd.service"
    install -D --mode 644 "$here/debian/ringdns.sysusers" "$tree/usr/lib/sysusers.d/ringdns.conf"
    install -D --mode 644 "$here/debian/ringdns.tmpfiles" "$tree/usr/lib/tmpfiles.d/ringdns.conf"
    install -d "$tree/usr/share/ringdns/anycast" "$tree/usr/share/ringdns/monitoring" "$tree/usr/share/doc/ringdns"
    install --mode 644 "$here"/monitoring/* "$tree/usr/share/ringdns/monitoring/"
    install --mode 755 "$here"/anycast/*.sh "$tree/usr/share/ringdns/anycast/"
    install --mode 644 "$here"/anycast/*.conf "$tree/usr/share/ringdns/anycast/"
    cp --recursive --preserve=timestamps "$root/README.md" "$root/docs" "$tree/usr/share/doc/ringdns/"
    bill_of_materials "$programs/ringdnsd" "$tree/usr/share/doc/ringdns"
    bill_of_materials "$programs/ringctl" "$tree/usr/share/doc/ringdns"
    control "$tree" ringdns "$(depends "$tree"), systemd" "DNS cache that answers from the NIC's queues" \
        "ringdnsd answers queries over AF_XDP from a cache in each worker, in front of recursive
 resolvers, and ringctl watches and controls it." "Recommends: ca-certificates, ethtool"
    printf '/etc/ringdns/ringdns.toml\n' >"$tree/DEBIAN/conffiles"
    local script
    for script in postinst prerm postrm; do
        install --mode 755 "$here/debian/$script" "$tree/DEBIAN/$script"
    done
    pack "$tree" ringdns
    control "$symbols" ringdns-dbgsym "" "debug symbols of ringdns" \
        "They name the functions in profiles and backtraces of ringdnsd and ringctl." "Depends: ringdns (= $version)"
    # Debug information is compressed already: level 6 takes 17 s for 1 % less.
    pack "$symbols" ringdns-dbgsym 0
}

bench() {
    local tree=$stage/ringdns-bench
    install_program "$programs/ringbench" /usr/bin "$tree"
    "$programs/ringbench" write-share "$tree/usr/share"
    bill_of_materials "$programs/ringbench" "$tree/usr/share/doc/ringdns-bench"
    control "$tree" ringdns-bench "$(depends "$tree")" "load generator for DNS servers" \
        "ringbench sends queries at the rate of the link, checks the answers, and compares servers."
    pack "$tree" ringdns-bench
}

out=$root/target/package programs='' profile=release-lto version=''
while (($#)); do
    case $1 in
    --out | --programs | --profile | --version)
        (($# > 1)) || die "$1 needs a value"
        [[ $1 != --out ]] || out=$2
        [[ $1 != --programs ]] || programs=$(cd "$2" && pwd)
        [[ $1 != --profile ]] || profile=$2
        [[ $1 != --version ]] || version=$2
        shift 2
        ;;
    -h | --help) usage && exit 0 ;;
    *) die "unknown option '$1': --out, --programs, --profile or --version" ;;
    esac
done
cargo_field() { sed -n "/^\[workspace.package\]/,/^\[/s/^$1 = \"\(.*\)\"/\1/p" "$root/Cargo.toml"; }
version=${version:-$(cargo_field version)}
homepage=$(cargo_field repository)
select_rust || die "no Rust $RUST_MINIMUM or later: deploy/setup.sh build installs one"
for tool in dpkg-deb dpkg-shlibdeps strip objcopy readelf python3; do
    command -v "$tool" >/dev/null || die "there is no $tool: deploy/setup.sh build installs it"
done
architecture=$(dpkg --print-architecture)
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat --format=%Y "$root/Cargo.toml")}
export SOURCE_DATE_EPOCH
umask 022
mkdir -p "$out"
out=$(cd "$out" && pwd)
stage=$(mktemp --directory "$out/stage.XXXX")
trap 'rm -rf "$stage"' EXIT
programs=${programs:-$(build)}
server
bench
say "packages are in $out"
