//! Requests of clients that mean no good, and the status codes that may answer them.

/// Token of the role `read`.
pub const READ: &str = "read-token-of-a-test";
/// Token of the role `operate`.
pub const OPERATE: &str = "operate-token-of-a-test";
/// File of both tokens.
pub const TOKENS: &str = "\
reader read db680c7fdfac0ff7f202354edd3fb84807b4b0d31bb1c45b1d1f40c5e26e6c6b
operator operate 872767e915228e1ec423c816356bf02725604c07825ffa8c783e1c550b1cf69f
";

/// Request, and the status codes that may answer it; 0: the connection is closed.
pub type Case = (Vec<u8>, &'static [u16]);

/// Returns all of them.
pub fn requests() -> Vec<Case> {
    [methods(), paths(), parameters(), headers(), hosts(), callers(), bodies(), dumps(), protocols()].concat()
}

fn head(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: localhost\r\nAuthorization: Bearer {READ}\r\n\r\n").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    head(&format!("GET {path} HTTP/1.1"))
}

fn operate(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATE}\r\n\r\n").into_bytes()
}

/// Reads with the role of those who may change something.
fn operating(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATE}\r\n\r\n").into_bytes()
}

fn long(count: usize) -> String {
    "a".repeat(count)
}

fn methods() -> Vec<Case> {
    vec![
        (head("POST /v1/status HTTP/1.1"), &[405]),
        (head("PUT /v1/policy/override HTTP/1.1"), &[405]),
        (head("GET /v1/cache/purge?all=true HTTP/1.1"), &[405]),
        (head("HEAD /v1/reload HTTP/1.1"), &[405]),
        (head("DELETE /metrics HTTP/1.1"), &[405]),
        (head("OPTIONS * HTTP/1.1"), &[404, 400]),
        (head("TRACE /v1/status HTTP/1.1"), &[405]),
        (head("CONNECT localhost:53 HTTP/1.1"), &[400, 404, 405, 421]),
        (head("BREW /v1/status HTTP/1.1"), &[405]),
        (head("G\0T /v1/status HTTP/1.1"), &[400]),
        (head("get /v1/status HTTP/1.1"), &[405]),
        (head(&format!("{} /v1/status HTTP/1.1", long(20_000))), &[400, 431]),
    ]
}

fn paths() -> Vec<Case> {
    vec![
        (get("/"), &[200]),
        (get("/v1"), &[404]),
        (get("/v1/"), &[404]),
        (get("/v2/status"), &[404]),
        (get("/status"), &[404]),
        (get("/v1/metrics"), &[404]),
        (get("/v1/status/"), &[404]),
        (get("/v1/status%00"), &[404]),
        (get("/%00"), &[404]),
        (get("/../../etc/passwd"), &[404]),
        (get("/v1/status/../metrics"), &[404]),
        (get("/v1/../v1/status"), &[404]),
        (get("/%2e%2e/%2e%2e/etc/passwd"), &[404]),
        (get("/v1%2fstatus"), &[404]),
        (get("//v1/status"), &[404]),
        (get("/v1//status"), &[404]),
        (get("/v1/STATUS"), &[404]),
        (get("v1/status"), &[400, 421]),
        (get("/\x1b[31m"), &[400]),
        (get("/%1b%5b31m"), &[404]),
        (get("/\u{fc}"), &[400, 404]),
        (get("/v1/{status}"), &[400, 404]),
        (get(&format!("/{}", long(15_000))), &[404]),
        (get(&format!("/{}", long(70_000))), &[400, 414, 431]),
    ]
}

