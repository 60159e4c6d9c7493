//! Others' misses during a flood of random names to a zone whose upstream is silent.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    flood::Flood,
    judge::Questioning,
    site::{ATTACKER, ATTACKERS, GOOD_ZONE, Judgement, QUIET_ZONE, SILENT_ZONE, Site, ZoneSuffix, share},
};
use anyhow::Result;
use std::{
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
    attacks
}

fn course(site: &Site<'_>, zone: &'static str, over: FloodTransport, rate: f64) -> Result<Vec<f64>> {
    let quiet = ZoneSuffix::new(QUIET_ZONE)?;
    let _upstream = site.upstream(move |seen| quiet.covers(seen).then(Vec::new));
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let [udp, tcp] = over.shares().map(|share| Flood::new(zone, share * rate));
    let (udp, tcp) = (udp?, tcp?);
    let done = AtomicBool::new(false);
    let outcomes = thread::scope(|scope| {
        let (udp, tcp, clients, done) = (&udp, &tcp, site.clients(), &done);
        let mut floods = Vec::new();
        if udp.rate > 0.0 {
            floods.push(scope.spawn(move || udp.over_udp(clients, ATTACKER, done)));
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
        if over == FloodTransport::Udp && sent < 0.9 * rate {
            site.remark(format!("the flood of {rate:.0} queries/s was one of {sent:.0}"));
        }
        outcomes
    })?;
    server.server.stop()?;
    Ok(vec![share(&outcomes, Judgement::Right)])
}
