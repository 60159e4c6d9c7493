"""The folder that fetch.sh fills: QEMU, busybox and kernels."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FETCH = Path(__file__).resolve().parent.parent / "fetch.sh"

# In the order of their age; the labels of expected.toml.
KERNELS = ("5.10", "6.1", "6.12", "newest")


class Missing(Exception):
    """A part of the lab that the mirror does not have: what needs it is skipped."""


@dataclass(frozen=True)
class Kernel:
    """A kernel of the cache."""

    label: str
    release: str
    image: Path
    # The folder below which its modules lie.
    modules: Path


class Cache:
    """The parts of the lab, fetched if they were not there."""

    def __init__(self, refresh: bool = False):
        root = os.environ.get("RINGDNS_VM_CACHE")
        if not root:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringdns" / "vm"
        self.root = Path(root)
        subprocess.run([FETCH, *(["--refresh"] if refresh else [])], check=True)

    def part(self, name: str) -> Path:
        """The path of a part."""
        path = self.root / name
        if not path.exists():
            reason = self.root / "missing" / path.name
            raise Missing(f"{path.name}: {reason.read_text().strip() if reason.exists() else 'not fetched'}")
        return path

    @property
    def qemu(self) -> Path:
        """The root folder of QEMU's packages."""
        return self.part("qemu")

    @property
    def busybox(self) -> Path:
        """The program."""
        return self.part("busybox") / "busybox"

    def kernel(self, label: str) -> Kernel:
        """The kernel of a label."""
        root = self.part(f"kernels/{label}")
        release = (root / "release").read_text().strip()
        modules = next(root.glob(f"**/modules/{release}"))
        return Kernel(label, release, root / "vmlinuz", modules)


def has_kvm() -> bool:
    """Whether guests can run on the processor itself.

    Virtual machines may have a /dev/kvm that boots no ordinary kernel; the processor's own flags tell.
    """
    flags = Path("/proc/cpuinfo").read_text()
    return re.search(r"\b(vmx|svm)\b", flags) is not None and os.access("/dev/kvm", os.R_OK | os.W_OK)