fn parameters() -> Vec<Case> {
    vec![
        (get("/v1/histogram?outcome=%00"), &[400]),
        (get("/v1/histogram?outcome=%1b%5b31m%0a"), &[400]),
        (get("/v1/histogram?outcome=%ff%fe"), &[400]),
        (get("/v1/histogram?outcome=%"), &[400]),
        (get("/v1/histogram?outcome=%zz"), &[400]),
        (get("/v1/histogram?outcome=hit&outcome=miss"), &[400]),
        (get("/v1/histogram?=&&&==&"), &[400]),
        (get(&format!("/v1/histogram?upstream={}", long(14_000))), &[400]),
        (get("/v1/histogram?upstream=%22%3e%3cscript%3e"), &[400]),
        (get("/v1/sweeps?last=-1"), &[400]),
        (get("/v1/sweeps?last=1e3"), &[400]),
        (get("/v1/sweeps?last=99999999999999999999999999"), &[400]),
        (get("/v1/sweeps?last=18446744073709551615"), &[200]),
        (get("/v1/sweeps?last[]=1"), &[400]),
        (get("/v1/histogram?by=colour"), &[400]),
        (get("/v1/histogram?by=tier&outcome=hit"), &[400]),
        (get("/v1/histogram?by=worker&upstream=udp://192.0.2.1:53"), &[400]),
        (get("/v1/top/everything"), &[404]),
        (get("/v1/top/%00%1b"), &[404]),
        (get("/v1/top/%ff"), &[400]),
        (get("/v1/top/names?minutes=0"), &[400]),
        (get("/v1/top/names?minutes=4294967295"), &[400]),
        (get("/v1/top/names?last=1001"), &[400]),
        (get("/v1/history?minutes=0"), &[400]),
        (get("/v1/history?minutes=1441"), &[400]),
        (get("/v1/cache/entry"), &[400]),
        (get("/v1/cache/entry?name=.."), &[400]),
        (get(&format!("/v1/cache/entry?name={}.example", long(64))), &[400]),
        (get("/v1/cache/entry?name=a%00b.example"), &[400, 404]),
        (get("/v1/cache/entry?name=a&type=TYPE65536"), &[400]),
        (get("/v1/cache/list?suffix=.."), &[400]),
        (get("/v1/cache/list?limit=-1"), &[400]),
        (get("/v1/cache/list?state=alive"), &[400]),
        (get("/v1/cache/list?sort=size"), &[400]),
        (get("/v1/cache/list?sort=name&limit=10001"), &[400]),
        (get("/v1/cache/list?demand=65536"), &[400]),
        (get("/v1/explain?name=www.example&dnssec_ok=2"), &[400]),
        (get("/v1/names?address=192.0.2.256"), &[400]),
        (get("/v1/names?address=fe80::1%25eth0"), &[400]),
        (get("/v1/explain?name=www.example&client=localhost"), &[400]),
        (get("/v1/explain?name=www.example&group=nobody"), &[400]),
        (get("/v1/policy/test?name=www.example&client=192.0.2.1&group=default"), &[400]),
        (operate("/v1/cache/purge"), &[400]),
        (operate("/v1/cache/purge?all=1"), &[400]),
        (operate("/v1/cache/purge?all=true&name=www.example"), &[400]),
        (operate("/v1/policy/override?name=www.example&action=eat"), &[400]),
        (operate("/v1/policy/override?name=www.example&action=block&seconds=0"), &[400]),
        (operate("/v1/policy/override?name=www.example&action=block&seconds=1e99"), &[400]),
        (operate("/v1/policy/override?name=www.example&action=block&seconds=18446744073709551615"), &[400]),
        (operate("/v1/policy/override?name=www.example&action=block&group=nobody"), &[400]),
        (operate("/v1/policy/pause?client=192.0.2.0/24"), &[400]),
        (operate("/v1/policy/refresh?name=nothing"), &[400]),
        (get("/v1/log/tap?client=10.0.0.1/8"), &[400]),
        (get("/v1/log/tap?outcome=%00"), &[400]),
        (get("/v1/log/tap?dropped=true"), &[400]),
        (operating("/v1/capture?packets=0"), &[400]),
        (operating("/v1/capture?seconds=3601"), &[400]),
        (operating("/v1/capture?rcode=FINE"), &[400]),
        (operating("/v1/capture?dropped=true&outcome=hit"), &[400]),
        (operating("/v1/capture?file=/etc/passwd"), &[400]),
        (operate("/v1/logging?filter=loud%3Dvery"), &[400]),
        (operate("/v1/logging?filter=debug&seconds=86401"), &[400]),
        (operate("/v1/debug/pprof/profile?seconds=301"), &[405]),
    ]
}

fn headers() -> Vec<Case> {
    let with =
        |headers: &str| format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n").into_bytes();
    vec![
        (with(&format!("X: {}\r\n", long(20_000))), &[431]),
        (with(&"X: y\r\n".repeat(1000)), &[431]),
        (with("X\0: y\r\n"), &[400]),
        (with("X : y\r\n"), &[400]),
        (with(" folded: y\r\n"), &[400]),
        (with("X: a\0b\r\n"), &[400]),
        (with("X: \x1b[2J\x07\r\n"), &[200, 400]),
        (with("Connection: Upgrade\r\nUpgrade: websocket\r\n"), &[200]),
        (with("Expect: 100-continue\r\n"), &[200]),
        (with("Range: bytes=0-18446744073709551615\r\n"), &[200]),
        (with("Cookie: session=operator\r\n"), &[200]),
        (with("Origin: null\r\n"), &[403]),
        (with("Origin: http://evil.example\r\n"), &[403]),
        (with("Origin: http://localhost:1\r\n"), &[403]),
        (with("Sec-Fetch-Site: cross-site\r\n"), &[403]),
        (with("Host: localhost\r\n"), &[400]),
        (with("Host: evil.example\r\n"), &[400]),
    ]
}

