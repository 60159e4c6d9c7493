"""Long test of zero-copy: a million queries, link flaps, restarts and kills."""

import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from . import initrd
from .cache import Cache, Kernel
from .checks import LINK_SECONDS, check_load, check_sums, settled
from .client import Client
from .daemon import Daemon, start_upstream
from .guest import Guest, wait_until
from .matrix import MEMORY_MIB, prepare
from .nics import Nic
from .result import Cell

QUERIES = 1_000_000
# Queries of a load, and its time limit: an emulated guest answers one to four thousand a second.
PORTION, PORTION_SECONDS = 50_000, 600
FLAPS = 20
RESTARTS = 10
QUERIES_AFTER = 2_000
# Rate of queries that keeps frames in flight whenever the link or the process goes down.
BACKGROUND_QPS = 300
# Most frames in the TX ring at rest: the kernel holds the last burst's answers until the next send.
TX_AT_REST_MAX = 64

MODE = "driver zero-copy 2"


class Soak:
    """Soak test of ringdnsd on one NIC of a guest."""

    def __init__(self, kernel: Kernel, guest: Guest, nic: Nic, folder: Path, tell: Callable[[Cell], None]):
        self.kernel, self.guest, self.nic, self.tell = kernel, guest, nic, tell
        self.client = Client(guest.client, folder / "ringbench")
        self.daemon = Daemon(guest, nic.interface, (f"{nic.guest4}:53", f"[{nic.guest6}]:53"))

    def run(self):
        """Runs all parts."""
        for name, part in (
            ("million", self._million),
            ("flaps", self._flaps),
            ("restarts", lambda cell: self._restarts(cell, "TERM")),
            ("kills", lambda cell: self._restarts(cell, "KILL")),
        ):
            cell = Cell.of(self.kernel, self.nic.driver, name, MODE)
            with cell.running():
                if not self.daemon.pid or not self.daemon.is_running():
                    self.daemon.start()
                self._answers_again(cell, "the start")
                cell.got = str(self.daemon.receiving())
                cell.require(cell.got == MODE, f"received by {cell.got}")
                cell.measured["frames_before"] = self._frames()
                part(cell)
                cell.measured["frames_after"] = self._frames()
                self._check_frames(cell)
                cell.check_kernel_log(self.guest)
            self.tell(cell)
        last = Cell.of(self.kernel, self.nic.driver, "end", "nothing is left")
        with last.running():
            self.daemon.end("TERM")
            last.got = (
                "nothing is left"
                if self._sockets() == 0 and not self.daemon.has_program()
                else "something is left"
            )
            last.require(
                last.got == last.expected,
                f"{self._sockets()} AF_XDP sockets, program: {self.daemon.has_program()}",
            )
        self.tell(last)

    def _million(self, cell: Cell):
        first = before = settled(self.daemon)
        answered = 0
        for _ in range(QUERIES // PORTION):
            load = self.client.load(self.nic.guest4, PORTION, PORTION_SECONDS)
            stats = settled(self.daemon)
            check_load(cell, load, before, stats)
            cell.require(load.sent == PORTION, f"{load}")
            answered += load.answered
            before = stats
        check_sums(cell, before)
        received = before["total"]["received"] - first["total"]["received"]
        cell.require(received == QUERIES, f"{QUERIES} queries are counted as {received}")
        cell.measured |= {"queries": QUERIES, "answered": answered, "received": received}

    def _flaps(self, cell: Cell):
        """Takes the link down and up: half of the times in the guest, half by the carrier."""
        interface = self.nic.interface
        for flap in range(FLAPS):
            with self._background():
                if flap % 2:
                    self.guest.output(f"/sbin/ip link set dev {interface} down")
                    self.guest.output(f"/sbin/ip link set dev {interface} up")
                else:
                    self.guest.set_carrier(self.nic, False)
                    down = wait_until(lambda: self._carrier() == "0", LINK_SECONDS)
                    cell.require(down, f"flap {flap}: the carrier stays")
                    self.guest.set_carrier(self.nic, True)
                self._answers_again(cell, f"flap {flap}")
        check_sums(cell, settled(self.daemon))
        cell.measured["flaps"] = FLAPS

    def _restarts(self, cell: Cell, signal: str):
        at_start = Counter()
        for number in range(RESTARTS):
            with self._background():
                self.daemon.end(signal)
                sockets, program = self._sockets(), self.daemon.has_program()
                cell.require(
                    sockets == 0 and not program,
                    f"after {number}: {sockets} AF_XDP sockets, program: {program}",
                )
                self.daemon.start()
                self._answers_again(cell, f"restart {number}")
            receiving = self.daemon.receiving()
            cell.require(str(receiving) == MODE, f"restart {number}: {receiving.text}")
            at_start += Counter(settled(self.daemon)["total"]["dropped"])
        # virtio's ring may hold packets from before the program, with checksums that the kernel
        # would have completed.
        cell.measured |= {"restarts": RESTARTS, "dropped_at_start": dict(at_start)}
        before = settled(self.daemon)
        load = self.client.load(self.nic.guest4, QUERIES_AFTER, PORTION_SECONDS)
        after = settled(self.daemon)
        check_load(cell, load, before, after, "after the last: ")
        check_sums(cell, after, before["total"]["dropped"])

    @contextmanager
    def _background(self):
        """Sends queries for the duration of a block, whether or not they are answered."""
        command = (
            self.client.ringbench,
            "run",
            "--target",
            f"{self.nic.guest4}:53",
            "--qps",
            str(BACKGROUND_QPS),
        )
        load = subprocess.Popen(
            self.client.namespace.command(*command, "--duration", "3600", "--quiet"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            load.kill()
            load.wait()

    def _answers_again(self, cell: Cell, after: str):
        answers = wait_until(lambda: self.client.ask(self.nic.guest4, "A", tries=1) is None, LINK_SECONDS)
        cell.require(answers, f"no answer within {LINK_SECONDS} s after {after}")

    def _carrier(self) -> str:
        return self.guest.run(f"cat /sys/class/net/{self.nic.interface}/carrier")[1].strip()

    def _sockets(self) -> int:
        """Returns the number of AF_XDP sockets in the guest."""
        return int(self.guest.output("awk '$1 == \"XDP\" { print $3 }' /proc/net/protocols"))

    def _frames(self) -> list[dict]:
        """Returns the places of each queue's frames at rest."""
        return [worker["frames"] for worker in settled(self.daemon)["workers"][:-1]]

    def _check_frames(self, cell: Cell):
        for queue, (before, after) in enumerate(
            zip(cell.measured["frames_before"], cell.measured["frames_after"], strict=True)
        ):
            cell.require(
                sum(before.values()) == sum(after.values()),
                f"queue {queue}: frames were {before}, are {after}",
            )
            cell.require(
                after["fill"] == before["fill"], f"queue {queue}: frames to be filled: {before}, then {after}"
            )
            cell.require(
                after["tx"] <= TX_AT_REST_MAX, f"queue {queue}: frames are still to be sent: {after}"
            )


def run(
    cache: Cache,
    kernel: Kernel,
    programs: bytes,
    folder: Path,
    nics: tuple[Nic, ...],
    tell: Callable[[Cell], None],
):
    """Tests one NIC after the other, each in a guest of its own."""
    archives = (programs, initrd.modules(kernel))
    for nic in nics:
        with Guest(cache, kernel, archives, (nic,), memory_mib=MEMORY_MIB) as guest:
            start_upstream(guest)
            prepare(guest, nic)
            Soak(kernel, guest, nic, folder, tell).run()
