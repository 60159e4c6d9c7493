//! Answers of 64 KiB over TCP that are costly to read.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    judge::Questioning,
    site::{ATTACKED_ZONE, ATTACKER, GOOD_ZONE, Judgement, Site, ZoneSuffix, share},
};
use crate::lab::SERVER;
use anyhow::{Context, Result};
use ringdns_testkit::{A, Asked, Over, Query, Say, a_record};
use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

/// Queries of the attack.
const QUERIES: u16 = 100;
/// Queries of the attack a second.
const RATE: f64 = 50.0;
/// Queries of another client meanwhile.
const OTHERS: Questioning = Questioning { zone: GOOD_ZONE, names: 50, rate: 25.0 };
/// Time without work after which the server has done what the attack caused.
const AT_REST: Duration = Duration::from_millis(200);
/// Longest wait for that.
const REST_MAX: Duration = Duration::from_secs(5);

const CNAME: u16 = 5;
const MX: u16 = 15;
const DNAME: u16 = 39;

/// Contents of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HeavyContent {
    /// As many addresses as fit.
    Addresses,
    /// A chain of CNAMEs.
    Aliases,
    /// A chain of DNAMEs, each with its CNAME.
    Dnames,
    /// Names of 120 labels, each label behind a compression pointer of its own.
    Pointers,
}

const CONTENTS: [HeavyContent; 4] =
    [HeavyContent::Addresses, HeavyContent::Aliases, HeavyContent::Dnames, HeavyContent::Pointers];

impl HeavyContent {
    fn name(self) -> &'static str {
        match self {
            HeavyContent::Addresses => "4,000 addresses",
            HeavyContent::Aliases => "2,500 CNAMEs",
            HeavyContent::Dnames => "1,200 DNAMEs",
            HeavyContent::Pointers => "3,000 names of 120 pointers",
        }
    }

    fn qtype(self) -> u16 {
        if self == HeavyContent::Pointers { MX } else { A }
    }

    /// Returns the answer to a query: as long as TCP allows.
    fn answer(self, query: &Asked) -> Vec<u8> {
        let mut answer = HeavyAnswer::to(query);
        match self {
            HeavyContent::Addresses => {
                let mut nth: u32 = 0;
                while answer.push(&a_record(300, (0x0a00_0000 + nth).to_be_bytes())) {
                    nth += 1;
                }
            }
            HeavyContent::Aliases => answer.aliases(),
            HeavyContent::Dnames => answer.dnames(),
            HeavyContent::Pointers => answer.pointers(),
        }
        answer.message
    }
}

/// Returns an attack for each content.
pub fn attacks() -> Vec<Attack> {
    let attack = |content: HeavyContent| {
        let name = content.name();
        let rows = [
            AttackRow::new(format!("answers with {name}: processor time"), Unit::ProcessorSeconds, 2.0),
            AttackRow::new(format!("answers with {name}: others' misses meanwhile"), Unit::Answered, 90.0),
        ];
        let is_short = content == HeavyContent::Pointers;
        Attack::new(AttackGroup::Heavy, is_short, rows, move |site| course(site, content))
    };
    CONTENTS.into_iter().map(attack).collect()
}

fn course(site: &Site<'_>, content: HeavyContent) -> Result<Vec<f64>> {
    let zone = ZoneSuffix::new(ATTACKED_ZONE)?;
    let _upstream = site.upstream(move |seen| {
        zone.covers(seen).then(|| match seen.over {
            Over::Udp => vec![Say::Send(seen.query.truncated())],
            Over::Tcp => vec![Say::Send(content.answer(&seen.query))],
        })
    });
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let socket = site.clients().enter(|| UdpSocket::bind((ATTACKER, 0)).context("cannot open a socket"))?;
    socket.connect(SERVER)?;
    let before = server.server.usage()?;
    let outcomes = thread::scope(|scope| {
        let attacker = scope.spawn(|| {
            let begin = Instant::now();
            for nth in 0..QUERIES {
                thread::sleep(Duration::from_secs_f64(f64::from(nth) / RATE).saturating_sub(begin.elapsed()));
                let name = format!("h{nth}.{ATTACKED_ZONE}");
                // A full buffer drops the query, as any network may.
                let _ = socket.send(&Query::of(&name, content.qtype()).id(nth).edns(1232).wire());
            }
        });
        let outcomes = OTHERS.run(site);
        super::join(attacker);
        outcomes
    })?;
    let deadline = Instant::now() + REST_MAX;
    let mut usage = server.server.usage()?;
    loop {
        thread::sleep(AT_REST);
        let now = server.server.usage()?;
        let is_at_rest = now.since(usage).ran < AT_REST / 20;
        usage = now;
        if is_at_rest {
            break;
        }
        if Instant::now() > deadline {
            site.remark(format!("answers with {} still cost time {REST_MAX:?} later", content.name()));
            break;
        }
    }
    server.server.stop()?;
    let cost = usage.since(before).ran.as_secs_f64() * 100.0 / f64::from(QUERIES);
    Ok(vec![cost, share(&outcomes, Judgement::Right)])
}

