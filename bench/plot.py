#!/usr/bin/env python3
"""Draws the plots of JSON results with gnuplot, as SVG: of `ringbench compare`, `micro`, `fleet`, `ramp`, `run --json`
or `--metrics`, and of the `results.json` of `ringbench nic`. Lines differ in colours that people with any colour
vision can tell apart, and in marks."""
import argparse
import json
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from statistics import median

MIB = 1 << 20
DASHES = ["solid", "(6,2)", "(3,2)", "(8,2,2,2)", "(4,3)"]
SECONDS, MICROS = ("seconds", False), ("latency, µs", True)
# Places of the shares of answers on an axis on which 90 %, 99 % and 99.9 % are equally far apart.
SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}


def quoted(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def date(when):
    """Returns a time as people write it: older results have seconds since 1970."""
    return datetime.fromtimestamp(when, timezone.utc).strftime("%Y-%m-%d") if isinstance(when, int) else when[:10]


def face(results):
    """Returns the conditions of results in one line, for the face of a plot: what a figure without them misleads about."""
    words = []
    if "punt_micros" in results:
        words.append("a simulation, without network and NIC")
    conditions = results.get("conditions")
    if isinstance(conditions, str):
        # The first words: "veth, copy mode, two cores: each server on one, …". The machine's cores follow.
        words.append(conditions.split(":")[0].rsplit(", ", 1)[0])
    # `ringbench nic` has the machine and the time in its setup.
    setup = conditions.get("setup", conditions) if isinstance(conditions, dict) else results
    machine = setup.get("machine")
    if machine:
        words.append(f"{machine['cores']} cores of {machine['processor']}, Linux {machine['kernel']}")
    if setup.get("when"):
        words.append(date(setup["when"]))
    return "; ".join(words)


def faced(commands, face):
    """Adds the conditions below the title of a plot."""
    label = f"set label 2 {quoted(face)} at screen 0.5, screen 1 center offset 0,-2.5 font ',11'"
    return commands[:1] + [label] + commands[1:] if face else commands


def unique(rows):
    """Returns the rows with names of their own: bars of one name cannot be told apart."""
    seen = {}
    for name, *figures in rows:
        seen[name] = seen.get(name, 0) + 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})", *figures


def document(title, size):
    width, height = size
    return [
        f'set terminal svg size {width},{height} font "Helvetica,13" noenhanced background "white"',
        "set colorsequence podo",
        "set border 3 linecolor '#5f5f5f'",
        "set grid linetype 1 linecolor '#dedede'",
        # Labels, since a title is in the middle of the axes, which long names move to the right.
        f"set label 1 {quoted(title)} at screen 0.5, screen 1 center offset 0,-1.2",
        "set tmargin 4",
    ]


def short(figure):
    """Returns a figure with three digits: 874 k, 1.15 M."""
    for prefix in ("", " k", " M"):
        if figure < 999.5:
            return f"{figure:.3g}{prefix}"
        figure /= 1000
    return f"{figure:.3g} G"


def lines(title, x, y, series, more=()):
    """Returns gnuplot's commands for lines over two axes (label, logarithmic). `series` has points by name."""
    commands = document(title, (980, 460)) + ["set key outside right top Left reverse", *more]
    for axis, (label, is_log) in (("x", x), ("y", y)):
        commands.append(f"set {axis}label {quoted(label)}")
        if is_log:
            commands.append(f"set logscale {axis}")
    commands.append(f"set format y '%.{0 if y[1] else 1}s %c'")
    plots = []
    for nth, (name, points) in enumerate(series.items()):
        # A point that is not above zero has no place on a logarithmic axis.
        points = [(a, b) for a, b in points if not (x[1] and a <= 0) and not (y[1] and b <= 0)]
        if not points:
            continue
        commands += [f"$d{nth} << end", *(f"{a} {b}" for a, b in points), "end"]
        style = "linespoints" if len(points) <= 40 else "lines"
        # Where lines lie on one another, those below are wider, and show between the dashes of those above.
        width = 2 + 1.5 * (len(series) - 1 - nth if len(series) <= 4 else 0)
        dashes = DASHES[nth % len(DASHES)]
        plots.append(f"$d{nth} with {style} linewidth {width} dashtype {dashes} title {quoted(name)}")
    return commands + ["plot " + ", ".join(plots)]


