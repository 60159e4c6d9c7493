"""Matrix of tests: on each kernel a guest with all NICs, and on each NIC ringdnsd in each mode."""

from collections import deque
from collections.abc import Callable
from pathlib import Path

from . import checks, expected, initrd
from .cache import Cache, Kernel
from .client import Client
from .daemon import start_upstream
from .guest import Guest
from .nics import Nic
from .result import Cell

MEMORY_MIB = 896


def run(
    cache: Cache,
    kernel: Kernel,
    programs: bytes,
    folder: Path,
    nics: tuple[Nic, ...],
    modes: tuple[str, ...],
    tell: Callable[[Cell], None],
):
    """Tries every mode on every NIC of a guest, and reports each cell when it is done."""
    archives = (programs, initrd.modules(kernel))
    waiting = deque((nic, expected.cell(kernel, nic.driver, mode)) for nic in nics for mode in modes)
    while waiting:
        try:
            with Guest(cache, kernel, archives, nics, memory_mib=MEMORY_MIB) as guest:
                start_upstream(guest)
                for nic in nics:
                    prepare(guest, nic)
                client = Client(guest.client, folder / "ringbench")
                # If the guest dies, the cells that are left get another.
                while waiting and guest.is_running():
                    nic, cell = waiting.popleft()
                    checks.check(cell, guest, client, nic)
                    tell(cell)
        except Exception as error:
            for _, cell in waiting:
                cell.fail(f"no guest: {error}")
                tell(cell)
            return


def prepare(guest: Guest, nic: Nic):
    """Sets up a NIC as README.md tells users to, as far as its driver supports the settings."""
    for settings in ("-K {} lro off gro off", "-N {} rx-flow-hash udp4 sdfn", "-N {} rx-flow-hash udp6 sdfn"):
        guest.run(f"ethtool {settings.format(nic.interface)}")
