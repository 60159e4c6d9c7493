// SPDX-License-Identifier: MIT OR Apache-2.0
// An XDP program that is not ringdns's, and lets every packet through: what refusals.toml puts on a NIC.

enum { XDP_PASS = 2 };

__attribute__((section("xdp"), used)) int pass(void *context) {
    (void)context;
    return XDP_PASS;
}
