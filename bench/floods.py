#!/usr/bin/env python3
"""Gives ringdnsd, Unbound and Knot Resolver an ordinary load, and beside it floods from forged addresses at ten times
the rate, in turns, round by round: the share of the clients' queries that are answered, the time that hits take, memory,
and the bytes that forged addresses are sent. Needs root, two cores, iproute2, taskset, and the programs of the release
profile. A server that is not installed is skipped."""
import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from statistics import median
from string import Template

HERE = Path(__file__).resolve().parent
GENERATOR_CORE, SERVER_CORE = 0, 1
# Scenes: their names in the table, and arguments of `ringbench storm`. Each has its calm twin, without the flood.
SCENES = {
    "spoofed": ("10 M forged sources, cached names", ["--sources=10000000"]),
    "victim": ("64 forged sources of one /24, cached names", ["--sources=64"]),
    "random": ("10 M forged sources, random names that do not exist",
               ["--sources=10000000", "--flood-suffix=victim.example"]),
    "silent": ("10 M forged sources, random names whose upstream is silent",
               ["--sources=10000000", "--flood-suffix=silent.example"]),
}
# Clients miss in several zones, as they do.
MISS_SUFFIXES = [f"--miss-suffix=z{number}.good{number}.example" for number in range(20)]


def run(*words, **options):
    """Runs a command that must succeed, and returns its output."""
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, **options).stdout


class Lab:
    """Two network namespaces with a veth pair."""

    def __init__(self):
        self.name = f"rfl{os.getpid()}"
        self.script = HERE.parent / "deploy" / "lab.sh"

    def __enter__(self):
        run(self.script, "--name", self.name, "up")
        # Answers to clients and to forged addresses go back to the generator.
        for prefix in ("10.54.0.0/15", "11.0.0.0/8"):
            run("ip", "-n", f"{self.name}-server", "route", "add", prefix, "via", "10.53.0.1")
        return self

    def __exit__(self, *_):
        subprocess.run([self.script, "--name", self.name, "down"], check=False, capture_output=True)

    def within(self, host, core, *words):
        """Returns a command that runs on a core of a host."""
        return ["ip", "netns", "exec", f"{self.name}-{host}", "taskset", "--cpu-list", str(core), *map(str, words)]


def memory(pid):
    """Returns the resident bytes of a process."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmRSS"].split()[0]) * 1024


def end(process):
    """Ends a process that this script started."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def storm(lab, args, seconds, *options):
    """Runs the generator, and returns its report."""
    command = lab.within("client", GENERATOR_CORE, args.programs / "ringbench", "storm", "--target=10.53.0.2:53",
                         "--interface=vc", f"--normal={args.normal}", f"--duration={seconds}", *MISS_SUFFIXES, *options)
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)


