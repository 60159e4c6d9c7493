#!/usr/bin/env python3
"""Measures what groups of clients cost a cache: ringdnsd with one group, with 20 groups that have the same lists, and
with 20 whose lists differ in few names. All clients ask for the same names, from empty caches on. Prints the share of
queries that the worker cache and the host cache answer, their entries and bytes, and the resident memory. Needs root, two
cores, iproute2, taskset and the programs of the release profile."""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from string import Template

import floods

GROUPS, CLIENTS = 20, 320
# Names of the list that all groups have, and of those that each group has for itself.
COMMON, OWN = 1000, 100
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
SCENES = {"one": "one group", "same": f"{GROUPS} groups, the same list",
          "different": f"{GROUPS} groups, lists that differ in {OWN} names each"}


def name(number):
    """Returns a name of `ringbench storm` by its number."""
    digits = ""
    for _ in range(6):
        number, digit = divmod(number, 36)
        digits = DIGITS[digit] + digits
    return f"n{digits}.rb.example"


def table(kind, **keys):
    return f"\n[[{kind}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def policy(scene, folder, names):
    """Writes lists, and returns the tables of groups and lists."""
    step = max(names // (COMMON + GROUPS * OWN), 1)
    numbers = [number * step for number in range(COMMON + GROUPS * OWN)]
    lists = {"common": numbers[:COMMON]}
    lists |= {f"own{nth}": numbers[COMMON + nth * OWN:COMMON + (nth + 1) * OWN] for nth in range(GROUPS)}
    text = ""
    for key, listed in lists.items():
        (folder / f"{key}.txt").write_text("".join(name(number) + "\n" for number in listed))
        text += table("blocklist", name=key, source=str(folder / f"{key}.txt"), format="plain", answer="nxdomain")
    text += table("client_group", name="default", blocklists=["common"])
    if scene == "one":
        return text
    for nth in range(GROUPS):
        own = [f"own{nth}"] if scene == "different" else []
        address = nth * (CLIENTS // GROUPS)
        text += table("client_group", name=f"g{nth}", clients=[f"10.54.{address >> 8}.{address & 255}/28"],
                      blocklists=["common", *own])
    return text


def turn(scene, lab, args):
    """Starts ringdnsd, asks all names many times, and returns its figures."""
    server = floods.SERVERS["ringdnsd"]
    folder = Path(tempfile.mkdtemp(prefix="ringdns-groups-", dir="/dev/shm"))
    text = Template(server["files"]["ringdns.toml"]).safe_substitute(folder=folder)
    text = text.replace("[rate_limit]\nper_second = 200\n", "")
    (folder / "ringdns.toml").write_text(text + policy(scene, folder, args.names))
    words = [Template(word).safe_substitute(folder=folder) for word in server["arguments"]]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(lab.within("server", floods.SERVER_CORE, args.programs / "ringdnsd", *words),
                                   stdout=output, stderr=output)
    control = ["--socket", folder / "control.sock"]
    try:
        until = time.monotonic() + 20
        while not (folder / "control.sock").exists() and time.monotonic() < until:
            time.sleep(0.1)
        time.sleep(1)
        before = floods.memory(process.pid)
        floods.storm(lab, args, args.seconds, "--lead=0", "--misses=0", f"--names={args.names}",
                     f"--clients={CLIENTS}")
        stats = json.loads(floods.run(args.programs / "ringctl", "--json", *control, "stats"))
        return {"stats": stats, "rss": [before, floods.memory(process.pid)]}
    except (OSError, subprocess.SubprocessError) as error:
        tail = (folder / "output").read_bytes()[-600:].decode(errors="replace").strip()
        raise RuntimeError(f"{error} {getattr(error, 'stderr', '') or ''} {tail}") from error
    finally:
        floods.end(process)
        shutil.rmtree(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=floods.HERE.parent / "target" / "release")
    parser.add_argument("--names", type=int, default=20_000)
    parser.add_argument("--normal", type=float, default=8_000, help="queries a second")
    parser.add_argument("--seconds", type=float, default=15)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("."))
    args = parser.parse_args()
    args.programs = args.programs.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {scene: [] for scene in SCENES}
    with floods.Lab() as lab:
        upstream = subprocess.Popen(
            lab.within("server", floods.GENERATOR_CORE, args.programs / "ringbench", "upstream",
                       "--listen=127.0.0.1:5301"), stdout=subprocess.DEVNULL)
        try:
            for _ in range(args.rounds):
                for scene in SCENES:
                    found[scene].append(turn(scene, lab, args))
                    print(scene, json.dumps(found[scene][-1])[:3000], file=sys.stderr)
                    (args.out / "groups.json").write_text(json.dumps(found, indent=1) + "\n")
        finally:
            floods.end(upstream)


if __name__ == "__main__":
    main()
