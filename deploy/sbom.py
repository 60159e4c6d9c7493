#!/usr/bin/env python3
"""Writes a bill of materials (CycloneDX 1.6, JSON) of a program that the packages ship.

  sbom.py --version VERSION [--rustc VERSION] PROGRAM     PROGRAM: ringdnsd, ringctl or ringbench

Components are the crates that `cargo tree` names for the build of deploy/package.sh, with licences,
and with the SHA-256 of their archives from Cargo.lock. Crates of the XDP programs, which are built
into ringdnsd and ringbench, are among them. A crate that only runs while others are compiled
(procedural macros, and what only these use) has the scope "excluded". The same sources give the
same bytes: the time is SOURCE_DATE_EPOCH, and the serial number is derived from the content.
"""

import argparse
import dataclasses
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys
import tomllib
import urllib.parse
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Package of each program, and whether the program holds XDP programs.
PROGRAMS = {
    "ringdnsd": ("ringdns-daemon", True),
    "ringctl": ("ringdns-ctl", False),
    "ringbench": ("ringdns-bench", True),
}
XDP_PACKAGE = "ringdns-ebpf"
LINE = re.compile(
    r"(?P<depth>\d+)\|(?P<name>\S+) v(?P<version>\S+)(?P<macro> \(proc-macro\))?(?: \((?P<path>/.*)\))?"
    r"\|(?P<licence>[^|]*)\|(?P<repository>[^|]*)\|(?: \(\*\))?"
)


@dataclasses.dataclass
class Crate:
    """A crate of a dependency graph, and the names of the crates that it uses."""

    name: str
    version: str
    is_macro: bool
    folder: str | None
    licence: str
    repository: str
    uses: set[str] = dataclasses.field(default_factory=set)

    @property
    def key(self):
        return f"{self.name} {self.version}"


def tree(workspace, packages, *options):
    """Returns the graph of normal dependencies that packages of a workspace are built with together."""
    command = ["cargo", "tree", "--locked", "--manifest-path", workspace / "Cargo.toml", "--edges", "normal"]
    command += ["--prefix", "depth", "--format", "|{p}|{l}|{r}|", "--charset", "ascii", *options]
    for package in packages:
        command += ["--package", package]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    crates, ancestors = {}, []
    for line in filter(None, output.splitlines()):
        fields = LINE.fullmatch(line)
        if fields is None:
            sys.exit(f"sbom.py: cargo tree printed a line of an unknown form: {line!r}")
        path = fields["path"]
        folder = path and pathlib.Path(path).relative_to(ROOT).as_posix()
        # Cargo's older form of OR.
        licence = re.sub(r"\s*/\s*", " OR ", fields["licence"])
        crate = Crate(fields["name"], fields["version"], bool(fields["macro"]), folder, licence, fields["repository"])
        crate = crates.setdefault(crate.key, crate)
        # A crate whose dependencies were printed before is printed without them: edges add up.
        del ancestors[int(fields["depth"]) :]
        if ancestors:
            ancestors[-1].uses.add(crate.key)
        ancestors.append(crate)
    return crates


def reachable(crates, root, through_macros):
    """Returns the keys of the crates that `root` uses, itself among them."""
    found, left = set(), [root]
    while left:
        crate = crates[left.pop()]
        if crate.key not in found and (through_macros or not crate.is_macro):
            found.add(crate.key)
            left.extend(crate.uses)
    return found


def checksums(workspace):
    """Returns the checksums of the archives of crates, from a Cargo.lock."""
    lock = tomllib.loads((workspace / "Cargo.lock").read_text())
    return {f"{package['name']} {package['version']}": package.get("checksum") for package in lock["package"]}


def purl(crate, repository):
    """Returns the package URL: the registry's, or for crates of this project that of its repository."""
    version = urllib.parse.quote(crate.version, safe="")
    if crate.folder is None:
        return f"pkg:cargo/{crate.name}@{version}"
    owner, name = urllib.parse.urlsplit(repository).path.strip("/").split("/")
    return f"pkg:github/{owner}/{name}@{version}#{crate.folder}"


def component(crate, reference, checksum, is_shipped):
    """Returns the entry of a crate."""
    entry = {
        "type": "library",
        "bom-ref": reference,
        "name": crate.name,
        "version": crate.version,
        "scope": "required" if is_shipped else "excluded",
        "licenses": [{"expression": crate.licence}],
        "purl": reference,
    }
    if crate.folder is None:
        if checksum is None:
            sys.exit(f"sbom.py: Cargo.lock has no checksum of {crate.key}: is it from another source than crates.io?")
        entry["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if not crate.licence:
        sys.exit(f"sbom.py: {crate.key} states no licence in its Cargo.toml")
    if crate.repository:
        entry["externalReferences"] = [{"type": "vcs", "url": crate.repository}]
    return entry


def document(program, version, rustc):
    """Returns the bill of materials of a program."""
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["package"]
    package, has_xdp = PROGRAMS[program]
    # Built together: a feature that one program wants of a crate, all have.
    crates = tree(ROOT, [package for package, _ in PROGRAMS.values()])
    root = next(key for key in crates if key.split()[0] == package)
    sums = checksums(ROOT)
    used, shipped = reachable(crates, root, True), reachable(crates, root, False)
    if has_xdp:
        xdp = tree(ROOT / "ebpf", [XDP_PACKAGE], "--target", "bpfel-unknown-none")
        xdp_root = next(key for key in xdp if key.split()[0] == XDP_PACKAGE)
        used |= reachable(xdp, xdp_root, True)
        shipped |= reachable(xdp, xdp_root, False)
        for key, crate in xdp.items():
            crates.setdefault(key, crate).uses.update(crate.uses)
        crates[root].uses.add(xdp_root)
        sums |= checksums(ROOT / "ebpf")
    references = {key: purl(crates[key], manifest["repository"]) for key in used}
    subject = {
        "type": "application",
        "bom-ref": references[root],
        "name": program,
        "version": version,
        "licenses": [{"expression": manifest["license"]}],
        "purl": references[root],
        "externalReferences": [{"type": "vcs", "url": manifest["repository"]}],
    }
    if rustc:
        subject["properties"] = [{"name": "ringdns:rustc", "value": rustc}]
    time = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.UTC)
    content = {
        "metadata": {"timestamp": time.isoformat(), "component": subject},
        "components": [
            component(crates[key], references[key], sums.get(key), key in shipped) for key in sorted(used - {root})
        ],
        "dependencies": [
            {"ref": references[key], "dependsOn": sorted(references[use] for use in crates[key].uses)}
            for key in sorted(used)
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, manifest["repository"] + json.dumps(content, sort_keys=True))
    head = {"$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6"}
    return {**head, "serialNumber": f"urn:uuid:{serial}", "version": 1, **content}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", required=True, help="version of the program")
    parser.add_argument("--rustc", help="version of the compiler that built it")
    parser.add_argument("program", choices=PROGRAMS)
    arguments = parser.parse_args()
    json.dump(document(arguments.program, arguments.version, arguments.rustc), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
