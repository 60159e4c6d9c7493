//! Messages between ringdnsd and upstreams, for dnstap.

use ringdns_dataplane::clock::Nanos;
use ringdns_dnstap::{Dnstap, Kind, Transport};
use ringdns_resolver::upstream::told::{ExchangeTransport, UpstreamMessage, UpstreamReader};
use std::sync::Arc;

/// Output of these messages.
pub struct UpstreamMessages(pub Arc<Dnstap>);

impl UpstreamReader for UpstreamMessages {
    fn pick(&self) -> Option<Nanos> {
        self.0.pick_upstream()
    }

    fn take(&self, message: &UpstreamMessage<'_>) {
        let UpstreamMessage { transport, ends, asked, is_response, wire } = *message;
        let kind = if is_response { Kind::ForwarderResponse } else { Kind::ForwarderQuery };
        let transport = match transport {
            ExchangeTransport::Udp => Transport::Udp,
            ExchangeTransport::Tcp => Transport::Tcp,
            ExchangeTransport::Tls => Transport::Tls,
            ExchangeTransport::Https => Transport::Https,
        };
        self.0.note_upstream(kind, transport, ends, asked, wire);
    }
}
