//! Tests of reloading the configuration while queries are answered.

use ringdns_testkit::{
    Client, Host, Query, Ringdnsd, Say, Settings, Upstream, ask_over_tcp, free_address, until,
};
use rustix::process::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    thread::sleep,
    time::{Duration, Instant},
};

const REFUSED: u16 = 5;

struct Scene {
    address: SocketAddr,
    upstreams: [Upstream; 2],
}

impl Scene {
    fn set() -> (Self, Ringdnsd) {
        let host = Host::local();
        let says =
            |last: u8| Upstream::local(move |seen| vec![Say::Send(seen.query.address([192, 0, 2, last]))]);
        let address = free_address(&host);
        let upstreams = [1, 2].map(says);
        let scene = Scene { address, upstreams };
        let ringdnsd = Ringdnsd::start_from(&host, |socket| scene.settings(0, "").text(socket));
        (scene, ringdnsd)
    }

    fn settings(&self, upstream: usize, tables: &str) -> Settings {
        let upstream = self.upstreams[upstream].address();
        Settings { tables: tables.into(), ..Settings::loopback(self.address, upstream) }
    }
}

#[test]
fn who_is_asked_and_who_may_ask_changes_without_a_restart() {
    let (scene, ringdnsd) = Scene::set();
    let host = Host::local();
    let client = Client::of(&host, scene.address);
    let ask = |name: &str| client.ask(&Query::a(name));
    assert_eq!(ask("one.example").addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
    assert_eq!(ringdnsd.told(&["reload"]), "nothing has changed\n");

    ringdnsd.configure(|socket| scene.settings(1, "[cache]\nmax_ttl = \"7s\"\n").text(socket));
    let told = ringdnsd.told(&["reload"]);
    assert!(told.contains("[upstream] is in effect") && told.contains("[cache] has changed"), "{told}");
    assert_eq!(ask("two.example").addresses(), [Ipv4Addr::new(192, 0, 2, 2)]);
    assert!(ask("two.example").ttl() > 7, "a key that needs a restart must not take effect");
    assert_eq!(ask("one.example").addresses(), [Ipv4Addr::new(192, 0, 2, 1)], "cached answers stay");

    // Hits, misses and TCP follow the new list as soon as the worker has loaded it.
    ringdnsd.configure(|socket| scene.settings(1, "[access]\nallow = [\"192.0.2.0/24\"]\n").text(socket));
    ringdnsd.process().signal(Signal::HUP);
    until("this client is refused", || (ask("one.example").rcode() == REFUSED).then_some(()));
    assert_eq!(ask("three.example").rcode(), REFUSED);
    assert_eq!(ask_over_tcp(&host, scene.address, &[Query::a("one.example")])[0].rcode(), REFUSED);

    ringdnsd.configure(|_| "[server]\nlisten = 5\n".into());
    let output = ringdnsd.ctl(&["reload"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("server.listen"), "{said}");
    ringdnsd.configure(|socket| scene.settings(0, "").text(socket));
    ringdnsd.told(&["reload"]);
    until("everybody may ask again", || (ask("one.example").rcode() == 0).then_some(()));
    assert_eq!(ask("four.example").addresses(), [Ipv4Addr::new(192, 0, 2, 1)]);
}

/// Returns the allocated bytes once they no longer fall: unused upstreams keep their sockets for a
/// second.
fn at_rest(ringdnsd: &Ringdnsd) -> u64 {
    let (mut least, mut since) = (u64::MAX, Instant::now());
    while since.elapsed() < Duration::from_secs(3) {
        let allocated = ringdnsd.stat("/process/allocated_bytes");
        if allocated < least {
            (least, since) = (allocated, Instant::now());
        }
        sleep(Duration::from_millis(50));
    }
    least
}

/// Reloads many configurations. The first reloads warm up, also by filling the memory of recent purges
/// of names; after them, memory must not grow. The memory in use differs by 400 KiB from one moment to
/// another, in either direction, so the middle one of three moments counts, and there are so many reloads
/// in between that a leak of a hundred bytes a reload, which is 660 kB then, is found.
#[test]
fn reloads_leave_nothing_behind() {
    const WARM: u32 = 600;
    const STRETCH: usize = 2_200;
    const MOMENTS: usize = 3;
    /// Bytes by which the middle ones of some moments may differ.
    const NOISE: u64 = 480 << 10;
    let (scene, ringdnsd) = Scene::set();
    let client = Client::of(&Host::local(), scene.address);
    let list = tempfile::NamedTempFile::new().unwrap();
    let reload = |nth: u32| {
        // Every second reload changes nothing.
        let turn = nth / 2;
        let names: String = (0..500).map(|name| format!("n{name}.list{}.example\n", turn % 2)).collect();
        std::fs::write(list.path(), names).unwrap();
        let tables = format!(
            "[access]\nallow = [\"127.0.0.0/8\"]\ndeny = [\"192.0.2.{}/32\"]\n\
             [[blocklist]]\nname = \"changing\"\nsource = {:?}\n",
            turn % 250,
            list.path()
        );
        ringdnsd.configure(|socket| scene.settings((turn % 2) as usize, &tables).text(socket));
        ringdnsd.told(&["reload"]);
        assert_eq!(client.ask(&Query::a("www.example")).rcode(), 0);
        // Purges the cache, so that cached answers do not count, and the next query goes to the new
        // upstream.
        ringdnsd.told(&["cache", "purge", "--all"]);
    };
    (0..WARM).for_each(&reload);
    let mut turns = WARM..;
    let mut rests = vec![at_rest(&ringdnsd)];
    while rests.len() < 2 * MOMENTS {
        turns.by_ref().take(STRETCH).for_each(&reload);
        rests.push(at_rest(&ringdnsd));
    }
    println!("bytes at rest, {STRETCH} reloads apart: {rests:?}");
    let middle = |moments: &[u64]| {
        let mut sorted = moments.to_vec();
        sorted.sort_unstable();
        sorted[MOMENTS / 2]
    };
    let (before, after) = (middle(&rests[..MOMENTS]), middle(&rests[MOMENTS..]));
    assert!(after <= before + NOISE, "{before} bytes before, {after} after: {rests:?}");
}
