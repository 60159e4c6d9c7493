//! Code shared by the programs: a frame for the verifier, and the items that `no_std` requires.

#![no_std]

mod frame;

pub use frame::Frame;

/// Read by the kernel: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// No panic remains after optimisation: the verifier would refuse the call. `no_std` still requires
/// a handler.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
