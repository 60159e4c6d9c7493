"""File system of the guest: an archive of the programs under test, and one of a kernel's modules.

The kernel unpacks concatenated archives, so the first is made once for all kernels.
"""

import lzma
import re
import shutil
import stat
import subprocess
from pathlib import Path

from .cache import Cache, Kernel, Missing

VM = Path(__file__).resolve().parent.parent
PROGRAMS = ("ringdnsd", "ringctl", "ringbench")
# Programs of this machine that the guest runs too.
TOOLS = ("ip", "ethtool", "setpriv", "taskset")
# Drivers in the order in which the guest loads them, each after the modules that it depends on.
DRIVERS = ("af_packet", "veth", "8021q", "virtio_pci", "virtio_net", "igb", "vmxnet3", "e1000e")


class Archive:
    """Archive in the cpio format that the kernel unpacks ("newc")."""

    def __init__(self):
        self.parts: list[bytes] = []
        self.inodes = 0
        self.names: set[str] = set()

    def add(self, name: str, mode: int, data: bytes = b""):
        """Adds an entry and its parent folders."""
        parent = name.rpartition("/")[0]
        if parent and parent not in self.names:
            self.add(parent, stat.S_IFDIR | 0o755)
        if name not in self.names:
            self.names.add(name)
            self._write(name, mode, data)

    def folder(self, name: str):
        """Adds an empty folder."""
        self.add(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes, executable: bool = False):
        """Adds a file."""
        self.add(name, stat.S_IFREG | (0o755 if executable else 0o644), data)

    def _write(self, name: str, mode: int, data: bytes):
        self.inodes += 1
        path = name.encode() + b"\0"
        # inode, mode, user, group, links, time, size, four device numbers, size of name, checksum
        fields = (self.inodes, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(path), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self.parts += (_padded(header + path), _padded(data))

    def finish(self) -> bytes:
        """Returns the bytes of the archive."""
        self._write("TRAILER!!!", 0, b"")
        return b"".join(self.parts)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)


def programs(cache: Cache, folder: Path, scratch: Path) -> bytes:
    """Returns the archive with the programs of `folder`, tools, and the guest's scripts."""
    archive = Archive()
    for name in ("dev", "proc", "sys", "tmp", "run", "etc", "modules"):
        archive.folder(name)
    archive.file("bin/busybox", cache.busybox.read_bytes(), executable=True)
    for name in ("init", "agent", "cable"):
        archive.file(name, (VM / "guest" / name).read_bytes(), executable=True)
    for name in PROGRAMS:
        if not (folder / name).exists():
            raise FileNotFoundError(
                f"{folder / name}: build it first, or name another folder with --programs"
            )
        _add_program(archive, folder / name, f"sbin/{name}", scratch)
    for name in TOOLS:
        path = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
        if path is None:
            raise FileNotFoundError(f"{name} is not installed: deploy/setup.sh test")
        _add_program(archive, Path(path), f"sbin/{name}", scratch)
    compiled = scratch / "pass.bpf.o"
    # Libraries that load objects need BTF, hence -g.
    subprocess.run(
        ["clang", "-target", "bpf", "-O2", "-g", "-c", VM / "pass.bpf.c", "-o", compiled], check=True
    )
    archive.file("pass.bpf.o", compiled.read_bytes())
    compiled = scratch / "built"
    subprocess.run(["gcc", "-O2", "-Wall", "-Werror", VM / "deny.c", "-o", compiled], check=True)
    _add_program(archive, compiled, "sbin/deny", scratch)
    return archive.finish()


def _add_program(archive: Archive, path: Path, name: str, scratch: Path):
    # Debug information is nine tenths of a release build.
    stripped = scratch / path.name
    subprocess.run(["strip", "-o", stripped, path], check=True)
    archive.file(name, stripped.read_bytes(), executable=True)
    stripped.unlink()
    wanted = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
    for library in re.findall(r"(/\S+)", wanted):
        archive.file(library.lstrip("/"), Path(library).read_bytes(), executable=True)


def modules(kernel: Kernel) -> bytes:
    """Returns the archive with the drivers of `kernel`, and with their order in `modules/order`."""
    # File names may have - where module names have _, or the reverse.
    files = {_module_name(path): path for path in kernel.modules.glob("kernel/**/*.ko*")}
    archive, order = Archive(), []

    def require(name: str):
        path = files.get(name)
        # A module without a file is built in.
        if path is None or name in order:
            return
        data = _unpacked(path)
        for needed in _depends(data):
            require(needed)
        archive.file(f"modules/{name}.ko", data)
        order.append(name)

    for driver in DRIVERS:
        require(driver)
    archive.file("modules/order", "".join(f"{name}\n" for name in order).encode())
    return archive.finish()


def _module_name(path: Path) -> str:
    return path.name.partition(".ko")[0].replace("-", "_")


def _unpacked(path: Path) -> bytes:
    if path.suffix == ".xz":
        return lzma.decompress(path.read_bytes())
    if path.suffix == ".ko":
        return path.read_bytes()
    raise Missing(f"{path.name}: only .ko and .ko.xz modules can be unpacked")


def _depends(module: bytes) -> list[str]:
    """Returns a module's dependencies from its .modinfo section, since depmod has not run."""
    found = re.search(rb"\0depends=([^\0]*)\0", module)
    return [name.replace("-", "_") for name in found.group(1).decode().split(",") if name] if found else []
