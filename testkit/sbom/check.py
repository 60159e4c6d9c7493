"""Checks the bills of materials of packages: valid CycloneDX, with the crates that cargo names and no
other, and with every crate that the debug information of the program names. Then spoils a document in
several ways, and checks that each is noticed.

  check.py --documents FOLDER --programs FOLDER

Runs in the Python environment of requirements.txt. deploy/supply.sh calls it.
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tomllib

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

ROOT = pathlib.Path(__file__).resolve().parents[2]
PACKAGES = {"ringdnsd": "ringdns-daemon", "ringctl": "ringdns-ctl", "ringbench": "ringdns-bench"}
# Programs with an XDP program in them.
WITH_XDP = {"ringdnsd", "ringbench"}
VALIDATOR = JsonStrictValidator(SchemaVersion.V1_6)
# A path of a crate of the registry, as debug information and panic messages have it.
SOURCE = re.compile(rb"/registry/src/[^/\0]+/([A-Za-z0-9_-]+)-(\d+\.\d+\.\d+[A-Za-z0-9.+-]*)")


def crates_of(workspace, packages, *options):
    """Returns the crates that each package uses, as sets of (name, version), from the whole tree."""
    command = ["cargo", "tree", "--locked", "--manifest-path", workspace / "Cargo.toml", "--edges", "normal"]
    command += ["--no-dedupe", "--prefix", "depth", "--format", " {p}", *options]
    for package in packages:
        command += ["--package", package]
    crates, current = {}, None
    for line in subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines():
        if not line:
            continue
        depth, name, version, *_ = line.split()
        if depth == "0":
            current = crates.setdefault(name, set())
        else:
            current.add((name, version.removeprefix("v")))
    return crates


def problems(program, text, crates, sums, binary):
    """Yields the faults of a document."""
    document = json.loads(text)
    components = {(entry["name"], entry["version"]): entry for entry in document["components"]}
    if document["metadata"]["component"]["name"] != program:
        yield "describes another program"
    if len(components) != len(document["components"]):
        yield "has a crate twice"
    for name, version in sorted(crates - components.keys()):
        yield f"lacks {name} {version}, which cargo tree has"
    for name, version in sorted(components.keys() - crates):
        yield f"has {name} {version}, which cargo tree has not"
    for (name, version), entry in components.items():
        expected = sums.get((name, version))
        if [item["content"] for item in entry.get("hashes", [])] != ([expected] if expected else []):
            yield f"has a hash of {name} {version} that Cargo.lock has not"
        if not entry["purl"].startswith(f"pkg:cargo/{name}@" if expected else "pkg:github/"):
            yield f"has a wrong purl of {name} {version}: {entry['purl']}"
    linked = {(name.decode(), version.decode()) for name, version in SOURCE.findall(binary)}
    if not linked:
        yield "cannot be compared: the program has no debug information"
    for name, version in sorted(linked):
        if components.get((name, version), {}).get("scope") != "required":
            yield f"does not say that {name} {version} is shipped, whose code is in the program"
    # Last, because it takes a second or two.
    if fault := VALIDATOR.validate_str(text):
        yield f"is not valid CycloneDX: {fault}"


def spoilt(text):
    """Yields copies of a document with a fault each, and the fault."""

    def copy(fault, change):
        document = json.loads(text)
        change(document, next(entry for entry in document["components"] if entry["name"] == "tokio"))
        return fault, json.dumps(document)

    yield copy("a crate too few", lambda document, crate: document["components"].remove(crate))
    yield copy("a crate too many", lambda document, crate: document["components"].append({**crate, "version": "0.0.1"}))
    yield copy("another hash", lambda _, crate: crate["hashes"][0].update(content="0" * 64))
    yield copy("another scope", lambda _, crate: crate.update(scope="excluded"))
    yield copy("an unknown type", lambda _, crate: crate.update(type="crate"))


def checksums():
    """Returns the checksums of both Cargo.lock files."""
    found = {}
    for lock in (ROOT / "Cargo.lock", ROOT / "ebpf/Cargo.lock"):
        for package in tomllib.loads(lock.read_text())["package"]:
            found[package["name"], package["version"]] = package.get("checksum")
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=pathlib.Path, required=True)
    parser.add_argument("--programs", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    trees = crates_of(ROOT, PACKAGES.values())
    [(xdp, used)] = crates_of(ROOT / "ebpf", ["ringdns-ebpf"], "--target", "bpfel-unknown-none").items()
    xdp_version = tomllib.loads((ROOT / "ebpf/Cargo.toml").read_text())["package"]["version"]
    sums, failed = checksums(), False
    for program, package in PACKAGES.items():
        crates = trees[package] | (used | {(xdp, xdp_version)} if program in WITH_XDP else set())
        path = next(arguments.documents.rglob(f"{program}.cdx.json"))
        binary = (arguments.programs / program).read_bytes()
        faults = list(problems(program, path.read_text(), crates, sums, binary))
        for fault in faults:
            print(f"{path.name} {fault}", file=sys.stderr)
        failed |= bool(faults)
        if not faults:
            print(f"{path.name}: valid, {len(crates)} crates, as cargo and the program have them", file=sys.stderr)
        if program == "ringctl":
            for fault, text in spoilt(path.read_text()):
                if not any(problems(program, text, crates, sums, binary)):
                    print(f"{path.name} with {fault} is taken for a good one: this check is broken", file=sys.stderr)
                    failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
