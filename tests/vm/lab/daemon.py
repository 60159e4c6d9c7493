"""ringdnsd in a guest: its configuration, its life, and what it says of itself."""

import json
import re
from dataclasses import dataclass

from .guest import Guest, wait_until

UPSTREAM = "127.0.0.1:5301"
START_SECONDS = 180
END_SECONDS = 180


class NotStarted(Exception):
    """ringdnsd ended by itself; the message is what it logged."""


@dataclass(frozen=True)
class Receiving:
    """How packets are received, as status says it."""

    text: str

    def __str__(self) -> str:
        found = re.search(r"queues: (\d+), program: (\w+).*sockets: ([\w-]+)", self.text)
        return f"{found[2]} {found[3]} {found[1]}" if found else self.text


def start_upstream(guest: Guest):
    """Starts the resolver behind ringdnsd, whose answers follow from the questions."""
    guest.output(f"setsid ringbench upstream --listen {UPSTREAM} >/tmp/upstream.log 2>&1 &")
    # Its port in hexadecimal, as the kernel lists sockets.
    port = f":{int(UPSTREAM.rpartition(':')[2]):04X} "
    if not wait_until(lambda: guest.run(f"grep -q '{port}' /proc/net/udp")[0] == 0, START_SECONDS):
        raise RuntimeError(f"the upstream does not start: {guest.output('cat /tmp/upstream.log')}")


class Daemon:
    """A ringdnsd, started anew by each `start`."""

    def __init__(
        self,
        guest: Guest,
        interface: str,
        listen: tuple[str, ...],
        mode: str = "auto",
        fallback: bool = False,
        prefix: str = "",
        name: str = "ringdnsd",
    ):
        self.guest, self.interface, self.listen, self.mode, self.fallback = (
            guest,
            interface,
            listen,
            mode,
            fallback,
        )
        # What runs ringdnsd: `setpriv …`.
        self.prefix = prefix
        # One of several has files of its own name.
        self.files = f"/tmp/{name}"
        self.socket = f"/run/ringdns/{name}.sock"
        self.pid = 0

    def configuration(self) -> str:
        """Its file."""
        listen = ", ".join(f'"{address}"' for address in self.listen)
        return f"""[server]
listen = [{listen}]
interface = "{self.interface}"
mode = "{self.mode}"
fallback = {str(self.fallback).lower()}
[[upstream]]
address = "{UPSTREAM}"
[control]
socket = "{self.socket}"
[cache]
bytes_per_worker = "16MiB"
host_bytes = "32MiB"
"""

    def start(self):
        """Starts it and waits until it is ready."""
        self.guest.write(f"{self.files}.toml", self.configuration())
        command = f"{self.prefix} ringdnsd --config {self.files}.toml".strip()
        self.pid = int(self.guest.output(f"setsid {command} >{self.files}.log 2>&1 & echo $!"))
        if not wait_until(lambda: self._is_ready() or not self.is_running(), START_SECONDS):
            raise NotStarted(f"not ready within {START_SECONDS} s: {self.log()}")
        if not self.is_running():
            raise NotStarted(self.log())

    def _is_ready(self) -> bool:
        status, printed = self.guest.run(f"{self._ringctl} status")
        return status == 0 and json.loads(printed)["ready"]

    @property
    def _ringctl(self) -> str:
        return f"ringctl --json --socket {self.socket}"

    def is_running(self) -> bool:
        """Whether the process is there, one that ended and was not reaped among them."""
        return self.guest.run(f"kill -0 {self.pid}")[0] == 0

    def log(self) -> str:
        """What it has logged, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.guest.output(f"cat {self.files}.log")).strip()

    def receiving(self) -> Receiving:
        """How it receives packets."""
        return Receiving(json.loads(self.guest.output(f"{self._ringctl} status"))["receiving"])

    def stats(self) -> dict:
        """All its counters."""
        return json.loads(self.guest.output(f"{self._ringctl} stats"))

    def end(self, signal: str):
        """Ends it, and waits until the kernel has taken down what it had."""
        self.guest.output(f"kill -{signal} {self.pid}")
        if not wait_until(lambda: not self.is_running(), END_SECONDS):
            raise RuntimeError(f"ringdnsd is there {END_SECONDS} s after SIG{signal}")

    def has_program(self) -> bool:
        """Whether an XDP program is on its interface, whoever's."""
        details = json.loads(self.guest.output(f"/sbin/ip -json -details link show dev {self.interface}"))
        return "xdp" in details[0]
