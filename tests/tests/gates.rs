//! Tests of the obstacles between ringdnsd and AF_XDP, as real as one machine allows. Each gives
//! one sentence in the log and in the status, and kernel sockets answer queries.

use ringdns_testkit::{Client, DNS_V4, Lab, Query, Ringdnsd, Settings, Upstream, ask_over_tcp, deny};
use ringdns_xdp::{AttachMode, SteerConfig, Steering};

const REFUSED: &str = "AF_XDP cannot be used: ";
const INSTEAD: &str = ". Serving over kernel sockets instead";

/// Starts ringdnsd behind `wrapper`, with a fallback, and returns the sentence that it logs.
#[track_caller]
fn sentence(lab: &Lab, settings: &Settings, wrapper: &[String]) -> (Ringdnsd, String) {
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let ringdnsd = Ringdnsd::start_behind(lab.server(), settings, &wrapper);
    let said = ringdnsd.process().output();
    // Every line of the log begins with the time and the level, so no message spans two lines.
    let levels = ["INFO", "WARN"];
    let is_whole = |line: &str| line.split_whitespace().nth(1).is_some_and(|word| levels.contains(&word));
    assert!(said.lines().all(is_whole), "{said}");
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains(" WARN ")).collect();
    let [warning] = warnings[..] else { panic!("{} warnings: {said}", warnings.len()) };
    let sentence = warning.split_once(REFUSED).and_then(|(_, rest)| rest.split_once(INSTEAD));
    let Some((sentence, _)) = sentence else { panic!("{warning}") };
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains(&format!("kernel sockets, because {REFUSED}{sentence}\n")), "{status}");
    (ringdnsd, sentence.to_owned())
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn each_gate_is_one_sentence_and_queries_are_answered() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let settings = Settings { server: String::new(), ..Settings::xdp(upstream.address()) };
    for (wrapper, expected) in [
        (
            deny(&["bpf", "ENOSYS"]),
            "creating the maps of the XDP program failed, because this kernel has no BPF, or a seccomp filter hides it: \
             use a kernel with CONFIG_BPF_SYSCALL, look at the container's seccomp profile, or leave out server.interface",
        ),
        (
            deny(&["bpf", "EPERM"]),
            "creating the maps of the XDP program is not permitted: the process has every capability it needs, so its \
             seccomp filter is the likeliest to forbid it. Let bpf(2) pass: `SystemCallFilter=bpf` in the systemd unit, \
             the seccomp profile of a container",
        ),
        (
            deny(&["socket:44", "EAFNOSUPPORT"]),
            "cannot register 8192 KiB of packet memory with AF_XDP: Address family not supported by protocol (os error \
             97); the kernel lacks CONFIG_XDP_SOCKETS, or the service manager forbids the address family (systemd: add \
             AF_XDP to RestrictAddressFamilies=)",
        ),
        (
            words("setpriv --bounding-set=-all,+net_bind_service --inh-caps=-all"),
            "creating the maps of the XDP program is not permitted: this process lacks CAP_BPF, CAP_NET_ADMIN, \
             CAP_PERFMON, CAP_NET_RAW. Run ringdnsd as root, or grant them: `AmbientCapabilities=CAP_BPF CAP_NET_ADMIN \
             CAP_PERFMON CAP_NET_RAW` in the systemd unit, `setcap \
             cap_bpf,cap_net_admin,cap_perfmon,cap_net_raw+ep` for the program, `docker run --cap-add=CAP_BPF \
             --cap-add=CAP_NET_ADMIN --cap-add=CAP_PERFMON --cap-add=CAP_NET_RAW` for a container",
        ),
    ] {
        let (_ringdnsd, sentence) = sentence(&lab, &settings, &wrapper);
        assert_eq!(sentence, expected, "{wrapper:?}");
        assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
        assert_eq!(ask_over_tcp(lab.client(), DNS_V4, &[Query::a("www.example")])[0].rcode(), 0);
    }
}

/// Simulates an old kernel: only `uname -r` can be faked here. Real older kernels need a virtual
/// machine.
#[test]
fn an_old_kernel_is_named() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let settings = Settings { server: String::new(), ..Settings::xdp(upstream.address()) };
    let (_ringdnsd, sentence) = sentence(&lab, &settings, &words("setarch --uname-2.6"));
    assert!(sentence.starts_with("Linux 2.6."), "{sentence}");
    assert!(sentence.ends_with(
        " is too old: it cannot take an XDP program off the interface when its process is killed; use Linux 5.10 or later"
    ));
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
}