def await_answers(lab, args, process):
    """Waits until the server answers, and caches the clients' names."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if process.poll() is not None:
            raise RuntimeError(f"it ended with status {process.returncode}")
        report = storm(lab, args, 0.6, "--lead=0.1", "--misses=0")
        if report["hits"]["right"] > 0.9 * report["hits"]["sent"]:
            return
    raise RuntimeError("it does not answer")


def turn(key, scene, lab, args):
    """Starts a server, and measures it before and during the flood of a scene."""
    server = SERVERS[key]
    folder = Path(tempfile.mkdtemp(prefix="ringdns-floods-", dir="/dev/shm"))
    for name, text in server["files"].items():
        text = Template(text).safe_substitute(folder=folder)
        (folder / name).write_text(text + (args.append if key == "ringdnsd" else ""))
    words = [Template(word).safe_substitute(folder=folder) for word in server["arguments"]]
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(lab.within("server", SERVER_CORE, find(key, args.programs), *words), stdout=output,
                                   stderr=output)
    try:
        await_answers(lab, args, process)
        calm = storm(lab, args, args.seconds)
        # Caches fill up during the first seconds of a flood: memory is to be flat after that.
        before = memory(process.pid)
        flood = storm(lab, args, args.seconds + 2, "--lead=2", f"--times={args.times}", *SCENES[scene][1])
        middle = memory(process.pid)
        again = storm(lab, args, args.seconds, "--lead=0.5", f"--times={args.times}", "--seed=2", *SCENES[scene][1])
        found = {"calm": calm, "flood": flood, "again": again, "rss": [before, middle, memory(process.pid)]}
        if args.keep_metrics and key == "ringdnsd":
            found["stats"] = run(args.programs / "ringctl", "--socket", folder / "control.sock", "stats")
        return found
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        tail = (folder / "output").read_bytes()[-400:].decode(errors="replace").strip()
        return {"failed": f"{error} {getattr(error, 'stderr', '') or ''} {tail}"}
    finally:
        end(process)
        if args.keep_logs:
            print((folder / "output").read_text(errors="replace")[-3000:], file=sys.stderr)
        shutil.rmtree(folder)


SERVERS = {path.stem: tomllib.loads(path.read_text()) for path in sorted((HERE / "floods").glob("*.toml"))}
ORDER = ["ringdnsd", "unbound", "unbound-stub", "knot-resolver"]


def find(key, programs):
    """Returns the path of a server's program, or None."""
    if key == "ringdnsd":
        return programs / "ringdnsd"
    return shutil.which(SERVERS[key]["program"], path=os.environ["PATH"] + ":/usr/sbin:/sbin")


