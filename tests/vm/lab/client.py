"""Clients of a guest: dig, and a load of verified queries."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from .guest import Namespace

# Timeout of queries under load: an emulated guest on a busy machine may stand still for seconds.
TIMEOUT_MS = 20_000


@dataclass(frozen=True)
class Load:
    """Outcome of a load of queries."""

    sent: int
    answered: int
    # Answers that differ from the upstream's.
    wrong: int
    # Answers that match no query in flight: late, or duplicate.
    unexpected: int
    per_second: int

    def is_clean(self, withheld: int) -> bool:
        """Whether each query was answered correctly, except those whose answers ringdnsd withheld."""
        return self.answered + withheld == self.sent and self.wrong == self.unexpected == 0

    @staticmethod
    def read(report: str) -> "Load":
        """Parses the output of `ringbench run --json`."""
        report = json.loads(report)
        return Load(
            report["sent"]["queries"],
            report["responses"],
            report["discarded"],
            report["unexpected"],
            round(report["answers_per_second"]),
        )


class Client:
    """Host at the other end of a guest's link."""

    def __init__(self, namespace: Namespace, ringbench: Path):
        self.namespace, self.ringbench = namespace, ringbench

    def ask(self, server: str, kind: str, tcp: bool = False, tries: int = 3) -> str | None:
        """Asks by dig for an address; returns `None` if there is one, else the outcome as text."""
        transport = "+tcp" if tcp else "+notcp"
        asked = ("dig", "+time=2", f"+tries={tries}", transport, f"@{server}", "www.a.example", kind)
        printed = self.namespace.run(*asked).stdout
        if "status: NOERROR" in printed and re.search(
            rf"^www\.a\.example\.\s+\d+\s+IN\s+{kind}\s", printed, re.M
        ):
            return None
        return f"{kind} over {'TCP' if tcp else 'UDP'} from {server}: {' '.join(printed.split()[-12:])}"

    def load(self, server: str, queries: int, seconds: float, *options: str) -> Load:
        """Sends queries as fast as answers come, and compares each answer with the upstream's."""
        target = f"[{server}]:53" if ":" in server else f"{server}:53"
        # From several ports, so that a NIC spreads the queries over its queues.
        done = self.namespace.run(
            *(
                self.ringbench,
                "run",
                "--target",
                target,
                "--queries",
                str(queries),
                "--duration",
                str(seconds),
            ),
            *("--window", "64", "--sockets", "16", "--timeout-ms", str(TIMEOUT_MS), "--verify-answers", ""),
            *("--quiet", "--json", *options),
            seconds=seconds + 60,
        )
        if done.returncode:
            raise RuntimeError(f"ringbench run: {done.stderr.strip()}")
        return Load.read(done.stdout)

    def ping(self, address: str) -> bool:
        """Whether a kernel answers at `address`."""
        return self.namespace.run("ping", "-c", "1", "-W", "1", address).returncode == 0
