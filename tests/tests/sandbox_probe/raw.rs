//! System calls by number, for tests of a filter that forbids them.

use rustix::io::Errno;

/// Makes a system call, each of whose arguments is `argument`, but those of `given`. For calls that are
/// forbidden: an argument of all ones is a pointer, a descriptor and a number that no call takes.
pub fn call(number: i64, given: &[(usize, u64)]) -> Result<i64, Errno> {
    let mut arguments = [u64::MAX; 6];
    for &(i, argument) in given {
        arguments[i] = argument;
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: no argument points to memory of this process; the callers ask for calls that are to be refused.
    let returned = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    if returned == -1 {
        Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
    } else {
        Ok(returned)
    }
}
