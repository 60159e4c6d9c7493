#!/usr/bin/env python3
"""Fits a model of the cost of an answer to some measurements, and prints its error for the others and the number of
cores that full links need. A hit on the data plane takes a * instructions + b * lines * wait + c * far nanoseconds.
The factors are fitted to hits with names equally popular (Zipf 0); those by Zipf's law are for checking. `wait`
follows from the time of loads that wait for each other and from how often an entry is in a nearer cache; `far` is the
share of lookups whose page of the index misses the TLB. An answer adds the bare responder's time for rings and
kernel, and a worker's turn. Zero-copy and in-driver figures are estimates from what others published: no such NIC was
available."""
import argparse
import json
import math
from pathlib import Path
from statistics import mean, median_high

LINE, PAGE, ALIGN = 64, 4096, 8
# Bytes of a made-up question and of its end, which `ringbench micro` reads and a server does not.
QUESTION = 24 + 4
# Candidate sizes of the TLB, in pages; the best fit is chosen.
TLBS = (512, 1024, 1536, 2048, 3072, 4096, 8192)
# Nanoseconds for a packet in and out of zero-copy rings. Lower end: a driver that sends packets back, 10 million a
# second on a core (Linux commit 764cbccef8c9, 2016, mlx4). Upper end: Open vSwitch between two NICs over AF_XDP, 7.3
# million a second (its commit 0e365ba8b40f, 2019, Xeon E5-2620 v3), on two cores.
ZERO_COPY = (100, 274)
# The same for XDP_TX. Lower end: as above. Upper end: a veth pair, both ends and the load (1.62 million a second).
IN_DRIVER = (100, 617)
# Factor by which an eBPF program may at worst need more time for a hit: no vectors, and bounds checks.
EBPF = 2
# Share, and lengths of frames without check sequences: A, AAAA, HTTPS, NXDOMAIN. Calculated, not captured: names of 17
# bytes (compressed in records), headers of 42 and 12, an OPT of 11.
MIX = "60:86:118,20:86:142,12:86:150,8:86:161"
# Bytes of the shortest frame without check sequence; of the check sequence, preamble, start and gap (IEEE 802.3).
SHORTEST, WIRE = 60, 4 + 20


