#!/usr/bin/env python3
"""Measures what it costs ringdnsd to be watched: answers a second at saturation over AF_XDP, by itself; with metrics
scraped each second, `ringctl top` open and ten explanations a second; and with a capture of one exchange in a hundred.
The three take turns. Watchers share the core of the load generator. Needs root, two cores, iproute2, script(1) and the
programs of the release profile."""
import argparse
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCENES = {"alone": "by itself", "watched": "scrapes, top and ten explanations a second",
          "captured": "a capture of one exchange in a hundred"}


class OverSocket(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path):
        super().__init__("ringdnsd", timeout=5)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Watcher:
    """Watchers of the scenes, which come and go with their ringdnsd."""

    def __init__(self, folder, ringctl):
        self.folder, self.ringctl, self.over = folder, ringctl, threading.Event()
        self.counts = dict.fromkeys(("scrapes", "explanations", "screens", "captured"), 0)
        self.threads = [threading.Thread(target=work) for work in (self.scrape, self.explain, self.top, self.capture)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def ask(self, target, every, count):
        """Asks the watched ringdnsd again and again, while there is one."""
        due = time.monotonic()
        while not self.over.is_set():
            try:
                connection = OverSocket(str(self.folder / "watched.sock"))
                connection.request("GET", target)
                answer = connection.getresponse()
                self.counts[count] += answer.status == 200 and len(answer.read()) > 0
                connection.close()
            except OSError:
                time.sleep(0.2)
            due = max(due + every, time.monotonic() - every)
            self.over.wait(max(0, due - time.monotonic()))

    def scrape(self):
        self.ask("/metrics", 1, "scrapes")

    def explain(self):
        self.ask("/v1/explain?name=nothing.example&type=A", 0.1, "explanations")

    def top(self):
        """Keeps `ringctl top` open in a terminal."""
        command = f"exec {self.ringctl} --socket {self.folder}/watched.sock top"
        with subprocess.Popen(["script", "--quiet", "--command", command, "/dev/null"], stdin=subprocess.PIPE,
                              stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm"}) as shown:
            def read():
                while chunk := shown.stdout.read1():
                    self.counts["screens"] += len(chunk) > 0
            reader = threading.Thread(target=read)
            reader.start()
            self.over.wait()
            shown.terminate()
            reader.join()

    def capture(self):
        """Captures from the ringdnsd that is there for it."""
        path = self.folder / "captured.sock"
        while not self.over.is_set():
            if not path.exists():
                self.over.wait(0.1)
                continue
            done = subprocess.run([self.ringctl, "--socket", path, "capture", "--sample", "100", "--for", "2s", "--write",
                                   "/dev/null", "--json"], capture_output=True, text=True)
            if done.returncode != 0 or not done.stdout:
                self.over.wait(0.1)
                continue
            self.counts["captured"] += json.loads(done.stdout.splitlines()[-1]).get("written", 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", metavar="DIR", type=Path, help="write results.json there")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each (9)")
    parser.add_argument("--seconds", type=int, default=3, help="length of a turn (3)")
    parser.add_argument("--names", type=int, default=10_000, help="names in the cache (10000)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of servers and load (0)")
    parser.add_argument("--programs", type=Path, default=HERE.parent / "target/release", help="folder of the programs")
    args = parser.parse_args()
    if shutil.which("script") is None:
        sys.exit("install script(1): package bsdutils or bsdextrautils")
    base = (HERE / "servers/ringdnsd.toml").read_text()
    with tempfile.TemporaryDirectory(prefix="ringdns-watched-") as folder:
        folder = Path(folder)
        (folder / "servers").mkdir()
        for scene in SCENES:
            text = base.replace('title = "ringdnsd, AF_XDP"', f'title = "ringdnsd, {SCENES[scene]}"')
            text = text.replace("${folder}/control.sock", f"{folder}/{scene}.sock")
            (folder / "servers" / f"{scene}.toml").write_text(text)
        only = [f"--only={scene}" for scene in SCENES]
        with Watcher(folder, args.programs / "ringctl") as watcher:
            subprocess.run([args.programs / "ringbench", "compare", "--servers", folder / "servers", *only, "--measure=saturation",
                            f"--names={args.names}", f"--rounds={args.rounds}", f"--seconds={args.seconds}",
                            f"--nice={args.nice}", "--json", folder / "out.json"], check=True,
                           stdout=subprocess.DEVNULL)
        servers = json.loads((folder / "out.json").read_text())["measures"]["saturation"]["servers"]
    results = {}
    print(f"{'':10} {'answers/s':>10} {'to alone':>9} {'ns of CPU an answer':>20}")
    for scene in SCENES:
        rate, cpu = (servers[scene][key]["median"] for key in ("answers_per_second", "cpu_nanos_per_answer"))
        results[scene] = {"answers_per_second": rate, "cpu_nanos_per_answer": cpu}
        share = rate / results["alone"]["answers_per_second"]
        print(f"{scene:10} {rate:>10,.0f} {share:>9.3f} {cpu:>20,.0f}")
    print(", ".join(f"{count:,} {what}" for what, count in watcher.counts.items()))
    if not all(watcher.counts.values()):
        sys.exit("a watcher saw nothing")
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "results.json").write_text(json.dumps({"scenes": results, "watchers": watcher.counts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
