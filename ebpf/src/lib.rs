//! What the programs share: a frame as the verifier wants it read, and the things every `no_std` binary owes.

#![no_std]

mod frame;

pub use frame::Frame;

/// Read by the kernel: some helpers are for GPL-compatible programs only.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// No panic survives optimisation: the verifier would refuse the call. `no_std` asks for a handler all the
/// same.
#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
