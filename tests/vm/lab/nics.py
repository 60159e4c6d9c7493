"""The NICs that QEMU emulates, and the two ends of the cable that each hangs on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Nic:
    """An emulated NIC. Its number makes its MAC address, its names and its network."""

    number: int
    # The driver, as in expected.toml.
    driver: str
    # QEMU's device and its options.
    device: str
    # Queues of the tap behind it.
    tap_queues: int = 1

    @property
    def interface(self) -> str:
        """The guest's name of it."""
        return f"nic{self.number}"

    @property
    def tap(self) -> str:
        """The client's end of the cable."""
        return f"tap{self.number}"

    @property
    def guest4(self) -> str:
        """The guest's IPv4 address."""
        return f"10.53.{self.number}.2"

    @property
    def guest6(self) -> str:
        """The guest's IPv6 address."""
        return f"fd53:0:0:{self.number}::2"

    @property
    def client4(self) -> str:
        """The client's IPv4 address."""
        return f"10.53.{self.number}.1"

    @property
    def client_addresses(self) -> tuple[str, str]:
        """The client's addresses, with their prefixes' lengths."""
        return f"{self.client4}/24", f"fd53:0:0:{self.number}::1/64"

    @property
    def arguments(self) -> list[str]:
        """QEMU's arguments."""
        queues = f",queues={self.tap_queues}" if self.tap_queues > 1 else ""
        return [
            "-netdev",
            f"tap,id=net{self.number},ifname={self.tap},script=no,downscript=no,vhost=off{queues}",
            "-device",
            # No boot from it.
            f"{self.device},id=dev{self.number},netdev=net{self.number},mac=02:00:00:00:53:{self.number:02x},romfile=",
        ]


# virtio_net has zero-copy only where the device's DMA is the kernel's own, hence iommu_platform.
VIRTIO = Nic(
    1, "virtio_net", "virtio-net-pci,mq=on,vectors=6,iommu_platform=on,disable-legacy=on", tap_queues=2
)
IGB = Nic(2, "igb", "igb")
VMXNET3 = Nic(3, "vmxnet3", "vmxnet3")
E1000E = Nic(4, "e1000e", "e1000e")
ALL = (VIRTIO, IGB, VMXNET3, E1000E)
