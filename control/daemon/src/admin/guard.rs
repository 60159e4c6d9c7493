//! Checks of a request before its path is looked at, and the form of all errors.

use super::{
    caller::{Caller, Peer},
    console,
};
use axum::{
    Extension, Json,
    extract::{FromRequestParts, Query, Request, State},
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri, Version,
        header::{CONTENT_LENGTH, HOST, ORIGIN, RETRY_AFTER, TRANSFER_ENCODING, WWW_AUTHENTICATE},
        request::Parts,
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use ringdns_api::{Refused, Role};
use ringdns_config::ControlConfig;
use serde::de::DeserializeOwned;
use std::{net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// Time that a request waits for its turn.
const PATIENCE: Duration = Duration::from_secs(2);

/// Path of the only request that has a body.
pub(super) const WITH_BODY: &str = "/v1/cache/load";

/// Error response to a request: its status, and the reason, which is sent as `{"error": reason}`.
#[derive(Debug)]
pub(super) struct ApiError(pub(super) StatusCode, pub(super) String);

/// Reason of an error, beside its response.
#[derive(Clone)]
pub(super) struct Reason(pub(super) Arc<str>);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let reason = Extension(Reason(self.1.as_str().into()));
        let body = Json(Refused { error: self.1 });
        match self.0 {
            StatusCode::SERVICE_UNAVAILABLE => (self.0, reason, [(RETRY_AFTER, "1")], body).into_response(),
            StatusCode::UNAUTHORIZED => {
                (self.0, reason, [(WWW_AUTHENTICATE, "Bearer realm=\"ringdns\"")], body).into_response()
            }
            status => (status, reason, body).into_response(),
        }
    }
}

impl ApiError {
    pub(super) fn bad(reason: impl std::fmt::Display) -> Self {
        ApiError(StatusCode::BAD_REQUEST, reason.to_string())
    }

    pub(super) fn failed(reason: impl std::fmt::Display) -> Self {
        ApiError(StatusCode::INTERNAL_SERVER_ERROR, reason.to_string())
    }

    pub(super) fn busy(reason: impl std::fmt::Display) -> Self {
        ApiError(StatusCode::SERVICE_UNAVAILABLE, reason.to_string())
    }
}

/// Parameters of a request.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Query(parameters) = Query::from_request_parts(parts, state).await.map_err(|rejection| {
            let text = rejection.body_text();
            let (_, reason) = text.split_once("query string: ").unwrap_or(("", &text));
            ApiError::bad(format!("the parameters of this request are refused: {reason}"))
        })?;
        Ok(Parameters(parameters))
    }
}

/// Answers a request for a path that is not served.
pub(super) async fn not_found(uri: Uri) -> ApiError {
    let reason = format!("there is nothing at {:?}: GET /v1/openapi.json has all paths", uri.path());
    ApiError(StatusCode::NOT_FOUND, reason)
}

/// Answers a request whose path has no such method.
pub(super) async fn not_allowed(method: Method, uri: Uri) -> ApiError {
    ApiError(StatusCode::METHOD_NOT_ALLOWED, format!("{:?} cannot be used with {method}", uri.path()))
}

/// Turns at something that costs time: one request at a time.
#[derive(Clone, Debug)]
pub(super) struct Turns(Arc<Semaphore>);

impl Default for Turns {
    fn default() -> Self {
        Turns(Arc::new(Semaphore::new(1)))
    }
}

impl Turns {
    /// Waits for a turn, which lasts as long as the result lives.
    pub(super) async fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        let turn = timeout(PATIENCE, self.0.clone().acquire_owned()).await;
        let busy = || ApiError::busy("another request of this kind takes long: try again when it is done");
        turn.map_err(|_| busy())?.map_err(ApiError::failed)
    }
}

/// Hosts by which clients may name this one over TCP. A page of the web can make a browser ask any
/// address under a name of the page's own (DNS rebinding); such a request names that host.
pub(super) struct HostRule {
    configured: Option<IpAddr>,
    names: Vec<String>,
}

impl HostRule {
    /// Returns the rule that a configuration describes.
    pub(super) fn of(control: &ControlConfig) -> Self {
        HostRule { configured: control.http.map(|http| http.ip()), names: control.http_hosts.clone() }
    }

    /// Whether a client may name `authority`, a host with or without a port, on a connection to
    /// `local`.
    fn permits(&self, authority: &str, local: Option<IpAddr>) -> bool {
        let Some(host) = without_port(authority) else { return false };
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Ok(address) = bare.unwrap_or(host).parse::<IpAddr>() {
            let address = address.to_canonical();
            let same = |other: Option<IpAddr>| other.is_some_and(|other| other.to_canonical() == address);
            return address.is_loopback() || same(self.configured) || same(local);
        }
        let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
        host == "localhost" || host.ends_with(".localhost") || self.names.contains(&host)
    }
}

