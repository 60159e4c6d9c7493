// SPDX-License-Identifier: MIT OR Apache-2.0
// XDP program that is not part of ringdns and passes every packet: refusals.toml attaches it to a
// NIC.

enum { XDP_PASS = 2 };

__attribute__((section("xdp"), used)) int pass(void *context) {
    (void)context;
    return XDP_PASS;
}
