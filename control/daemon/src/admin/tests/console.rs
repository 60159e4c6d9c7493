//! Tests of how the web console is served, and of what its page learns of its caller.

use super::*;
use crate::admin::console::FILES;
use axum::http::HeaderMap;
use ringdns_api::CallerView;

/// Sends a request over TCP, without a token. Returns status, headers and body.
async fn fetch(doors: &Doors, path: &str, fields: &[(&str, &str)]) -> (StatusCode, HeaderMap, String) {
    let stream = TcpStream::connect(doors.http).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().uri(path);
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    if !fields.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost");
    }
    let response = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, headers, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn the_console_is_served_to_all_with_a_policy_that_binds_its_page() {
    let doors = Doors::open().await;
    for file in &FILES {
        let (status, headers, body) = fetch(&doors, file.path, &[]).await;
        assert_eq!(status, StatusCode::OK, "{}", file.path);
        assert!(!body.is_empty(), "{}", file.path);
        let field = |name: &str| headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default();
        let policy: Vec<_> = field("content-security-policy").split("; ").collect();
        for directive in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(&directive), "{}: {directive}", file.path);
        }
        assert_eq!(field("x-content-type-options"), "nosniff");
        assert_eq!(field("referrer-policy"), "no-referrer");
        assert_eq!(field("cache-control"), "no-cache");
        let kind = match file.path.rsplit_once('.').map(|(_, ending)| ending) {
            Some("mjs") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            Some("svg") => "image/svg+xml",
            _ => "text/html; charset=utf-8",
        };
        assert_eq!(field("content-type"), kind, "{}", file.path);

        // A browser that has the file gets no second copy.
        let tags = format!("\"other\", {}", field("etag"));
        let (status, again, body) = fetch(&doors, file.path, &[("if-none-match", &tags)]).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
        assert_eq!((&again["etag"], &again["cache-control"]), (&headers["etag"], &headers["cache-control"]));
        let (status, _, body) = fetch(&doors, file.path, &[("if-none-match", "\"other\"")]).await;
        assert!(status == StatusCode::OK && !body.is_empty());
    }
    let (_, headers, _) = fetch(&doors, "/healthz", &[]).await;
    assert_eq!(headers["cache-control"], "no-store", "answers of the API are not kept");
    assert_eq!(doors.over_tcp("POST", "/").await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(doors.over_socket("GET", "/").await.0, StatusCode::NOT_FOUND, "no browser can ask there");
}

#[tokio::test]
async fn a_configuration_turns_the_console_off() {
    let doors = Doors::open_with("[control]\nconsole = false").await;
    for file in &FILES {
        assert_eq!(doors.over_tcp("GET", file.path).await.0, StatusCode::NOT_FOUND, "{}", file.path);
    }
    routes::tests::agree(&doors.service);
}

/// A link in a page of another origin opens the console; what it loads then is of its own origin.
#[tokio::test]
async fn other_pages_can_link_to_the_console_and_do_no_more() {
    let doors = Doors::open().await;
    let foreign = ("sec-fetch-site", "cross-site");
    assert_eq!(fetch(&doors, "/", &[foreign]).await.0, StatusCode::OK);
    for path in ["/console/main.mjs", "/healthz", "/v1/caller", "/nothing"] {
        assert_eq!(fetch(&doors, path, &[foreign]).await.0, StatusCode::FORBIDDEN, "{path}");
    }
    let rebound = fetch(&doors, "/", &[("host", "evil.example")]).await.0;
    assert_eq!(rebound, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn a_caller_is_told_its_name_and_role() {
    let doors = Doors::open().await;
    for (token, who, role) in [(READ, "token:reader", Role::Read), (OPERATE, "token:ops", Role::Operate)] {
        let (status, body) = doors.with_token(token, "GET", "/v1/caller").await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let view: CallerView = serde_json::from_str(&body).unwrap();
        assert_eq!((view.who.as_str(), view.role), (who, role));
    }
    let view: CallerView = serde_json::from_str(&doors.over_socket("GET", "/v1/caller").await.1).unwrap();
    assert!(view.role == Role::Operate && view.who.starts_with("u"), "{view:?}");
    assert_eq!(doors.over_tcp("GET", "/v1/caller").await.0, StatusCode::UNAUTHORIZED);
    assert_eq!(doors.with_token("wrong", "GET", "/v1/caller").await.0, StatusCode::UNAUTHORIZED);
}
