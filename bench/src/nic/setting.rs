//! Settings under trial: a mode of AF_XDP, with at most one tuning.

use crate::put_back::PutBack;
use anyhow::{Result, ensure};
use ringdns_doctor::{
    host::{Host, HugePages},
    nic::{Nic, class},
};
use serde::Serialize;
use std::{fmt, path::Path};

/// Path of packets from the NIC into the rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The XDP program runs in the driver, and the NIC writes into the rings' memory.
    ZeroCopy,
    /// The XDP program runs in the driver, and the kernel copies.
    Copy,
    /// The XDP program runs behind the driver, and the kernel copies.
    Generic,
}

impl Tuning {
    /// All tunings except `none`.
    pub const ALL: [Tuning; 3] = [Tuning::BusyPolling, Tuning::ThreadedNapi, Tuning::HugePages];
}

impl Mode {
    /// All modes, the fastest first.
    pub const ALL: [Mode; 3] = [Mode::ZeroCopy, Mode::Copy, Mode::Generic];

    /// Name of the mode in ringdnsd's configuration and in the responder's options.
    pub fn label(self) -> &'static str {
        match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
            Mode::Generic => "generic",
        }
    }
}

/// Tuning of a mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tuning {
    /// No change.
    None,
    /// Workers drive the NIC, and its interrupts stay off.
    BusyPolling,
    /// NAPI runs in threads of its own.
    ThreadedNapi,
    /// Packet memory and caches are on huge pages.
    HugePages,
}

/// Mode and its tuning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Mode of AF_XDP.
    pub mode: Mode,
    /// Tuning of the mode.
    pub tuning: Tuning,
}

/// Number of empty polls that busy polling allows before interrupts are enabled again.
const DEFER_HARD_IRQS: &str = "2";
/// Time that busy polling allows between two polls, in nanoseconds: the value that the kernel's
/// documentation proposes.
const FLUSH_TIMEOUT: &str = "200000";
const NR_HUGEPAGES: &str = "/proc/sys/vm/nr_hugepages";
/// KiB of huge pages for each queue: 8 MiB of packets, 16 MiB of cache, and rounding.
const KIBIBYTES_A_QUEUE: u64 = 32 << 10;

impl Setting {
    /// Returns the settings of `modes`, mode by mode, each without tuning first.
    pub fn all(modes: &[Mode], tunings: &[Tuning]) -> Vec<Setting> {
        let of = |mode: &Mode| {
            let mode = *mode;
            let plain = Setting { mode, tuning: Tuning::None };
            let tuned = tunings.iter().filter(|tuning| **tuning != Tuning::None);
            std::iter::once(plain).chain(tuned.map(move |tuning| Setting { mode, tuning: *tuning }))
        };
        modes.iter().flat_map(of).collect()
    }

    /// Returns the reason why this setting cannot be tried, or would show nothing new.
    pub fn obstacle(self, nic: &Nic, host: &Host, queues: u32) -> Option<String> {
        let HugePages { free, kibibytes, .. } = host.huge_pages;
        match self.tuning {
            Tuning::None => None,
            Tuning::BusyPolling if self.mode == Mode::Generic => {
                Some("sockets in generic mode do not know the NAPI that serves them".into())
            }
            Tuning::BusyPolling if nic.napi_defer_hard_irqs.is_none() => {
                Some("the kernel has no napi_defer_hard_irqs: it needs Linux 5.11 or later".into())
            }
            Tuning::ThreadedNapi if nic.threaded_napi.is_none() => {
                Some("the kernel has no threaded NAPI: it needs Linux 5.12 or later".into())
            }
            Tuning::ThreadedNapi if nic.threaded_napi == Some(true) => {
                Some("it is on already, so all trials have it".into())
            }
            Tuning::HugePages if kibibytes == 0 => Some("the kernel has no huge pages".into()),
            Tuning::HugePages if free >= pages(queues, kibibytes) => {
                Some(format!("{free} are reserved and free, so all trials have them"))
            }
            _ => None,
        }
    }