/// Names of others are DNS rebinding.
fn hosts() -> Vec<Case> {
    let host = |host: &str| format!("GET /healthz HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    vec![
        (b"GET /healthz HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        (b"GET /healthz HTTP/1.0\r\n\r\n".to_vec(), &[200]),
        (host("localhost"), &[200]),
        (host("127.0.0.1:8053"), &[200]),
        (host("[::1]"), &[200]),
        (host("dns1.example:80"), &[200]),
        (host("evil.example"), &[421]),
        (host("127.0.0.1.evil.example"), &[421]),
        (host(""), &[400, 421]),
        (host("local\u{fc}host"), &[400, 421]),
        (host("localhost, evil.example"), &[400, 421]),
        (host("localhost@evil.example"), &[400, 421]),
        (head("GET http://evil.example/healthz HTTP/1.1"), &[421]),
        (head("GET http://localhost/healthz HTTP/1.1"), &[200]),
    ]
}

/// Callers without the role that they need.
fn callers() -> Vec<Case> {
    let anyone = |line: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes();
    let with = |line: &str, value: &str| {
        format!("{line} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {value}\r\n\r\n").into_bytes()
    };
    let purge = "POST /v1/cache/purge?all=true";
    vec![
        (anyone("GET /v1/status"), &[401]),
        (anyone("GET /v1/stats"), &[401]),
        (anyone("GET /v1/caller"), &[401]),
        (anyone("GET /v1/openapi.json"), &[401, 404]),
        (anyone("GET /v1/cache/entry?name=www.example"), &[401]),
        (anyone("GET /v1/top/names"), &[401]),
        (anyone("GET /v1/history"), &[401]),
        (anyone("GET /v1/doctor"), &[401]),
        (anyone("GET /v1/cache/list"), &[401]),
        (anyone("GET /v1/cache/dump"), &[401]),
        (anyone("GET /v1/explain?name=www.example"), &[401]),
        (anyone("GET /v1/names?address=192.0.2.1"), &[401]),
        (anyone("GET /v1/log/tap"), &[401]),
        (anyone("GET /v1/capture"), &[401]),
        (anyone("GET /v1/log/rows"), &[401]),
        (anyone("GET /v1/audit"), &[401]),
        (anyone("GET /v1/debug/pprof/heap"), &[401]),
        (anyone("POST /v1/reload"), &[401]),
        (anyone(purge), &[401]),
        (head(&format!("{purge} HTTP/1.1")), &[403]),
        (head("POST /v1/reload HTTP/1.1"), &[403]),
        (head("POST /v1/policy/override?name=www.example&action=block HTTP/1.1"), &[403]),
        (head("POST /v1/policy/pause HTTP/1.1"), &[403]),
        (head("POST /v1/logging?filter=trace HTTP/1.1"), &[403]),
        (get("/v1/audit"), &[403]),
        (get("/v1/capture"), &[403]),
        (head("POST /v1/capture/end HTTP/1.1"), &[403]),
        (get("/v1/debug/pprof/heap"), &[403]),
        (with(purge, "Bearer wrong"), &[401]),
        (with(purge, "Bearer"), &[401]),
        (with(purge, "Bearer "), &[401]),
        (with(purge, &format!("Basic {OPERATE}")), &[401]),
        (with(purge, &format!("Bearer {}", OPERATE.to_uppercase())), &[401]),
        (with(purge, &format!("Bearer {OPERATE}, Bearer {READ}")), &[401]),
        (with(purge, &format!("Bearer {OPERATE}\r\nAuthorization: Bearer {OPERATE}")), &[401]),
        (with(purge, &format!("Bearer {}", &OPERATE[..10])), &[401]),
        (with(purge, &format!("Bearer {}", long(10_000))), &[401]),
        (with("GET /healthz", "Bearer wrong"), &[401]),
        (anyone(&format!("POST /v1/cache/purge?all=true&token={OPERATE}")), &[401]),
        (with(purge, &format!("Bearer {OPERATE}\r\nOrigin: http://evil.example")), &[403]),
        (with(purge, &format!("Bearer {OPERATE}\r\nHost: evil.example")), &[400]),
    ]
}

/// Bodies of requests that have none.
fn bodies() -> Vec<Case> {
    let post = |rest: &str| {
        format!("POST /v1/cache/purge?all=true HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {OPERATE}\r\n{rest}")
            .into_bytes()
    };
    let json = |body: &str| {
        let length = body.len();
        post(&format!("Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"))
    };
    vec![
        (post("Content-Length: 5\r\n\r\nhello"), &[413]),
        (post("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"), &[400, 413]),
        (post("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), &[400]),
        (post("Content-Length: 0, 5\r\n\r\nhello"), &[400, 413]),
        (post("Content-Length: +5\r\n\r\nhello"), &[400, 413]),
        (post("Content-Length: -1\r\n\r\n"), &[400]),
        (post("Content-Length: 0x5\r\n\r\nhello"), &[400]),
        (post("Content-Length: 99999999999999999999999\r\n\r\n"), &[400]),
        (post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), &[400, 413]),
        (post("Transfer-Encoding: chunked\r\n\r\nZZZZ\r\nrubbish"), &[413]),
        (post("Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"), &[413]),
        (post("Transfer-Encoding: gzip\r\n\r\nx"), &[400, 413]),
        (post("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), &[400, 413]),
        (post("Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"), &[400, 413]),
        (post("Content-Length: 6\r\n\r\nGET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n"), &[413]),
        (json("{"), &[413]),
        (json("{\"name\":\"\u{0}\"}"), &[413]),
        (json(&"[".repeat(100_000)), &[413]),
        (
            post("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 8\r\n\r\nall=true"),
            &[413],
        ),
        (post("Content-Type: multipart/form-data; boundary=\r\nContent-Length: 1\r\n\r\nx"), &[413]),
        (post(&format!("Content-Length: 200000\r\n\r\n{}", long(200_000))), &[413]),
        (post("Content-Length: 4294967296\r\n\r\nabc"), &[413]),
    ]
}

/// Dumps of the cache that are none, or that callers without the role send.
fn dumps() -> Vec<Case> {
    let load = |token: &str, rest: &str| {
        let begin = "POST /v1/cache/load HTTP/1.1\r\nHost: localhost\r\n";
        format!("{begin}Authorization: Bearer {token}\r\n{rest}").into_bytes()
    };
    let anyone = "POST /v1/cache/load HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello";
    vec![
        (get("/v1/cache/load"), &[405]),
        (operate("/v1/cache/dump"), &[405]),
        (head("TRACE /v1/cache/load HTTP/1.1\r\nContent-Length: 0"), &[405]),
        (head("PUT /v1/cache/load HTTP/1.1\r\nContent-Length: 5"), &[405]),
        (operate("/v1/cache/load"), &[400]),
        (anyone.as_bytes().to_vec(), &[401]),
        (load(READ, "Content-Length: 5\r\n\r\nhello"), &[403]),
        (load(OPERATE, "Content-Length: 5\r\n\r\nhello"), &[400]),
        (load(OPERATE, &format!("Content-Length: 200000\r\n\r\n{}", long(200_000))), &[400]),
        (load(OPERATE, "Content-Length: 4294967296\r\n\r\nabc"), &[413]),
        (load(OPERATE, "Transfer-Encoding: chunked\r\n\r\nZZZZ\r\nrubbish"), &[400]),
        (load(OPERATE, "Transfer-Encoding: chunked\r\n\r\n8\r\nrdnssnap\r\n0\r\n\r\n"), &[400]),
        (load(OPERATE, "Content-Length: 12\r\n\r\nrdnssnap\x7f\0\0\0"), &[400]),
    ]
}

/// No HTTP/1.1 at all, or more than one request of it.
fn protocols() -> Vec<Case> {
    let healthz = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let purge = operate("/v1/cache/purge?all=true");
    vec![
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(), &[0, 400, 505]),
        (head("GET /v1/status HTTP/3.0"), &[400, 505]),
        (b"GET /healthz\r\n\r\n".to_vec(), &[400]),
        (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03".to_vec(), &[0, 400]),
        (vec![0; 4096], &[0, 400]),
        (b"\xff".repeat(65_536), &[0, 400, 431]),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), &[0, 400]),
        (b"\r\n\r\n\r\nGET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(), &[200, 400]),
        (healthz.repeat(200), &[200]),
        ([&healthz[..], &purge].concat(), &[200]),
        ([&healthz[..], &b"\0rubbish\xff".repeat(1000)].concat(), &[200]),
    ]
}
