//! DNSBomb (CVE-2024-33655): answers that the upstream holds back reach the client in one pulse.

use super::{
    attack::{Attack, AttackGroup, AttackRow, Unit},
    judge::Questioning,
    site::{ATTACKED_ZONE, ATTACKER, GOOD_ZONE, Judgement, Site, ZoneSuffix, share},
};
use crate::lab::SERVER;
use anyhow::{Context, Result};
use ringdns_testkit::{Query, Say, Seen, TXT};
use std::{
    collections::VecDeque,
    net::UdpSocket,
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

/// Queries of the attack.
const QUERIES: u32 = 1500;
/// Queries of the attack a second.
const RATE: f64 = 1000.0;
/// Time from the first query until the upstream answers all.
const HELD: Duration = Duration::from_millis(1600);
/// Time after the upstream's answers in which the pulse is looked for.
const AFTER: Duration = Duration::from_millis(1400);
/// Length of a pulse.
const PULSE: Duration = Duration::from_millis(10);
/// Bytes of IPv4 and UDP header of each datagram.
const HEADERS: usize = 28;
/// Queries of another client meanwhile.
const OTHERS: Questioning = Questioning { zone: GOOD_ZONE, names: 50, rate: 25.0 };

/// Returns the attack with a name for each query, and that with one name for all.
pub fn attacks() -> Vec<Attack> {
    let attack = |what: &str, limit: f64, name: fn(u32) -> String| {
        let rows = [
            AttackRow::new(format!("DNSBomb, {what}: pulse over mean"), Unit::Amplification, limit),
            AttackRow::new(format!("DNSBomb, {what}: others' misses meanwhile"), Unit::Answered, 95.0),
        ];
        Attack::new(AttackGroup::Bomb, true, rows, move |site| course(site, name))
    };
    vec![
        attack("1,500 names", 500.0, |nth| format!("b{nth}.{ATTACKED_ZONE}")),
        attack("one name", 60.0, |_| format!("bomb.{ATTACKED_ZONE}")),
    ]
}

fn course(site: &Site<'_>, name: fn(u32) -> String) -> Result<Vec<f64>> {
    let zone = ZoneSuffix::new(ATTACKED_ZONE)?;
    let release = OnceLock::new();
    let _upstream = site.upstream(move |seen| {
        zone.covers(seen).then(|| {
            let release = *release.get_or_init(|| Instant::now() + HELD);
            let wait = release.saturating_duration_since(Instant::now());
            vec![Say::SendAfter(wait, large_answer(seen))]
        })
    });
    let _silent = site.silent_upstream();
    let server = site.server()?;
    let socket = site.clients().enter(|| UdpSocket::bind((ATTACKER, 0)).context("cannot open a socket"))?;
    socket.connect(SERVER)?;
    let (sent, arrivals, outcomes) = thread::scope(|scope| {
        let socket = &socket;
        let arrivals = scope.spawn(move || receive(socket));
        let sent = scope.spawn(move || send(socket, name));
        let outcomes = OTHERS.run(site);
        let (sent, arrivals) = (super::join(sent), super::join(arrivals));
        anyhow::Ok((sent, arrivals?, outcomes?))
    })?;
    server.server.stop()?;
    let mean = sent as f64 * RATE / f64::from(QUERIES) * PULSE.as_secs_f64();
    Ok(vec![strongest_pulse(&arrivals) as f64 / mean, share(&outcomes, Judgement::Right)])
}

/// Returns an answer that fills a datagram: 1,100 bytes of text.
fn large_answer(seen: &Seen) -> Vec<u8> {
    let mut record = vec![0xc0, 12, 0, 16, 0, 1, 0, 0, 1, 44];
    let text: Vec<u8> = [[219; 1].as_slice(), &[b'x'; 219]].concat().repeat(5);
    record.extend((text.len() as u16).to_be_bytes());
    record.extend(text);
    seen.query.response(0, &[record])
}

/// Sends all queries at a steady rate, and returns their bytes.
fn send(socket: &UdpSocket, name: fn(u32) -> String) -> usize {
    let begin = Instant::now();
    let mut bytes = 0;
    for nth in 0..QUERIES {
        let due = Duration::from_secs_f64(f64::from(nth) / RATE);
        thread::sleep(due.saturating_sub(begin.elapsed()));
        let query = Query::of(&name(nth), TXT).id(nth as u16).edns(1232).wire();
        bytes += query.len() + HEADERS;
        // A full buffer drops the query, as any network may.
        let _ = socket.send(&query);
    }
    bytes
}

/// Records what arrives until the pulse must be over: the time, and the bytes.
fn receive(socket: &UdpSocket) -> Result<Vec<(Duration, usize)>> {
    let begin = Instant::now();
    let mut arrivals = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = (HELD + AFTER).saturating_sub(begin.elapsed());
        if left.is_zero() {
            return Ok(arrivals);
        }
        socket.set_read_timeout(Some(left))?;
        if let Ok(length) = socket.recv(&mut buffer) {
            arrivals.push((begin.elapsed(), length + HEADERS));
        }
    }
}

/// Returns the most bytes that arrived within [`PULSE`]. Arrivals are in the order of time.
fn strongest_pulse(arrivals: &[(Duration, usize)]) -> usize {
    let mut within: VecDeque<(Duration, usize)> = VecDeque::new();
    let (mut bytes, mut most) = (0, 0);
    for (time, length) in arrivals {
        within.push_back((*time, *length));
        bytes += length;
        while let Some((_, gone)) = within.pop_front_if(|(first, _)| *first + PULSE <= *time) {
            bytes -= gone;
        }
        most = most.max(bytes);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::wire_question;
    use ringdns_testkit::{Asked, Over, Reply};
    use std::net::{Ipv4Addr, SocketAddr};

    fn at(millis: u64, bytes: usize) -> (Duration, usize) {
        (Duration::from_millis(millis), bytes)
    }

    #[test]
    fn the_strongest_pulse_is_that_of_any_ten_milliseconds() {
        let arrivals = [at(0, 100), at(95, 10), at(99, 20), at(104, 30), at(105, 1), at(200, 50)];
        // 99 to 105 and 95 to 104 are within ten milliseconds, 95 to 105 is not.
        assert_eq!(strongest_pulse(&arrivals), 100);
        assert_eq!(strongest_pulse(&arrivals[1..]), 60);
        assert_eq!(strongest_pulse(&[]), 0);
    }

    #[test]
    fn a_large_answer_fits_into_one_datagram() {
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let query = Query::of("b1.attacked.example", TXT).edns(1232);
        let answer = large_answer(&Seen { query: Asked(query.wire()), over: Over::Udp, from });
        assert!((1100..1232).contains(&answer.len()), "{}", answer.len());
        assert_eq!((Reply(answer.clone()).answers(), Reply(answer.clone()).ttl()), (1, 300));
        assert!(answer[12..].starts_with(&wire_question("b1.attacked.example", TXT).unwrap()));
    }
}