def bars(title, unit, rows):
    """Returns gnuplot's commands for horizontal bars: rows of name, figure, and its least and greatest value."""
    rows = list(unique(rows))
    return document(title, (1080, 130 + 30 * len(rows))) + [
        "set border 1",
        "unset key",
        "set grid x",
        f"set xlabel {quoted(unit)}",
        "set xrange [0:*]",
        "set offsets graph 0, graph 0.1, 0, 0",
        f"set yrange [{len(rows) - 0.4}:-0.6]",
        "set ytics nomirror scale 0",
        "set format x '%.1s %c'",
        "$d << end",
        *(f"{quoted(name)} {figure} {low} {high} {quoted(short(figure))}" for name, figure, low, high in rows),
        "end",
        "plot $d using (0):0:(0):2:($0-0.3):($0+0.3):ytic(1) with boxxyerror fillstyle solid 0.75 linecolor '#0072b2', "
        "$d using 2:0:3:4 with xerrorbars pointtype 0 linewidth 2 linecolor '#222222', "
        "$d using 4:0:5 with labels left offset 1,0",
    ]


def spread(name, figures, unit=1):
    figures = [figure / unit for figure in figures]
    return name, median(figures), min(figures), max(figures)


def of_compare(results):
    def rows(measure, figure, unit=1):
        for server, figures in results["measures"][measure]["servers"].items():
            rounds = [figure(one) for one in figures["rounds"]]
            yield spread(results["servers"][server]["title"], rounds, unit)

    def sorted_bars(title, unit, rows, largest_first=True):
        return bars(title, unit, sorted(rows, key=lambda row: row[1], reverse=largest_first))

    measures = results["measures"]
    if "saturation" in measures:
        rates = rows("saturation", lambda r: r["hits_per_second"] + r["misses_per_second"])
        yield "saturation", sorted_bars("Saturation, 100 % hits", "answers/s", rates)
        times = rows("saturation", lambda r: r["cpu_nanos"])
        yield "cpu", sorted_bars("Processor time an answer, 100 % hits", "ns", times, False)
    if "hits" in measures:
        series = {}
        for server, figures in measures["hits"]["servers"].items():
            curves = zip(*figures["rounds"])
            points = [(100 - at[0]["share"], median(point["rate"] for point in at)) for at in curves]
            series[results["servers"][server]["title"]] = points
        axes = ("misses, %", False), ("queries/s", True)
        yield "hits", lines("Highest rate with at most 1 % lost", *axes, series)
    if "latency" in measures:
        pairs = []
        for server, figures in measures["latency"]["servers"].items():
            title = results["servers"][server]["title"]
            for name, key in ((title, "sample"), (f"ringdnsd beside {title}", "ringdnsd")):
                # A comparison without ringdnsd has nothing to compare with.
                p99 = [one[key]["latency_nanos"][1] for one in figures["rounds"] if one[key]]
                pairs += [spread(name, p99, 1000)] if p99 else []
        yield "latency", bars("p99 at half of each server's own maximum, and of ringdnsd at the same rate", "µs", pairs)
    if "memory" in measures:
        memory = rows("memory", lambda r: r["filled"][-1]["bytes"], MIB)
        yield "memory", sorted_bars("Memory with a million names", "MiB", memory, False)
    if "flood" in measures:
        hits = rows("flood", lambda r: r["phases"][1]["hits_per_second"])
        yield "flood", sorted_bars("Hits answered during a flood", "answers/s", hits)


def of_micro(results):
    series = {}
    for row in results["hits"]:
        name = f"Zipf {row['zipf']:g}" if row["zipf"] else "uniform"
        series.setdefault(name, []).append((row["names"], row["nanos"][0]))
    axes = ("names in the cache", True), ("ns a hit, no kernel", False)
    yield "micro-hits", lines("A hit as the cache grows", *axes, series)
    loads = {"random places": [(load["bytes"], load["nanos"]) for load in results["loads"]]}
    axes = ("bytes gone through", True), ("ns a load", True)
    yield "micro-loads", lines("A load that waits for the one before", *axes, loads, ["set format x '%.0b %B'"])


def of_fleet(results):
    sweeps = [
        ("workers", "workers", "core", "Core hits against workers", "workers of a host", "% answered by worker caches"),
        ("budget", "core_bytes", "core", "Core hits against memory", "bytes of a host's worker caches",
         "% answered by worker caches"),
        ("appliances", "appliances", "fetched", "Upstream queries against appliances", "appliances",
         "% after which an upstream is asked"),
    ]
    for sweep, x, y, title, x_label, y_label in sweeps:
        series = {}
        for row in results["rows"]:
            # Older results also have hosts whose workers divide the names, which ringdns does not.
            if row["sweep"] == sweep and row.get("scheme") != "sharded":
                kind = "real" if row["real"] else "made-up"
                name = f"{row['names']:,} {kind} names"
                series.setdefault(name, []).append((row[x], row[y]))
        if series:
            yield f"fleet-{sweep}", lines(title, (x_label, True), (y_label, False), series)


