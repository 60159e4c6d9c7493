//! Answers to many waiters for one question.

use super::{punts::punted_from, *};
use crate::flight::spread;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};
use tokio::time::{Instant, sleep};

/// Records of the link: so many that no share is used up.
const RECORDS: usize = 1024;
/// Last bytes of the clients' addresses, and numbers of their queries that wait.
const WAITERS: [(u8, usize); 3] = [(1, 100), (2, 3), (3, 12)];

/// Lets all waiters of [`WAITERS`] have an answer of `bytes`, and returns the numbers of answers to
/// each client by the time in milliseconds.
async fn spread(bytes: usize) -> HashMap<u8, Vec<(u64, usize)>> {
    let bell = Arc::new(Doorbell::new().unwrap());
    let link = Arc::new(Link::new(0, RECORDS, RECORDS, bell, Arc::default()).unwrap());
    let clock = Clock::start();
    let flights = Flights::new(FlightLimits::default(), Shares::new(Duration::ZERO));
    let mut flight = None;
    for (client, number) in WAITERS {
        for id in 0..number {
            let mut record = punted_from(Ipv4Addr::new(10, 53, 0, client), "www.example", id as u16);
            record.received = clock.nanos();
            let waiter = Waiter::Punt(link.clone(), record);
            match flights.board(&key("www.example"), 0, Some(waiter), false, || None) {
                Boarding::TakeOff(new, _) => flight = Some(new),
                Boarding::Joined => {}
                _ => panic!("{id} of {client} has no seat"),
            }
        }
    }
    let answer = Arc::new(Answer {
        wire: vec![0; bytes].into(),
        ..Answer::error(rcode::NOERROR, None, clock.secs(), 60)
    });
    let resolved = Resolved::new(answer, 0, false, AnswerSource::of(Tier::Host));
    let began = Instant::now();
    spread::answer(flights.land(&flight.unwrap()), &resolved, clock, &mut Turn::default());
    let mut portions = HashMap::<u8, Vec<(u64, usize)>>::new();
    let mut ids = HashMap::<u8, Vec<u16>>::new();
    let mut left = WAITERS.iter().map(|(_, number)| number).sum::<usize>();
    while left > 0 {
        let mut now = HashMap::<u8, usize>::new();
        while let Some(record) = link.returned() {
            let Purpose::Answer(envelope) = record.purpose else { panic!("{:?}", record.purpose) };
            let Some(IpAddr::V4(client)) = envelope.client(record.head()).map(|from| from.ip()) else {
                panic!("no client")
            };
            let client = client.octets()[3];
            *now.entry(client).or_default() += 1;
            let message = &record.head()[envelope.message()..];
            ids.entry(client).or_default().push(u16::from_be_bytes([message[0], message[1]]));
            left -= 1;
        }
        let millis = began.elapsed().as_millis() as u64;
        now.into_iter().for_each(|(client, answers)| {
            portions.entry(client).or_default().push((millis, answers));
        });
        sleep(Duration::from_millis(1)).await;
    }
    for (client, number) in WAITERS {
        assert!(ids[&client].iter().copied().eq(0..number as u16), "{client}: each once, and in order");
    }
    portions
}

#[tokio::test(start_paused = true)]
async fn large_answers_leave_for_a_client_a_few_at_a_time() {
    let portions = spread(1000).await;
    for (client, number) in WAITERS {
        let answers = |(_, answers): &(u64, usize)| *answers;
        let portions = &portions[&client];
        assert_eq!(portions.iter().map(answers).sum::<usize>(), number);
        // 2 KiB are reached by the second answer.
        assert!(portions.iter().all(|portion| answers(portion) <= 2), "{client}: {portions:?}");
        let gaps = portions.windows(2).map(|two| two[1].0 - two[0].0);
        assert!(gaps.clone().all(|gap| gap >= 10), "{client}: {portions:?}");
        assert!(portions[0].0 == 0 && portions.len() == number.div_ceil(2), "{client}: {portions:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn small_answers_to_many_leave_soon() {
    let portions = spread(50).await;
    assert_eq!(portions[&2], [(0, 3)]);
    assert_eq!(portions[&3], [(0, 12)]);
    assert!(portions[&1].last().unwrap().0 <= 90, "{:?}", portions[&1]);
}
