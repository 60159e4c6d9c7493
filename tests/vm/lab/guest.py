"""Guest under QEMU, the agent in it, and the network namespace that acts as its clients."""

import base64
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .cache import Cache, Kernel, has_kvm
from .nics import Nic

# Limits against hangs, with room for a busy machine.
BOOT_SECONDS = 480
BOOT_ATTEMPTS = 3
COMMAND_SECONDS = 120
# The second line is for busy machines, on which a processor of the guest may stand still for long.
KERNEL_OPTIONS = (
    "console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off random.trust_cpu=on "
    "no_timer_check nowatchdog rcupdate.rcu_cpu_stall_suppress=1"
)
# Longest line that the serial port takes.
LINE_BYTES = 2000


class GuestDied(Exception):
    """Raised if QEMU ended, the guest's kernel panicked, or the agent no longer responds."""


class Namespace:
    """Network namespace of the host, with a tap for each NIC of a guest."""

    def __init__(self, name: str, nics: tuple[Nic, ...]):
        self.name = name
        _run("ip", "netns", "add", name)
        self._ip("link", "set", "lo", "up")
        for nic in nics:
            flags = ["multi_queue"] if nic.tap_queues > 1 else []
            self._ip("tuntap", "add", "dev", nic.tap, "mode", "tap", "vnet_hdr", *flags)
            self._ip("link", "set", nic.tap, "addrgenmode", "none")
            for address in nic.client_addresses:
                self._ip("addr", "add", address, "dev", nic.tap, *(["nodad"] if ":" in address else []))
            self._ip("link", "set", nic.tap, "up")

    def _ip(self, *arguments: str):
        _run("ip", "-n", self.name, *arguments)

    def command(self, *command: str | Path) -> list[str | Path]:
        """Returns the words that run `command` in the namespace, and end it with this process."""
        return ["ip", "netns", "exec", self.name, "setpriv", "--pdeathsig", "KILL", *command]

    def run(self, *command: str | Path, seconds: float = COMMAND_SECONDS) -> subprocess.CompletedProcess:
        """Runs `command` in the namespace."""
        return subprocess.run(
            self.command(*command), capture_output=True, text=True, timeout=seconds, check=False
        )

    def delete(self):
        """Removes the namespace and its taps."""
        _run("ip", "netns", "delete", self.name)


