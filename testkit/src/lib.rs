//! Tools of end-to-end tests: two hosts, real servers, clients, and their processes.
//!
//! ```text
//!   client namespace                 server namespace
//!   kdig, dnsperf, kxdpgun           ringdnsd, and on its loopback Knot as the upstream
//!   vc  10.53.0.1  fd53::1  <-veth-> vs  10.53.0.2  fd53::2
//! ```
//!
//! A test takes a [`Lab`], starts servers on its [`Host`]s and runs clients there. Everything that
//! it made ends when the values that represent it are dropped, even if the test panics. Every lab
//! has a name and namespaces of its own, so any number of them can be up at once.
//!
//! A failure of these tools is a failure of the test: they panic, at the caller's line and with the
//! remedy in the message, and the output of the processes goes to the test's output.
#![forbid(unsafe_code)]

mod browser;
mod cable;
mod clickhouse;
mod client;
mod disk;
mod host;
mod knot;
mod lab;
mod message;
mod names;
mod port;
pub mod privilege;
mod process;
mod prometheus;
mod redis;
mod ringdnsd;
pub mod scenario;
mod sentinel;
mod signer;
mod sources;
pub mod sums;
pub mod tls;
mod unbound;
mod upstream;
mod usage;
mod web;
mod zone;

pub use browser::Browser;
pub use clickhouse::{ClickHouse, Engine};
pub use client::{Client, ask_over_tcp, exchange_over_tcp, kdig};
pub use disk::SmallDisk;
pub use host::Host;
pub use knot::Knot;
pub use lab::{CLIENT_V4, CLIENT_V6, DNS_V4, DNS_V6, Lab, LabOptions, SERVER_V4, SERVER_V6};
pub use message::{A, Asked, Edns, Query, Reply, TXT, a_record};
pub use names::popular_names;
pub use port::{free_address, free_port};
pub use process::Process;
pub use prometheus::Prometheus;
pub use redis::{Redis, RedisCluster, url_in};
pub use ringdnsd::{
    Ringdnsd, Settings, deny, from_clock_file, from_time, program, ringbench, until, until_within,
};
pub use sentinel::Sentinels;
pub use signer::{KeyRing, KeySigningKey, Signed, sign};
pub use unbound::Unbound;
pub use upstream::{Gate, Over, Say, Seen, Upstream};
pub use usage::{UsageGrowth, UsageSample, files_are_closed};
pub use web::Web;
pub use zone::Zone;
