#!/usr/bin/env python3
"""Gives ringdnsd and other servers one list of names to block, each in its own form, and measures them in turns, round
by round: the time from the start to the first blocked answer, memory, how long a server is deaf while it takes over a
changed list, and blocked answers a second. For ringdnsd it also compares blocked answers over AF_XDP with ordinary
hits. Needs root, two cores, and unshare and taskset of util-linux. A server that is not installed is skipped."""
import argparse
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from string import Template

HERE = Path(__file__).resolve().parent
SERVER_PORT, UPSTREAM_PORT = 5302, 5301
GENERATOR_CORE, SERVER_CORE = 0, 1
# Names that a changed list no longer has, and has anew; the second number includes CHANGED.
REPLACED = 1000
CHANGED, STEADY = "changed.rb-lists.example", "steady.rb-lists.example"
# Seconds between two questions, and from the end of a reload to the end of its observation.
BEAT, AFTER = 0.01, 1.0
NXDOMAIN = 3
# Least rounds over AF_XDP, where a few hundredths matter.
RING_ROUNDS = 7
# Shares of the ends of names, and frequent first labels, as in large public lists.
ENDS = {"com": 460, "net": 80, "org": 45, "info": 30, "ru": 45, "de": 30, "xyz": 40, "top": 40, "co.uk": 20,
        "com.br": 15, "io": 15, "online": 15, "site": 20, "shop": 20, "cn": 20, "click": 15, "fr": 12, "nl": 12,
        "it": 12, "pl": 12, "in": 12, "biz": 12, "club": 10, "eu": 8}
LABELS = "www ads track stats metrics click cdn api img smetrics pixel go m s analytics mail".split()
LETTERS = "eeeaaaiiooutnnrrsslcdmphgbfvkwyxjqz0123456789"


def made_names(count):
    """Returns names of the shape of large lists, the same ones each time (as control/policy/examples/names.rs)."""
    draw, names, parents = random.Random(1), {}, []
    ends, shares = list(ENDS), list(ENDS.values())

    def label(shortest, longest):
        half = (longest - shortest) // 2
        return "".join(draw.choices(LETTERS, k=shortest + draw.randint(0, half) + draw.randint(0, half)))

    while len(names) < count:
        again = parents and draw.random() < 0.25
        name = draw.choice(parents) if again else f"{label(4, 20)}.{draw.choices(ends, shares)[0]}"
        if not again and draw.random() < 0.05:
            parents.append(name)
        if draw.random() < 0.45:
            name = f"{draw.choice(LABELS) if draw.random() < 0.5 else label(2, 16)}.{name}"
        names[name] = None
    return list(names)


def changed(names):
    """Returns the list after a change: some names have gone, as many are new."""
    return names[REPLACED:] + [CHANGED] + [f"new{number}.rb-lists.example" for number in range(1, REPLACED)]


# Lists in the forms of the servers. In each, a rule blocks the name and all names below it.
RPZ_HEAD = "$TTL 60\n$ORIGIN rpz.\n@ SOA localhost. root.localhost. {serial} 600 600 600 60\n@ NS localhost.\n"
FORMS = {
    "adblock": ("", "||{name}^\n"),
    "unbound": ("server:\n", 'local-zone: "{name}." always_nxdomain\n'),
    "dnsmasq": ("", "server=/{name}/\n"),
    "rpz": (RPZ_HEAD, "{name} CNAME .\n*.{name} CNAME .\n"),
}


def write_list(path, form, names, serial):
    """Writes a list beside an old one and puts it in its place."""
    head, line = FORMS[form]
    before, _, after = line.partition("{name}")
    beside = path.with_suffix(".new")
    with open(beside, "w", encoding="ascii") as file:
        file.write(head.format(serial=serial))
        if after.count("{name}"):
            file.writelines(line.format(name=name) for name in names)
        else:
            file.writelines(before + name + after for name in names)
    beside.rename(path)


@dataclass
class Peer:
    """A server, described by a file in bench/lists. Arguments and files may hold ${folder}, ${list}, ${port} and
    ${upstream}."""
    title: str
    program: str
    arguments: list
    version: list
    form: str
    # Command that makes it read a changed list. Without, SIGHUP does, unless `no_reload` says why nothing does.
    reload: list = None
    no_reload: str = ""
    files: dict = field(default_factory=dict)