/// Runs as root of a user namespace, with an interface of its own.
#[test]
fn a_rootless_container_is_named() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let settings = Settings { server: String::new(), ..Settings::xdp(upstream.address()) };
    let inside = "ip link add vs type veth peer name vc && ip address add 10.53.0.2/24 dev vs && \
                  ip address add fd53::2/64 dev vs nodad && ip link set vs up && ip link set vc up && exec \"$@\"";
    let mut wrapper = words("unshare --user --map-root-user --net sh -c");
    wrapper.extend([inside.to_owned(), "sh".to_owned()]);
    let (_ringdnsd, sentence) = sentence(&lab, &settings, &wrapper);
    assert_eq!(
        sentence,
        "creating the maps of the XDP program is not permitted: this process is in a user namespace (a rootless \
         container?), whose capabilities do not count for BPF. Run it in the host's user namespace"
    );
}

/// Checks that neither the program nor its maps need the kernel's BTF.
#[test]
fn a_kernel_without_btf_will_do() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let mut wrapper = words("unshare --mount sh -c");
    let hide = "mount -t tmpfs none /sys/kernel/btf && exec \"$@\"";
    wrapper.extend([hide.to_owned(), "sh".to_owned()]);
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let settings = Settings::xdp(upstream.address());
    let ringdnsd = Ringdnsd::start_behind(lab.server(), &settings, &wrapper);
    assert!(ringdnsd.told(&["status"]).contains("program: driver"));
    assert_eq!(Client::of(lab.client(), DNS_V4).ask(&Query::a("www.example")).rcode(), 0);
    assert_eq!(ringdnsd.stat("/xdp/redirected"), 1);
}

#[test]
fn another_xdp_program_is_named_and_left_alone() {
    let Some(lab) = Lab::up() else { return };
    let listen = ["10.53.0.9:53".parse().unwrap()];
    let config =
        SteerConfig { interface: "vs", listen: &listen, vlans: &[], prefixes: &[], mode: AttachMode::Driver };
    let _other = lab.server().enter(|| {
        let mut other = Steering::load(&config).expect("it loads");
        other.attach().expect("it attaches");
        other
    });
    let upstream = Upstream::answering(lab.server());
    let (code, said) = Ringdnsd::refused(lab.server(), &Settings::xdp(upstream.address()), &[]);
    assert_eq!(code, 3, "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.contains(" ERROR ")).collect();
    let others = said.lines().filter(|line| !line.contains(" sandboxed "));
    assert_eq!((errors.len(), others.count()), (1, 1), "{said}");
    assert!(
        errors[0].ends_with(
            "interface vs already runs an XDP program: `ip -details link show dev vs` names it. End the process that \
             holds it, or, if none does, `ip link set dev vs xdp off`"
        ),
        "{said}"
    );
}

#[test]
fn a_queue_that_is_not_there_is_named_with_those_that_are() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let server = "mode = \"copy\"\nfallback = false\nqueues = [3]".to_owned();
    let settings = Settings { server, ..Settings::xdp(upstream.address()) };
    let (code, said) = Ringdnsd::refused(lab.server(), &settings, &[]);
    assert_eq!(code, 3, "{said}");
    assert!(
        said.contains(
            "vs has no such queue (driver veth, 1 receive queue, MTU 1500; queues are counted from 0)"
        ),
        "{said}"
    );
}

/// Checks the problem about VLAN tag stripping. It does not depend on VLAN devices, which not every
/// kernel has.
#[test]
fn stripping_of_vlan_tags_is_told_with_the_command_that_ends_it() {
    let Some(lab) = Lab::up() else { return };
    let upstream = Upstream::answering(lab.server());
    let server = "mode = \"generic\"\nfallback = false".to_owned();
    let settings = Settings { server, ..Settings::xdp(upstream.address()) };
    lab.server().run("ethtool", ["-K", "vs", "rxvlan", "on"]);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    let setting = "interface vs takes VLAN tags off what it receives (rxvlan on)";
    let mend = "`ethtool -K vs rxvlan off`";
    let said = ringdnsd.process().output();
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(matches!(warnings[..], [one] if one.contains(setting) && one.contains(mend)), "{said}");
    let status = ringdnsd.told(&["status"]);
    assert!(status.contains(&format!("problem    info: {setting}")) && status.contains(mend), "{status}");
    drop(ringdnsd);
    lab.server().run("ethtool", ["-K", "vs", "rxvlan", "off"]);
    let ringdnsd = Ringdnsd::start(lab.server(), &settings);
    assert!(!ringdnsd.told(&["status"]).contains("problem"));
}
