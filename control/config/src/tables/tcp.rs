//! `[tcp]`: limits for clients over TCP.

use crate::{bounds::within, error::Problem, table::table};
use ringdns_common::units::TimeSpan;
use std::time::Duration;

/// Most TCP connections at once. More connections need more than one process.
const CONNECTIONS_MAX: usize = 65_536;
/// Most queries in flight on one connection. More queries need another connection.
const IN_FLIGHT_MAX: usize = 4_096;

table! {
    /// Limits for clients over TCP (RFC 7766, RFC 9210).
    "[tcp]" RawTcp {
        /// Most connections at once, over all addresses. At the limit, a new connection replaces
        /// the one that has been idle longest.
        connections: usize = 1024,
        /// Most connections at once from one client: an IPv4 address, or an IPv6 /56.
        connections_per_client: usize = 256,
        /// Most queries in flight on one connection. Further queries wait until one is answered.
        in_flight: usize = 64,
        /// Time that a connection may be idle with no query in flight, that a message may take to
        /// arrive, and that a client may leave its answers unread. Clients that ask for it are told
        /// (RFC 7828).
        idle: TimeSpan = TimeSpan::secs(10),
    }
}

/// Limits of TCP listeners: memory and time.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Most connections at once, over all addresses.
    pub connections: usize,
    /// Most connections at once from one client: an IPv4 address or an IPv6 /56.
    pub connections_per_client: usize,
    /// Most queries in flight on one connection; further queries wait in the socket.
    pub in_flight: usize,
    /// Time that a connection may be idle, and a client may leave its answers unread (RFC 7766
    /// section 6.2.3: some seconds).
    pub idle: Duration,
}

impl RawTcp {
    /// Returns the checked values.
    pub fn check(self) -> Result<TcpConfig, Problem> {
        for (key, value, most) in [
            ("tcp.connections", self.connections, CONNECTIONS_MAX),
            ("tcp.connections_per_client", self.connections_per_client, CONNECTIONS_MAX),
            ("tcp.in_flight", self.in_flight, IN_FLIGHT_MAX),
        ] {
            if value == 0 || value > most {
                let remedy = format!("Give 1 to {most}; TCP cannot be turned off (RFC 9210)");
                return Err(Problem::new(key, format!("{value} is not possible"), remedy));
            }
        }
        let idle = [TimeSpan::secs(1), TimeSpan::secs(3_600)];
        let remedy = "Give \"1s\" to \"1h\"; some seconds are enough (RFC 7766)";
        Ok(TcpConfig {
            connections: self.connections,
            connections_per_client: self.connections_per_client.min(self.connections),
            in_flight: self.in_flight,
            idle: within("tcp.idle", self.idle, idle, remedy)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testing::{MINIMAL, minimal_with, refused};

    #[test]
    fn one_client_has_no_more_connections_than_all_clients() {
        assert_eq!(minimal_with("[tcp]\nconnections = 10").tcp.connections_per_client, 10);
        assert_eq!(minimal_with("[tcp]").tcp.connections_per_client, 256);
    }

    #[test]
    fn wrong_values_are_refused() {
        refused(
            &format!("{MINIMAL}[tcp]\n"),
            &[
                ["connections = 0", "6", "tcp.connections", "0 is not", "RFC 9210"],
                ["connections_per_client = 0", "6", "tcp.connections_per_client", "0 is not", "RFC 9210"],
                ["in_flight = 5000", "6", "tcp.in_flight", "5000 is not", "1 to 4096"],
                ["idle = \"2h\"", "6", "tcp.idle", "too long", "RFC 7766"],
            ],
        );
    }
}
