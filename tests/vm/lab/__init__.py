"""Lab of virtual machines: guests with Debian's kernels and emulated NICs, and their clients."""