/// Returns the host of `host:port`; `None` if the port is no number.
fn without_port(authority: &str) -> Option<&str> {
    let bracket = authority.rfind(']').map_or(0, |at| at + 1);
    match authority[bracket..].split_once(':') {
        None => Some(authority),
        Some((host, port)) => {
            port.bytes().all(|byte| byte.is_ascii_digit()).then_some(&authority[..bracket + host.len()])
        }
    }
}

/// Refuses a request that no client of the API sends. `hosts` are those of a TCP address.
pub(super) fn check<B>(request: &Request<B>, hosts: &HostRule, peer: Peer) -> Result<(), ApiError> {
    let (headers, uri) = (request.headers(), request.uri());
    // Where a load is expected, a body of another method, or of a caller without the role, is not read.
    if has_body(headers) && uri.path() != WITH_BODY {
        let reason = "no request of this API but a load has a body: give parameters in the query string";
        return Err(ApiError(StatusCode::PAYLOAD_TOO_LARGE, reason.into()));
    }
    let mut named = headers.get_all(HOST).iter();
    let (host, more) = (named.next(), named.next());
    if more.is_some() || (host.is_none() && request.version() >= Version::HTTP_11) {
        return Err(ApiError::bad("give exactly one Host header (RFC 9112 section 3.2)"));
    }
    let Peer::Http { local, .. } = peer else { return Ok(()) };
    let host = host.map(|host| host.to_str().unwrap_or_default());
    let named = [host, uri.authority().map(|authority| authority.as_str())];
    if let Some(host) = named.into_iter().flatten().find(|host| !hosts.permits(host, local)) {
        let reason = format!(
            "host {host:?} is not served: use localhost, a loopback address or the address of control.http, or \
             list the name in control.http_hosts"
        );
        return Err(ApiError(StatusCode::MISDIRECTED_REQUEST, reason));
    }
    // Other pages may link to the console, which has no data. Whatever it loads then is of its own origin.
    if !console::is_entrance(uri.path()) && !is_of_same_origin(headers, host) {
        let reason = "a page of another origin sent this: only pages that are served here may use the API";
        return Err(ApiError(StatusCode::FORBIDDEN, reason.into()));
    }
    Ok(())
}

/// Whether a request is of a page that was served under the same host, or of no page.
fn is_of_same_origin(headers: &HeaderMap, host: Option<&str>) -> bool {
    let is_same = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        authority.zip(host).is_some_and(|(authority, host)| authority.eq_ignore_ascii_case(host))
    };
    let is_own = |site: &HeaderValue| ["same-origin", "none"].iter().any(|own| site == own);
    headers.get_all(ORIGIN).iter().all(is_same) && headers.get_all("sec-fetch-site").iter().all(is_own)
}

/// Passes a request on if its caller has the role.
pub(super) async fn require(
    State(role): State<Role>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    caller.require(role)?;
    Ok(next.run(request).await)
}

fn has_body(headers: &HeaderMap) -> bool {
    let empty = |length: &HeaderValue| length.as_bytes() == b"0";
    headers.contains_key(TRANSFER_ENCODING) || !headers.get_all(CONTENT_LENGTH).iter().all(empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_of_this_one_or_a_name_that_is_configured() {
        let rule =
            HostRule { configured: Some("192.0.2.7".parse().unwrap()), names: vec!["dns1.example".into()] };
        let local = Some("::ffff:192.0.2.9".parse().unwrap());
        for host in [
            "localhost",
            "LOCALHOST:8053",
            "a.localhost",
            "localhost.",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]",
            "[::1]:8053",
            "192.0.2.7:8053",
            "192.0.2.9",
            "dns1.example",
            "DNS1.example.:8053",
        ] {
            assert!(rule.permits(host, local), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "notlocalhost",
            "192.0.2.8",
            "192.0.2.7.evil.example",
            "127.0.0.1.evil.example",
            "localhost:80a",
            "localhost:80:80",
            "[::1]x",
            "[::2]",
            "0x7f000001",
            "dns1.example.evil",
            "::1]",
            "[",
            "]:1",
            "127.1",
            "a@localhost:b",
        ] {
            assert!(!rule.permits(host, local), "{host}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let same = |fields: &[(&'static str, &str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, value.parse().unwrap());
            }
            is_of_same_origin(&headers, Some("localhost:8053"))
        };
        assert!(same(&[]) && same(&[("origin", "http://localhost:8053"), ("sec-fetch-site", "same-origin")]));
        assert!(same(&[("sec-fetch-site", "none")]));
        for wrong in [
            &[("origin", "null")][..],
            &[("origin", "http://localhost:9999")],
            &[("origin", "http://evil.example")],
            &[("origin", "localhost:8053")],
            &[("origin", "http://localhost:8053"), ("origin", "http://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
        ] {
            assert!(!same(wrong), "{wrong:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_at_a_time_and_the_others_are_told_when_to_come_again() {
        let turns = Turns::default();
        let first = turns.take().await.unwrap();
        let refused = turns.take().await.unwrap_err().into_response();
        assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        drop(first);
        drop(turns.take().await.unwrap());
    }
}
