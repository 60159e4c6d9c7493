"""Expectation and result of a cell of the matrix."""

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass, field

from .cache import Kernel
from .guest import Guest

# Lines of a kernel's log that report a fault.
KERNEL_FAULT = re.compile(
    r"WARNING:|BUG:|Oops|general protection|Call Trace|refcount_t:|"
    r"NETDEV WATCHDOG|Tx Unit Hang|blocked for more than"
)


@dataclass
class Cell:
    """Kernel, driver and mode, and the result."""

    kernel: str
    release: str
    driver: str
    mode: str
    expected: str
    # Reason why the expectation is less than the mode's best.
    because: str = ""
    got: str = ""
    failures: list[str] = field(default_factory=list)
    measured: dict = field(default_factory=dict)
    seconds: float = 0.0

    @staticmethod
    def of(kernel: Kernel, driver: str, mode: str, expected: str, because: str = "") -> "Cell":
        """Makes a cell of a kernel in the cache."""
        return Cell(kernel.label, kernel.release, driver, mode, expected, because)

    @property
    def verdict(self) -> str:
        """Verdict in one word."""
        return "FAILED" if self.failures else "ok"

    def fail(self, failure: str):
        """Records a failure."""
        self.failures.append(" ".join(failure.split()))

    def require(self, condition: bool, failure: str):
        """Records a failure unless `condition` holds."""
        if not condition:
            self.fail(failure)

    @contextmanager
    def running(self):
        """Measures the time of its block, and records an exception as a failure."""
        started = time.monotonic()
        try:
            yield
        except Exception as error:
            self.fail(f"{type(error).__name__}: {str(error)[-1500:]}")
        self.seconds = round(self.seconds + time.monotonic() - started, 1)

    def check_kernel_log(self, guest: Guest):
        """Records faults in the guest's kernel log since the last call, and clears the log."""
        faults = [line for line in guest.output("dmesg -c").splitlines() if KERNEL_FAULT.search(line)]
        self.require(not faults, f"kernel: {'; '.join(faults[:4])}")

    def line(self) -> str:
        """Formats the cell for the terminal."""
        place = f"{self.release:24} {self.driver:11} {self.mode:10}"
        outcome = f"{self.got or '-':22} {self.seconds:5.0f} s  {self.verdict}"
        return "\n".join([f"{place} {outcome}", *(f"    {failure}" for failure in self.failures)])