    /// Changes the machine to this setting.
    pub fn apply(self, nic: &Nic, queues: u32, put_back: &mut PutBack) -> Result<()> {
        let sysfs = class(&nic.interface);
        match self.tuning {
            Tuning::None => Ok(()),
            Tuning::BusyPolling => {
                put_back.write(&sysfs.join("gro_flush_timeout"), FLUSH_TIMEOUT)?;
                put_back.write(&sysfs.join("napi_defer_hard_irqs"), DEFER_HARD_IRQS)
            }
            Tuning::ThreadedNapi => put_back.write(&sysfs.join("threaded"), "1"),
            Tuning::HugePages => {
                let HugePages { total, free, kibibytes } = HugePages::read();
                let wanted = pages(queues, kibibytes);
                let more = total + wanted - free.min(wanted);
                put_back.write(Path::new(NR_HUGEPAGES), &more.to_string())?;
                let free = HugePages::read().free;
                ensure!(
                    free >= wanted,
                    "{wanted} huge pages are needed, and the kernel found memory for {free}"
                );
                Ok(())
            }
        }
    }

    /// Returns the changes that [`Setting::apply`] makes, as text.
    pub fn changes(self, interface: &str) -> Option<String> {
        match self.tuning {
            Tuning::None => None,
            Tuning::BusyPolling => Some(format!(
                "for busy polling: napi_defer_hard_irqs of {interface} to {DEFER_HARD_IRQS}, gro_flush_timeout to \
                 {FLUSH_TIMEOUT} ns"
            )),
            Tuning::ThreadedNapi => Some(format!("for threaded NAPI: threaded of {interface} to 1")),
            Tuning::HugePages => Some("for huge pages: vm.nr_hugepages to as many as are needed".into()),
        }
    }
}

fn pages(queues: u32, kibibytes: u64) -> u64 {
    (u64::from(queues) * KIBIBYTES_A_QUEUE).div_ceil(kibibytes.max(1))
}

impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tuning::None => "plain",
            Tuning::BusyPolling => "busy polling",
            Tuning::ThreadedNapi => "threaded NAPI",
            Tuning::HugePages => "huge pages",
        })
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.mode.label(), self.tuning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(free: u64) -> Host {
        Host { huge_pages: HugePages { total: free, free, kibibytes: 2048 }, ..Host::default() }
    }

    #[test]
    fn a_mode_is_tried_plain_whatever_is_asked_for() {
        let copy = |tuning| Setting { mode: Mode::Copy, tuning };
        assert_eq!(Setting::all(&[Mode::Copy], &[Tuning::None]), [copy(Tuning::None)]);
        let with_pages = [copy(Tuning::None), copy(Tuning::HugePages)];
        assert_eq!(Setting::all(&[Mode::Copy], &[Tuning::HugePages]), with_pages);
    }

    #[test]
    fn each_mode_is_tried_plain_first() {
        let all = Setting::all(&[Mode::Copy, Mode::Generic], &Tuning::ALL);
        assert_eq!(all.len(), 8);
        assert_eq!(all[0], Setting { mode: Mode::Copy, tuning: Tuning::None });
        assert_eq!(all[4], Setting { mode: Mode::Generic, tuning: Tuning::None });
    }

    #[test]
    fn what_cannot_make_a_difference_is_left_out_with_a_reason() {
        let nic = Nic { napi_defer_hard_irqs: Some(0), threaded_napi: Some(false), ..Nic::default() };
        let left_out = |nic: &Nic, host: &Host| -> Vec<String> {
            let all = Setting::all(&[Mode::Copy, Mode::Generic], &Tuning::ALL).into_iter();
            all.filter(|setting| setting.obstacle(nic, host, 2).is_some()).map(|s| s.to_string()).collect()
        };
        assert_eq!(left_out(&nic, &host(0)), ["generic, busy polling"]);
        // Two queues need 64 MiB.
        assert_eq!(left_out(&nic, &host(31)), ["generic, busy polling"]);
        assert_eq!(left_out(&nic, &host(32)).len(), 3);
        let old = Nic::default();
        assert_eq!(left_out(&old, &host(0)).len(), 4, "no busy polling, no threaded NAPI");
        let threaded = Nic { threaded_napi: Some(true), ..nic };
        assert_eq!(left_out(&threaded, &host(0)).len(), 3);
    }
}