def lru_hits(names, zipf, capacity):
    """Returns the hit ratio of an LRU cache (Che, Tung, Wang: "Hierarchical Web caching systems", 2002)."""
    if capacity >= names or zipf == 0:
        return min(capacity / names, 1)
    # Ranks in groups of about equal probability.
    groups, first = [], 1
    while first <= names:
        last = min(first + first // 256, names)
        groups.append((last - first + 1, math.sqrt(first * last) ** -zipf))
        first = last + 1
    total = sum(count * weight for count, weight in groups)
    groups = [(count, weight / total) for count, weight in groups]
    low, high = 0.0, 60.0  # Logarithms of the time for which a name stays cached.
    held = lambda time: sum(count * -math.expm1(-p * math.exp(time)) for count, p in groups)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if held(middle) < capacity else (low, middle)
    return sum(count * p * -math.expm1(-p * math.exp(high)) for count, p in groups)


def load_time(levels, hits):
    """Returns the mean nanoseconds of a load. A level is (bytes of it and the nearer ones, nanoseconds)."""
    total = nearer = 0.0
    for size, nanos in levels:
        here = hits(size)
        total += max(here - nearer, 0) * nanos
        nearer = max(here, nearer)
    return total


def fit_memory(caches, loads):
    """Fits the levels to the measured loads. The last cache may be shared, so its size is the best fit's."""
    levels, below = [], 0
    for size in (cache["bytes"] for cache in caches):
        most = size * (0.25 if below else 1)
        levels.append((size, median_high(x["nanos"] for x in loads if 2 * below <= x["bytes"] <= most)))
        below = size
    *nearer, (_, last) = levels
    sizes = [below * part / 64 for part in range(1, 65)]
    far, least = (math.inf, mean(x["nanos"] for x in loads if x["bytes"] >= 4 * below)), nearer[-1][0] if nearer else 0
    candidates = [[*nearer, (size, last), far] for size in sizes if size > least]
    fitted = lambda levels, load: load_time(levels, lambda size: min(size / load["bytes"], 1))
    misfit = lambda levels: sum(math.log(fitted(levels, load) / load["nanos"]) ** 2 for load in loads)
    return min(candidates, key=misfit)


def least_squares(rows):
    """Returns the factors, none below zero, that bring each row's sum nearest to 1, by coordinate descent."""
    square = [[sum(row[i] * row[j] for row in rows) for j in range(3)] for i in range(3)]
    sums, factors = [sum(column) for column in zip(*rows)], [0.0, 0.0, 0.0]
    for _ in range(20_000):
        for i in range(3):
            rest = sum(square[i][j] * factors[j] for j in range(3) if j != i)
            factors[i] = max(sums[i] - rest, 0) / square[i][i] if square[i][i] else 0.0
    return sum((1 - sum(f * t for f, t in zip(factors, row))) ** 2 for row in rows), factors


class Hits:
    """Time of a hit, fitted to the results of `ringbench micro`."""

    def __init__(self, micro, instructions):
        self.levels = fit_memory(micro["machine"]["caches"], micro["loads"])
        self.entry = micro["hits"][0]["entry_bytes"]
        whole = [row["whole_bytes"] - row["entry_bytes"] for row in micro["hits"] if row["whole_bytes"] is not None]
        self.index, self.instructions = (whole or [16])[-1], instructions
        fitting, fits = [row for row in micro["hits"] if row["zipf"] == 0], []
        for self.tlb in TLBS:
            misfit, factors = least_squares([[t / row["nanos"][0] for t in self.terms_of(row)] for row in fitting])
            fits.append((misfit, self.tlb, factors))
        _, self.tlb, self.factors = min(fits)

    def terms(self, names, zipf, entry, beside=0):
        lines = 2 + max(entry - ALIGN, 0) / LINE
        hits = lambda size: lru_hits(names, zipf, size / (entry + self.index + beside))
        far = max(1 - self.tlb * PAGE / (names * self.index), 0)
        popular = lru_hits(names, zipf, self.tlb) if zipf > 0 else 0
        return self.instructions, lines * (load_time(self.levels, hits) - self.levels[0][1]), (1 - popular) * far

    def terms_of(self, row):
        return self.terms(row["names"], row["zipf"], row["entry_bytes"], QUESTION)

    def nanos(self, terms):
        return sum(factor * term for factor, term in zip(self.factors, terms))


def print_points(points):
    for fitted, title in ((True, "fitted to"), (False, "checked against")):
        chosen = [point[1:] for point in points if point[0] == fitted]
        print(title)
        errors = [100 * (predicted / measured - 1) for _, measured, predicted in chosen]
        for (what, *values), error in zip(chosen, errors):
            measured, predicted = (f"{value:,.1f}" if value < 1000 else f"{value:,.0f}" for value in values)
            print(f"  {what:<63} measured {measured:>9}  predicted {predicted:>9}  {error:+6.1f} %")
        print(f"  off by {mean(map(abs, errors)):.1f} % on average, {max(map(abs, errors)):.1f} % at worst")


def print_answers(hits, compared, turn, names, zipf):
    """Prints the model of answers. Returns nanoseconds in each mode with so many names."""
    medians = lambda server: [server[key]["median"] for key in ("cpu_nanos_per_answer", "answers_per_second")]
    (count, first), *_ = compared
    copy = medians(first["responder"])[0]
    sockets = medians(first["ringdnsd-kernel"])[0] - hits.nanos(hits.terms(count, 0, hits.entry)) - turn
    print(f"\nAn answer, with its packet: veth, copy mode, two cores\nrings and kernel {copy:.0f} ns (the bare "
          f"responder), a worker's turn {turn:.0f} ns, sockets {sockets:.0f} ns.")
    points = []
    for nth, (count, servers) in enumerate(compared):
        hit = hits.nanos(hits.terms(count, 0, hits.entry))
        # Share of its core that a server had, the bare responder's in the same rounds: the rest was other work.
        core = min(math.prod(medians(servers["responder"])) / 1e9, 1)
        for server, title, predicted in (("responder", "bare responder", copy),
                                         ("ringdnsd", "ringdnsd, AF_XDP copy", copy + turn + hit),
                                         ("ringdnsd-kernel", "ringdnsd, sockets", sockets + turn + hit)):
            (nanos, rate), fitted = medians(servers[server]), nth == 0 and server != "ringdnsd"
            title = f"{title}, {count:,} names: "
            points.append((fitted, title + "ns of processor an answer", nanos, predicted))
            points.append((server == "responder", title + "answers/s", rate, core * 1e9 / predicted))
    print_points(points)
    terms = hits.terms(names, zipf, hits.entry)
    hit, near = hits.nanos(terms), hits.factors[0] * terms[0]
    # In the driver, one packet at a time: at worst no load overlaps with another's.
    driver = IN_DRIVER[0] + hit, IN_DRIVER[1] + EBPF * near + terms[1]
    return {"kernel sockets": (sockets + turn + hit,), "AF_XDP, copy": (copy + turn + hit,),
            "AF_XDP, zero-copy (estimate)": [packet + turn + hit for packet in ZERO_COPY],
            "in the driver (estimate)": driver}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gate", required=True, type=Path, help="output of `ringbench gate --json`")
    parser.add_argument("--micro", required=True, type=Path, help="output of `ringbench micro --json`")
    parser.add_argument("--compare", required=True, action="append", metavar="NAMES=FILE",
                        help="output of `ringbench compare --measure saturation --json`; the first is fitted")
    parser.add_argument("--mix", default=MIX, help="SHARE:QUERY:ANSWER,...: frames, without check sequences")
    parser.add_argument("--links", default="10,25,100", help="Gbit/s (%(default)s)")
    parser.add_argument("--names", default=1_000_000, type=int, help="names in each worker's cache, for the links")
    parser.add_argument("--zipf", default=1.0, type=float, help="exponent of Zipf's law, for the links")
    args = parser.parse_args()
    micro = json.loads(args.micro.read_text())
    count = {case["case"]: case["instructions"] for case in json.loads(args.gate.read_text())["cases"]}
    compared = [(int(names), json.loads(Path(path).read_text())["measures"]["saturation"]["servers"])
                for names, path in (compare.split("=", 1) for compare in args.compare)]
    hits = Hits(micro, count["hit"])
    a, b, c = hits.factors
    print(f"A hit, on the data plane alone\n{count['hit']:.0f} instructions at {a:.4f} ns; {100 * b:.0f} % of the "
          f"waits for memory remain when loads overlap;\n{c:.0f} ns where the index's page misses a TLB of {hits.tlb}.")
    for level, (size, nanos) in enumerate(hits.levels, 1):
        print(f"  {'memory' if size == math.inf else f'L{level}, {size / 1024:,.0f} KiB':<16} {nanos:7.1f} ns a load")
    print_points([(row["zipf"] == 0, f"{row['names']:,} names, Zipf {row['zipf']:g}", row["nanos"][0],
                   hits.nanos(hits.terms_of(row))) for row in micro["hits"]])
    modes = print_answers(hits, compared, max(count["turn-hit"] - count["hit"], 0) * a, args.names, args.zipf)
    mix = [[float(number) for number in part.split(":")] for part in args.mix.split(",")]
    shares = sum(share for share, _, _ in mix)
    query, answer = (sum(part[0] * (max(part[way], SHORTEST) + WIRE) for part in mix) / shares for way in (1, 2))
    print(f"\nCores that a full link needs, 100 % hits, {args.names:,} names a worker, Zipf {args.zipf:g}; "
          f"a query takes {query:.0f} bytes on the wire\nand an answer {answer:.0f} (mix: {args.mix})")
    print(f"{'Gbit/s':>8}  {'mode':<28} {'answers/s':>12} {'ns/answer':>11} {'cores':>13}")
    for link in map(float, args.links.split(",")):
        rate = link * 1e9 / 8 / max(query, answer)
        for mode, nanos in modes.items():
            cores = "-".join(f"{rate * nano / 1e9:.1f}" for nano in nanos)
            print(f"{link:>8g}  {mode:<28} {rate:>12,.0f} {'-'.join(f'{nano:.0f}' for nano in nanos):>11} {cores:>13}")
    print("Cores do nothing else and are shared evenly; plan for a third more. ZERO_COPY and IN_DRIVER have sources.")


if __name__ == "__main__":
    main()
