"""Dry run of `ringbench nic`, the kit with which users measure their NICs, on emulated NICs."""

import base64
import json
import subprocess
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from . import initrd
from .cache import Cache, Kernel
from .guest import Guest
from .nics import Nic
from .result import Cell

# Room for servers with huge pages and the kit's folder, besides the archive of programs.
MEMORY_MIB = 1400
NAMES = 1000
KIT_SECONDS = 900
EXPECTED = "measured, in zero-copy too"


def run(
    cache: Cache,
    kernel: Kernel,
    programs: bytes,
    folder: Path,
    nics: tuple[Nic, ...],
    out: Path | None,
    tell: Callable[[Cell], None],
):
    """Runs the kit on one NIC after the other, each in a guest of its own, and keeps its folders below `out`."""
    archives = (programs, initrd.modules(kernel))
    for nic in nics:
        cell = Cell.of(kernel, nic.driver, "kit", EXPECTED)
        with (
            cell.running(),
            Guest(cache, kernel, archives, (nic,), memory_mib=MEMORY_MIB) as guest,
            _queries(guest, nic, folder / "ringbench"),
        ):
            before = _settings(guest, nic)
            _measure(cell, guest, nic)
            after = _settings(guest, nic)
            cell.require(before == after, f"the NIC was {before}, is {after}")
            cell.check_kernel_log(guest)
            if out:
                _fetch(guest, out)
        tell(cell)


def _measure(cell: Cell, guest: Guest, nic: Nic):
    command = (
        f"ringbench nic --interface {nic.interface} --peer {nic.client4} --listen {nic.guest4} "
        f"--names {NAMES} --quick --any-build --out /tmp/{nic.driver}"
    )
    status, printed = guest.run(f"cd /tmp && {command} 2>&1", KIT_SECONDS)
    cell.require(status == 0, f"ringbench nic ended with {status}: {printed[-1500:]}")
    trials = json.loads(guest.output(f"cat /tmp/{nic.driver}/results.json"))["trials"]
    measured = [trial for trial in trials if all(map(_answers, trial["rounds"])) and trial["rounds"]]
    cell.got = f"{len(measured)} of {len(trials)} trials measured"
    for trial in trials:
        cell.require(
            trial in measured or bool(trial["failure"]), f"neither measured nor explained: {trial}"
        )
    reached = {(trial["subject"], str(trial["reached"])) for trial in measured}
    for subject in ("responder", "ringdnsd"):
        zero_copy = any(server == subject and "zero-copy" in how for server, how in reached)
        cell.require(zero_copy, f"{subject} is not measured in zero-copy: {reached}")


def _answers(measured: dict) -> float:
    return measured["saturation"]["answers_per_second"]


def _settings(guest: Guest, nic: Nic) -> list[str]:
    """Returns the settings of a NIC that the kit changes."""
    reads = (f"/sbin/ethtool -k {nic.interface}", f"/sbin/ethtool -l {nic.interface}")
    files = ("flags", "mtu", "threaded", "napi_defer_hard_irqs", "gro_flush_timeout")
    reads += tuple(f"cat /sys/class/net/{nic.interface}/{name}" for name in files)
    return [guest.run(f"{read} 2>&1")[1].strip() for read in reads]


@contextmanager
def _queries(guest: Guest, nic: Nic, ringbench: Path):
    """Runs the generator that the kit wants on the other host, for the duration of a block."""
    command = (ringbench, "run", "--target", f"{nic.guest4}:53", "--count", str(NAMES), "--duration", "3600")
    options = ("--window", "32", "--sockets", "8", "--timeout-ms", "2000", "--quiet")
    load = subprocess.Popen(
        guest.client.command(*command, *options), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        load.kill()
        load.wait()


def _fetch(guest: Guest, out: Path):
    """Copies the kit's folder from the guest."""
    (driver,) = (nic.driver for nic in guest.nics)
    packed = base64.b64decode(guest.output(f"tar -C /tmp -c {driver} | gzip | base64"))
    out.mkdir(parents=True, exist_ok=True)
    subprocess.run(["tar", "-C", out, "-xz"], input=packed, check=True)