def described():
    """Returns the servers by name, ringdnsd first."""
    paths = sorted((HERE / "lists").glob("*.toml"), key=lambda path: (path.stem != "ringdnsd", path.stem))
    return {path.stem: Peer(**tomllib.loads(path.read_text())) for path in paths}


PEERS = described()


def fill(texts, places):
    """Returns texts with their placeholders filled in."""
    return [Template(text).substitute(places) for text in texts]


def query(ident, name):
    """Returns a question for an A record."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


class Prober:
    """Asks one server, and tells when it answered what."""

    def __init__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", SERVER_PORT))
        self.socket.setblocking(False)
        self.number = 0

    def ask(self, name, ident):
        try:
            self.socket.send(query(ident, name))
        except OSError:
            pass  # Nobody listens yet.

    def answers(self, until):
        """Yields time, ID and RCODE of the answers that arrive until then."""
        while (left := until - time.monotonic()) > 0:
            if not select.select([self.socket], [], [], left)[0]:
                return
            try:
                data = self.socket.recv(4096)
            except OSError:
                time.sleep(min(left, 0.001))
                continue
            if len(data) >= 12:
                ident, flags = struct.unpack("!2H", data[:4])
                yield time.monotonic(), ident, flags & 15

    def until_blocked(self, name, deadline, alive):
        """Returns the time of the first answer that `name` is blocked. Asks for another name below it each time, so
        that no cache answers."""
        while time.monotonic() < deadline:
            alive()
            self.number += 1
            self.ask(f"s{self.number}.{name}", self.number & 0xffff)
            for when, _, rcode in self.answers(time.monotonic() + BEAT):
                if rcode == NXDOMAIN:
                    return when
        raise RuntimeError(f"{name} is not blocked in time")

    def observe(self, seconds, reload, alive):
        """Asks for STEADY and for names below CHANGED in each beat, for `seconds` or until a second after the change
        is in effect. Returns the longest time without an answer for STEADY, and that until the change."""
        began = last = time.monotonic()
        if reload:
            reload()
        gap, effective, due = 0.0, None, time.monotonic()
        while time.monotonic() < (effective + AFTER if effective else began + seconds):
            alive()
            self.number += 1
            even = self.number * 2 & 0xfffe
            self.ask(STEADY, even)
            if reload:
                self.ask(f"c{self.number}.{CHANGED}", even + 1)
            due += BEAT
            for when, ident, rcode in self.answers(due):
                if ident & 1 == 0:
                    gap, last = max(gap, when - last), when
                elif rcode == NXDOMAIN and effective is None:
                    effective = when
        if reload and effective is None:
            raise RuntimeError(f"the changed list is not in effect after {seconds:.0f} s")
        return max(gap, time.monotonic() - last), effective and effective - began


def memory(pid):
    """Returns resident bytes of a process, now and at most so far."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return tuple(int(lines[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM"))


def processor_time(pid):
    """Returns the seconds of processor time that a process has used."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def end(process):
    """Ends a process that this script started."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def alive_of(process, title):
    """Returns a function that fails once the process has ended."""
    def alive():
        if process.poll() is not None:
            raise RuntimeError(f"{title} ended with status {process.returncode}")
    return alive


def rate(pid, programs, questions, seconds):
    """Returns answers a second of one client thread for listed names, the share that were blocked, and the server's
    processor time an answer."""
    command = ["taskset", "--cpu-list", str(GENERATOR_CORE), programs / "ringbench", "run", "--json", "--quiet",
               f"--target=127.0.0.1:{SERVER_PORT}", f"--names={questions}", f"--duration={seconds}", "--window=256",
               "--warm"]
    before = processor_time(pid)
    report = json.loads(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)
    blocked = report["response_rcodes"].get("NXDOMAIN", 0) / max(report["responses"], 1)
    # Each of the names was asked once more, to warm the caches.
    nanos = (processor_time(pid) - before) * 1e9 / (report["responses"] + report["names"])
    return {"answers_per_second": report["answers_per_second"], "blocked_share": blocked, "cpu_nanos_per_answer": nanos}


