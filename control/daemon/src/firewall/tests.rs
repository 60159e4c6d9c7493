//! Tests of the way from an answer to a set of nftables, in a network namespace of its own.

use super::nft::testing::{Kernel, in_namespace};
use crate::{
    daemon,
    lists::{ListKeeper, Lists},
    local::LocalSources,
};
use ringdns_common::names;
use ringdns_config::Config;
use ringdns_dataplane::{clock::Clock, group::Group};
use ringdns_resolver::{Client, FlightLimits};
use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    path::Path,
    process::Command,
    sync::Arc,
    thread,
};

const A: u16 = 1;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;

/// Starts an upstream on the loopback interface: each name has an IPv4 address, and a service with
/// hints, and no IPv6 address. Returns its port.
fn upstream() -> u16 {
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(status.success());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((len, client)) = socket.recv_from(&mut buffer) {
            let query = &buffer[..len];
            let name = query[12..].iter().position(|byte| *byte == 0).unwrap();
            let end = 12 + name + 5;
            let qtype = u16::from_be_bytes([query[end - 4], query[end - 3]]);
            let data: &[u8] = match qtype {
                A => &[192, 0, 2, 1],
                HTTPS => &[0, 1, 0, 0, 4, 0, 4, 192, 0, 2, 90],
                _ => &[],
            };
            let answers = u8::from(!data.is_empty());
            let mut reply =
                [&query[..2], &[0x85, 0x80, 0, 1, 0, answers, 0, 0, 0, 0], &query[12..end]].concat();
            if answers > 0 {
                reply.extend([0xc0, 12, 0, qtype as u8, 0, 1, 0, 0, 0, 60, 0, data.len() as u8]);
                reply.extend(data);
            }
            socket.send_to(&reply, client).unwrap();
        }
    });
    port
}

/// Addresses of local data and of lists, those that DNS64 makes, and hints of services are in the sets
/// before the client has its answer.
#[test]
fn sets_have_what_clients_get() {
    if !in_namespace("firewall::tests::sets_have_what_clients_get") {
        return;
    }
    let mut kernel = Kernel::new();
    kernel.add_set("a4", 4, true);
    kernel.add_set("a6", 16, true);
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:{}\"\n\
         [cache]\nserve_stale = false\n[dns64]\nprefix = \"64:ff9b::/96\"\n\
         [[nftset]]\nsuffixes = [\"fw\"]\ntable = \"inet fw\"\nset4 = \"a4\"\nset6 = \"a6\"\ngrace = \"100s\"\n\
         [[local_record]]\nname = \"nas.fw\"\ntype = \"A\"\ndata = \"192.0.2.70\"\nttl = \"300s\"\n\
         [[blocklist]]\nname = \"ads\"\nsource = \"/dev/null\"\nformat = \"plain\"\nanswer = \"192.0.2.80\"\n",
        upstream()
    );
    let folder = tempfile::tempdir().unwrap();
    let ads = folder.path().join("ads");
    std::fs::write(&ads, "ads.fw\n").unwrap();
    let text = text.replace("/dev/null", ads.to_str().unwrap());
    let config = Config::parse(&text, Path::new("ringdns.toml")).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let clock = Clock::start();
        let resolver = daemon::resolver(&config, clock, Arc::default(), FlightLimits::default(), None);
        let firewall = super::of(&config, clock, &resolver).unwrap().unwrap();
        resolver.set_local_data(LocalSources::default().load(&config.local).unwrap());
        let mut lists = Lists::default();
        lists.load(&config.lists).unwrap();
        let _keeper = ListKeeper::new(lists, config.lists.clone(), resolver.clone());
        let mut v4: Vec<(IpAddr, u64)> = Vec::new();
        for (name, qtype, expected) in [
            ("other.example", A, None),
            ("nas.fw", A, Some(("192.0.2.70", 400))),
            ("ads.fw", A, Some(("192.0.2.80", 400))),
            ("web.fw", HTTPS, Some(("192.0.2.90", 160))),
        ] {
            let key = names::key(&names::name(name).unwrap(), qtype, false, false).unwrap();
            let client = Client { address: Ipv4Addr::LOCALHOST.into(), group: Group::DEFAULT };
            let resolved = resolver.resolve_for(Some(client), &key).await;
            assert_eq!(resolved.answer.status.rcode(), 0, "{name}");
            v4.extend(expected.map(|(address, seconds)| (address.parse().unwrap(), seconds)));
            assert_eq!(kernel.elements("a4"), v4, "{name}");
        }
        assert!(kernel.elements("a6").is_empty());
        for (name, expected) in [("nas.fw", "64:ff9b::192.0.2.70"), ("v4.fw", "64:ff9b::192.0.2.1")] {
            let key = names::key(&names::name(name).unwrap(), AAAA, false, false).unwrap();
            let client = Client { address: Ipv4Addr::LOCALHOST.into(), group: Group::DEFAULT };
            resolver.resolve_for(Some(client), &key).await;
            let address: IpAddr = expected.parse().unwrap();
            let elements = kernel.elements("a6");
            assert!(elements.iter().any(|element| element.0 == address), "{name}: {elements:?}");
        }
        let counters = &firewall.sets.as_ref().unwrap().counters;
        assert_eq!([counters.failed.get(), counters.late.get(), counters.full.get()], [0, 0, 0]);
    });
}
