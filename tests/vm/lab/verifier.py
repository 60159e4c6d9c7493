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
from .guest import Guest, wait_until
from .result import Cell

# Driver of the cells, as in their lines.
DRIVER = "veth"
QUERIES = 500
MODE = "driver copy 1"
# Prefix of commands in the client's namespace.
CLIENT = "/sbin/ip netns exec client "
# VLAN between the two hosts, and their addresses in it.
VLAN, VLAN_SERVER, VLAN_CLIENT = 7, "10.53.17.2", "10.53.17.1"
# Time for a change of addresses to reach the program: a second, on an emulated machine.
FOLLOW_SECONDS = 20
# First Linux with the generator's needs: BPF_PROG_TEST_RUN on live frames, and a helper.
GENERATOR_SINCE = (5, 18)
SENDS, NO_HELPER = "loads and sends", "lacks a helper"


def verify(cache: Cache, kernels: list[Kernel], programs: bytes, tell: Callable[[Cell], None]):
    """Tries all kernels, two at a time, since each guest has one processor."""
    with ThreadPoolExecutor(2) as pool:
        for cells in pool.map(lambda kernel: _kernel(cache, kernel, programs), kernels):
            for cell in cells:
                tell(cell)


def kernels_of(cells: list[Cell]) -> set[str]:
    """Returns the kernels of the cells that are of this test."""
    return {cell.kernel for cell in cells if cell.driver == DRIVER}


def _kernel(cache: Cache, kernel: Kernel, programs: bytes) -> list[Cell]:
    steering = Cell.of(kernel, DRIVER, "auto", MODE)
    generator = Cell.of(kernel, DRIVER, "generator", SENDS)
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
    # At all addresses, so that the program looks them up in its table of this host's own.
    daemon = Daemon(guest, "nic9", ("0.0.0.0:53", "[::]:53"))
    try:
        daemon.start()
    except NotStarted as log:
        cell.got = "refused"
        cell.fail(str(log)[-500:])
        return
    cell.got = str(daemon.receiving())
    cell.require(cell.got == cell.expected, f"received by {cell.got}, not {cell.expected}")
    for target in ("10.53.9.2:53", "[fd53:0:0:9::2]:53"):
        _load(cell, guest, daemon, target)
    # Addresses and VLANs that come while it runs.
    for prefix, interface, address in (("", "nic9", VLAN_SERVER), (CLIENT, "client9", VLAN_CLIENT)):
        guest.output(f"{prefix}/sbin/ip link add link {interface} name vlan{VLAN} type vlan id {VLAN}")
        guest.output(f"{prefix}/sbin/ip addr add {address}/24 dev vlan{VLAN}")
        guest.output(f"{prefix}/sbin/ip link set dev vlan{VLAN} up")
    followed = wait_until(lambda: _one_is_redirected(guest, daemon), FOLLOW_SECONDS)
    cell.require(followed, f"queries in a new VLAN go past the program after {FOLLOW_SECONDS} s")
    _load(cell, guest, daemon, f"{VLAN_SERVER}:53")


def _load(cell: Cell, guest: Guest, daemon: Daemon, target: str):
    """Checks that queries to `target` are answered, and by way of the program."""
    before = settled(daemon)
    printed = guest.output(
        f"{CLIENT}ringbench run --target {target} --queries {QUERIES} "
        "--timeout-ms 20000 --verify-answers '' --quiet --json"
    )
    after = settled(daemon)
    check_load(cell, Load.read(printed), before, after, f"{target}: ")
    redirected = after["xdp"]["redirected"] - before["xdp"]["redirected"]
    cell.require(redirected >= QUERIES, f"{target}: only {redirected} queries were redirected")


def _one_is_redirected(guest: Guest, daemon: Daemon) -> bool:
    """Whether the program redirects a query to the server's address in the VLAN."""
    before = daemon.stats()["xdp"]["redirected"]
    guest.output(
        f"{CLIENT}ringbench run --target {VLAN_SERVER}:53 --queries 1 --timeout-ms 1000 --quiet --json"
    )
    return daemon.stats()["xdp"]["redirected"] > before


def _generate(cell: Cell, guest: Guest):
    """Runs the generator on the client's end, for a second."""
    status, printed = guest.run(
        f"{CLIENT}ringbench run --backend xdp --interface client9 --server-mac "
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
