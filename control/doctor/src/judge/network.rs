//! Checks of addresses, routes, neighbours, firewall and upstreams.

use super::{Completed, fine, new, unknown};
use crate::facts::{Facts, Route};
use ringdns_api::{Finding, Verdict, quoted};
use std::net::IpAddr;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings: Vec<Finding> = facts.wanted.accepted.then(|| addresses(facts)).into_iter().collect();
    findings.extend(routes(facts));
    findings.push(neighbours(facts));
    findings.push(firewall(facts));
    findings.extend(upstreams(facts));
    findings
}

fn addresses(facts: &Facts) -> Finding {
    if facts.absent.is_empty() {
        return fine("addresses", "the host has all addresses of server.listen");
    }
    let absent: Vec<String> = facts.absent.iter().map(|address| address.ip().to_string()).collect();
    let interface = quoted(facts.wanted.interface.as_deref().unwrap_or("INTERFACE"));
    new(
        "addresses",
        Verdict::Warning,
        format!("no interface has {}: queries to it are not answered", absent.join(", ")),
    )
    .remedy(format!("ip address add {} dev {interface}", facts.absent[0].ip()))
}

fn routes(facts: &Facts) -> Option<Finding> {
    let lacking: Vec<&Route> = facts.routes.iter().filter(|route| route.from.is_err()).collect();
    let Some(first) = lacking.first() else {
        return (!facts.routes.is_empty()).then(|| fine("routes", "every upstream has a route"));
    };
    let all: Vec<String> = lacking.iter().map(|route| route.to.to_string()).collect();
    let reason = first.from.as_ref().err().cloned().unwrap_or_default();
    Some(
        new("routes", Verdict::Fault, format!("no route to {}: {reason}", all.join(", ")))
            .remedy(format!("ip route get {}", first.to)),
    )
}

fn neighbours(facts: &Facts) -> Finding {
    let Some(known) = &facts.neighbours else {
        return unknown("neighbours", "the kernel does not list them");
    };
    let is_needed =
        |ip: &IpAddr| facts.gateways.contains(ip) || facts.routes.iter().any(|route| route.to == *ip);
    let silent: Vec<String> = known
        .iter()
        .filter(|neighbour| neighbour.is_silent && is_needed(&neighbour.ip))
        .map(|neighbour| neighbour.ip.to_string())
        .collect();
    match silent.first() {
        None => fine("neighbours", format!("{} known; gateways and upstreams answer", known.len())),
        Some(first) => {
            let evidence =
                format!("{} does not answer on the link (ARP, neighbour discovery)", silent.join(", "));
            new("neighbours", Verdict::Warning, evidence)
                .remedy(format!("ip neigh show {first}; see to its host and the VLAN"))
        }
    }
}

fn firewall(facts: &Facts) -> Finding {
    let Some(chains) = &facts.dropping_chains else {
        return unknown(
            "firewall",
            "nftables cannot be asked. It sees no query that AF_XDP takes: [access] decides",
        );
    };
    match (chains.is_empty(), facts.wanted.interface.is_some()) {
        (true, _) => fine("firewall", "no chain of nftables drops packets by default"),
        (false, true) => new(
            "firewall",
            Verdict::Advice,
            format!(
                "{} drops by default: UDP passes it by through AF_XDP, TCP and fragments do not",
                chains.join(", ")
            ),
        )
        .remedy("accept port 53 over UDP and TCP there, and limit clients by [access]"),
        (false, false) => new("firewall", Verdict::Advice, format!("{} drops by default", chains.join(", ")))
            .remedy("see that it accepts the port of server.listen over UDP and TCP"),
    }
}

fn upstreams(facts: &Facts) -> Vec<Finding> {
    let Some(asked) = &facts.asked else { return Vec::new() };
    let finding = |(label, result): &(String, Result<(), String>)| match result {
        Ok(()) => fine("upstream", format!("{label} answers")),
        Err(reason) => {
            // As long as one answers, clients are served.
            let none = asked.iter().all(|(_, result)| result.is_err());
            let verdict = if none { Verdict::Fault } else { Verdict::Warning };
            new("upstream", verdict, format!("{label}: {reason}")).remedy(
                "see that it runs, and that no firewall is between: ringdnsd forwards every miss to it",
            )
        }
    };
    asked.iter().map(finding).collect()
}
