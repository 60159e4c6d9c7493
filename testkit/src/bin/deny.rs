//! Runs a command to which a system call is denied, as a kernel without it or a container's seccomp profile would.
//!
//! `deny bpf ENOSYS COMMAND…`, `deny socket:44 EAFNOSUPPORT COMMAND…`: of `socket`, only that of family 44.

use std::{collections::BTreeMap, env, error::Error, os::unix::process::CommandExt, process::Command};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [call, errno, program, rest @ ..] = &arguments[..] else {
        return Err("deny SYSCALL[:FIRST ARGUMENT] ERRNO COMMAND…".into());
    };
    let (name, first) =
        call.split_once(':').map_or((call.as_str(), None), |(name, first)| (name, Some(first)));
    let number = match name {
        "bpf" => libc::SYS_bpf,
        "socket" => libc::SYS_socket,
        other => return Err(format!("cannot deny {other}").into()),
    };
    let errno = match errno.as_str() {
        "ENOSYS" => libc::ENOSYS,
        "EPERM" => libc::EPERM,
        "EAFNOSUPPORT" => libc::EAFNOSUPPORT,
        other => return Err(format!("unknown {other}").into()),
    };
    // Without rules of its arguments, a call is denied whatever they are.
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
