//! Plays scenarios in the simulator.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use ringdns_daemon::reload::ConfigSource;
use ringdns_testkit::Host;
use ringdns_testkit::scenario::{Cast, Failure, Files, Scenario, Told, play};

use crate::simulator::Simulator;

/// Lines that a scenario's own configuration is added to.
const BASE: &str = r#"
[server]
listen = ["10.53.0.2:53", "[fd53::2]:53"]
[cache]
bytes_per_worker = "1MiB"
host_bytes = "4MiB"
[resolver]
cookies = false
randomize_case = false
"#;

/// Plays a scenario.
pub fn run(scenario: &Scenario) -> Result<Told, Failure> {
    static PLAYED: AtomicU32 = AtomicU32::new(0);
    // Each scenario has addresses of its own, so that an upstream that went away finds its port
    // free when it returns.
    let number = PLAYED.fetch_add(1, Ordering::Relaxed) as u16;
    let [high, low] = number.to_be_bytes();
    let address = |nth: usize| IpAddr::V4(Ipv4Addr::new(127, 53 + nth as u8, high, low.max(1)));
    let upstreams = (0..scenario.upstreams()).map(address);
    let cast = Cast::assemble(&Host::local(), upstreams).expect("loopback has ports");
    let files = Files::create(scenario, &cast.addresses()).expect("there is room for a folder");
    let [socket, overrides] = ["control.sock", "overrides.toml"].map(|name| files.path(name));
    let base = format!(
        "{BASE}[control]\nsocket = {socket:?}\n[lists]\noverrides_file = {overrides:?}\ntime_zone = \"UTC\"\n"
    );
    let (config, path) = (files.configuration(&base, &scenario.config), files.path("ringdns.toml"));
    std::fs::write(&path, &config).expect("there is room for a file");
    let (config, source) = match ConfigSource::parse(&config, &path) {
        Ok(parsed) => parsed,
        Err(error) => return Err(Failure::new(format!("{}: {error}\n{config}", scenario.name))),
    };
    let mut simulator = match Simulator::start(config, source, Duration::ZERO) {
        Ok(simulator) => simulator,
        Err(error) => return Err(Failure::new(format!("{}: it does not start: {error}", scenario.name))),
    };
    play(scenario, cast, &files, &base, &mut simulator)
}
