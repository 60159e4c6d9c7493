//! Requirements of a configuration on its host.

use ringdns_config::{Config, Transport, UpstreamAddress, UpstreamConfig, XdpMode, paths::PathUse};
use std::{net::SocketAddr, path::PathBuf};

/// Requirements of a configuration on its host.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Whether there is a configuration, and it was accepted.
    pub accepted: bool,
    /// Interface for AF_XDP; `None`: kernel sockets.
    pub interface: Option<String>,
    /// Receive queues to serve; `None`: all.
    pub queues: Option<Vec<u32>>,
    /// Whether kernel sockets may replace AF_XDP.
    pub falls_back: bool,
    /// Whether only zero-copy will do.
    pub zero_copy: bool,
    /// Whether VLANs are named whose frames are to be received.
    pub vlans: bool,
    /// Whether workers drive the NIC.
    pub busy_poll: bool,
    /// Addresses to listen on.
    pub listen: Vec<SocketAddr>,
    /// Least port to listen on, port 0 aside.
    pub least_port: Option<u16>,
    /// Upstreams.
    pub upstreams: Vec<WantedUpstream>,
    /// Whether certificates or signatures are judged by the time.
    pub needs_time: bool,
    /// Files with certificates, and their keys.
    pub certificates: Vec<(String, PathBuf)>,
    /// Bytes of all caches of workers, for each worker.
    pub worker_bytes: u64,
}

/// Upstream of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedUpstream {
    /// Name in statistics, such as `udp://192.0.2.1:53`.
    pub label: String,
    /// Addresses.
    pub addresses: Vec<UpstreamAddress>,
    /// Whether it is asked over UDP; otherwise a connection is made.
    pub over_udp: bool,
}

impl Wanted {
    /// Returns the requirements of a configuration.
    pub fn of(config: &Config) -> Self {
        let server = &config.server;
        let upstream = |upstream: &UpstreamConfig| WantedUpstream {
            label: upstream.label(),
            addresses: upstream.addresses.clone(),
            over_udp: upstream.transport == Transport::Udp,
        };
        let paths = config.paths().into_iter().filter(|path| path.used == PathUse::File);
        let has_certificates = |key: &str| key.ends_with(".tls_ca_file") || key.ends_with(".tls_cert_file");
        let ports = server.listen.iter().chain(&config.control.http).map(|address| address.port());
        Wanted {
            accepted: true,
            interface: server.interface.clone(),
            queues: server.queues.clone(),
            falls_back: server.fallback,
            zero_copy: server.mode == XdpMode::ZeroCopy,
            vlans: !server.vlans.is_empty(),
            busy_poll: server.busy_poll,
            listen: server.listen.clone(),
            least_port: ports.filter(|port| *port > 0).min(),
            upstreams: config.upstreams.iter().map(upstream).collect(),
            needs_time: config.dnssec.validate
                || config.upstreams.iter().any(|upstream| upstream.transport.tls().is_some()),
            certificates: paths
                .filter(|path| has_certificates(&path.key))
                .map(|path| (path.key, path.path))
                .collect(),
            worker_bytes: config.cache.bytes_per_worker,
        }
    }
}
