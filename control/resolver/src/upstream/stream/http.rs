//! DNS over HTTPS (RFC 8484): a query is a POST, its response the body of a 200.

use super::AskError;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http2::{self, SendRequest},
    header::{ACCEPT, AGE, CONTENT_TYPE, HeaderMap},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ringdns_dataplane::dns::{
    header,
    record::{self, RecordHead},
    rtype,
};
use std::{error::Error, io};
use tokio::io::{AsyncRead, AsyncWrite};

/// Media type of queries and responses.
const MESSAGE: &str = "application/dns-message";
/// Longest DNS message, in bytes.
const BODY_MAX: usize = 65_535;

/// Reason why an HTTPS response is no response to a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The status is not 200.
    #[error("HTTP status {0}; check the path of the URL")]
    Status(StatusCode),
    /// The media type is not that of DNS messages.
    #[error("the body has type {0:?} instead of {MESSAGE}; check the path of the URL")]
    ContentType(String),
    /// The body is longer than a message can be.
    #[error("the body is longer than {BODY_MAX} bytes")]
    TooLong,
}

/// Handle to a connection's task.
#[derive(Clone)]
pub struct HttpLink {
    requests: SendRequest<Full<Bytes>>,
    uri: Uri,
}

impl HttpLink {
    /// Returns a handle, and the future that sends and receives over `stream` until that breaks or
    /// all copies of the handle are gone.
    pub async fn over<S>(
        stream: S,
        uri: Uri,
    ) -> io::Result<(Self, impl Future<Output = io::Result<()>> + Send)>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new());
        let (requests, connection) =
            builder.handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        Ok((HttpLink { requests, uri }, async { connection.await.map_err(io::Error::other) }))
    }

    /// Sends a query and waits for the response. The query's ID is 0, as RFC 8484 section 4.1
    /// advises: HTTP/2 streams tell queries apart.
    pub async fn exchange(mut self, query: &[u8]) -> Result<Vec<u8>, AskError> {
        let request = Request::post(self.uri)
            .header(CONTENT_TYPE, MESSAGE)
            .header(ACCEPT, MESSAGE)
            .body(Full::new(Bytes::copy_from_slice(query)))
            .map_err(io::Error::other)?;
        let (head, body) = self.requests.send_request(request).await.map_err(broken)?.into_parts();
        if head.status != StatusCode::OK {
            return Err(HttpError::Status(head.status).into());
        }
        let kind = text(&head.headers, CONTENT_TYPE);
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(MESSAGE)) {
            return Err(HttpError::ContentType(kind.to_owned()).into());
        }
        let age = delta_seconds(text(&head.headers, AGE));
        // A body that is not read to its end is reset, and the connection stays in use.
        let body = Limited::new(body, BODY_MAX).collect().await.map_err(|error| {
            match error.downcast::<hyper::Error>() {
                Ok(error) => broken(*error),
                Err(_) => HttpError::TooLong.into(),
            }
        })?;
        let mut message = body.to_bytes().to_vec();
        if age > 0 {
            grow_older(&mut message, age);
        }
        Ok(message)
    }
}

/// Lowers TTLs by the seconds that an HTTP cache has kept the response (RFC 8484 section 5.1). A
/// truncated message is left as it is: it will be rejected later.
fn grow_older(message: &mut [u8], age: u32) {
    let Some(counts) = message.get(6..header::LEN) else { return };
    let count: usize =
        counts.chunks(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]]))).sum();
    let Some(mut at) = record::skip_name(message, header::LEN).map(|end| end + 4) else { return };
    for _ in 0..count {
        let Some(record) = RecordHead::parse(message, at) else { return };
        at = record.end;
        // A TTL with its highest bit set counts as none (RFC 2181 section 8).
        if record.rtype != rtype::OPT && record.ttl <= i32::MAX as u32 {
            let left = record.ttl.saturating_sub(age);
            message[record.ttl_at..record.ttl_at + 4].copy_from_slice(&left.to_be_bytes());
        }
    }
}

/// Returns a number of seconds. One that is too large counts as very long (RFC 9111 section 1.2.2),
/// and of a list the first member counts (section 5.1). Text that is no number says nothing.
fn delta_seconds(text: &str) -> u32 {
    let first = text.split(',').next().unwrap_or_default().trim();
    let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { first.parse().unwrap_or(u32::MAX) } else { 0 }
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Returns the error for a connection or stream that ended.
fn broken(error: hyper::Error) -> AskError {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    AskError::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_beyond_all_numbers_is_very_old() {
        for (text, seconds) in [
            ("60", 60),
            (" 007 ", 7),
            ("4294967295", u32::MAX),
            ("4294967296", u32::MAX),
            ("99999999999999999999999999", u32::MAX),
            ("60, 70", 60),
            ("", 0),
            ("-1", 0),
            ("+1", 0),
            ("soon", 0),
        ] {
            assert_eq!(delta_seconds(text), seconds, "{text:?}");
        }
    }
}
