"""NICs that QEMU emulates, and the two ends of each NIC's link."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Nic:
    """Emulated NIC. Its number determines its MAC address, its names and its network."""

    number: int
    # Driver, as in expected.toml.
    driver: str
    # QEMU device and its options.
    device: str
    # Number of queues of its tap.
    tap_queues: int = 1

    @property
    def interface(self) -> str:
        """Name of the interface in the guest."""
        return f"nic{self.number}"

    @property
    def tap(self) -> str:
        """Name of the client's end of the link."""
        return f"tap{self.number}"

    @property
    def guest4(self) -> str:
        """IPv4 address of the guest."""
        return f"10.53.{self.number}.2"

    @property
    def guest6(self) -> str:
        """IPv6 address of the guest."""
        return f"fd53:0:0:{self.number}::2"

    @property
    def client4(self) -> str:
        """IPv4 address of the client."""
        return f"10.53.{self.number}.1"

    @property
    def client_addresses(self) -> tuple[str, str]:
        """Addresses of the client, with prefix lengths."""
        return f"{self.client4}/24", f"fd53:0:0:{self.number}::1/64"

    @property
    def arguments(self) -> list[str]:
        """Arguments of QEMU for this NIC."""
        queues = f",queues={self.tap_queues}" if self.tap_queues > 1 else ""
        return [
            "-netdev",
            f"tap,id=net{self.number},ifname={self.tap},script=no,downscript=no,vhost=off{queues}",
            "-device",
            # An empty romfile prevents booting from the NIC.
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
