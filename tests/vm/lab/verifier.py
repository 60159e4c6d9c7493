"""Loads the XDP programs on each kernel, to try its verifier, and checks that they then work.

The guest has no NICs: a veth pair in it is enough, since each kernel's veth driver has XDP.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from . import initrd
from .cache import Cache, Kernel
from .checks import check_load, settled
from .client import Load
from .daemon import Daemon, NotStarted, start_upstream
from .guest import Guest
from .result import Cell

QUERIES = 500
MODE = "driver copy 1"
# First Linux with the generator's needs: BPF_PROG_TEST_RUN on live frames, and a helper.
GENERATOR_SINCE = (5, 18)
SENDS, NO_HELPER = "loads and sends", "lacks a helper"


def verify(cache: Cache, kernels: list[Kernel], programs: bytes, tell: Callable[[Cell], None]):
    """Tries all kernels, two at a time, since each guest has one processor."""
    with ThreadPoolExecutor(2) as pool:
        for cells in pool.map(lambda kernel: _kernel(cache, kernel, programs), kernels):
            for cell in cells:
                tell(cell)


def _kernel(cache: Cache, kernel: Kernel, programs: bytes) -> list[Cell]:
    steering = Cell.of(kernel, "veth", "auto", MODE)
    generator = Cell.of(kernel, "veth", "generator", SENDS)
    if tuple(int(part) for part in kernel.release.split(".")[:2]) < GENERATOR_SINCE:
        generator.expected = NO_HELPER
        generator.because = "bpf_xdp_get_buff_len and live frames came with Linux 5.18, as the error says"
    archives = (programs, initrd.modules(kernel))
    with steering.running(), Guest(cache, kernel, archives, memory_mib=512, processors=1) as guest:
        guest.output("/cable")
        start_upstream(guest)
        _steer(steering, guest)
        steering.check_kernel_log(guest)
        with generator.running():
            _generate(generator, guest)
            generator.check_kernel_log(guest)
    generator.require(bool(generator.got), "not tried")
    return [steering, generator]


def _steer(cell: Cell, guest: Guest):
    daemon = Daemon(guest, "nic9", ("10.53.9.2:53", "[fd53:0:0:9::2]:53"))
    try:
        daemon.start()
    except NotStarted as log:
        cell.got = "refused"
        cell.fail(str(log)[-500:])
        return
    cell.got = str(daemon.receiving())
    cell.require(cell.got == cell.expected, f"received by {cell.got}, not {cell.expected}")
    for target in ("10.53.9.2:53", "[fd53:0:0:9::2]:53"):
        before = settled(daemon)
        printed = guest.output(
            f"/sbin/ip netns exec client ringbench run --target {target} --queries {QUERIES} "
            "--timeout-ms 20000 --verify-answers '' --quiet --json"
        )
        check_load(cell, Load.read(printed), before, settled(daemon), f"{target}: ")
    cell.require(daemon.stats()["xdp"]["redirected"] >= 2 * QUERIES, "queries went past the program")


def _generate(cell: Cell, guest: Guest):
    """Runs the generator on the client's end, for a second."""
    status, printed = guest.run(
        "/sbin/ip netns exec client ringbench run --backend xdp --interface client9 --server-mac "
        "$(cat /sys/class/net/nic9/address) --target 10.53.9.2:53 --count 100 --qps 500 --duration 1 "
        "--quiet --json"
    )
    if status:
        # The verifier stops at the first error, so the rest of the programs stays untested.
        lacks = "invalid func" in printed and "Linux 5.18" in printed
        cell.got = NO_HELPER if lacks else "refused"
        cell.require(cell.got == cell.expected, printed[-500:])
        return
    load = json.loads(printed)
    cell.got = SENDS
    cell.require(cell.got == cell.expected, f"unexpectedly it {cell.got}: correct GENERATOR_SINCE")
    cell.require(load["responses"] > 0, f"no answer to {load['sent']['queries']} queries")
