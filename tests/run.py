#!/usr/bin/env python3
"""Builds the end-to-end tests and runs their programs, several at once, for they mostly wait. Needs root.

Programs that run at once have network namespaces of their own, so that they never choose the same free
port. Those that compare rates or times run alone, after the others. Options after -- are for each
program.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Programs that need the machine for themselves.
ALONE = {
    # They compare rates or times, or lose no packet of a load.
    *("capture", "chaos", "dnstap", "dump", "fair", "liars", "limits", "mixed", "path", "soak", "strict", "tap"),
    # They run many programs at once: labs, browsers, containers.
    *("console", "container", "scenarios"),
    # They limit memory, or look at the namespaces of the host.
    *("cgroup", "doctor", "sandbox", "service"),
}

# Programs that take longest. They begin first, so that none runs by itself in the end.
LONGEST = ("reload", "install", "query_log", "fleet", "dnssec", "problems", "api", "metrics")


@dataclass(frozen=True)
class Result:
    """Outcome of a test program."""

    name: str
    status: int
    seconds: float
    output: str

    def show(self) -> None:
        """Prints the output, in one piece."""
        outcome = "passed" if self.status == 0 else f"FAILED with status {self.status}"
        print(f"\n---- {self.name}: {outcome} in {self.seconds:.0f} s\n{self.output}", end="", flush=True)


def build() -> dict[str, Path]:
    """Builds the test programs. Returns their files by name."""
    command = ["cargo", "test", "--locked", "--release", "--package", "ringdns-tests", "--no-run"]
    process = subprocess.run(
        [*command, "--message-format=json-render-diagnostics"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if process.returncode != 0:
        sys.exit(process.returncode)
    artifacts = [json.loads(line) for line in process.stdout.splitlines()]
    return {
        artifact["target"]["name"]: Path(artifact["executable"])
        for artifact in artifacts
        if artifact.get("executable") and "test" in artifact["target"]["kind"]
    }


def run(name: str, program: Path, options: list[str], is_alone: bool) -> Result:
    """Runs a test program, one test at a time."""
    command = [str(program), *options, "--test-threads=1"]
    if not is_alone:
        command = ["unshare", "--net", "sh", "-c", 'ip link set dev lo up && exec "$@"', "sh", *command]
    # In the folder and with the variable that cargo would give them. A file, since a process that a test left
    # would keep a pipe open.
    folder = ROOT / "tests"
    environment = {**os.environ, "CARGO_MANIFEST_DIR": str(folder)}
    began = time.monotonic()
    with tempfile.TemporaryFile() as output:
        status = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
        seconds = time.monotonic() - began
        output.seek(0)
        return Result(name, status, seconds, output.read().decode(errors="replace"))


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--jobs", type=int, default=4, metavar="N", help="programs at once: default %(default)s")
    parser.add_argument("--only", metavar="NAME,…", help="only these programs")
    parser.add_argument("options", nargs="*", metavar="OPTION", help="options of the test programs")
    return parser.parse_args()


def main() -> int:
    """Runs the programs. Prints their times, and what failed once more, at the end."""
    asked = arguments()
    programs = build()
    names = asked.only.split(",") if asked.only else list(programs)
    # A program that was renamed must not lose its place here unnoticed.
    if unknown := sorted({*names, *ALONE, *LONGEST} - programs.keys()):
        sys.exit(f"there is no {', '.join(unknown)}: there are {', '.join(sorted(programs))}")
    results = []

    def finish(name: str) -> None:
        result = run(name, programs[name], asked.options, name in ALONE)
        result.show()
        results.append(result)

    together = sorted(set(names) - ALONE, key=lambda name: (name not in LONGEST, name))
    with ThreadPoolExecutor(asked.jobs) as pool:
        list(pool.map(finish, together))
    for name in sorted(set(names) & ALONE):
        finish(name)
    print()
    for result in sorted(results, key=lambda result: -result.seconds):
        print(f"{result.seconds:6.0f} s  {result.name}")
    failed = [result for result in results if result.status != 0]
    for result in failed:
        result.show()
    print(f"{len(results) - len(failed)} test programs passed, {len(failed)} failed: "
          f"{', '.join(result.name for result in failed) or 'none'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
