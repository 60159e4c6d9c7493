//! Others' misses during a flood of random names to zones whose upstreams are silent.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    flood::Flood,
    judge::Questioning,
    site::{
        ATTACKER, ATTACKERS, GOOD_ZONE, Judgement, QUIET_ZONE, QUIET_ZONES, SILENT_ZONE, Site, ZoneSuffix,
        forged_clients, share,
    },
};
use anyhow::Result;
use ringdns_testkit::Seen;
use std::{
    net::Ipv4Addr,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::Duration,
};

/// Queries a second of the floods.
const RATES: [u32; 4] = [1_000, 2_000, 5_000, 10_000];
/// Duration of the flood before the other client asks: longer than the tables of questions in
/// flight take to fill up.
const LEAD: Duration = Duration::from_millis(1000);
/// Queries of the other client.
const OTHERS: Questioning = Questioning { zone: GOOD_ZONE, names: 150, rate: 50.0 };

/// Source addresses and zones of a flood of which no address and no zone has a large part.
const FORGED_ADDRESSES: u16 = 4000;
const ZONES: usize = 2000;

/// Transport of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FloodTransport {
    /// UDP, from one address.
    Udp,
    /// TCP, from four addresses with 64 connections each.
    Tcp,
    /// Half over UDP, half over TCP.
    Both,
}

impl FloodTransport {
    fn name(self) -> &'static str {
        match self {
            FloodTransport::Udp => "UDP",
            FloodTransport::Tcp => "TCP",
            FloodTransport::Both => "both",
        }
    }

    /// Returns the shares of UDP and TCP.
    fn shares(self) -> [f64; 2] {
        match self {
            FloodTransport::Udp => [1.0, 0.0],
            FloodTransport::Tcp => [0.0, 1.0],
            FloodTransport::Both => [0.5, 0.5],
        }
    }
}

/// Returns the floods of all rates over all transports: of a zone with an upstream of its own, and
/// of one whose upstream answers for all other zones.
pub fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (zone, upstream) in [(SILENT_ZONE, "upstream of its own"), (QUIET_ZONE, "shared upstream")] {
        for over in [FloodTransport::Udp, FloodTransport::Tcp, FloodTransport::Both] {
            for rate in RATES {
                let name = format!("others' misses, {} k/s over {}, {upstream}", rate / 1000, over.name());
                let is_short = matches!(
                    (zone, over, rate),
                    (QUIET_ZONE, FloodTransport::Udp, 10_000) | (SILENT_ZONE, FloodTransport::Both, 10_000)
                );
                let row = AttackRow::new(name, Unit::Answered, 90.0);
                let course = move |site: &Site<'_>| course(site, zone, over, f64::from(rate));
                attacks.push(Attack::new(AttackGroup::Fair, is_short, [row], course));
            }
        }
    }
    for rate in RATES {
        let name = format!(
            "others' misses, {} k/s over UDP, {FORGED_ADDRESSES} addresses, {ZONES} zones",
            rate / 1000
        );
        let row = AttackRow::new(name, Unit::Answered, 90.0);
        let course = move |site: &Site<'_>| {
            let zones: Vec<String> = (0..ZONES).map(|nth| format!("{QUIET_ZONES}{nth}.example")).collect();
            let floods = [Flood::of(&zones, f64::from(rate))?, Flood::of(&zones, 0.0)?];
            misses_during(site, &floods, &forged_clients(FORGED_ADDRESSES))
        };
        attacks.push(Attack::new(AttackGroup::Fair, rate == 10_000, [row], course));
    }
    attacks
}

fn course(site: &Site<'_>, zone: &'static str, over: FloodTransport, rate: f64) -> Result<Vec<f64>> {
    let [udp, tcp] = over.shares().map(|share| Flood::new(zone, share * rate));
    misses_during(site, &[udp?, tcp?], &[ATTACKER])
}

/// Returns the share of the other client's misses that are answered during floods over UDP, from
/// these addresses, and over TCP.
fn misses_during(site: &Site<'_>, [udp, tcp]: &[Flood; 2], from: &[Ipv4Addr]) -> Result<Vec<f64>> {
    let quiet = ZoneSuffix::new(QUIET_ZONE)?;
    let is_silent = move |seen: &Seen| {
        let name = seen.query.name();
        quiet.covers(seen) || name.split('.').rev().nth(1).is_some_and(|label| label.starts_with(QUIET_ZONES))
    };
    let _upstream = site.upstream(move |seen| is_silent(seen).then(Vec::new));
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let done = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let (clients, done) = (site.clients(), &done);
        let mut floods = Vec::new();
        if udp.rate > 0.0 {
            floods.push(scope.spawn(move || udp.over_udp(clients, from, done)));
        }
        if tcp.rate > 0.0 {
            floods.push(scope.spawn(move || tcp.over_tcp(clients, &ATTACKERS, done)));
        }
        thread::sleep(LEAD);
        let outcomes = OTHERS.run(site);
        done.store(true, Relaxed);
        let mut sent = 0.0;
        for flood in floods {
            sent += super::join(flood)?;
        }
        // Connections whose queries are not answered take no more, which is a defence; datagrams
        // leave in any case.
        if tcp.rate == 0.0 && sent < 0.9 * udp.rate {
            site.remark(format!("the flood of {:.0} queries/s was one of {sent:.0}", udp.rate));
        }
        outcomes
    })?;
    server.server.stop()?;
    Ok(vec![share(&outcomes, Judgement::Right)])
}
