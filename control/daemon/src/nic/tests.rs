//! Tests of the watch's decisions. `tests/tests/nic.rs` tests their effects on workers and program,
//! on a real interface.

use super::*;

const UP: Interface = Interface {
    name: String::new(),
    index: 1,
    enabled: true,
    carrier: true,
    mtu: 1500,
    programs: Vec::new(),
};
const DOWN: Interface = Interface {
    name: String::new(),
    index: 1,
    enabled: true,
    carrier: false,
    mtu: 1500,
    programs: Vec::new(),
};

/// Returns a watch of a daemon that is stopping: nothing is attached.
fn watch(was_up: bool) -> Watch {
    let watched = Watched {
        interface: "lo".into(),
        queues: None,
        listen: Vec::new(),
        udp_limit: 1232,
        fallback: true,
        steering: Arc::default(),
        seats: Vec::new(),
        receiving: Arc::new(Receiving::by_xdp("lo", "AF_XDP".into())),
        host_problems: Arc::default(),
    };
    let mut interfaces = Interfaces::open().unwrap();
    let index = interfaces.find(InterfaceKey::Name("lo")).unwrap().unwrap().index;
    Watch::over(watched, interfaces, Attached { index, program: 1, sockets: Vec::new(), was_up })
}

impl Watch {
    /// Feeds states of the link one after the other. Returns for each whether the watch waits for
    /// the link, and the number of times that it went down.
    fn sees(&mut self, states: &[Interface]) -> Vec<(bool, u64)> {
        let see = |state| {
            self.note_link(Some(state));
            (self.settling, self.watched.receiving.counters.link_downs.get())
        };
        states.iter().map(see).collect()
    }
}

#[test]
fn a_link_that_attaching_took_down_is_waited_for() {
    let mut watch = watch(true);
    assert_eq!(watch.sees(&[DOWN, DOWN, UP]), [(true, 0), (true, 0), (false, 0)]);
    assert_eq!(watch.sees(&[DOWN, DOWN, UP]), [(false, 1), (false, 1), (false, 1)]);
}

#[test]
fn it_is_not_waited_for_without_end() {
    let mut watch = watch(true);
    assert_eq!(watch.sees(&[DOWN]), [(true, 0)]);
    watch.attached_at -= SETTLE;
    assert_eq!(watch.sees(&[DOWN, DOWN]), [(false, 1), (false, 1)]);
    assert!(watch.watched.receiving.obstacle().is_some());
}

#[test]
fn a_link_that_was_down_before_is_not_waited_for() {
    let off = Interface { enabled: false, ..UP };
    assert_eq!(watch(false).sees(&[DOWN, UP, off]), [(false, 1), (false, 1), (false, 2)]);
}

/// The daemon has detached the program itself: that is no loss, and must not keep the watch busy.
#[test]
fn the_watch_ends_when_it_is_told_to() {
    let mut watch = watch(true);
    // The link's state is unknown, so the watch stops waiting for it.
    watch.attached_at -= 2 * SETTLE;
    let receiving = watch.watched.receiving.clone();
    let (stop, stopper) = io::pipe().unwrap();
    let (settling, settled) = oneshot::channel();
    let thread = std::thread::spawn(move || watch.run(&stop, settling));
    settled.blocking_recv().unwrap();
    drop(stopper);
    thread.join().unwrap().unwrap();
    assert_eq!((receiving.is_by_xdp(), receiving.counters.lost.get()), (Some(true), 0));
}
