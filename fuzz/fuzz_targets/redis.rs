//! Arbitrary bytes as what Redis sends: every kind of reply is taken or refused, and no purge, slot
//! or question is kept beyond the bounds.
//!
//! The first byte selects the request. The rest is what Redis sends, and then it hangs up.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::{message::of, names};
use ringdns_config::{Config, RedisConfig};
use ringdns_dataplane::{
    clock::Clock,
    dns::{
        answer::{Answer, TtlRules},
        key::Key,
    },
};
use ringdns_fleet::{
    Fleet,
    fuzzing::{Heard, ask, purges, value},
};
use ringdns_resolver::host::HostTier;
use std::{
    path::Path,
    sync::{Arc, LazyLock},
};
use tokio::{io::AsyncWriteExt, runtime};

/// Slots of a cluster.
const SLOTS: usize = 1 << 14;
/// Most bytes of a request.
const ROOM: usize = 1 << 20;
/// Entries of the log of purges in memory, and the purges of this process.
const PURGES: usize = purges::KEPT + 1;
const TTL: TtlRules = TtlRules { min: 0, max: 86_400, negative_max: 3_600, stale: 60, ahead: 0 };

static CONFIG: LazyLock<RedisConfig> = LazyLock::new(|| {
    let text = "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
                [redis]\nurl = \"redis://192.0.2.2\"\n";
    Config::parse(text, Path::new("")).expect("a valid configuration").redis.expect("a table [redis]")
});

static KEY: LazyLock<Key> = LazyLock::new(|| {
    let name = names::name("www.example").expect("it is a name");
    names::key(&name, 1, false, false).expect("a question")
});

/// Returns a store with one answer.
fn host() -> Arc<HostTier> {
    let host = Arc::new(HostTier::new(1 << 16, Arc::default()));
    let mut message = names::query_message(KEY.asked().name(), [1, 1], 0, 0x8180, None);
    message[7] = 1;
    message.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 1, 44, 0, 4, 192, 0, 2, 1]);
    let answer = Answer::from_response(&message, &KEY, &TTL, 0, false).expect("a plain response");
    assert_eq!(of(KEY.asked(), &answer)[4..], message[4..]);
    host.insert(&KEY, Arc::new(answer), host.generation());
    host
}

fuzz_target!(|data: &[u8]| {
    let [which, bytes @ ..] = data else { return };
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let heard = runtime.expect("a runtime").block_on(async {
        let clock = Clock::simulated(|| 1_000_000_000_000);
        let (fleet, host) = (Fleet::new(&CONFIG, clock), host());
        let (mut redis, stream) = tokio::io::duplex(ROOM);
        redis.write_all(bytes).await.expect("there is room");
        redis.shutdown().await.expect("it is open");
        ask(stream, &fleet, &host, &KEY, *which).await
    });
    let Heard { answer, wanted, purges, slots } = heard;
    assert!(slots <= SLOTS && purges <= PURGES, "{slots} slots, {purges} purges");
    for key in wanted {
        assert!(value::key(&value::member(key.asked())).is_some_and(|again| again.asked() == key.asked()));
    }
    if let Some(answer) = answer {
        assert!(answer.fresh <= answer.ttl && answer.message.len() <= bytes.len());
    }
});
