//! Settings of the NIC before trials, as README advises, and the number of queues to serve.

use crate::put_back::PutBack;
use anyhow::{Result, ensure};
use ringdns_api::{Finding, Verdict};
use ringdns_doctor::{Target, changes as doctor, host::Host, nic::Nic, nic_findings};

/// Change of the NIC before trials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Change, and its undoing.
    pub change: doctor::Change,
    /// Whether the trials can do without the change.
    optional: bool,
}

/// Returns the number of queues to serve: as many as asked for, or else all, but no more than
/// cores.
pub fn queues(nic: &Nic, asked: Option<u32>, cores: usize) -> u32 {
    let most = u32::try_from(cores.max(1)).unwrap_or(u32::MAX);
    asked.unwrap_or_else(|| nic.queues().min(most))
}

/// Lists the changes that a NIC needs before `queues` of its queues are served. `as_it_is` leaves
/// out the changes that only improve the figures.
pub fn changes(nic: &Nic, queues: u32, as_it_is: bool) -> Result<Vec<Change>> {
    let Nic { interface, .. } = nic;
    let mut changes = Vec::new();
    if nic.queues() != queues {
        let Some(change) = doctor::queues(nic, queues) else {
            let most = doctor::queues_most(nic).unwrap_or_else(|| nic.queues());
            ensure!(
                nic.queues() >= queues,
                "{interface} has {most} queues at most, and its driver cannot change that: give --queues {most}"
            );
            return Ok(changes);
        };
        changes.push(Change { change, optional: false });
    }
    // An interface without a carrier is up too, and stays so.
    if !nic.enabled {
        let set = |state: &str| format!("ip link set {interface} {state}");
        changes.push(Change { change: doctor::command(&set("up"), &set("down")), optional: false });
    }
    if as_it_is {
        return Ok(changes);
    }
    let hash = if queues > 1 { doctor::hash(nic) } else { Vec::new() };
    let optional = doctor::merging(nic).into_iter().chain(hash);
    changes.extend(optional.map(|change| Change { change, optional: true }));
    Ok(changes)
}

/// Returns advice for an operator who is about to interpret the figures.
pub fn advice(nic: &Nic, host: &Host) -> Vec<String> {
    let target =
        Target { cores: host.machine.cores, workers: host.machine.cores as u32, ..Target::default() };
    let findings =
        nic_findings(nic, &target).into_iter().filter(|finding| finding.verdict > Verdict::Unknown);
    findings
        .map(|Finding { evidence, remedy, .. }| match remedy {
            Some(remedy) => format!("{evidence}: `{remedy}`."),
            None => format!("{evidence}."),
        })
        .collect()
}

/// Returns the commands that enable again what the kernel disables, and leaves off, when a generic
/// XDP program is attached (`generic_xdp_install` in net/core/dev.c).
fn offloads_that_generic_mode_ends(nic: &Nic) -> Vec<[&str; 5]> {
    let can_be_set = |name: &&str| {
        nic.features.get(*name).is_some_and(|feature| feature.active && feature.fixed != Some(true))
    };
    let names = ["large-receive-offload", "rx-gro-hw"].into_iter().filter(can_be_set);
    names.map(|name| ["ethtool", "-K", &nic.interface, name, "on"]).collect()
}

/// Makes `put_back` enable offloads again that the kernel disables during trials.
pub fn keep_offloads(nic: &Nic, put_back: &mut PutBack) {
    for command in offloads_that_generic_mode_ends(nic) {
        put_back.undo_later(&command);
    }
}

/// Makes the changes. Returns the refusals of optional ones.
pub fn apply(changes: &[Change], put_back: &mut PutBack) -> Result<Vec<String>> {
    let mut refused = Vec::new();
    for Change { change, optional } in changes {
        match put_back.make(change) {
            Ok(()) => {}
            Err(error) if *optional => refused.push(format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_doctor::ethtool::{Bounded, Channels, Feature};

    fn nic() -> Nic {
        let combined = Some(Bounded { now: 8, most: 16 });
        Nic {
            interface: "eth1".into(),
            enabled: true,
            channels: Channels { combined, ..Channels::default() },
            udp4_hash: Some("sd".into()),
            ..Nic::default()
        }
    }

    fn commands(nic: &Nic, queues: u32, as_it_is: bool) -> Vec<(String, String)> {
        let all = changes(nic, queues, as_it_is).unwrap();
        all.iter().map(|change| (change.change.make.to_string(), change.change.undo.to_string())).collect()
    }

    #[test]
    fn every_change_has_its_way_back() {
        let mut nic = nic();
        nic.features.insert("generic-receive-offload".into(), Feature { active: true, fixed: Some(false) });
        nic.features.insert("large-receive-offload".into(), Feature { active: true, fixed: Some(true) });
        let expected = [
            ("ethtool -L eth1 combined 4", "ethtool -L eth1 combined 8"),
            ("ethtool -K eth1 gro off", "ethtool -K eth1 gro on"),
            ("ethtool -N eth1 rx-flow-hash udp4 sdfn", "ethtool -N eth1 rx-flow-hash udp4 sd"),
        ];
        assert_eq!(commands(&nic, 4, false), expected.map(|(to, back)| (to.to_owned(), back.to_owned())));
        assert_eq!(commands(&nic, 8, true), []);
        let up = ("ip link set eth1 up".to_owned(), "ip link set eth1 down".to_owned());
        assert_eq!(commands(&Nic { enabled: false, ..nic.clone() }, 8, true), [up]);
        assert_eq!(commands(&Nic { state: "down".into(), ..nic }, 8, true), [], "no carrier");
    }

    #[test]
    fn offloads_that_the_kernel_switches_off_are_put_back() {
        let mut nic = nic();
        let feature = |active, fixed| Feature { active, fixed: Some(fixed) };
        nic.features.insert("rx-gro-hw".into(), feature(true, false));
        nic.features.insert("large-receive-offload".into(), feature(false, false));
        assert_eq!(offloads_that_generic_mode_ends(&nic), [["ethtool", "-K", "eth1", "rx-gro-hw", "on"]]);
        nic.features.insert("rx-gro-hw".into(), feature(true, true));
        assert!(offloads_that_generic_mode_ends(&nic).is_empty());
    }

    #[test]
    fn queues_are_bounded_by_cores_and_by_the_driver() {
        assert_eq!(
            [queues(&nic(), None, 4), queues(&nic(), None, 64), queues(&nic(), Some(2), 64)],
            [4, 8, 2]
        );
        let error = changes(&nic(), 17, false).unwrap_err().to_string();
        assert!(error.contains("--queues 16"), "{error}");
    }

    #[test]
    fn what_a_driver_refuses_is_told_where_trials_can_do_without() {
        let mut put_back = PutBack::default();
        let optional = Change { change: doctor::command("false", "true"), optional: true };
        assert_eq!(apply(std::slice::from_ref(&optional), &mut put_back).unwrap().len(), 1);
        assert!(apply(&[Change { optional: false, ..optional }], &mut put_back).is_err());
    }
}