def version(key, programs):
    """Returns the version of a server's program."""
    done = subprocess.run([find(key, programs), *SERVERS[key]["version"]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    number = re.search(r"\d+\.\d+[\w.+-]*", done.stdout.decode(errors="replace"))
    return number[0] if number else "of an unknown version"


def machine():
    """Returns facts about the machine."""
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    return {"processor": cpu, "cores": os.cpu_count(), "kernel": os.uname().release,
            "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def figures(found):
    """Returns the figures of a turn. Ratios are within the turn, since the machine may have other work."""
    calm, flood = found["calm"], found["flood"]
    rss = [value / 2**20 for value in found["rss"]]
    return [calm["hits"]["answered_percent"], flood["hits"]["answered_percent"], flood["misses"]["answered_percent"],
            calm["hits"]["p99_us"], flood["hits"]["p99_us"], flood["hits"]["p99_us"] / max(calm["hits"]["p99_us"], 1),
            rss[0], rss[1], rss[2], flood["flood"]["bytes_out_over_in"],
            flood["flood"]["answers"] / max(flood["flood"]["queries"], 1) * 100,
            flood["flood"]["queries_per_second"]]


HEAD = ("server", "calm: hits answered, %", "flood: hits answered, %", "misses answered, %", "calm: p99 of hits, µs",
        "flood: p99, µs", "ratio", "resident before, MiB", "after one flood", "after two", "bytes out / in, flood",
        "flood answered, %", "flood, queries/s")
FORMS = ("{:.2f}", "{:.2f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.2f}", "{:.0f}", "{:.0f}", "{:.0f}", "{:.2f}", "{:.0f}",
         "{:,.0f}")


def table(results):
    """Returns the results as Markdown."""
    host, (low, high) = results["machine"], results["load"]
    lines = [f"- Machine: {host['processor']}, {host['cores']} cores, Linux {host['kernel']}; load {low:.1f} to "
             f"{high:.1f}, nice {results['nice']}.",
             f"- Begun: {host['begun']}. ringdns commit {results['commit']}.",
             "- veth, copy mode, two cores: each server on one, generator and upstream on the other.",
             f"- Clients: {results['normal']:,.0f} queries/s from 200 addresses, 5 % of them for names never asked "
             f"before, in 20 zones. Floods: {results['times']:g} times as many.",
             f"- {', '.join(SERVERS[key]['title'] + ' ' + number for key, number in results['versions'].items())}."]
    for scene, servers in results["scenes"].items():
        rounds = max(map(len, servers.values()))
        lines += ["", f"## {SCENES[scene][0]}", "", f"Medians of {rounds} rounds in turns.", "",
                  "| " + " | ".join(HEAD) + " |", "|---" + "|---:" * (len(HEAD) - 1) + "|"]
        for key, turns in servers.items():
            good = [figures(found) for found in turns if "failed" not in found]
            if not good:
                lines.append(f"| {SERVERS[key]['title']} | failed |")
                continue
            cells = [form.format(median(column)) for form, column in zip(FORMS, zip(*good))]
            lines.append(f"| {SERVERS[key]['title']} | " + " | ".join(cells) + " |")
        failed = {f"{SERVERS[key]['title']}: {one['failed']}" for key, turns in servers.items() for one in turns
                  if "failed" in one}
        lines += [""] + [f"- {text}" for text in sorted(failed)] if failed else []
    return "\n".join(lines) + "\n"


def measure(args):
    """Measures the servers that are installed, in turns, and keeps the results after each."""
    present = [key for key in args.only or ORDER if find(key, args.programs)]
    results = {"machine": machine(), "commit": args.commit, "nice": args.nice, "normal": args.normal,
               "times": args.times, "versions": {key: version(key, args.programs) for key in present},
               "scenes": {scene: {key: [] for key in present} for scene in args.scenes}, "load": [1e9, 0.0]}
    with Lab() as lab:
        upstream = subprocess.Popen(
            lab.within("server", GENERATOR_CORE, args.programs / "ringbench", "upstream", "--listen=127.0.0.1:5301",
                       "--nxdomain-suffix=victim.example", "--silent-suffix=silent.example"),
            stdout=subprocess.DEVNULL)
        try:
            for number in range(args.rounds):
                for scene in args.scenes:
                    for nth in range(len(present)):
                        key = present[(nth + number) % len(present)]
                        found = turn(key, scene, lab, args)
                        results["scenes"][scene][key].append(found)
                        load = os.getloadavg()[0]
                        results["load"] = [min(results["load"][0], load), max(results["load"][1], load)]
                        text = found.get("failed") or ", ".join(
                            f"{head} {form.format(value)}" for head, form, value in zip(HEAD[1:], FORMS, figures(found)))
                        print(f"round {number + 1}, {scene}, {key}: {text}", file=sys.stderr)
                        if "stats" in found:
                            print(found.pop("stats"), file=sys.stderr)
                        (args.out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
                        (args.out / "table.md").write_text(table(results))
        finally:
            end(upstream)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=Path, default=HERE.parent / "target" / "release",
                        help="folder of ringdnsd and ringbench: default %(default)s")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="seconds of each load")
    parser.add_argument("--normal", type=float, default=4000, help="queries a second of the clients")
    parser.add_argument("--times", type=float, default=10, help="rate of the floods, in multiples of --normal")
    parser.add_argument("--nice", type=int, default=0, help="priority of servers and generator; -15 where others work")
    parser.add_argument("--only", nargs="+", choices=SERVERS, help="only these servers")
    parser.add_argument("--scenes", nargs="+", choices=SCENES, default=list(SCENES), help="only these floods")
    parser.add_argument("--append", default="", help="text to append to ringdnsd's configuration")
    parser.add_argument("--keep-metrics", action="store_true", help="also print ringdnsd's statistics of each turn")
    parser.add_argument("--keep-logs", action="store_true", help="also print the end of each server's output")
    parser.add_argument("--commit", default="unknown", help="commit of the programs, for the results")
    parser.add_argument("--out", type=Path, default=Path("."), help="folder for results.json and table.md")
    args = parser.parse_args()
    args.programs = args.programs.resolve()
    args.out.mkdir(parents=True, exist_ok=True)
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