class Guest:
    """Guest that runs for the duration of a `with` block."""

    def __init__(
        self,
        cache: Cache,
        kernel: Kernel,
        archives: tuple[bytes, ...],
        nics: tuple[Nic, ...] = (),
        memory_mib: int = 768,
        processors: int = 2,
        kernel_options: str = "",
    ):
        self.kernel, self.nics = kernel, nics
        self._cache, self._archives = cache, archives
        self._memory_mib, self._processors, self._kernel_options = memory_mib, processors, kernel_options
        self._received = b""

    def __enter__(self) -> "Guest":
        # By this prefix deploy/test.sh finds and removes the namespaces of a killed script.
        prefix = os.environ.get("RINGDNS_LAB_PREFIX", f"ringdns-vm-{os.getpid()}")
        self._scratch = tempfile.TemporaryDirectory(prefix="ringdns-vm.")
        self._console = Path(self._scratch.name) / "console"
        self.client = Namespace(
            f"{prefix}-{self.kernel.label.replace('.', '_')}_{id(self):x}-client", self.nics
        )
        try:
            self._boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _boot(self):
        """Starts QEMU and waits for the agent.

        QEMU 10 may fail an assertion ("iotlb_to_section") when emulated processors run in parallel
        while the guest maps its devices. The guest is not at fault, and is started again.
        """
        for attempt in range(1, BOOT_ATTEMPTS + 1):
            self._launch()
            try:
                self._expect(rb"@@ready (\S+)@@\r?\n", BOOT_SECONDS)
                return
            except GuestDied as death:
                if self._qemu.wait() != -signal.SIGABRT or attempt == BOOT_ATTEMPTS:
                    raise
                print(f"QEMU aborted, and is started again: {death}"[:400], flush=True)
                self._close()

    def _launch(self):
        initrd = Path(self._scratch.name) / "initrd"
        initrd.write_bytes(b"".join(self._archives))
        self._agent, agent = socket.socketpair()
        self._agent.settimeout(1)
        self._monitor, monitor = socket.socketpair()
        root = self._cache.qemu
        libraries = f"{root}/usr/lib/x86_64-linux-gnu"
        environment = (
            f"LD_LIBRARY_PATH={libraries}:{root}/lib/x86_64-linux-gnu",
            f"QEMU_MODULE_DIR={libraries}/qemu",
        )
        acceleration = ("kvm", "host") if has_kvm() else ("tcg,thread=multi", "max")
        arguments = [
            *("env", *environment),
            f"{root}/usr/bin/qemu-system-x86_64",
            *("-L", f"{root}/usr/share/qemu", "-L", f"{root}/usr/share/seabios"),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-machine", "q35"),
            *("-accel", acceleration[0], "-cpu", acceleration[1]),
            *("-smp", str(self._processors), "-m", str(self._memory_mib)),
            *("-kernel", self.kernel.image, "-initrd", initrd),
            "-append",
            f"{KERNEL_OPTIONS} nics={len(self.nics)} {self._kernel_options}",
            *("-serial", f"file:{self._console}"),
            *("-chardev", f"socket,id=agent,fd={agent.fileno()}", "-serial", "chardev:agent"),
            *("-chardev", f"socket,id=monitor,fd={monitor.fileno()}", "-mon", "chardev=monitor,mode=control"),
        ]
        for nic in self.nics:
            arguments += nic.arguments
        log = Path(self._scratch.name, "qemu.log").open("wb")
        self._qemu = subprocess.Popen(
            self.client.command(*arguments),
            pass_fds=(agent.fileno(), monitor.fileno()),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        for given in (agent, monitor, log):
            given.close()

    def _close(self):
        self._qemu.kill()
        self._qemu.wait()
        self._agent.close()
        self._monitor.close()
        self._received = b""

    def __exit__(self, *_):
        if hasattr(self, "_qemu"):
            self._close()
        self.client.delete()
        self._scratch.cleanup()

    # ----------- The agent ----------------------------------------------------

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> tuple[int, str]:
        """Runs a line of the guest's shell, and returns its exit status and output."""
        assert "\n" not in command and len(command) < LINE_BYTES
        self._agent.sendall(command.encode() + b"\n")
        found, printed = self._expect(rb"\r?\n?@@status (\d+)@@\r?\n", seconds)
        return int(found.group(1)), printed.decode(errors="replace").replace("\r\n", "\n")

    def output(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """Returns the output of a command, which must succeed."""
        status, printed = self.run(command, seconds)
        if status:
            raise RuntimeError(f"in the guest, `{command}` ended with {status}: {printed.strip()}")
        return printed

    def write(self, path: str, text: str):
        """Writes a file in the guest."""
        encoded = base64.b64encode(text.encode()).decode()
        self.output(f": > {path}.encoded")
        for start in range(0, len(encoded), 1000):
            self.output(f"printf %s {encoded[start : start + 1000]} >> {path}.encoded")
        self.output(f"base64 -d {path}.encoded > {path}")

    def _expect(self, pattern: bytes, seconds: float) -> tuple[re.Match, bytes]:
        deadline = time.monotonic() + seconds
        while (found := re.search(pattern, self._received)) is None:
            if time.monotonic() > deadline:
                # Late output would be taken for that of the next command.
                self._qemu.kill()
                raise GuestDied(f"no {pattern!r} within {seconds} s. {self._last_words()}")
            try:
                data = self._agent.recv(65536)
            except TimeoutError:
                continue
            if not data:
                raise GuestDied(self._last_words())
            self._received += data
        printed, self._received = self._received[: found.start()], self._received[found.end() :]
        return found, printed

    def _last_words(self) -> str:
        log = Path(self._scratch.name, "qemu.log").read_text(errors="replace")
        console = self._console.read_text(errors="replace") if self._console.exists() else ""
        return f"Received: {self._received[-500:]!r}; console: {console[-1500:]}; QEMU: {log[-1000:]}"

    # ----------- From outside -------------------------------------------------

    def is_running(self) -> bool:
        """Whether the guest still runs."""
        return self._qemu.poll() is None

    def set_carrier(self, nic: Nic, up: bool):
        """Sets or clears the carrier of a NIC, as plugging its cable would."""
        self._execute("set_link", name=f"dev{nic.number}", up=up)

    def _execute(self, command: str, **arguments):
        """Runs a command of QEMU's monitor protocol."""
        if not hasattr(self, "_qmp"):
            self._qmp = self._monitor.makefile("rw")
            # Skips the greeting.
            self._qmp.readline()
            self._execute("qmp_capabilities")
        self._qmp.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self._qmp.flush()
        # Skips events that come before the reply.
        while not {"return", "error"} & (reply := json.loads(self._qmp.readline())).keys():
            pass
        if "error" in reply:
            raise RuntimeError(f"QEMU's monitor refuses {command}: {reply['error']}")


def wait_until(condition, seconds: float, pause: float = 0.2) -> bool:
    """Waits until `condition` is true, for so many seconds at most. Returns whether it is."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def _run(*command: str | Path):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))}: {done.stderr.strip()}")