def of_ramp(results):
    trials = sorted(results["trials"], key=lambda trial: trial["rate"])
    series = {
        "answers in time": [(trial["rate"], trial["answered"]) for trial in trials],
        "queries sent": [(trial["rate"], trial["sent"]) for trial in trials],
    }
    yield "ramp", lines("Trials", ("queries/s ordered", False), ("a second", False), series)
    if results["confirmation"]:
        yield from of_run([results["confirmation"]])


def of_run(objects):
    total = objects[-1]
    title = f"{total['backend']} to {total['target']}"
    # The last interval may be incomplete: part of it belongs to the wait for the last answers.
    whole = [of for of in objects if of["type"] == "stats_periodic" and of["until"] <= total["until"]]
    if whole:
        middle = lambda of: ((of["since"] + of["until"]) / 2 - total["since"]) / 1e9
        rate = lambda of, key: of[key] / (of["until"] - of["since"]) * 1e9
        counts = {"queries sent": "queries", "answers": "responses", "lost": "timeouts"}
        rates = {name: [(middle(of), rate(of, key)) for of in whole] for name, key in counts.items()}
        yield "rate", lines(f"Rate: {title}", SECONDS, ("a second", False), rates)
        times = {name: [(middle(of), of["latency_ns"][name] / 1000) for of in whole] for name in whole[0]["latency_ns"]}
        yield "latency", lines(f"Latency: {title}", SECONDS, MICROS, times)
    outcomes = {}
    for kind in ("listed", "random"):
        by_rcode = total[kind]["latency_ns_by_rcode"]
        # The program in the kernel does not tell the response codes apart.
        if not by_rcode and total[kind]["answered"]:
            by_rcode = {"": total[kind]["latency_ns"]}
        outcomes |= {f"{kind} {rcode}".strip(): times for rcode, times in by_rcode.items()}
    outcomes["the generator's own lag"] = total["send_lag_ns"]
    series = {
        name: [(1 / (1 - share), times[quantile] / 1000) for quantile, share in SHARES.items()]
        for name, times in outcomes.items()
    }
    ticks = ", ".join(f"'{100 * share:g} %' {1 / (1 - share)}" for share in SHARES.values())
    axes = ("share of the answers", True), MICROS
    yield "percentiles", lines(f"Latency: {title}", *axes, series, [f"set xtics ({ticks})"])


def of_nic(results):
    rows = []
    for trial in results["trials"]:
        if trial["rounds"]:
            name = f"{trial['setting']['mode']}, {trial['setting']['tuning']}, {trial['subject']}"
            rows.append(spread(name, [of["saturation"]["answers_per_second"] for of in trial["rounds"]]))
    driver = results["conditions"]["nic"]["driver"]["name"]
    yield "answers", bars(f"{driver}: answers a second at saturation", "answers/s", rows)


def plots(path):
    """Returns the plots of a file by their names, or nothing if it has results of another kind."""
    text = path.read_text()
    try:
        results = json.loads(text)
    except json.JSONDecodeError:
        return dict(of_run([json.loads(line) for line in text.splitlines()]))
    kinds = {
        "measures": of_compare, "loads": of_micro, "rows": of_fleet, "trials": of_nic, "objective": of_ramp,
        "send_lag_ns": lambda total: of_run([total]),
    }  # fmt: skip
    # The results of a ramp have trials too, and an objective.
    for key, draw in reversed(kinds.items()):
        if key in results:
            return {name: faced(commands, face(results)) for name, commands in draw(results)}
    return {}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="+", type=Path, help="files of results")
    parser.add_argument("--out", type=Path, required=True, help="folder for the plots")
    parser.add_argument("--print", action="store_true", help="print gnuplot's commands, and draw nothing")
    args = parser.parse_args()
    for path in args.results:
        for name, commands in plots(path).items():
            commands = "\n".join([f"set output {quoted(str(args.out / f'{name}.svg'))}", *commands, ""])
            if args.print:
                print(commands)
                continue
            args.out.mkdir(parents=True, exist_ok=True)
            try:
                subprocess.run(["gnuplot"], input=commands, text=True, check=True)
            except FileNotFoundError:
                sys.exit("gnuplot is not installed: deploy/setup.sh bench (Debian: gnuplot-nox)")


if __name__ == "__main__":
    main()
