//! Sockets that an upstream is asked over: how long they are used, and the datagrams that they
//! receive.

use super::*;
use crate::upstream::udp::{AGE_MAX, OPEN_MAX, OPEN_MIN, QUERIES_MAX, unused_id};
use parking_lot::Mutex as Lock;
use std::collections::{HashMap, HashSet};
use tokio::net::UdpSocket;

/// Upstream played by the test, one datagram at a time.
pub(super) struct Stage(UdpSocket);

/// Query that was received: its source, and its bytes.
pub(super) struct Heard {
    pub from: SocketAddr,
    pub query: Asked,
}

impl Stage {
    pub async fn open() -> Self {
        Stage(UdpSocket::bind("127.0.0.1:0").await.unwrap())
    }

    pub fn upstream(&self, timeout: Duration) -> UpstreamConfig {
        upstream(self.0.local_addr().unwrap(), timeout)
    }

    pub async fn hear(&self) -> Heard {
        let mut buffer = [0; 512];
        let (len, from) = self.0.recv_from(&mut buffer).await.unwrap();
        Heard { from, query: Asked(buffer[..len].to_vec()) }
    }

    pub async fn say(&self, to: SocketAddr, message: &[u8]) {
        self.0.send_to(message, to).await.unwrap();
    }
}

/// Asks for `count` names in one turn. Returns the receivers of the answers.
pub(super) fn ask(resolver: &Arc<Resolver>, count: usize, name: &str) -> Vec<oneshot::Receiver<Resolved>> {
    let mut turn = Turn::default();
    let names = (0..count).map(|i| key(&format!("{name}{i}.example")));
    names
        .map(|key| {
            let (sender, receiver) = oneshot::channel();
            resolver.board(&key, Some(Waiter::Client { to: sender, address: None }), &mut turn);
            receiver
        })
        .collect()
}

#[tokio::test]
async fn queries_leave_at_the_end_of_the_turn_or_when_many_wait() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let sent = || count(&resolver, "queries_udp");
    let mut turn = Turn::default();
    (0..3).for_each(|i| resolver.board(&key(&format!("few{i}.example")), None, &mut turn));
    assert_eq!(sent(), 0);
    drop(turn);
    assert_eq!(sent(), 3);
    let mut turn = Turn::default();
    (0..100).for_each(|i| resolver.board(&key(&format!("many{i}.example")), None, &mut turn));
    assert_eq!(sent(), 3 + 64);
    drop(turn);
    assert_eq!(sent(), 3 + 100);
}

#[tokio::test]
async fn each_query_leaves_from_a_port_of_its_own() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let waiting = ask(&resolver, 120, "a");
    let mut ports = HashSet::new();
    for _ in 0..120 {
        let heard = stage.hear().await;
        ports.insert(heard.from);
        stage.say(heard.from, &heard.query.answer(60)).await;
    }
    for receiver in waiting {
        assert_eq!(receiver.await.unwrap().answer.ttl, 60);
    }
    assert_eq!((ports.len(), count(&resolver, "sockets"), count(&resolver, "queries_udp")), (120, 120, 120));
}

/// None of these queries is answered before all are sent, and then each has its answer, and some
/// have it twice.
#[tokio::test(start_paused = true)]
async fn beyond_the_bound_ports_are_drawn_at_random_and_none_serves_many_queries() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let asked = 3 * OPEN_MAX;
    let (mut waiting, mut heard) = (Vec::new(), Vec::new());
    for i in 0..asked / 64 {
        waiting.extend(ask(&resolver, 64, &format!("name{i}-")));
        for _ in 0..64 {
            heard.push(stage.hear().await);
        }
    }
    let mut ids: HashMap<SocketAddr, HashSet<u16>> = HashMap::new();
    for heard in &heard {
        assert!(ids.entry(heard.from).or_default().insert(heard.query.id()), "two queries share port and ID");
    }
    assert!((OPEN_MIN..=2 * OPEN_MAX).contains(&ids.len()), "{} ports", ids.len());
    let most = ids.values().map(HashSet::len).max().unwrap();
    assert!((2..=QUERIES_MAX).contains(&most), "{most} queries at one port");
    for heard in &heard {
        let answer = heard.query.answer(60);
        stage.say(heard.from, &answer).await;
        // A second answer is no guess at the other queries of the port.
        stage.say(heard.from, &answer).await;
        tokio::task::yield_now().await;
    }
    for receiver in waiting {
        assert_eq!(receiver.await.unwrap().answer.ttl, 60);
    }
    assert_eq!(["exposed", "queries_tcp"].map(|name| count(&resolver, name)), [0; 2]);
}

/// The clock stands still between turns, and then advances to the end of a port's time.
#[tokio::test(start_paused = true)]
async fn a_port_is_closed_when_its_time_is_over_used_or_not() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let waiting = ask(&resolver, 1, "a");
    let heard = stage.hear().await;
    stage.say(heard.from, &heard.query.answer(60)).await;
    for receiver in waiting {
        receiver.await.unwrap();
    }
    let port_is_open = || std::net::UdpSocket::bind(heard.from).is_err();
    assert!(port_is_open(), "the next query may use it");
    tokio::time::sleep(AGE_MAX - Duration::from_millis(10)).await;
    assert!(port_is_open());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!port_is_open(), "it is known for longer than it should");
}

