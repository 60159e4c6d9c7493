//! Checks of privileges, limits and certificates.

use super::{Completed, fine, new};
use crate::{certificate::Certificate, facts::Facts};
use ringdns_api::{Finding, Verdict};
use ringdns_xdp::{NEEDED, grant};
use rustix::thread::CapabilitySet;

/// First port that needs no capability, where the kernel does not say.
const UNPRIVILEGED: u16 = 1024;

/// Packet memory of a worker in bytes: 4096 frames of 2 KiB.
pub const PACKET_MEMORY: u64 = 4096 * 2048;

/// Seconds before its end at which a certificate is warned of.
const SOON: i64 = 14 * 86_400;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![capabilities(facts)];
    findings.extend(facts.wanted.interface.is_some().then(|| memlock(facts)));
    findings.extend(facts.certificates.iter().map(|certificate| judge(certificate, facts.now)));
    findings
}

/// Returns the capabilities that a configuration needs.
fn needed(facts: &Facts) -> Vec<(CapabilitySet, &'static str)> {
    let mut needed = Vec::new();
    if facts.wanted.interface.is_some() {
        needed.extend(NEEDED);
    }
    let unprivileged = facts.unprivileged_port.unwrap_or(UNPRIVILEGED);
    if facts.wanted.least_port.is_some_and(|port| port < unprivileged) {
        needed.push((CapabilitySet::NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"));
    }
    needed
}

fn capabilities(facts: &Facts) -> Finding {
    let (set, whose) = match (facts.daemon, facts.bounding) {
        (Some(daemon), _) => (daemon.permitted, format!("ringdnsd, process {},", daemon.pid)),
        (None, Some(bounding)) => (bounding, "this host or container".to_owned()),
        (None, None) => return super::unknown("capabilities", "/proc cannot be read"),
    };
    let set = CapabilitySet::from_bits_retain(set);
    let needed = needed(facts);
    let lacking: Vec<_> =
        needed.iter().filter(|(one, _)| !set.contains(*one)).map(|(_, name)| *name).collect();
    if needed.is_empty() {
        return fine("capabilities", "none is needed");
    }
    if lacking.is_empty() {
        let names: Vec<_> = needed.iter().map(|(_, name)| *name).collect();
        return fine("capabilities", format!("{whose} has {}", names.join(", ")));
    }
    let evidence = format!("{whose} lacks {}", lacking.join(", "));
    // Without those of AF_XDP, kernel sockets serve, which is slower.
    let is_served = facts.wanted.falls_back && !lacking.contains(&"CAP_NET_BIND_SERVICE");
    let verdict = if is_served { Verdict::Warning } else { Verdict::Fault };
    new("capabilities", verdict, evidence).remedy(grant(&lacking))
}

fn memlock(facts: &Facts) -> Finding {
    let queues = facts.nic.as_ref().map_or(1, |nic| nic.queues());
    let wanted = PACKET_MEMORY * u64::from(queues);
    let (limit, may_exceed, whose) = match facts.daemon {
        Some(daemon) => {
            let permitted = CapabilitySet::from_bits_retain(daemon.permitted);
            (daemon.memlock, permitted.contains(CapabilitySet::IPC_LOCK), "ringdnsd")
        }
        // The unit and the packages' container set it, or have CAP_IPC_LOCK.
        None => (facts.memlock.unwrap_or(u64::MAX), false, "a program of this shell"),
    };
    let said = |limit: u64| {
        format!(
            "{whose} may lock {} of the {} MiB of packet memory",
            if limit == u64::MAX { "all".to_owned() } else { format!("{} MiB", limit >> 20) },
            wanted >> 20
        )
    };
    if limit >= wanted || may_exceed {
        let evidence = if limit >= wanted { said(u64::MAX) } else { format!("{whose} has CAP_IPC_LOCK") };
        return fine("memlock", evidence);
    }
    match facts.daemon {
        Some(_) => new("memlock", Verdict::Warning, said(limit))
            .remedy("LimitMEMLOCK=infinity in the unit, or CAP_IPC_LOCK"),
        None => fine("memlock", format!("{}; the unit sets its own limit", said(limit))),
    }
}

fn judge(certificate: &Certificate, now: i64) -> Finding {
    let Certificate { key, path, validity } = certificate;
    let file = format!("{key}: {}", path.display());
    let validity = match validity {
        Ok(validity) => validity,
        Err(reason) => {
            return new("certificate", Verdict::Fault, format!("{file}: {reason}"))
                .remedy("give a PEM file with certificates that ringdnsd may read");
        }
    };
    // Of a chain, the first is our own; of several CAs, one is enough.
    let is_own = key.ends_with("_cert_file");
    let end = if is_own { validity.first() } else { validity.iter().max_by_key(|(_, end)| *end) };
    let renew = "renew it, and run `ringctl reload`";
    match end {
        None => new("certificate", Verdict::Fault, format!("{file}: there is no certificate in it"))
            .remedy("give a PEM file with certificates"),
        Some((_, end)) if *end < now => {
            new("certificate", Verdict::Fault, format!("{file}: expired {} days ago", (now - end) / 86_400))
                .remedy(renew)
        }
        Some((begin, _)) if *begin > now => {
            new("certificate", Verdict::Fault, format!("{file}: not valid yet"))
                .remedy("see to the clock: timedatectl")
        }
        Some((_, end)) if *end - now < SOON => {
            new("certificate", Verdict::Warning, format!("{file}: expires in {} days", (end - now) / 86_400))
                .remedy(renew)
        }
        Some((_, end)) => fine("certificate", format!("{file}: valid for {} days", (end - now) / 86_400)),
    }
}
