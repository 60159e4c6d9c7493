//! ringdnsd under a service manager: what it tells, and the privileges that the unit leaves it.

use ringdns_testkit::{Client, DNS_V4, Host, Lab, Query, Ringdnsd, Settings, Upstream, free_address};
use std::{fs, os::unix::net::UnixDatagram, path::Path, time::Duration};

/// Returns the value of a key of the unit.
fn of_unit(key: &str) -> String {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/ringdnsd.service");
    let unit = fs::read_to_string(unit).unwrap();
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("{key} is missing")).to_owned()
}

/// Returns the capabilities that the unit gives, as setpriv takes them.
fn unit_capabilities() -> String {
    let names = of_unit("AmbientCapabilities");
    let names = names.to_ascii_lowercase().replace("cap_", "+").replace(' ', ",");
    format!("-all,{names}")
}

/// Waits for a state, and returns the states before it.
fn told_until(socket: &UnixDatagram, state: &str) -> Vec<String> {
    let mut before = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let len =
            socket.recv(&mut buffer).unwrap_or_else(|error| panic!("no {state} after {before:?}: {error}"));
        let told = String::from_utf8(buffer[..len].to_vec()).unwrap();
        if told == state {
            return before;
        }
        before.push(told);
    }
}

#[test]
fn the_service_manager_is_told_of_the_start_of_life_and_of_the_stop() {
    let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let upstream = Upstream::answering(&host);
    let settings = Settings::loopback(free_address(&host), upstream.address());
    let told = format!("NOTIFY_SOCKET={}", path.display());
    let mut ringdnsd = Ringdnsd::start_behind(&host, &settings, &["env", &told, "WATCHDOG_USEC=30000000"]);
    let before = told_until(&socket, "READY=1\n");
    assert!(before.iter().all(|state| state == "WATCHDOG=1\n"), "{before:?}");
    told_until(&socket, "WATCHDOG=1\n");
    assert!(ringdnsd.terminate().success());
    let before = told_until(&socket, "STOPPING=1\n");
    assert!(before.iter().all(|state| state == "WATCHDOG=1\n"), "{before:?}");
}

#[test]
fn the_capabilities_of_the_unit_are_enough_for_af_xdp() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    // The unit raises the limit of locked memory, which a test may not do.
    let capabilities = format!("{},+ipc_lock", unit_capabilities());
    let wrapper = format!("setpriv --no-new-privs --bounding-set={capabilities} --inh-caps={capabilities}");
    let wrapper: Vec<&str> = wrapper.split(' ').collect();
    let ringdnsd = Ringdnsd::start_behind(lab.server(), &Settings::xdp(upstream.address()), &wrapper);
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains("AF_XDP on "), "{status}");
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    ringdnsd.told(&["reload"]);
    ringdnsd.told(&["cache", "purge", "--all"]);
    ringdnsd.told(&["profile", "heap", "--output", "/dev/null"]);
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
}

/// These calls are in no group of Debian 12's systemd, which ends a process for others.
#[test]
fn the_unit_lets_ringdnsd_limit_itself() {
    let allowed = of_unit("SystemCallFilter");
    let allowed: Vec<_> = allowed.split(' ').collect();
    for call in ["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"] {
        assert!(allowed.contains(&call), "{allowed:?} has no {call}");
    }
    assert_eq!(of_unit("SystemCallErrorNumber"), "EPERM");
}
