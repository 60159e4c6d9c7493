//! Opens connections to an upstream's addresses.

use super::{framed::Framed, http::HttpLink};
use crate::upstream::{Upstream, addresses::socket_address, told::Ends};
use parking_lot::Mutex;
use ringdns_config as config;
use ringdns_config::{Transport, UpstreamAddress};
use ringdns_tls::TlsError;
use std::{io, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Least time between two log lines about TLS failures of one upstream.
const COMPLAINT: Duration = Duration::from_secs(60);

/// First pause after a connection over TLS failed; doubled with each further failure.
const BACK_OFF: Duration = Duration::from_secs(1);
/// Longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// Framing of queries on a connection.
#[derive(Clone)]
pub enum StreamLink {
    /// Messages behind their length (TCP, TLS).
    Framed(Framed),
    /// Requests of HTTP/2 (HTTPS).
    Http(HttpLink),
}

/// Connection that is set up.
pub struct Connected {
    /// Link for queries.
    pub link: StreamLink,
    /// Local address and address of the upstream.
    pub ends: Ends,
    /// Future that the connection's task drives.
    pub driver: Driver,
}

/// Future that a connection's task drives until it ends.
pub type Driver = Pin<Box<dyn Future<Output = io::Result<()>> + Send>>;

/// TLS settings of an upstream.
pub struct Peer {
    /// Connector for TLS; an error in it was logged at the start.
    tls: Option<Result<TlsConnector, TlsError>>,
    /// Time at which a TLS failure was last logged.
    complained: Mutex<Option<Instant>>,
    back_off: Mutex<ConnectBackOff>,
}

/// Back-off of connections over TLS that fail: a handshake costs both sides more than a query.
#[derive(Default)]
struct ConnectBackOff {
    /// Number of failures since a connection was set up.
    failures: u32,
    /// Time from which the next connection is tried.
    from: Option<Instant>,
    /// Error of the last one.
    error: Option<io::Error>,
}

impl ConnectBackOff {
    /// Admits a connection, or returns the error of the last one. After a failure one is admitted
    /// in each step.
    fn admit(&mut self, now: Instant) -> io::Result<()> {
        let Some(error) = &self.error else { return Ok(()) };
        if self.from.is_some_and(|from| now < from) {
            return Err(super::again(error));
        }
        self.from = Some(now + self.step());
        Ok(())
    }

    fn step(&self) -> Duration {
        (BACK_OFF * (1 << self.failures.saturating_sub(1).min(8))).min(BACK_OFF_MAX)
    }

    fn note(&mut self, failed: Option<&io::Error>, now: Instant) {
        let Some(error) = failed else { return *self = ConnectBackOff::default() };
        self.failures = self.failures.saturating_add(1);
        self.from = Some(now + self.step());
        self.error = Some(super::again(error));
    }
}

impl Peer {
    /// Returns the peer of a configuration.
    pub fn new(config: &config::UpstreamConfig) -> Self {
        Peer { tls: connector(&config.transport), complained: Mutex::default(), back_off: Mutex::default() }
    }

    /// Sets up a connection in the time that there is for it. Over TLS it fails at once if others
    /// have failed a short time ago.
    pub async fn connect(&self, upstream: &Arc<Upstream>) -> io::Result<Connected> {
        if self.tls.is_some() {
            self.back_off.lock().admit(Instant::now())?;
        }
        let connecting = timeout(super::CONNECT_MAX, self.try_all(upstream));
        let connected = connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        if self.tls.is_some() {
            self.back_off.lock().note(connected.as_ref().err(), Instant::now());
        }
        connected
    }

    /// Tries the addresses in turn, each for its share of the time.
    async fn try_all(&self, upstream: &Arc<Upstream>) -> io::Result<Connected> {
        let share = super::CONNECT_MAX / upstream.addresses.len() as u32;
        let mut failed = io::Error::from(io::ErrorKind::TimedOut);
        for address in upstream.addresses.iter() {
            match timeout(share, self.connect_to(address, upstream)).await {
                Ok(Ok(connected)) => return Ok(connected),
                Ok(Err(error)) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    async fn connect_to(&self, address: &UpstreamAddress, upstream: &Arc<Upstream>) -> io::Result<Connected> {
        let tcp = TcpStream::connect(socket_address(address)?).await?;
        tcp.set_nodelay(true)?;
        let ends = (tcp.local_addr()?, tcp.peer_addr()?);
        let (link, driver): (_, Driver) = match &upstream.transport {
            Transport::Udp | Transport::Tcp => {
                let (link, driver) = Framed::over(tcp, upstream.clone());
                (StreamLink::Framed(link), Box::pin(driver))
            }
            Transport::Tls(tls) => {
                let stream = self.handshake(tls, tcp, upstream).await?;
                trust(upstream);
                let (link, driver) = Framed::over(stream, upstream.clone());
                (StreamLink::Framed(link), Box::pin(driver))
            }
            Transport::Https(tls, uri) => {
                let stream = self.handshake(tls, tcp, upstream).await?;
                if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                    let reason = "it does not speak HTTP/2, which RFC 8484 asks for";
                    self.complain(upstream, reason);
                    return Err(io::Error::new(io::ErrorKind::Unsupported, reason));
                }
                trust(upstream);
                let (link, driver) = HttpLink::over(stream, uri.clone()).await?;
                (StreamLink::Http(link), Box::pin(driver))
            }
        };
        Ok(Connected { link, ends, driver })
    }

    async fn handshake(
        &self,
        tls: &config::TlsConfig,
        tcp: TcpStream,
        upstream: &Upstream,
    ) -> io::Result<TlsStream<TcpStream>> {
        let connector = match &self.tls {
            Some(Ok(connector)) => connector,
            Some(Err(error)) => return Err(self.tls_failure(upstream, error.to_string())),
            None => return Err(io::ErrorKind::Unsupported.into()),
        };
        connector.connect(tls.name.clone(), tcp).await.map_err(|error| match ringdns_tls::error_in(&error) {
            Some(reason) => self.tls_failure(upstream, ringdns_tls::explain(reason, &tls.name)),
            None => error,
        })
    }

    fn tls_failure(&self, upstream: &Upstream, reason: String) -> io::Error {
        upstream.counters.tls_failures.inc();
        self.complain(upstream, &reason);
        io::Error::new(io::ErrorKind::InvalidData, reason)
    }

    fn complain(&self, upstream: &Upstream, reason: &str) {
        upstream.distrust.set(reason);
        let now = Instant::now();
        let mut complained = self.complained.lock();
        if complained.is_none_or(|last| now >= last + COMPLAINT) {
            *complained = Some(now);
            tracing::warn!(upstream = %upstream.label, "upstream is not asked: {reason}");
        }
    }
}

/// Ends the fault of an upstream that was not asked because of its certificate.
fn trust(upstream: &Upstream) {
    if upstream.distrust.clear() {
        tracing::info!(upstream = %upstream.label, "upstream is asked over TLS again");
    }
}

/// ALPN name of HTTP/2 (RFC 9113 section 3.1).
const HTTP2: &[u8] = b"h2";
/// ALPN name of DNS over TLS (RFC 7858).
const DNS: &[u8] = b"dot";

/// Returns the connector for TLS to an upstream; `None`: the transport has no TLS.
fn connector(transport: &Transport) -> Option<Result<TlsConnector, TlsError>> {
    let (tls, protocol) = match transport {
        Transport::Udp | Transport::Tcp => return None,
        Transport::Tls(tls) => (tls, DNS),
        Transport::Https(tls, _) => (tls, HTTP2),
    };
    Some(ringdns_tls::client_config(tls.ca_file.as_deref(), protocol).map(TlsConnector::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_fails_is_tried_once_in_each_step() {
        let (mut back_off, begin) = (ConnectBackOff::default(), Instant::now());
        let fail = |back_off: &mut ConnectBackOff, now| {
            back_off.note(Some(&io::ErrorKind::InvalidData.into()), now);
        };
        assert!(back_off.admit(begin).is_ok() && back_off.admit(begin).is_ok());
        fail(&mut back_off, begin);
        let refused = back_off.admit(begin + Duration::from_millis(999)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidData);
        let second = begin + Duration::from_secs(1);
        assert!(back_off.admit(second).is_ok() && back_off.admit(second).is_err(), "one tries");
        fail(&mut back_off, second);
        assert!(back_off.admit(second + Duration::from_millis(1999)).is_err());
        assert!(back_off.admit(second + Duration::from_secs(2)).is_ok());
        (0..40).for_each(|_| fail(&mut back_off, second));
        assert!(back_off.admit(second + BACK_OFF_MAX).is_ok());
        back_off.note(None, second);
        assert!(back_off.admit(second).is_ok());
    }
}
