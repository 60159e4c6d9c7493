"""Checks of ringdnsd on one NIC in one mode."""

from collections import Counter

from .client import Client, Load
from .daemon import Daemon, NotStarted
from .expected import REFUSED
from .guest import Guest, wait_until
from .nics import Nic
from .result import Cell

QUERIES = 20_000
QUERIES_AFTER_LINK = 1_000
LOAD_SECONDS = 300
# Attaching XDP resets some NICs, and the link is back seconds later.
LINK_SECONDS = 60
# Time for counters to settle: those of frames are updated once a second.
SETTLE_SECONDS = 60


def check(cell: Cell, guest: Guest, client: Client, nic: Nic):
    """Starts ringdnsd, asks it, takes its link down, kills it, and records failures in `cell`."""
    daemon = Daemon(guest, nic.interface, (f"{nic.guest4}:53", f"[{nic.guest6}]:53"), cell.mode)
    with cell.running():
        try:
            if _starts(cell, daemon) and _answers(cell, daemon, client, nic):
                _keeps_count(cell, daemon, client, nic)
                _outlives_its_link(cell, guest, daemon, client, nic)
            if daemon.is_running():
                _leaves_nothing(cell, daemon, client, nic)
        finally:
            if guest.is_running() and daemon.is_running():
                daemon.end("KILL")
        cell.check_kernel_log(guest)


def _starts(cell: Cell, daemon: Daemon) -> bool:
    """Whether ringdnsd starts. A refusal must be expected, take one line, and leave nothing."""
    try:
        daemon.start()
    except NotStarted as log:
        said = str(log)
        cell.got = REFUSED
        # The last line begins with the time and the program's name.
        cell.measured["said"] = said.rpartition("\n")[2].partition("ERROR ringdnsd: ")[2][:600]
        cell.require(cell.expected == REFUSED, f"it does not start: {said[-600:]}")
        lines = said.count("\n") + 1
        cell.require(lines <= 2, f"a refusal takes {lines} lines of the log")
        cell.require(not daemon.has_program(), "an XDP program is left by a ringdnsd that did not start")
        return False
    receiving = daemon.receiving()
    cell.got = str(receiving)
    cell.require(cell.got == cell.expected, f"received by {cell.got}, not {cell.expected}: {receiving.text}")
    return True


def _answers(cell: Cell, daemon: Daemon, client: Client, nic: Nic) -> bool:
    """Whether ringdnsd answers at all. It must answer over UDP and TCP, IPv4 and IPv6."""
    if not wait_until(lambda: client.ask(nic.guest4, "A", tries=1) is None, LINK_SECONDS):
        tcp = client.ask(nic.guest4, "A", tcp=True)
        counted = nonzero(daemon.stats())
        cell.fail(
            f"no answer over UDP within {LINK_SECONDS} s; over TCP: {tcp or 'right'}; counters: {counted}"
        )
        return False
    for server, kind, tcp in (
        (nic.guest4, "A", False),
        (nic.guest4, "AAAA", False),
        (nic.guest6, "A", False),
        (nic.guest4, "A", True),
        (nic.guest6, "AAAA", True),
    ):
        failure = client.ask(server, kind, tcp)
        cell.require(failure is None, f"{failure}")
    return True


def _keeps_count(cell: Cell, daemon: Daemon, client: Client, nic: Nic):
    """Checks that each of many queries is answered correctly and counted once."""
    before = settled(daemon)
    load = client.load(nic.guest4, QUERIES, LOAD_SECONDS)
    after = settled(daemon)
    check_load(cell, load, before, after)
    cell.require(load.sent == QUERIES, f"{load}")
    received = after["total"]["received"] - before["total"]["received"]
    redirected = after["xdp"]["redirected"] - before["xdp"]["redirected"]
    cell.require(received == QUERIES, f"{QUERIES} queries are counted as {received}")
    cell.require(redirected == QUERIES, f"{QUERIES} queries are redirected as {redirected}")
    check_sums(cell, after)
    cell.measured["queries"] = load.sent
    cell.measured["answered"] = load.answered
    cell.measured["by_queue"] = [worker["received"] for worker in after["workers"][:-1]]
    cell.measured["frames"] = [worker["frames"] for worker in after["workers"][:-1]]


def _outlives_its_link(cell: Cell, guest: Guest, daemon: Daemon, client: Client, nic: Nic):
    """Checks that everything works as before when the link was down and is up again."""
    guest.output(f"/sbin/ip link set dev {nic.interface} down")
    guest.output(f"/sbin/ip link set dev {nic.interface} up")
    if not wait_until(lambda: client.ask(nic.guest4, "A", tries=1) is None, LINK_SECONDS):
        cell.fail(f"no answer within {LINK_SECONDS} s after the link was down and up")
        return
    before = settled(daemon)
    load = client.load(nic.guest4, QUERIES_AFTER_LINK, LOAD_SECONDS)
    after = settled(daemon)
    check_load(cell, load, before, after, "after the link was down and up: ")
    check_sums(cell, after)


def _leaves_nothing(cell: Cell, daemon: Daemon, client: Client, nic: Nic):
    """Checks that the kernel uses the NIC again after ringdnsd was killed."""
    daemon.end("KILL")
    cell.require(not daemon.has_program(), "the XDP program outlived ringdnsd")
    alive = wait_until(lambda: client.ping(nic.guest4), LINK_SECONDS)
    cell.require(alive, f"the guest's kernel does not answer {LINK_SECONDS} s after ringdnsd was killed")


def nonzero(stats: object) -> object:
    """Returns counters without those that are zero."""
    if isinstance(stats, dict):
        return {name: left for name, value in stats.items() if (left := nonzero(value))}
    return [nonzero(value) for value in stats] if isinstance(stats, list) else stats


def settled(daemon: Daemon) -> dict:
    """Returns the counters when no work is pending, or as they are after SETTLE_SECONDS."""
    stats = {}

    def is_settled() -> bool:
        nonlocal stats
        stats = daemon.stats()
        held = sum(worker["frames"]["held"] for worker in stats["workers"])
        return stats["total"]["unaccounted"] == 0 and stats["total"]["punts_waiting"] == 0 and held == 0

    wait_until(is_settled, SETTLE_SECONDS, pause=0.5)
    return stats


def check_load(cell: Cell, load: Load, before: dict, after: dict, when: str = ""):
    """Checks that each query of a load was answered correctly, or its answer withheld and counted.

    ringdnsd withholds answers for which clients no longer wait: on a busy machine, an emulated guest
    may stand still for as long.
    """
    withheld = sum(after["total"][name] - before["total"][name] for name in ("punt_late", "punt_paced"))
    cell.require(load.is_clean(withheld), f"{when}{load}, {withheld} withheld")


def check_sums(cell: Cell, stats: dict, dropped_before: dict[str, int] | None = None):
    """Checks that every packet has an outcome, nothing was dropped since, and no frame is held."""
    total = stats["total"]
    for name in ("unaccounted", "punts_waiting"):
        cell.require(total[name] == 0, f"{name} is {total[name]}")
    dropped = Counter(total["dropped"]) - Counter(dropped_before or {})
    cell.require(not dropped, f"dropped: {dict(dropped)}")
    for worker in stats["workers"]:
        held = worker["frames"]["held"]
        cell.require(held == 0, f"worker {worker['worker']} at rest holds {held} frames")
        invalid = {
            name: worker["port"][name] for name in ("bad_descriptors", "rx_invalid_descs", "tx_invalid_descs")
        }
        cell.require(not any(invalid.values()), f"worker {worker['worker']}: {invalid}")
