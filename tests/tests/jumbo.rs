//! Test of a link with jumbo frames: queries take the fast path, and the kernel handles packets
//! that exceed a chunk of the UMEM.

use ringdns_testkit::{
    Client, DNS_V4, DNS_V6, Lab, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, sums::queries_close,
};

/// Code of the padding option (RFC 7830).
const PADDING: u16 = 12;

/// Returns a query whose OPT record has `padding` bytes of padding.
fn padded(name: &str, padding: u16) -> Vec<u8> {
    let mut wire = Query::a(name).edns(1232).wire();
    // The OPT record is the last one, and ends with the length of its options, which is zero.
    let length = wire.len() - 2;
    assert_eq!(wire[length..], [0, 0]);
    wire[length..].copy_from_slice(&(padding + 4).to_be_bytes());
    wire.extend([PADDING, padding].map(u16::to_be_bytes).concat());
    wire.resize(wire.len() + usize::from(padding), 0);
    wire
}

#[test]
fn queries_take_the_fast_path_and_larger_frames_the_kernels() {
    let Some(lab) = Lab::up() else { return };
    lab.client().run("ip", ["link", "set", "dev", "vc", "mtu", "9000"]);
    lab.server().run("ip", ["link", "set", "dev", "vs", "mtu", "9000"]);
    let upstream = Upstream::answering(lab.server());
    for mode in ["copy", "generic"] {
        let server = format!("mode = {mode:?}\nfallback = false");
        let ringdnsd =
            Ringdnsd::start(lab.server(), &Settings { server, ..Settings::xdp(upstream.address()) });
        let program = if mode == "copy" { "program: driver" } else { "program: generic" };
        let status = ringdnsd.told(&["status"]);
        assert!(status.contains(program), "{status}");
        let mut steered = 0;
        for address in [DNS_V4, DNS_V6] {
            let client = Client::of(lab.client(), address);
            for _ in 0..2 {
                assert_eq!(client.ask(&Query::a("www.example")).rcode(), 0);
            }
            client.send(&padded("www.example", 1300));
            assert_eq!(client.receive(std::time::Duration::from_secs(10)).expect("a reply").rcode(), 0);
            steered += 3;
            assert_eq!(ringdnsd.stat("/xdp/redirected"), steered);
            // In one kernel buffer, and in several.
            client.send(&padded("www.example", 1700));
            assert_eq!(client.receive(std::time::Duration::from_secs(10)).expect("a reply").rcode(), 0);
            client.send(&vec![0; 8000]);
            assert_eq!(ask_over_tcp(lab.client(), address, &[Query::a("www.example")])[0].rcode(), 0);
        }
        let stats = ringdnsd.settled();
        assert_eq!(
            (&stats["xdp"]["redirected"], &stats["xdp"]["oversize"]),
            (&6.into(), &4.into()),
            "{stats:#}"
        );
        let [queue, behind] = [0, 1].map(|worker| &stats["workers"][worker]);
        assert_eq!((&queue["received"], &queue["port"]["rx_dropped"]), (&6.into(), &0.into()), "{stats:#}");
        assert!(behind["received"].as_u64() >= Some(2), "{stats:#}");
        queries_close(&stats["total"]);
    }
}