/// With a query every tenth of a second, each has a port of its own.
#[tokio::test(start_paused = true)]
async fn ports_change() {
    let stage = Stage::open().await;
    let resolver = resolver(&[stage.upstream(LONG)]);
    let mut ports = HashSet::new();
    for i in 0..60 {
        let waiting = ask(&resolver, 1, &format!("name{i}-"));
        let heard = stage.hear().await;
        ports.insert(heard.from);
        stage.say(heard.from, &heard.query.answer(60)).await;
        for receiver in waiting {
            receiver.await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(count(&resolver, "sockets"), 60);
    // The kernel may draw a port again that an earlier socket had, once in some ten runs.
    assert!(ports.len() >= 58, "only {} ports for 60 queries", ports.len());
}

/// Answers with another query's ID, another question or another port, to two queries:
/// each is ignored, and counted if it was received at all; then the right answers are used.
#[tokio::test]
async fn an_answer_is_right_by_port_id_and_question() {
    let (stage, elsewhere) = (Stage::open().await, Stage::open().await);
    let resolver = resolver(&[stage.upstream(LONG)]);
    let waiting = ask(&resolver, 2, "a");
    let (first, second) = (stage.hear().await, stage.hear().await);
    let crossed = |id: &Heard, question: &Heard| {
        let mut lie = question.query.answer(1);
        lie[..2].copy_from_slice(&id.query[..2]);
        lie
    };
    stage.say(first.from, &crossed(&first, &second)).await;
    stage.say(second.from, &crossed(&second, &first)).await;
    let mut other_id = first.query.answer(1);
    let unused = (0..=u16::MAX).find(|id| *id != first.query.id() && *id != second.query.id()).unwrap();
    other_id[..2].copy_from_slice(&unused.to_be_bytes());
    stage.say(first.from, &other_id).await;
    elsewhere.say(first.from, &first.query.answer(1)).await;
    stage.say(second.from, &second.query.answer(62)).await;
    stage.say(first.from, &first.query.answer(61)).await;
    for (receiver, ttl) in waiting.into_iter().zip([61, 62]) {
        assert_eq!(receiver.await.unwrap().answer.ttl, ttl);
    }
    let ignored = ["ignored_wrong_question", "ignored_wrong_id", "sockets_abandoned"];
    assert_eq!(ignored.map(|name| count(&resolver, name)), [2, 1, 0]);
}

#[test]
fn an_id_that_is_under_way_is_drawn_again() {
    let mut drawn = [7, 8, 7, 9].into_iter();
    assert_eq!(unused_id(|| drawn.next().unwrap(), |id| [7, 8].contains(&id)), 9);
}

/// The tasks of the sockets are gone, and all waiters are answered nevertheless.
#[test]
fn queries_under_way_at_the_end_are_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (resolver, waiting) = runtime.block_on(async {
        let silent = Stage::open().await;
        let resolver = resolver(&[silent.upstream(LONG)]);
        let waiting = ask(&resolver, 3, "a");
        silent.hear().await;
        (resolver, waiting)
    });
    assert_eq!(resolver.under_way(), 3);
    drop(runtime);
    for mut receiver in waiting {
        let refusal = receiver.try_recv().unwrap();
        assert_eq!((rcode_of(&refusal), refusal.answer.ttl), (rcode::SERVFAIL, 0));
    }
}

/// A query with less time left than others is given up on time, although its port's timer was set
/// for the others.
#[tokio::test(start_paused = true)]
async fn a_query_that_waits_less_long_is_given_up_in_time() {
    let silent = Stage::open().await;
    let resolver = resolver(&[silent.upstream(Duration::from_millis(1400))]);
    let began = tokio::time::Instant::now();
    let waiting: Vec<_> = (0..16).flat_map(|i| ask(&resolver, 1, &format!("early{i}-"))).collect();
    tokio::time::sleep(Duration::from_millis(2750)).await;
    // These open ports when the third attempt of the others has 0.2 of its 1.4 seconds left.
    let _later: Vec<_> = (0..16).flat_map(|i| ask(&resolver, 1, &format!("late{i}-"))).collect();
    for receiver in waiting {
        receiver.await.unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(3020), "{:?}", began.elapsed());
}

/// A query that is due sooner than the others on its port is given up at its own time.
#[tokio::test(start_paused = true)]
async fn each_query_is_given_up_in_its_own_time() {
    let silent = Stage::open().await;
    let resolver = resolver(&[silent.upstream(Duration::from_secs(2))]);
    let began = tokio::time::Instant::now();
    let ends = Arc::new(Lock::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for wait in [0, 500, 900, 1700] {
        let (resolver, ends) = (resolver.clone(), ends.clone());
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_millis(wait)).await;
            resolver.resolve(&key(&format!("after{wait}.example"))).await;
            ends.lock().push((began.elapsed().as_millis() as u64).abs_diff(wait));
        });
    }
    tasks.join_all().await;
    // Two seconds for the first attempt, and the one second that is left of three.
    let ends = ends.lock();
    assert!(ends.iter().all(|took| (3000..3020).contains(took)), "{ends:?}");
    assert_eq!((count(&resolver, "timeouts"), count(&resolver, "queries_udp")), (8, 8));
}
