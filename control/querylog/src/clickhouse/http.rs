//! Requests to ClickHouse's HTTP interface: bounded in time, responses read to their end,
//! credentials in headers.

use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, StatusCode,
    body::Bytes,
    client::conn::http1,
    header::{CONTENT_LENGTH, HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use ringdns_config as config;
use ringdns_config::Scheme;
use ringdns_tls as tls;
use ringdns_tls::TlsError;
use rustls::pki_types::ServerName;
use std::{fmt::Write, io, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Time that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Most bytes read of a response. The responses expected here are a few lines.
const ANSWER_MAX: usize = 256 << 10;
/// Most characters quoted of the server's error message.
const REASON_MAX: usize = 300;

/// Header with the code of ClickHouse's error.
const EXCEPTION_CODE: &str = "x-clickhouse-exception-code";

/// Reason for a failed request.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Nothing was sent.
    #[error("cannot be reached: {0}")]
    Unreachable(String),
    /// Something was sent, and it is unknown whether the server processed it.
    #[error("did not answer: {0}")]
    Silent(String),
    /// The server returned an error.
    #[error("refuses: {0}")]
    Refused(String),
    /// The server, or a proxy in front of it, does not take requests of this size.
    #[error("does not take requests of this size: {0}. Lower query_log.batch_bytes, or raise its limit")]
    TooLarge(String),
    /// The segment is being inserted by an earlier request.
    #[error("is still busy with an earlier request")]
    Running,
    /// The tables do not have the required form.
    #[error("has other tables: {0}")]
    Schema(String),
    /// A read-only query failed.
    #[error("{0}")]
    Unsent(Box<Failure>),
}

impl Failure {
    /// Marks the failure as that of a request that stores no rows.
    pub fn unsent(self) -> Failure {
        match self {
            Failure::Unsent(_) => self,
            failure => Failure::Unsent(failure.into()),
        }
    }

    /// Whether rows may have been stored.
    pub fn was_sent(&self) -> bool {
        // A server that returns an error may have stored the rows before one of its views failed.
        matches!(self, Failure::Silent(_) | Failure::Refused(_))
    }
}

/// Address of the server, and the login.
#[derive(Debug)]
pub struct Http {
    config: config::ClickHouseConfig,
    label: String,
}

impl Http {
    /// Returns a client that has not connected yet.
    pub fn new(config: config::ClickHouseConfig) -> Self {
        let label = format!("{}://{}", config.scheme.label(), config.authority());
        Http { config, label }
    }

    /// Returns the URL without credentials.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Runs a query whose result is a single number.
    pub async fn number(&self, query: &str) -> Result<u64, Failure> {
        let answer = self.query(query).await?;
        answer.trim().parse().map_err(|_| Failure::Refused(format!("{answer:?} is not a number")))
    }

    /// Runs a statement and returns the result, tab-separated.
    pub async fn query(&self, query: &str) -> Result<String, Failure> {
        self.ask(&[], query.to_owned().into()).await
    }

    /// Sends a body and returns the response.
    pub async fn ask(&self, parameters: &[(&str, &str)], body: Bytes) -> Result<String, Failure> {
        let deadline = self.config.timeout;
        let asked = async {
            let connecting = timeout(CONNECT.min(deadline), self.connect(parameters, body));
            match connecting.await {
                Ok(connected) => connected?.answer().await,
                Err(_) => Err(Failure::Unreachable(format!("no connection within {CONNECT:?}"))),
            }
        };
        match timeout(deadline, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(Failure::Silent(format!("no response within {deadline:?}"))),
        }
    }

    async fn connect(&self, parameters: &[(&str, &str)], body: Bytes) -> Result<Exchange, Failure> {
        let unreachable = |error: io::Error| Failure::Unreachable(error.to_string());
        let request = self.request(parameters, body)?;
        let config = &self.config;
        let tcp = TcpStream::connect((config.host.as_str(), config.port)).await.map_err(unreachable)?;
        tcp.set_nodelay(true).map_err(unreachable)?;
        match config.scheme {
            Scheme::Http => Ok(Exchange { stream: Box::new(tcp), request }),
            Scheme::Https => {
                let (connector, name) =
                    self.tls().map_err(|error| Failure::Unreachable(error.to_string()))?;
                let stream = connector.connect(name.clone(), tcp).await.map_err(|error| {
                    let reason = tls::error_in(&error).map(|reason| tls::explain(reason, &name));
                    Failure::Unreachable(reason.unwrap_or_else(|| error.to_string()))
                })?;
                Ok(Exchange { stream: Box::new(stream), request })
            }
        }
    }

    /// Returns the TLS connector. The CA file is read for each request, so that a new CA is used
    /// without a restart.
    fn tls(&self) -> Result<(TlsConnector, ServerName<'static>), TlsError> {
        let config = tls::client_config(self.config.tls_ca_file.as_deref(), b"http/1.1")?;
        let name = ServerName::try_from(self.config.host.clone()).map_err(|error| TlsError {
            reason: format!("{}: {error}", self.config.host),
            remedy: "Give a host name or an IP address in clickhouse.url",
        })?;
        Ok((config.into(), name))
    }

    fn request(&self, parameters: &[(&str, &str)], body: Bytes) -> Result<Request<Full<Bytes>>, Failure> {
        let config = &self.config;
        let mut path = config.path.clone();
        // The server responds after the statement has taken effect, so that a late failure is still
        // reported as an error.
        for (i, (name, value)) in [("wait_end_of_query", "1")].iter().chain(parameters).enumerate() {
            let _ = write!(path, "{}{name}={}", if i == 0 { '?' } else { '&' }, escaped(value));
        }
        let user = HeaderValue::from_str(&config.user);
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(HOST, config.authority())
            .header("user-agent", concat!("ringdns/", env!("CARGO_PKG_VERSION")))
            .header("connection", "close")
            .header(CONTENT_LENGTH, body.len())
            .header("x-clickhouse-user", user.map_err(|error| Failure::Unreachable(error.to_string()))?);
        let request = match self.password()? {
            Some(password) => request.header("x-clickhouse-key", password),
            None => request,
        };
        request.body(Full::new(body)).map_err(|error| Failure::Unreachable(error.to_string()))
    }

    /// Returns the password. The file is read for each request, so that a new password is used
    /// without a restart.
    fn password(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(path) = &self.config.password_file else { return Ok(None) };
        let failed = |reason: String| {
            Failure::Unreachable(format!("clickhouse.password_file {}: {reason}", path.display()))
        };
        let password = std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))?;
        let mut password = HeaderValue::from_str(password.trim_end_matches(['\r', '\n']))
            .map_err(|_| failed("a password is one line of printable ASCII".into()))?;
        password.set_sensitive(true);
        Ok(Some(password))
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// A connection, and the request to be sent over it.
struct Exchange {
    stream: Box<dyn Stream>,
    request: Request<Full<Bytes>>,
}

impl Exchange {
    /// Sends the request and returns the response. From here on the server may have received
    /// something.
    async fn answer(self) -> Result<String, Failure> {
        let silent = |error: hyper::Error| Failure::Silent(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.stream)).await.map_err(silent)?;
        let exchange = async {
            let response = sender.send_request(self.request).await.map_err(silent)?;
            let status = response.status();
            // ClickHouse can report an error in a response whose status is 200.
            let failed = status != StatusCode::OK || response.headers().contains_key(EXCEPTION_CODE);
            let body = Limited::new(response.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|error| Failure::Silent(error.to_string()))?.to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            match status {
                _ if !failed => Ok(text),
                StatusCode::PAYLOAD_TOO_LARGE => Err(Failure::TooLarge(reason(status, &text))),
                _ => Err(Failure::Refused(reason(status, &text))),
            }
        };
        tokio::pin!(exchange);
        // The connection's future moves the bytes. It lasts as long as its single exchange.
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            ended = connection => match ended {
                Ok(()) => exchange.await,
                Err(error) => Err(silent(error)),
            },
        }
    }
}

/// Returns the first line of the server's error message, or else its status.
fn reason(status: StatusCode, text: &str) -> String {
    let line = first_line(text);
    if line.is_empty() { status.to_string() } else { line }
}

/// Returns the first line of a response, in a form that can be logged.
pub fn first_line(text: &str) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
    line.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect()
}

/// Percent-encodes a parameter (RFC 3986).
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests;
