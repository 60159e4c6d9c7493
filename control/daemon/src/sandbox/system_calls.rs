//! System calls that ringdnsd makes, as a filter of seccomp.
//!
//! All others fail with EPERM: a call that a new version of a library makes is then an error that is
//! reported, and does not end the service. The kernel remembers which calls it need not ask the filter about, so
//! those of a worker cost nothing.

use super::SandboxError;
use ringdns_config::Config;
use seccompiler::{
    BpfProgram, Error, SeccompAction,
    SeccompCmpArgLen::{Dword, Qword},
    SeccompCmpOp::{Eq, MaskedEq},
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter_all_threads,
};
use std::{collections::BTreeMap, env::consts::ARCH, process};

/// Calls that are allowed with any arguments.
const ANY: [libc::c_long; 119] = [
    // Files. Landlock and the user's rights say which.
    libc::SYS_openat,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fadvise64,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_umask,
    // Memory.
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_mincore,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_get_mempolicy,
    libc::SYS_mbind,
    // Sockets; `socket` is below.
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    // Events.
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Threads and signals.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_getcpu,
    libc::SYS_gettid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // The CPU profile's timer.
    libc::SYS_setitimer,
    // Time, randomness, facts.
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_getrandom,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_capget,
    libc::SYS_times,
];

/// Older names of calls above, which libraries use where there are any.
#[cfg(target_arch = "x86_64")]
const OLDER: [libc::c_long; 26] = [
    libc::SYS_open,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_getdents,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_dup2,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_create,
    libc::SYS_epoll_wait,
    libc::SYS_eventfd,
    libc::SYS_inotify_init,
    libc::SYS_time,
    libc::SYS_alarm,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: [libc::c_long; 0] = [];

/// Address families of sockets. NETLINK watches interfaces and fills nftables sets.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// Requests of `ioctl`: about open files, and about interfaces.
const REQUESTS: [u64; 8] = [
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONREAD,
    libc::TCGETS,
    libc::TIOCGWINSZ,
    libc::SIOCGIFINDEX,
    libc::SIOCGIFMTU,
    SIOCETHTOOL,
];
/// Request of `ioctl` about drivers (linux/sockios.h).
const SIOCETHTOOL: u64 = 0x8946;

/// Options of `prctl`: names of threads and of memory, and facts about this process.
const OPTIONS: [i32; 6] = [
    libc::PR_SET_NAME,
    libc::PR_GET_NAME,
    libc::PR_SET_VMA,
    libc::PR_CAPBSET_READ,
    libc::PR_GET_NO_NEW_PRIVS,
    libc::PR_GET_SECCOMP,
];

/// Commands of `bpf` (linux/bpf.h): maps, programs, type information, links, and facts about them.
const BPF_COMMANDS: [u64; 20] = [
    0,  // MAP_CREATE
    1,  // MAP_LOOKUP_ELEM
    2,  // MAP_UPDATE_ELEM
    3,  // MAP_DELETE_ELEM
    4,  // MAP_GET_NEXT_KEY
    5,  // PROG_LOAD
    10, // PROG_TEST_RUN
    11, // PROG_GET_NEXT_ID
    13, // PROG_GET_FD_BY_ID
    14, // MAP_GET_FD_BY_ID
    15, // OBJ_GET_INFO_BY_FD
    18, // BTF_LOAD
    22, // MAP_FREEZE
    24, // MAP_LOOKUP_BATCH
    26, // MAP_UPDATE_BATCH
    28, // LINK_CREATE
    29, // LINK_UPDATE
    30, // LINK_GET_FD_BY_ID
    31, // LINK_GET_NEXT_ID
    34, // LINK_DETACH
];

/// Errors of calls that are forbidden.
const FORBIDDEN: SeccompAction = SeccompAction::Errno(libc::EPERM as u32);
/// Error of `clone3`, whose arguments a filter cannot see: the C library then calls `clone`.
const UNKNOWN: SeccompAction = SeccompAction::Errno(libc::ENOSYS as u32);

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// System calls that a configuration needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCalls {
    /// Whether AF_XDP sockets are opened and BPF programs loaded.
    xdp: bool,
}

impl SystemCalls {
    /// Returns the system calls that a configuration needs.
    pub fn of(config: &Config) -> Self {
        SystemCalls { xdp: config.server.interface.is_some() }
    }

    /// Whether any arguments of a call are allowed.
    pub fn allows_any(number: i64) -> bool {
        ANY.contains(&number) || OLDER.contains(&number)
    }

    /// Whether some arguments of a call are allowed.
    pub fn allows_some(self, number: i64) -> bool {
        let mut rules = Rules::new();
        self.add_conditions(&mut rules).is_ok() && rules.contains_key(&number)
    }

    /// Forbids all threads of this process all other calls.
    pub fn enforce(self) -> Result<(), SandboxError> {
        let architecture: TargetArch = ARCH.try_into().map_err(Error::from)?;
        let mut rules: Rules = ANY.into_iter().chain(OLDER).map(|number| (number, Vec::new())).collect();
        self.add_conditions(&mut rules)?;
        // A filter of its own, before the other, which forbids filters. The strictest verdict of all filters
        // counts.
        let clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
        rules.extend(clone3.clone());
        for (rules, others, these) in
            [(clone3, SeccompAction::Allow, UNKNOWN), (rules, FORBIDDEN, SeccompAction::Allow)]
        {
            let filter = SeccompFilter::new(rules, others, these, architecture).map_err(Error::from)?;
            let program: BpfProgram = filter.try_into().map_err(Error::from)?;
            apply_filter_all_threads(&program)?;
        }
        Ok(())
    }

    /// Adds the calls that some arguments are allowed for.
    fn add_conditions(self, rules: &mut Rules) -> Result<(), Error> {
        let families = FAMILIES.into_iter().chain(self.xdp.then_some(libc::AF_XDP));
        let families: Vec<_> = families.map(|family| family as u64).collect();
        let one_of = |argument: u8, values: &[u64]| -> Result<Vec<SeccompRule>, Error> {
            values.iter().map(|&value| equals(argument, value)).collect()
        };
        rules.insert(libc::SYS_socket, one_of(0, &families)?);
        rules.insert(libc::SYS_socketpair, one_of(0, &[libc::AF_UNIX as u64])?);
        rules.insert(libc::SYS_ioctl, one_of(1, &REQUESTS)?);
        rules.insert(libc::SYS_prctl, one_of(0, &OPTIONS.map(|option| option as u64))?);
        // Memory is never executable, so no code can be brought.
        let executable = libc::PROT_EXEC as u64;
        for call in [libc::SYS_mmap, libc::SYS_mprotect] {
            let condition = SeccompCondition::new(2, Dword, MaskedEq(executable), 0)?;
            rules.insert(call, vec![SeccompRule::new(vec![condition])?]);
        }
        // Threads, but no processes.
        let thread = libc::CLONE_THREAD as u64;
        let condition = SeccompCondition::new(0, Qword, MaskedEq(thread), thread)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![condition])?]);
        // Signals and limits of this process alone. An abort is a signal.
        let this = u64::from(process::id());
        rules.insert(libc::SYS_tgkill, one_of(0, &[this])?);
        rules.insert(libc::SYS_prlimit64, one_of(0, &[0])?);
        if self.xdp {
            rules.insert(libc::SYS_bpf, one_of(0, &BPF_COMMANDS)?);
        }
        Ok(())
    }
}

/// Returns the rule that an argument has a value.
fn equals(argument: u8, value: u64) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Dword, Eq, value)?])?)
}
