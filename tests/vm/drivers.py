#!/usr/bin/env python3
"""Runs ringdnsd on several kernels and NIC drivers, in virtual machines. Needs root; installs nothing.

Without options it runs the short form: the verifier of every kernel, and zero-copy on virtio-net
and igb. A cell of it that fails is tried once more, since an emulated machine on a busy host may
stand still for longer than anybody waits. Both results are printed.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from lab import expected, initrd, kit, matrix, nics, refusals, report, soak, verifier
from lab.cache import KERNELS, Cache, Kernel, Missing
from lab.result import Cell

ROOT = Path(__file__).resolve().parent.parent.parent
# Exit status of test programs that cannot run here; deploy/test.sh counts it as skipped.
SKIPPED = 77


def arguments() -> argparse.Namespace:
    """Parses the command line."""
    default = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--all", action="store_true", help="the whole matrix of kernels, drivers and modes")
    form.add_argument(
        "--soak",
        action="store_true",
        help="a long test of zero-copy: a million queries, link flaps, restarts and kills",
    )
    form.add_argument(
        "--refusals", action="store_true", help="machines on which AF_XDP cannot be used"
    )
    form.add_argument(
        "--kit", action="store_true", help="a dry run of ringbench nic on the NICs that have zero-copy"
    )
    parser.add_argument("--kernels", metavar="NAME,…", help=f"only these kernels of {', '.join(KERNELS)}")
    parser.add_argument("--drivers", metavar="NAME,…", help="only these drivers of the matrix")
    parser.add_argument("--modes", metavar="MODE,…", help="only these modes of the matrix")
    parser.add_argument(
        "--programs", type=Path, default=default, metavar="FOLDER", help="programs under test: default %(default)s"
    )
    parser.add_argument(
        "--commit",
        metavar="NAME",
        help="commit of the programs, for the results: default, that of this tree",
    )
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write results.json and README.md there")
    parser.add_argument("--refresh", action="store_true", help="ask the mirror for newer packages first")
    return parser.parse_args()


def chosen(names: str | None, every: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the members of `every` that a comma-separated list names, or all."""
    wanted = names.split(",") if names else every
    if unknown := set(wanted) - set(every):
        sys.exit(f"drivers.py: unknown: {', '.join(sorted(unknown))}; known are {', '.join(every)}")
    return tuple(name for name in every if name in wanted)


def spelled(options: argparse.Namespace) -> str:
    """Returns the options that select what to try, as on the command line."""
    forms = [f" --{form}" for form in ("all", "soak", "refusals", "kit") if getattr(options, form)]
    choices = ((name, getattr(options, name)) for name in ("kernels", "drivers", "modes"))
    return "".join(forms + [f" --{name}={value}" for name, value in choices if value])


class Run:
    """Run of the lab: kernels and programs, and the results so far."""

    def __init__(self, options: argparse.Namespace):
        self.cache = Cache(options.refresh)
        # Without these there is no lab.
        for part in ("qemu", "busybox"):
            self.cache.part(part)
        self.folder = options.programs
        self.cells: list[Cell] = []
        # Number of cells that were tried once more.
        self.tried_again = 0
        # Kernels that are missing, and the reasons.
        self.skipped: dict[str, str] = {}
        self.kernels: list[Kernel] = []
        for label in chosen(options.kernels, KERNELS):
            try:
                self.kernels.append(self.cache.kernel(label))
            except Missing as missing:
                self.skipped[label] = str(missing)
                print(f"SKIPPED: kernel {missing}", flush=True)
        with tempfile.TemporaryDirectory(prefix="ringdns-vm.") as scratch:
            self.programs = initrd.programs(self.cache, self.folder, Path(scratch))

    def tell(self, cell: Cell):
        """Records and prints the result of a cell."""
        self.cells.append(cell)
        print(cell.line(), flush=True)

    def verifier(self, kernels: list[Kernel]):
        """Tries the XDP programs on some kernels."""
        verifier.verify(self.cache, kernels, self.programs, self.tell)

    def matrix(self, wanted: tuple[nics.Nic, ...], modes: tuple[str, ...], kernels: list[Kernel]):
        """Tries drivers and modes on some kernels."""
        for kernel in kernels:
            matrix.run(self.cache, kernel, self.programs, self.folder, wanted, modes, self.tell)

    def short(self, wanted: tuple[nics.Nic, ...], newest: list[Kernel]):
        """Runs the short form, and once more what fails in it."""
        self.verifier(self.kernels)
        self.matrix(wanted, ("auto",), newest)
        failed = [cell for cell in self.cells if cell.failures]
        if not failed:
            return
        in_verifier = [kernel for kernel in self.kernels if kernel.label in verifier.kernels_of(failed)]
        drivers = {cell.driver for cell in failed}
        in_matrix = tuple(nic for nic in wanted if nic.driver in drivers)
        # These count by their second result alone.
        again = {(kernel.label, verifier.DRIVER) for kernel in in_verifier}
        again |= {(kernel.label, nic.driver) for kernel in newest for nic in in_matrix}
        first = len(self.cells)
        self.cells = [cell for cell in self.cells if (cell.kernel, cell.driver) not in again]
        self.tried_again = first - len(self.cells)
        print("once more:", flush=True)
        self.verifier(in_verifier)
        if in_matrix:
            self.matrix(in_matrix, ("auto",), newest)


def main() -> int:
    """Runs the chosen tests, and returns the exit status."""
    options = arguments()
    started = time.monotonic()
    # An exception, so that guests and namespaces are removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    drivers = chosen(options.drivers, tuple(nic.driver for nic in nics.ALL))
    modes = chosen(options.modes, expected.MODES)
    try:
        run = Run(options)
    except Missing as missing:
        print(f"SKIPPED, all tests: the lab of virtual machines needs {missing}")
        return SKIPPED
    newest = [kernel for kernel in run.kernels if kernel.label == "newest"]
    zero_copy = tuple(nic for nic in (nics.VIRTIO, nics.IGB) if nic.driver in drivers)
    if options.refusals:
        refusals.run(run.cache, run.kernels, run.programs, run.folder, run.tell)
    elif options.soak:
        for kernel in newest:
            soak.run(run.cache, kernel, run.programs, run.folder, zero_copy, run.tell)
    elif options.kit:
        for kernel in newest:
            kit.run(run.cache, kernel, run.programs, run.folder, zero_copy, options.out, run.tell)
    elif options.all:
        run.verifier(run.kernels)
        run.matrix(tuple(nic for nic in nics.ALL if nic.driver in drivers), modes, run.kernels)
    else:
        run.short(zero_copy, newest)
    if not run.cells:
        print("SKIPPED, all tests: there is no kernel to try")
        return SKIPPED
    failed = sum(cell.verdict == "FAILED" for cell in run.cells)
    seconds = round(time.monotonic() - started)
    if options.out:
        report.write(options.out, run.cells, run.skipped, seconds, options.commit, spelled(options))
    print(
        f"{len(run.cells) - failed} cells are as expected, {failed} are not, "
        f"{run.tried_again} were tried once more, {len(run.skipped)} kernels skipped; {seconds} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
