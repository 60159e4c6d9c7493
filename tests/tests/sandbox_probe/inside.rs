//! Attempts of a process in the sandbox to leave it.

use crate::raw::call;
use ringdns_config::Config;
use ringdns_daemon::sandbox::{self, SystemCalls};
use rustix::{
    io::Errno,
    thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities},
};
use std::{
    env, fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::Command,
};

/// Environment variable with the configuration that this process is to be limited for.
pub const CONFIG: &str = "RINGDNS_TEST_SANDBOX";
/// Environment variable with a file outside of all folders.
pub const OUTSIDE: &str = "RINGDNS_TEST_OUTSIDE";

/// Most numbers of system calls: those of later kernels are forbidden as well.
const NUMBERS: std::ops::Range<i64> = 0..1024;

/// `uretprobe` and `uprobe` of x86-64, which the kernel lets pass all filters (kernel/seccomp.c), and which
/// end a process that was not led to them by a probe.
const PROBES: [i64; 2] = [335, 336];

/// Enters the sandbox, and tries all that it forbids.
pub fn try_all() {
    let path = PathBuf::from(env::var_os(CONFIG).expect(CONFIG));
    let config = Config::parse(&fs::read_to_string(&path).unwrap(), &path).unwrap();
    let outside = PathBuf::from(env::var_os(OUTSIDE).expect(OUTSIDE));
    let sandbox = sandbox::enter(&config, &path).unwrap();
    let calls = SystemCalls::of(&config);

    let numbers = forbidden_numbers(calls);
    let arguments = forbidden_arguments(config.server.interface.is_some());
    let held = capabilities(None).unwrap();
    let lost = lost_capabilities(held);
    let paths = match sandbox.folders {
        Some(_) => forbidden_paths(&config, &path, &outside),
        None => 0,
    };
    println!("tried: {numbers} calls, {arguments} arguments, {lost} capabilities, {paths} paths");
}

/// Tries each system call that no argument makes allowed.
fn forbidden_numbers(calls: SystemCalls) -> usize {
    let forbidden = NUMBERS.filter(|&number| !SystemCalls::allows_any(number) && !calls.allows_some(number));
    // Its error is another, for the C library's sake.
    let forbidden = forbidden.filter(|number| *number != libc::SYS_clone3 && !PROBES.contains(number));
    let forbidden: Vec<_> = forbidden.collect();
    for number in &forbidden {
        assert_eq!(call(*number, &[]), Err(Errno::PERM), "system call {number}");
    }
    assert_eq!(call(libc::SYS_clone3, &[]), Err(Errno::NOSYS));
    forbidden.len()
}

/// Tries arguments that are forbidden of calls that are allowed with others.
fn forbidden_arguments(has_xdp: bool) -> usize {
    let thread_of_another =
        u64::from(rustix::process::getppid().unwrap().as_raw_nonzero().get().unsigned_abs());
    let mut tried = vec![
        ("a packet socket", libc::SYS_socket, vec![(0, libc::AF_PACKET as u64)]),
        ("a Bluetooth socket", libc::SYS_socket, vec![(0, libc::AF_BLUETOOTH as u64)]),
        ("a VSOCK socket", libc::SYS_socket, vec![(0, libc::AF_VSOCK as u64)]),
        ("an ALG socket", libc::SYS_socket, vec![(0, libc::AF_ALG as u64)]),
        ("a pair of Internet sockets", libc::SYS_socketpair, vec![(0, libc::AF_INET as u64)]),
        ("input for a terminal", libc::SYS_ioctl, vec![(1, libc::TIOCSTI)]),
        ("an address of an interface", libc::SYS_ioctl, vec![(1, libc::SIOCSIFADDR)]),
        ("a core dump", libc::SYS_prctl, vec![(0, libc::PR_SET_DUMPABLE as u64)]),
        ("a debugger", libc::SYS_prctl, vec![(0, libc::PR_SET_PTRACER as u64)]),
        ("another filter", libc::SYS_prctl, vec![(0, libc::PR_SET_SECCOMP as u64)]),
        ("an ambient capability", libc::SYS_prctl, vec![(0, libc::PR_CAP_AMBIENT as u64)]),
        ("executable memory", libc::SYS_mmap, vec![(2, (libc::PROT_READ | libc::PROT_EXEC) as u64)]),
        ("memory made executable", libc::SYS_mprotect, vec![(2, (libc::PROT_READ | libc::PROT_EXEC) as u64)]),
        ("a process", libc::SYS_clone, vec![(0, libc::SIGCHLD as u64)]),
        ("a namespace", libc::SYS_clone, vec![(0, libc::CLONE_NEWUSER as u64)]),
        (
            "a signal to another",
            libc::SYS_tgkill,
            vec![(0, thread_of_another), (1, thread_of_another), (2, 0)],
        ),
        ("a limit of another", libc::SYS_prlimit64, vec![(0, thread_of_another)]),
        ("a pinned program", libc::SYS_bpf, vec![(0, 6)]),
        ("a program for a control group", libc::SYS_bpf, vec![(0, 8)]),
        ("a token", libc::SYS_bpf, vec![(0, 36)]),
    ];
    if !has_xdp {
        tried.push(("an AF_XDP socket", libc::SYS_socket, vec![(0, libc::AF_XDP as u64)]));
        tried.push(("a map", libc::SYS_bpf, vec![(0, 0)]));
        tried.push(("a program", libc::SYS_bpf, vec![(0, 5)]));
    }
    for (what, number, arguments) in &tried {
        assert_eq!(call(*number, arguments), Err(Errno::PERM), "{what}");
    }
    assert!(Command::new("/bin/true").status().is_err(), "a program was started");
    tried.len() + 1
}