def turn(key, names, questions, args):
    """Starts one server, measures it, and ends it."""
    peer = PEERS[key]
    folder = Path(tempfile.mkdtemp(prefix="ringdns-lists-"))
    path = folder / "list.txt"
    places = {"folder": folder, "list": path, "port": SERVER_PORT, "upstream": UPSTREAM_PORT}
    write_list(path, peer.form, names, 1)
    for name, text in peer.files.items():
        (folder / name).write_text(Template(text).substitute(places))
    command = ["taskset", "--cpu-list", str(SERVER_CORE), find(key, args.programs)]
    began = time.monotonic()
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(command + fill(peer.arguments, places), stdout=output, stderr=output)
    try:
        prober, alive = Prober(), alive_of(process, peer.title)
        found = {"start_s": prober.until_blocked(names[-1], began + args.limit, alive) - began}
        found["load"] = os.getloadavg()[0]
        time.sleep(1)
        found["rss"], found["peak"] = memory(process.pid)
        if len(names) > REPLACED:
            found |= rate(process.pid, args.programs, questions, args.seconds)
            found["rss_after_load"] = memory(process.pid)[0]
            if not peer.no_reload:
                found |= reload(peer, process, prober, alive, names, path, places, args)
        return found
    except (RuntimeError, subprocess.SubprocessError) as error:
        tail = (folder / "output").read_bytes()[-400:].decode(errors="replace").strip()
        return {"failed": f"{error}{': ' if tail else ''}{tail}"}
    finally:
        end(process)
        shutil.rmtree(folder)


def reload(peer, process, prober, alive, names, path, places, args):
    """Replaces the list, and observes the server while it takes the new one over."""
    write_list(path, peer.form, changed(names), 2)
    quiet, _ = prober.observe(1.0, None, alive)
    commands = []

    def trigger():
        if peer.reload:
            command = fill(peer.reload, places)
            commands.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        else:
            process.send_signal(signal.SIGHUP)

    try:
        deaf, effective = prober.observe(args.limit, trigger, alive)
    finally:
        for command in commands:
            end(command)
    rss, peak = memory(process.pid)
    return {"gap_before_s": quiet, "deaf_s": deaf, "effective_s": effective, "rss_reloaded": rss, "peak_reloaded": peak}


