"""ringdnsd in a guest: its configuration, its process, and its status."""

import json
import re
from dataclasses import dataclass

from .guest import Guest, wait_until

UPSTREAM = "127.0.0.1:5301"
START_SECONDS = 180
END_SECONDS = 180


class NotStarted(Exception):
    """Raised if ringdnsd ended by itself, or did not become ready; the message has its log."""


@dataclass(frozen=True)
class Receiving:
    """Mode of reception, as `ringctl status` prints it."""

    text: str

    def __str__(self) -> str:
        found = re.search(r"queues: (\d+), program: (\w+).*sockets: ([\w-]+)", self.text)
        return f"{found[2]} {found[3]} {found[1]}" if found else self.text


def start_upstream(guest: Guest):
    """Starts the upstream of ringdnsd, whose answers follow from the questions."""
    guest.output(f"setsid ringbench upstream --listen {UPSTREAM} >/tmp/upstream.log 2>&1 &")
    # Port in hexadecimal, as the kernel lists sockets.
    port = f":{int(UPSTREAM.rpartition(':')[2]):04X} "
    if not wait_until(lambda: guest.run(f"grep -q '{port}' /proc/net/udp")[0] == 0, START_SECONDS):
        raise RuntimeError(f"the upstream does not start: {guest.output('cat /tmp/upstream.log')}")


class Daemon:
    """ringdnsd in a guest; each `start` starts a new process."""

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
        # Command that runs ringdnsd: `setpriv …`.
        self.prefix = prefix
        # Each of several daemons has files of its own name.
        self.files = f"/tmp/{name}"
        self.socket = f"/run/ringdns/{name}.sock"
        self.pid = 0

    def configuration(self) -> str:
        """Returns the text of the configuration file."""
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
        """Starts ringdnsd and waits until it is ready."""
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
        """Whether the process exists, including a zombie."""
        return self.guest.run(f"kill -0 {self.pid}")[0] == 0

    def log(self) -> str:
        """Returns the log, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.guest.output(f"cat {self.files}.log")).strip()

    def receiving(self) -> Receiving:
        """Returns the mode of reception."""
        return Receiving(json.loads(self.guest.output(f"{self._ringctl} status"))["receiving"])

    def stats(self) -> dict:
        """Returns all counters."""
        return json.loads(self.guest.output(f"{self._ringctl} stats"))

    def end(self, signal: str):
        """Ends the process by a signal, and waits until the kernel has released its resources."""
        self.guest.output(f"kill -{signal} {self.pid}")
        if not wait_until(lambda: not self.is_running(), END_SECONDS):
            raise RuntimeError(f"ringdnsd still runs {END_SECONDS} s after SIG{signal}")

    def has_program(self) -> bool:
        """Whether its interface has an XDP program, of whatever process."""
        details = json.loads(self.guest.output(f"/sbin/ip -json -details link show dev {self.interface}"))
        return "xdp" in details[0]
