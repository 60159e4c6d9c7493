//! DNS over HTTPS (RFC 8484): a query is a POST, its response the body of a 200.

use super::{AskError, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http2::{self, SendRequest},
    header::{ACCEPT, AGE, CONTENT_TYPE, HeaderMap},
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
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
    /// The body is longer than a message can be, or ends early.
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
    pub async fn exchange(mut self, query: &[u8]) -> Result<Response, AskError> {
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
        Ok(Response { message: body.to_bytes().to_vec(), age })
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
