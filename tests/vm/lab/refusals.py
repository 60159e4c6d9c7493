"""Messages of ringdnsd on machines where AF_XDP cannot be used."""

import re
import tomllib
from collections.abc import Callable
from pathlib import Path

from . import initrd
from .cache import Cache, Kernel
from .client import Client
from .daemon import Daemon, start_upstream
from .guest import Guest, wait_until
from .matrix import MEMORY_MIB
from .nics import VIRTIO
from .result import Cell

TABLE = tomllib.loads((Path(__file__).resolve().parent.parent / "refusals.toml").read_text())
OTHER_LISTEN = ("127.0.0.1:5399",)
ANSWER_SECONDS = 60


def run(cache: Cache, kernels: list[Kernel], programs: bytes, folder: Path, tell: Callable[[Cell], None]):
    """Tries each machine in a guest of its own."""
    for kernel in kernels:
        archives = (programs, initrd.modules(kernel))
        for name, machine in TABLE.items():
            if machine["kernel"] != kernel.label:
                continue
            cell = Cell.of(kernel, name, "refusals", machine["receiving"])
            options = machine.get("kernel_options", "")
            with (
                cell.running(),
                Guest(cache, kernel, archives, (VIRTIO,), MEMORY_MIB, kernel_options=options) as guest,
            ):
                _try(cell, machine, guest, Client(guest.client, folder / "ringbench"))
            tell(cell)


def _try(cell: Cell, machine: dict, guest: Guest, client: Client):
    start_upstream(guest)
    for command in machine.get("before", ()):
        guest.output(command)
    if machine.get("other"):
        Daemon(guest, VIRTIO.interface, OTHER_LISTEN, name="other").start()
    listen = (f"{VIRTIO.guest4}:53", f"[{VIRTIO.guest6}]:53")
    daemon = Daemon(guest, VIRTIO.interface, listen, fallback=True, prefix=machine.get("prefix", ""))
    daemon.start()
    said = daemon.receiving().text
    cell.got = said.partition(",")[0]
    cell.measured["said"] = said
    cell.require(re.fullmatch(machine["receiving"], said, re.S) is not None, f"status says: {said}")
    cell.require("\n" not in said, "status takes several lines for it")
    # One line for the warning, if there is one, and one for ready.
    lines = daemon.log().count("\n") + 1
    cell.require(lines <= 2, f"the log has {lines} lines")
    answers = wait_until(lambda: client.ask(VIRTIO.guest4, "A", tries=1) is None, ANSWER_SECONDS)
    cell.require(answers, "no answer")
