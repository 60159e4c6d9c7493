//! Runs a command to which a system call is denied, as by a kernel without it or by a container's
//! seccomp profile.
//!
//! `deny bpf ENOSYS COMMAND…`, `deny socket:44 EAFNOSUPPORT COMMAND…`: the second denies `socket`
//! only for family 44.

use std::{collections::BTreeMap, env, error::Error, os::unix::process::CommandExt, process::Command};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [call, errno, program, rest @ ..] = &arguments[..] else {
        return Err("usage: deny SYSCALL[:FIRST ARGUMENT] ERRNO COMMAND…".into());
    };
    let (name, first) =
        call.split_once(':').map_or((call.as_str(), None), |(name, first)| (name, Some(first)));
    let number = match name {
        "bpf" => libc::SYS_bpf,
        "socket" => libc::SYS_socket,
        other => return Err(format!("cannot deny {other}: use bpf or socket").into()),
    };
    let errno = match errno.as_str() {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        other => return Err(format!("unknown error {other}: use ENOSYS, EPERM or EAFNOSUPPORT").into()),
    };
    // Without rules for its arguments, a call is always denied.
    let rules = match first {
        None => Vec::new(),
        Some(value) => {
            let is_it = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value.parse()?)?;
            vec![SeccompRule::new(vec![is_it])?]
        }
    };
    let filter: BpfProgram = SeccompFilter::new(
        BTreeMap::from([(number, rules)]),
        SeccompAction::Allow,
        SeccompAction::Errno(errno as u32),
        env::consts::ARCH.try_into()?,
    )?
    .try_into()?;
    seccompiler::apply_filter(&filter)?;
    Err(Command::new(program).args(rest).exec().into())
}
