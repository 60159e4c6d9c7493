//! HTTP client over the control socket, or over TCP with a token.

use anyhow::{Context, anyhow, bail};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// Time that ringdnsd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A running ringdnsd, and the way to it.
pub(super) enum Ringdnsd {
    /// Control socket.
    Socket(PathBuf),
    /// HTTP address.
    Http {
        /// Host and port.
        authority: String,
        /// Value of the Authorization header.
        authorization: Option<String>,
    },
}

impl fmt::Display for Ringdnsd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ringdnsd::Socket(path) => path.display().fmt(f),
            Ringdnsd::Http { authority, .. } => write!(f, "http://{authority}"),
        }
    }
}

impl Ringdnsd {
    /// Returns the one at a URL, or else at a socket. A file has the token for the URL.
    pub(super) fn at(socket: PathBuf, url: Option<&str>, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let Some(url) = url else { return Ok(Ringdnsd::Socket(socket)) };
        let Some(authority) = url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/')) else {
            bail!(
                "{url:?} is no URL of ringdnsd: write http:// and its control.http, such as http://127.0.0.1:8053"
            );
        };
        if authority.is_empty() || authority.contains('/') {
            bail!("{url:?} has no host, or a path: write http:// and host:port alone");
        }
        let authority = match authority.rsplit_once(':') {
            Some((_, port)) if port.parse::<u16>().is_ok() => authority.to_owned(),
            _ => format!("{authority}:80"),
        };
        let token = |path: &Path| {
            let text =
                fs::read_to_string(path).with_context(|| format!("--token-file {}", path.display()))?;
            let token = text.lines().next().unwrap_or_default().trim();
            if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                bail!("--token-file {}: the first line is no token", path.display());
            }
            Ok(format!("Bearer {token}"))
        };
        Ok(Ringdnsd::Http { authority, authorization: token_file.map(token).transpose()? })
    }

    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Bytes> {
        self.ask(Method::GET, path).await
    }

    pub(super) async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Bytes> {
        self.ask_within(PATIENCE, method, path).await
    }

    pub(super) async fn ask_within(
        &self,
        patience: Duration,
        method: Method,
        path: &str,
    ) -> anyhow::Result<Bytes> {
        let asked = timeout(patience, async {
            let response = self.exchange(method, path).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = asked.await.with_context(|| {
            format!("ringdnsd at {self} took more than {} s to answer", patience.as_secs())
        })??;
        if status == StatusCode::OK { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Begins an answer that comes in parts, as long as it may take.
    pub(super) async fn stream(&self, path: &str) -> anyhow::Result<Incoming> {
        let response = self.exchange(Method::GET, path).await?;
        let (status, body) = (response.status(), response.into_body());
        if status == StatusCode::OK {
            Ok(body)
        } else {
            Err(refused(status, &body.collect().await?.to_bytes()))
        }
    }

    pub(super) async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        self.exchange_with(method, path, Empty::<Bytes>::new()).await
    }

    /// Sends a request with a body. Returns the body of the answer, unless it is a refusal.
    pub(super) async fn open<B>(&self, method: Method, path: &str, body: B) -> anyhow::Result<Incoming>
    where
        B: Body<Data = Bytes, Error = io::Error> + Send + 'static,
    {
        let response = self.exchange_with(method, path, body).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(refused(status, &response.into_body().collect().await?.to_bytes())),
        }
    }

    async fn exchange_with<B>(
        &self,
        method: Method,
        path: &str,
        body: B,
    ) -> anyhow::Result<Response<Incoming>>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let mut request = Request::builder().method(method).uri(path);
        match self {
            Ringdnsd::Socket(socket) => {
                let stream = UnixStream::connect(socket).await.with_context(|| {
                    format!(
                        "no ringdnsd at {self}: is it running, with this control.socket, and are you its user, root or in the group ringdns?"
                    )
                })?;
                request = request.header("host", "ringdnsd");
                send(stream, request.body(body)?).await
            }
            Ringdnsd::Http { authority, authorization } => {
                let stream = TcpStream::connect(authority).await.with_context(|| {
                    format!("no ringdnsd at {self}: is it running, with this address as its control.http?")
                })?;
                request = request.header("host", authority);
                if let Some(authorization) = authorization {
                    request = request.header("authorization", authorization);
                }
                send(stream, request.body(body)?).await
            }
        }
    }
}

/// Sends a request over a connection.
async fn send<S, B>(stream: S, request: Request<B>) -> anyhow::Result<Response<Incoming>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // The reader of the response sees and reports errors of the connection.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}

/// Lines of an answer, as they arrive.
pub(super) struct Lines {
    body: Incoming,
    /// Bytes that have arrived and the place of the next line in them.
    arrived: Vec<u8>,
    at: usize,
}

impl Lines {
    /// Returns the lines of an answer.
    pub(super) fn of(body: Incoming) -> Self {
        Lines { body, arrived: Vec::new(), at: 0 }
    }

    /// Waits for the next line, and returns it without its end. `None`: there are no more.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<&[u8]>> {
        let mut searched = self.at;
        loop {
            if let Some(length) = self.arrived[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.at..searched + length;
                self.at = line.end + 1;
                return Ok(Some(&self.arrived[line]));
            }
            self.arrived.drain(..self.at);
            (searched, self.at) = (self.arrived.len(), 0);
            match self.body.frame().await {
                Some(frame) => self.arrived.extend(frame?.into_data().unwrap_or_default()),
                None if self.arrived.is_empty() => return Ok(None),
                None => bail!("the answer ends within a line"),
            }
        }
    }
}

/// Returns an error with the reason that ringdnsd gave.
pub(super) fn refused(status: StatusCode, body: &[u8]) -> anyhow::Error {
    let reason = serde_json::from_slice::<Value>(body).ok();
    let reason = reason.as_ref().and_then(|value| value["error"].as_str());
    anyhow!("{}", reason.unwrap_or(status.as_str()))
}

/// Percent-encodes a value of the query string (RFC 3986).
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped += &format!("%{byte:02X}"),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_a_host_with_a_port_of_80_if_there_is_none() {
        let at = |url: &str| Ringdnsd::at(PathBuf::from("/s"), Some(url), None).map(|it| it.to_string());
        for (url, expected) in [
            ("http://127.0.0.1:8053", "http://127.0.0.1:8053"),
            ("http://dns1.example/", "http://dns1.example:80"),
            ("http://[::1]", "http://[::1]:80"),
        ] {
            assert_eq!(at(url).unwrap(), expected);
        }
        for wrong in ["127.0.0.1:8053", "https://a", "http://", "http://a/v1"] {
            assert!(at(wrong).unwrap_err().to_string().contains(wrong), "{wrong}");
        }
        assert_eq!(Ringdnsd::at(PathBuf::from("/s"), None, None).unwrap().to_string(), "/s");
    }
}