/// Answer that grows record by record.
struct HeavyAnswer {
    message: Vec<u8>,
    /// Offset of the zone's name in the question.
    zone: usize,
    records: u16,
}

impl HeavyAnswer {
    fn to(query: &Asked) -> Self {
        let message = query.response(0, &[]);
        let zone = 12 + 1 + usize::from(message[12]);
        HeavyAnswer { message, zone, records: 0 }
    }

    /// Appends records if there is room.
    fn push(&mut self, records: &[u8]) -> bool {
        self.push_all(records, 1)
    }

    fn push_all(&mut self, records: &[u8], count: u16) -> bool {
        if self.message.len() + records.len() > usize::from(u16::MAX) {
            return false;
        }
        self.message.extend(records);
        self.records += count;
        self.message[6..8].copy_from_slice(&self.records.to_be_bytes());
        true
    }

    /// Returns labels in front of the zone's name.
    fn name(&self, labels: &str) -> Vec<u8> {
        let mut name = Vec::new();
        for label in labels.split('.') {
            name.push(label.len() as u8);
            name.extend(label.as_bytes());
        }
        name.extend(pointer(self.zone));
        name
    }

    fn aliases(&mut self) {
        let mut owner = pointer(12).to_vec();
        for nth in 0.. {
            let target = self.name(&format!("c{nth}"));
            if !self.push(&record(&owner, CNAME, &target)) {
                break;
            }
            owner = target;
        }
    }

    /// Appends a chain that begins with the question's own name as an alias.
    fn dnames(&mut self) {
        let mut alias = self.name("x.d0");
        self.push(&record(&pointer(12), CNAME, &alias));
        for nth in 0.. {
            let (owner, target) = (self.name(&format!("d{nth}")), self.name(&format!("d{}", nth + 1)));
            let next = self.name(&format!("x.d{}", nth + 1));
            let both = [record(&owner, DNAME, &target), record(&alias, CNAME, &next)].concat();
            if !self.push_all(&both, 2) {
                break;
            }
            alias = next;
        }
    }

    /// Appends names that are one label longer each, until they have 120 labels, and then names of
    /// that length until the message is full.
    fn pointers(&mut self) {
        /// Labels of the longest names, besides those of the zone: 2 bytes each, of 255.
        const LABELS: usize = 110;
        let mut above = self.zone;
        for _ in 0..LABELS {
            // Owner, type, class, TTL, length and preference stand before the name.
            let name_at = self.message.len() + 2 + 10 + 2;
            let data = [&[0, 1, 1, b'a'][..], &pointer(above)].concat();
            self.push(&record(&pointer(12), MX, &data));
            above = name_at;
        }
        let mut nth = 0_u32;
        loop {
            let data = [&[0, 1][..], format!("\x04{nth:04}").as_bytes(), &pointer(above)].concat();
            if !self.push(&record(&pointer(12), MX, &data)) {
                break;
            }
            nth += 1;
        }
    }
}

fn pointer(at: usize) -> [u8; 2] {
    (0xc000 | at as u16).to_be_bytes()
}

fn record(owner: &[u8], rtype: u16, data: &[u8]) -> Vec<u8> {
    let mut record = owner.to_vec();
    record.extend(rtype.to_be_bytes());
    // Class IN, a TTL of 300 s.
    record.extend([0, 1, 0, 0, 1, 44]);
    record.extend((data.len() as u16).to_be_bytes());
    record.extend(data);
    record
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{op::Message, rr::RData};

    #[test]
    fn answers_are_well_formed_and_as_long_as_tcp_allows() {
        for content in CONTENTS {
            let query = Asked(Query::of("h1.attacked.example", content.qtype()).wire());
            let answer = content.answer(&query);
            assert!((65_000..65_536).contains(&answer.len()), "{content:?}: {} bytes", answer.len());
            let message = Message::from_vec(&answer).unwrap();
            let least = if content == HeavyContent::Dnames { 2 * 1100 } else { 2400 };
            assert!(message.answers.len() >= least, "{content:?}: {}", message.answers.len());
            assert!(message.answers.iter().all(|record| record.ttl == 300));
        }
    }

    #[test]
    fn chains_lead_from_the_question_to_their_end() {
        let query = Asked(Query::a("h1.attacked.example").wire());
        let message = Message::from_vec(&HeavyContent::Aliases.answer(&query)).unwrap();
        let mut at = message.queries[0].name().clone();
        for record in &message.answers {
            assert_eq!(record.name, at);
            let RData::CNAME(target) = &record.data else { panic!("{record}") };
            at = target.0.clone();
        }
    }
}