def find(key, programs):
    """Returns the path of a server's program, or None."""
    if key == "ringdnsd":
        return programs / "ringdnsd"
    return shutil.which(PEERS[key].program, path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def version(key, programs):
    """Returns the version of a server's program."""
    words = [find(key, programs), *PEERS[key].version]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    number = re.search(r"\d+\.\d+[\w.+-]*", done.stdout.decode(errors="replace"))
    return number[0] if number else "of an unknown version"


def over_rings(names, args):
    """Compares, by `ringbench compare`, blocked answers of ringdnsd over AF_XDP with ordinary hits: the same names,
    with a second list that blocks them all, or without. Those that block are not warmed: a warm-up refuses
    their answers, and they need no upstream."""
    base = (HERE / "servers" / "ringdnsd.toml").read_text()
    with tempfile.TemporaryDirectory(prefix="ringdns-lists-") as folder:
        folder = Path(folder)
        write_list(folder / "list.txt", "adblock", names, 1)
        table = '\n[[blocklist]]\nname = "{}"\nsource = "{}"\nformat = "adblock"\nanswer = "{}"\n'
        (folder / "all.txt").write_text("||rb.example^\n||other.rb-lists.example^\n")
        measured = table.format("measured", folder / "list.txt", "nxdomain")
        for name, answer in (("hits", None), ("null", "null"), ("nxdomain", "nxdomain")):
            text = base.replace('title = "ringdnsd, AF_XDP"', f'title = "ringdnsd, {name}"')
            text = text.replace('kind = "cache"', 'kind = "constant"') if answer else text
            second = table.format("all", folder / "all.txt", answer) if answer else ""
            config, _, rest = text.rpartition("'''")
            (folder / f"{name}.toml").write_text(f"{config}{measured}{second}'''{rest}")
        command = [args.programs / "ringbench", "compare", "--servers", folder, "--only=hits", "--only=null",
                   "--only=nxdomain", "--names=1000", f"--rounds={max(args.rounds, RING_ROUNDS)}", "--seconds=1.5",
                   f"--nice={args.nice}", "--json", folder / "out.json"]
        subprocess.run(command, check=True, timeout=args.limit * 4, stdout=subprocess.DEVNULL)
        rows = json.loads((folder / "out.json").read_text())["measures"]["saturation"]["servers"]
    return {name: {"answers_per_second": found["answers_per_second"]["median"],
                   "cpu_nanos_per_answer": found["cpu_nanos_per_answer"]["median"],
                   "frame_bytes": median(one["answer_bytes"] for one in found["rounds"])}
            for name, found in rows.items()}


def machine():
    """Returns the facts about this machine that figures depend on."""
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    kib = int(next(line.split()[1] for line in open("/proc/meminfo") if line.startswith("MemTotal")))
    return {"processor": cpu, "cores": os.cpu_count(), "memory_gib": round(kib / 2**20), "kernel": os.uname().release,
            "load": os.getloadavg()[0], "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


HEAD = ("server", "start to first blocked answer, s", "resident, MiB", "bytes a name", "peak of a reload, MiB",
        "deaf in a reload, s", "change in effect after, s", "blocked answers/s", "CPU/answer, ns")


def row(title, rounds, empty, count):
    """Returns a row of the table: medians of the rounds."""
    good = [found for found in rounds if "failed" not in found]
    if not good:
        return [title, "failed"] + ["-"] * (len(HEAD) - 2)
    of = lambda key: median(found[key] for found in good) if all(key in found for found in good) else None
    text = lambda value, form: "-" if value is None else form.format(value)
    mebi = lambda value: text(value and value / 2**20, "{:,.0f}")
    each = (of("rss") - empty) / count if empty else None
    return [title, text(of("start_s"), "{:.2f}"), mebi(of("rss")), text(each, "{:.0f}"), mebi(of("peak_reloaded")),
            text(of("deaf_s"), "{:.2f}"), text(of("effective_s"), "{:.2f}"), text(of("answers_per_second"), "{:,.0f}"),
            text(of("cpu_nanos_per_answer"), "{:,.0f}")]


def table(results):
    """Returns the results as Markdown."""
    host, (low, high) = results["machine"], results["load"]
    lines = ["# Lists of names to block", ""]
    nice = f", nice {results['nice']}" if results["nice"] else ""
    names = (f"{PEERS[key].title.split(',')[0]} {number}" for key, number in results["versions"].items())
    lines += [f"- Machine: {host['processor']}, {host['cores']} cores, {host['memory_gib']} GiB of memory, Linux "
              f"{host['kernel']}. Load {low:.1f} to {high:.1f}{nice}."
              f"{' The machine had other work: trust ratios.' if high > 3 else ''}",
              f"- Begun: {host['begun']}. ringdns commit {results['commit']}.",
              "- Loopback, kernel sockets, two cores, shared: each server on one core with one thread for queries, the "
              "client (one thread) on the other.",
              f"- {', '.join(names)}."]
    lines += [f"- Not measured: {PEERS[key].title}: not installed." for key in results["missing"]]
    lines += [f"- {PEERS[key].title}: no reload measured: {PEERS[key].no_reload}."
              for key in results["versions"] if PEERS[key].no_reload]
    for count, servers in results["lists"].items():
        if int(count) <= REPLACED:
            continue
        rounds = max(map(len, servers.values()))
        lines += ["", f"## {int(count):,} names", "", f"Medians, of {rounds} rounds in turns.", "",
                  "| " + " | ".join(HEAD) + " |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
        for key, found in servers.items():
            empty = [one["rss"] for one in results["lists"].get("1", {}).get(key, []) if "rss" in one]
            cells = row(PEERS[key].title, found, median(empty) if empty else None, int(count))
            lines.append("| " + " | ".join(cells) + " |")
        failed = {f"{PEERS[key].title}: {one['failed']}" for key, found in servers.items() for one in found
                  if "failed" in one}
        lines += [""] + [f"- {text}" for text in sorted(failed)] if failed else []
    if rings := results.get("rings"):
        hits = rings["hits"]
        lines += ["", "## Over AF_XDP", "",
                  "ringdnsd with the longest list: veth, copy mode, two cores; 1,000 names, all cached. Ratios to "
                  "hits, of answers a second and of answers a processor second; the latter include the first answers "
                  "for blocked names, which are not warmed.",
                  "", "| answer | frame, bytes | answers/s | ratio | CPU/answer, ns | ratio |",
                  "|---|---:|---:|---:|---:|---:|"]
        titles = {"hits": "hit", "null": "blocked, null address", "nxdomain": "blocked, NXDOMAIN with SOA"}
        for name, title in titles.items():
            speed, cpu = (rings[name][figure] for figure in ("answers_per_second", "cpu_nanos_per_answer"))
            lines.append(f"| {title} | {rings[name]['frame_bytes']:.0f} | {speed:,.0f} | "
                         f"{speed / hits['answers_per_second']:.3f} | {cpu:,.0f} | "
                         f"{hits['cpu_nanos_per_answer'] / cpu:.3f} |")
    return "\n".join(lines) + "\n"


def measure(args):
    """Measures all servers that are installed, in turns, and keeps the results after each."""
    chosen = args.only or list(PEERS)
    present = [key for key in chosen if find(key, args.programs)]
    results = {"machine": machine(), "commit": args.commit, "nice": args.nice,
               "versions": {key: version(key, args.programs) for key in present},
               "missing": [key for key in chosen if key not in present], "lists": {}, "load": [1e9, 0.0]}
    largest = made_names(max(args.names))
    upstream = subprocess.Popen(["taskset", "--cpu-list", str(GENERATOR_CORE), args.programs / "ringbench", "upstream",
                                 f"--listen=127.0.0.1:{UPSTREAM_PORT}", "--ttl=1"], stdout=subprocess.DEVNULL)
    try:
        with tempfile.NamedTemporaryFile("w", prefix="ringdns-lists-") as questions:
            for count in [1, *args.names]:
                names = largest[:count]
                questions.seek(0)
                questions.truncate()
                questions.writelines(name + " A\n" for name in random.Random(2).sample(names, min(count, 10_000)))
                questions.flush()
                servers = results["lists"][str(count)] = {key: [] for key in present}
                for number in range(args.rounds if count > 1 else 1):
                    for nth in range(len(present)):
                        key = present[(nth + number) % len(present)]
                        found = turn(key, names, questions.name, args)
                        servers[key].append(found)
                        load = found.get("load", os.getloadavg()[0])
                        results["load"] = [min(results["load"][0], load), max(results["load"][1], load)]
                        print(f"{count} names, round {number + 1}, {key}: {json.dumps(found)}", file=sys.stderr)
                        save(results, args.out)
    finally:
        end(upstream)


def save(results, out):
    """Writes the results, and their table."""
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "README.md").write_text(table(results))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=HERE.parent / "target" / "release",
                        help="folder of ringdnsd and ringbench: default %(default)s")
    parser.add_argument("--names", type=int, nargs="+", default=[122_680, 2_140_000], help="lengths of the lists")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2, help="seconds of each load")
    parser.add_argument("--limit", type=float, default=180, help="seconds that a start or a reload may take")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and client; -15 where others work")
    parser.add_argument("--only", nargs="+", choices=PEERS, help="only these servers")
    parser.add_argument("--commit", default="unknown", help="commit of the programs, for the results")
    parser.add_argument("--skip-rings", action="store_true", help="do not measure AF_XDP")
    parser.add_argument("--print", type=Path, metavar="FILE", help="print the table of kept results and end")
    parser.add_argument("--write", type=int, metavar="COUNT", help="write a list of that length in every form, and end")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for results.json, README.md, lists")
    return parser.parse_args()


