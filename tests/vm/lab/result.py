"""What was expected of a cell of the matrix, and what came of it."""

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from .cache import Kernel
from .guest import Guest

# What of a kernel's log says that something is broken.
KERNEL_FAULT = re.compile(
    r"WARNING:|BUG:|Oops|general protection|Call Trace|refcount_t:|"
    r"NETDEV WATCHDOG|Tx Unit Hang|blocked for more than"
)


@dataclass
class Cell:
    """A kernel, a driver and a mode, and what was seen."""

    kernel: str
    release: str
    driver: str
    mode: str
    expected: str
    # Why the expected is not the best mode.
    because: str = ""
    got: str = ""
    failures: list[str] = field(default_factory=list)
    measured: dict = field(default_factory=dict)
    seconds: float = 0.0

    @staticmethod
    def of(kernel: Kernel, driver: str, mode: str, expected: str, because: str = "") -> "Cell":
        """A cell of a kernel that there is."""
        return Cell(kernel.label, kernel.release, driver, mode, expected, because)

    @property
    def verdict(self) -> str:
        """One word."""
        return "FAILED" if self.failures else "ok"

    def fail(self, failure: str):
        """Notes a deviation."""
        self.failures.append(" ".join(failure.split()))

    def require(self, condition: bool, failure: str):
        """Notes a deviation unless `condition` holds."""
        if not condition:
            self.fail(failure)

    @contextmanager
    def running(self):
        """Times what is in it, and takes an error for a deviation."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            self.fail(f"{type(error).__name__}: {str(error)[-1500:]}")
        self.seconds = round(self.seconds + time.monotonic() - started, 1)

    def check_kernel_log(self, guest: Guest):
        """Notes faults that the guest's kernel has logged since it was asked last, and forgets them."""
        faults = [line for line in guest.output("dmesg -c").splitlines() if KERNEL_FAULT.search(line)]
        self.require(not faults, f"kernel: {'; '.join(faults[:4])}")

    def line(self) -> str:
        """For the terminal."""
        place = f"{self.release:24} {self.driver:11} {self.mode:10}"
        outcome = f"{self.got or '-':22} {self.seconds:5.0f} s  {self.verdict}"
        return "\n".join([f"{place} {outcome}", *(f"    {failure}" for failure in self.failures)])
