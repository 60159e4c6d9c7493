//! Checks of kernel, memory and clock.

use super::{Completed, fine, new, unknown};
use crate::{
    changes,
    facts::{Facts, MERGED_PAGES},
};
use ringdns_api::{Finding, Verdict};

/// Oldest Linux with all that the XDP program needs.
const XDP: (u32, u32) = (5, 10);
/// Oldest Linux with preferred busy polling.
const BUSY_POLL: (u32, u32) = (5, 11);

/// Seconds by which a file may be ahead of the clock.
const AHEAD_MAX: i64 = 86_400;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let jit = match facts.jit {
        Some(0) => Some(
            new(
                "bpf_jit",
                Verdict::Warning,
                "the kernel interprets BPF programs: every packet costs several times as much",
            )
            .fix(vec![changes::value("/proc/sys/net/core/bpf_jit_enable", "0", "1")], false),
        ),
        Some(_) => Some(fine("bpf_jit", "BPF programs are compiled")),
        // Kernels without a compiler, and network namespaces, have no such file.
        None => None,
    };
    [Some(kernel(facts)), jit, Some(huge_pages(facts)), merged_pages(facts), Some(clock(facts))]
        .into_iter()
        .flatten()
        .collect()
}

/// Returns the first two numbers of a release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    Some((numbers.next()?, numbers.next()?))
}

fn kernel(facts: &Facts) -> Finding {
    let release = &facts.host.machine.kernel;
    let Some(version) = version(release) else { return unknown("kernel", format!("release {release:?}")) };
    let uses_xdp = facts.wanted.interface.is_some();
    if uses_xdp && version < XDP {
        let (verdict, meaning) = match facts.wanted.falls_back {
            true => (Verdict::Warning, "so kernel sockets will serve, which is slower"),
            false => (Verdict::Fault, "and server.fallback = false: ringdnsd will not start"),
        };
        return new("kernel", verdict, format!("Linux {release}: AF_XDP needs 5.10, {meaning}"))
            .remedy("boot a kernel of Debian 11 or later");
    }
    if facts.wanted.busy_poll && version < BUSY_POLL {
        let evidence = format!("Linux {release}: server.busy_poll needs 5.11");
        return new("kernel", Verdict::Warning, evidence).remedy("remove server.busy_poll");
    }
    fine("kernel", format!("Linux {release}"))
}

fn huge_pages(facts: &Facts) -> Finding {
    let pages = &facts.host.huge_pages;
    if pages.kibibytes == 0 {
        return fine("huge_pages", "the kernel has none");
    }
    // For caches, and 64 pages for frames and indices.
    let bytes = facts.wanted.worker_bytes.saturating_mul(u64::from(facts.workers));
    let wanted = bytes.div_ceil(pages.kibibytes << 10) + 64;
    let said = format!("{} of {} KiB, {} free", pages.total, pages.kibibytes, pages.free);
    match pages.total {
        0 => fine(
            "huge_pages",
            format!("{said}; optional: `sysctl vm.nr_hugepages={wanted}` before the start"),
        ),
        _ => fine("huge_pages", said),
    }
}

fn merged_pages(facts: &Facts) -> Option<Finding> {
    let setting = facts.merged_pages.as_deref()?;
    if setting != "never" || facts.host.huge_pages.total > 0 {
        return Some(fine("transparent_huge_pages", setting));
    }
    let evidence = "never, and no huge pages are reserved: caches miss the TLB more often";
    Some(
        new("transparent_huge_pages", Verdict::Advice, evidence)
            .fix(vec![changes::value(MERGED_PAGES, "never", "madvise")], false),
    )
}

fn clock(facts: &Facts) -> Finding {
    if let Some((file, changed)) = &facts.newest
        && changed - facts.now > AHEAD_MAX
    {
        let days = (changed - facts.now) / 86_400;
        let evidence = format!(
            "the clock is {days} days before the time of {}: certificates and signatures fail",
            file.display()
        );
        return new("clock", Verdict::Fault, evidence).remedy("timedatectl set-ntp true");
    }
    match facts.is_synchronised {
        Some(true) => fine("clock", "a service keeps it right"),
        Some(false) => {
            new("clock", Verdict::Warning, "systemd-timesyncd runs, and has reached no time server yet")
                .remedy("timedatectl timesync-status")
        }
        None if facts.wanted.needs_time => unknown(
            "clock",
            "no service for the time was found, and certificates or signatures are judged by it",
        )
        .remedy("apt install systemd-timesyncd"),
        None => unknown("clock", "no service for the time was found; nothing here depends on it"),
    }
}
