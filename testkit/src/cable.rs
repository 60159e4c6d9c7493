//! Changes of the lab's cable while servers run: removed, made anew, its XDP program detached.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde_json::Value;

use crate::{CLIENT_V4, CLIENT_V6, Host, Lab, SERVER_V4, SERVER_V6};

impl Lab {
    /// Removes the cable with both ends, as unloading a driver does.
    #[track_caller]
    pub fn remove_cable(&self) {
        self.server().run("ip", ["link", "delete", "dev", "vs"]);
    }

    /// Makes the cable anew, as deploy/lab.sh made it, with `queues` queues, into the namespaces of
    /// the client and of the process `pid` on the server. Then calls `before_up`, then sets both
    /// ends up.
    #[track_caller]
    pub fn make_cable(&self, queues: u32, pid: u32, before_up: impl FnOnce()) {
        let (pid, queues) = (pid.to_string(), queues.to_string());
        let of = ["numrxqueues", &queues, "numtxqueues", &queues];
        let near = ["link", "add", "vc", "address", "02:00:00:00:53:01"];
        let far = ["type", "veth", "peer", "name", "vs", "address", "02:00:00:00:53:02", "netns", &pid];
        self.client().run("ip", [&near[..], &of, &far, &of].concat());
        before_up();
        configure_end(self.client(), "vc", CLIENT_V4, CLIENT_V6);
        self.configure_server_end();
    }

    /// Sets the server's end up, with its addresses.
    #[track_caller]
    pub fn configure_server_end(&self) {
        configure_end(self.server(), "vs", SERVER_V4, SERVER_V6);
    }

    /// Detaches the XDP program of the server's end, which root can do at any time.
    #[track_caller]
    pub fn detach_program(&self) {
        let server = self.server();
        let json = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
        let interface = json(server.run("ip", ["-json", "-details", "link", "show", "dev", "vs"]));
        let program = &interface[0]["xdp"]["prog"]["id"];
        assert!(program.is_u64(), "{interface:#}");
        // Lists links of all namespaces; ids of programs are the same in all of them.
        let links = json(server.run("bpftool", ["--json", "link", "show"]));
        let link = links.as_array().expect("links").iter().find(|link| link["prog_id"] == *program);
        let id = link.map(|link| link["id"].to_string()).expect("the link of the program");
        server.run("bpftool", ["link", "detach", "id", &id]);
    }
}

#[track_caller]
fn configure_end(host: &Host, end: &str, v4: Ipv4Addr, v6: Ipv6Addr) {
    host.run("ip", ["link", "set", "dev", end, "addrgenmode", "none"]);
    let offloads = ["rx", "tx", "sg", "tso", "gso", "rxvlan", "txvlan"];
    let offloads = offloads.iter().flat_map(|offload| [*offload, "off"]).chain(["gro", "on"]);
    host.run("ethtool", ["-K", end].into_iter().chain(offloads));
    host.run("ip", ["link", "set", "dev", end, "up"]);
    host.give_address(end, v4);
    host.give_address(end, v6);
}
