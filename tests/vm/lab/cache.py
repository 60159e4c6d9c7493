"""Folder that fetch.sh fills: QEMU, busybox and kernels."""

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

FETCH = Path(__file__).resolve().parent.parent / "fetch.sh"

# Labels of the kernels, as in expected.toml, the oldest first.
KERNELS = ("5.10", "6.1", "6.12", "newest")


class Missing(Exception):
    """Raised if the mirror does not have a part of the lab: tests that need it are skipped."""


@dataclass(frozen=True)
class Kernel:
    """Kernel of the cache."""

    label: str
    release: str
    image: Path
    # Folder of its modules.
    modules: Path


class Cache:
    """Parts of the lab, fetched if they are missing."""

    def __init__(self, refresh: bool = False):
        root = os.environ.get("RINGDNS_VM_CACHE")
        if not root:
            root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ringdns" / "vm"
        self.root = Path(root)
        subprocess.run([FETCH, *(["--refresh"] if refresh else [])], check=True)

    def part(self, name: str) -> Path:
        """Returns the path of a part."""
        path = self.root / name
        if not path.exists():
            reason = self.root / "missing" / path.name
            raise Missing(f"{path.name}: {reason.read_text().strip() if reason.exists() else 'not fetched'}")
        return path

    @property
    def qemu(self) -> Path:
        """Root folder of QEMU's packages."""
        return self.part("qemu")

    @property
    def busybox(self) -> Path:
        """Path of the busybox program."""
        return self.part("busybox") / "busybox"

    def kernel(self, label: str) -> Kernel:
        """Returns the kernel with a label."""
        root = self.part(f"kernels/{label}")
        release = (root / "release").read_text().strip()
        modules = next(root.glob(f"**/modules/{release}"))
        return Kernel(label, release, root / "vmlinuz", modules)


def has_kvm() -> bool:
    """Whether guests can run under KVM.

    Virtual machines may have a /dev/kvm that boots no ordinary kernel, so the processor's flags
    decide.
    """
    flags = Path("/proc/cpuinfo").read_text()
    return re.search(r"\b(vmx|svm)\b", flags) is not None and os.access("/dev/kvm", os.R_OK | os.W_OK)
