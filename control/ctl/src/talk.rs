//! HTTP client over the control socket.

use anyhow::{Context, anyhow};
use http_body_util::{BodyExt, Empty};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    client::conn::http1,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{
    io::{self, Write},
    path::PathBuf,
    time::Duration,
};
use tokio::{net::UnixStream, time::timeout};

/// Time that ringdnsd may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Ringdnsd {
    pub(super) socket: PathBuf,
}

impl Ringdnsd {
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
            format!("ringdnsd at {} took more than {} s to answer", self.socket.display(), patience.as_secs())
        })??;
        if status == StatusCode::OK { Ok(body) } else { Err(refused(status, &body)) }
    }

    /// Prints rows of the query log as they arrive, until `count` rows are printed or ringdnsd
    /// stops.
    pub(super) async fn tap(&self, mut count: u64) -> anyhow::Result<()> {
        let response = self.exchange(Method::GET, "/v1/log/tap").await?;
        let status = response.status();
        let mut body = response.into_body();
        if status != StatusCode::OK {
            return Err(refused(status, &body.collect().await?.to_bytes()));
        }
        let mut out = io::stdout().lock();
        while count > 0
            && let Some(frame) = body.frame().await
        {
            let rows = frame?.into_data().unwrap_or_default();
            // The last piece may be a partial row; the next frame has the rest.
            for piece in rows.split_inclusive(|byte| *byte == b'\n') {
                if count > 0 {
                    out.write_all(piece)?;
                    count -= u64::from(piece.ends_with(b"\n"));
                }
            }
            out.flush()?;
        }
        Ok(())
    }

    pub(super) async fn exchange(&self, method: Method, path: &str) -> anyhow::Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await.with_context(|| {
            let socket = self.socket.display();
            format!("no ringdnsd at {socket}: is it running, with this control.socket, and are you its user or root?")
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // The reader of the response sees and reports errors of the connection.
        tokio::spawn(connection);
        let request = Request::builder().method(method).uri(path).header("host", "ringdnsd");
        Ok(sender.send_request(request.body(Empty::<Bytes>::new())?).await?)
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