/// Tries to get each capability back that was given up.
fn lost_capabilities(held: CapabilitySets) -> usize {
    assert_eq!(held.effective, held.permitted);
    assert!(held.inheritable.is_empty(), "{held:?}");
    let lost: Vec<_> = CapabilitySet::all().difference(held.permitted).iter().collect();
    for capability in &lost {
        let more = held.permitted | *capability;
        let sets = CapabilitySets { effective: more, permitted: more, inheritable: held.inheritable };
        assert_eq!(set_capabilities(None, sets), Err(Errno::PERM), "{capability:?}");
    }
    lost.len()
}

/// Tries files that no key names.
fn forbidden_paths(config: &Config, file: &Path, outside: &Path) -> usize {
    let denied = |tried: io::Result<()>, what: &str| {
        let error = tried.err().unwrap_or_else(|| panic!("{what} is allowed"));
        // Landlock's error of links between folders, too: the folders of this test are on one device.
        let refusals = [io::ErrorKind::PermissionDenied, io::ErrorKind::CrossesDevices];
        assert!(refusals.contains(&error.kind()), "{what}: {error}");
    };
    let beside = |path: &Path| path.with_file_name("new");
    let attempts: [(&str, io::Result<()>); 14] = [
        ("reading another's file", fs::read(outside).map(drop)),
        ("reading another's folder", fs::read_dir(outside.parent().unwrap()).map(drop)),
        ("writing another's file", fs::write(outside, "")),
        ("making a file beside it", fs::write(beside(outside), "")),
        ("removing it", fs::remove_file(outside)),
        ("renaming it", fs::rename(outside, beside(outside))),
        ("making a folder beside it", fs::create_dir(beside(outside))),
        ("making a link to it", fs::hard_link(outside, config.control.socket.with_file_name("link"))),
        ("reading root's folder", fs::read_dir("/root").map(drop)),
        ("reading /", fs::read_dir("/").map(drop)),
        ("writing the configuration", fs::OpenOptions::new().write(true).open(file).map(drop)),
        ("writing in /etc", fs::write("/etc/ringdns-sandbox-test", "")),
        ("writing to the kernel", fs::write("/proc/sys/kernel/core_pattern", "")),
        ("reading the memory device", fs::read_dir("/dev").map(drop)),
    ];
    let count = attempts.len();
    for (what, tried) in attempts {
        denied(tried, what);
    }
    // By Landlock since Linux 6.7, of which an address of this test is no proof: the port is free.
    if rustix::system::uname().release().to_str().is_ok_and(|release| version(release) >= (6, 7)) {
        denied(TcpListener::bind("127.0.0.1:0").map(drop), "another port");
    }
    // And what it allows.
    fs::read(file).unwrap();
    fs::read("/proc/self/status").unwrap();
    fs::read_dir("/etc").unwrap();
    let written = config.control.socket.with_file_name("written");
    fs::write(&written, "").unwrap();
    fs::rename(&written, config.lists.fetch.dir.join("written")).unwrap();
    count
}

fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}