def main():
    args = arguments()
    args.programs = args.programs.resolve()
    if args.print:
        print(table(json.loads(args.print.read_text())), end="")
        return
    args.out.mkdir(parents=True, exist_ok=True)
    if args.write:
        for form in FORMS:
            write_list(args.out / form, form, made_names(args.write), 1)
        return
    # Everything but the lab of AF_XDP happens in a network namespace of its own.
    if os.environ.get("RINGDNS_LISTS") != "inside":
        environment = os.environ | {"RINGDNS_LISTS": "inside"}
        inside = ["unshare", "--net", sys.executable, *sys.argv]
        status = subprocess.run(inside, env=environment, check=False).returncode
        if status == 0 and not args.skip_rings:
            results = json.loads((args.out / "results.json").read_text())
            results["rings"] = over_rings(made_names(max(args.names)), args)
            save(results, args.out)
        sys.exit(status)
    subprocess.run(["ip", "link", "set", "dev", "lo", "up"], check=True)
    # Where the kernel divides the processor by session, the niceness of a process counts within its session only.
    if args.nice:
        os.setsid()
        os.nice(args.nice)
        try:
            Path("/proc/self/autogroup").write_text(str(args.nice))
        except FileNotFoundError:
            pass
    measure(args)


if __name__ == "__main__":
    main()
