#!/usr/bin/env python3
"""Tells how long a worker that could run waited for its core while the control plane ran, from a recording of perf:

    perf record -a -m 8M -o waits.data -e sched:sched_switch \\
        --filter 'prev_comm=="worker-0"||next_comm=="worker-0"||prev_comm=="control"||next_comm=="control"' \\
        -e sched:sched_waking --filter 'comm=="worker-0"' sleep 3
    bench/waits.py waits.data

A share is that of moments at which a query would wait longer than so many milliseconds. Waits in which other
programs ran for most of the time are left out."""
import argparse
import json
import re
import subprocess

LIMITS = [0.1, 0.2, 0.5, 1, 2, 3]
EVENT = re.compile(r"\s*(\d+\.\d+):\s+sched:(\w+):\s+(.*)")
SWITCH = re.compile(r"prev_comm=(.*) prev_pid=\d+ prev_prio=\d+ prev_state=(\S+) ==> next_comm=(.*) next_pid=")
# Part of a wait in which the control plane must have run.
PART = 0.7


def events(recording):
    """Returns time, name and text of each event, in order."""
    command = ["perf", "script", "-i", recording, "-F", "time,event,trace"]
    for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines():
        if found := EVENT.match(line):
            yield float(found[1]), found[2], found[3]


def waits(recording):
    """Returns the worker's waits, each with the time for which the control plane ran, and the length of the recording."""
    found, first, last = [], None, 0.0
    # Since when the worker does not run, and since when it could.
    stopped = could = switched = None
    ran = 0.0
    for at, event, text in events(recording):
        first, last = at if first is None else first, at
        if event == "sched_waking":
            if stopped is not None and could is None:
                could, ran = at, 0.0
            continue
        if not (switch := SWITCH.match(text)):
            continue
        before, state, after = switch.groups()
        if before == "worker-0":
            stopped, could, ran = at, at if state.startswith("R") else None, 0.0
        elif before == "control" and could is not None:
            ran += at - max(could, switched or could)
        if after == "worker-0" and stopped is not None:
            if could is not None:
                found.append((at - could, ran))
            stopped = could = None
        switched = at
    return found, last - (first or 0.0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", nargs="+", metavar="FILE", help="recording of perf")
    for recording in parser.parse_args().recordings:
        found, length = waits(recording)
        own = [wait for wait, ran in found if ran > PART * wait]
        beyond = {limit: sum(max(0.0, wait - limit / 1e3) for wait in own) for limit in LIMITS}
        print(json.dumps({
            "recording": recording,
            "seconds": round(length, 2),
            "waits": len(own),
            "longest_ms": round(1e3 * max(own, default=0.0), 2),
            "longer_percent": {limit: round(100 * share / length, 3) for limit, share in beyond.items()},
        }))


if __name__ == "__main__":
    main()
