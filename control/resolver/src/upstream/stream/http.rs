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
    record::{self, Record},
    rtype,
};
use std::{error::Error, io};
use tokio::io::{AsyncRead, AsyncWrite};

/// The type of queries and responses.
const MESSAGE: &str = "application/dns-message";
/// The longest message that DNS knows.
const BODY_MAX: usize = 65_535;

/// What came over HTTPS is no response to a query.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// Another status than 200.
    #[error("HTTP status {0}; check the path of the URL")]
    Status(StatusCode),
    /// Another type than that of DNS messages.
    #[error("a body of type {0:?} where {MESSAGE} should be; check the path of the URL")]
    ContentType(String),
    /// The body is longer than a message can be.
    #[error("the body is longer than {BODY_MAX} bytes")]
    TooLong,
}

/// The way to a connection's task.
#[derive(Clone)]
pub struct Http {
    requests: SendRequest<Full<Bytes>>,
    uri: Uri,
}

impl Http {
    /// What sends and receives over `stream`, until that breaks or all copies of this are gone.
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
        Ok((Http { requests, uri }, async { connection.await.map_err(io::Error::other) }))
    }

    /// Sends a query and waits for the response. Its ID is 0, as section 4.1 advises: streams tell them apart.
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
        let age = text(&head.headers, AGE).parse().unwrap_or(0);
        // What is not read to its end is reset, and the connection serves on.
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

/// Takes off the seconds that a response has been kept by a cache of HTTP (section 5.1). What ends early is left as it is: it
/// will not be believed.
fn grow_older(message: &mut [u8], age: u32) {
    let Some(counts) = message.get(6..header::LEN) else { return };
    let count: usize =
        counts.chunks(2).map(|count| usize::from(u16::from_be_bytes([count[0], count[1]]))).sum();
    let Some(mut at) = record::skip_name(message, header::LEN).map(|end| end + 4) else { return };
    for _ in 0..count {
        let Some(record) = Record::parse(message, at) else { return };
        at = record.end;
        // A TTL with its highest bit set counts as none (RFC 2181 section 8).
        if record.rtype != rtype::OPT && record.ttl <= i32::MAX as u32 {
            let left = record.ttl.saturating_sub(age);
            message[record.ttl_at..record.ttl_at + 4].copy_from_slice(&left.to_be_bytes());
        }
    }
}

fn text(headers: &HeaderMap, name: hyper::header::HeaderName) -> &str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// The connection or the stream ended.
fn broken(error: hyper::Error) -> AskError {
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    AskError::Unreachable(io::Error::new(io::ErrorKind::ConnectionReset, why))
}
