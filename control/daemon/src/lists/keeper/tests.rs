//! Tests of downloads from a server that is hostile, broken or slow.

mod transfers;

use super::*;
use crate::daemon;
use flate2::{Compression, write::GzEncoder};
use ringdns_api::{ListRefresh, ListState};
use ringdns_policy::policy::Verdict;
use ringdns_testkit::{Say, Web, tls};
use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

/// Rules of the good list.
const RULES: usize = 2_000;

/// A keeper of one list, `ads`, and the server that the list comes from.
struct Stand {
    folder: tempfile::TempDir,
    web: Web,
    said: Arc<Mutex<Vec<Say>>>,
    keeper: Arc<ListKeeper>,
}

impl Stand {
    fn set() -> Self {
        Self::set_with(None, "http", "127.0.0.1", "")
    }

    fn set_with(tls: Option<TlsAcceptor>, scheme: &str, host: &str, table: &str) -> Self {
        let said = Arc::<Mutex<Vec<Say>>>::default();
        let says = said.clone();
        let web = Web::start(tls, move |_| says.lock().clone());
        let folder = tempfile::tempdir().unwrap();
        let port = web.address().port();
        let config = config(folder.path(), &format!("{scheme}://{host}:{port}/ads.txt"), table);
        Stand { keeper: keeper(&config), folder, web, said }
    }

    fn copy(&self) -> PathBuf {
        self.folder.path().join("lists/ads.list")
    }

    /// Downloads the list while the server says this. Returns whether the rules have changed.
    async fn download(&self, says: Vec<Say>) -> Result<bool, String> {
        *self.said.lock() = says;
        let task = self.keeper.wanted().remove("ads").unwrap();
        self.keeper.update(&task).await.map(|changes| changes.is_some())
    }

    /// Panics unless the good list is in service, and on disk.
    fn assert_good(&self, case: &str) {
        assert!(self.blocks("n1.example") && !self.blocks("evil.example"), "{case}");
        assert_eq!(self.keeper.status()[0].rules, RULES as u64, "{case}");
        assert_eq!(fs::read_to_string(self.copy()).unwrap(), good(), "{case}");
        let files = fs::read_dir(self.folder.path().join("lists")).unwrap().count();
        assert_eq!(files, 2, "{case}: an unfinished file is left");
    }

    fn blocks(&self, name: &str) -> bool {
        blocks(&self.keeper, name)
    }
}

fn blocks(keeper: &ListKeeper, name: &str) -> bool {
    let name = ringdns_common::names::name(name).unwrap();
    let policy = keeper.resolver.policy().unwrap();
    matches!(policy.policies().all().judge(&name, 1), Verdict::Blocked(_))
}

fn config(folder: &Path, url: &str, table: &str) -> Config {
    let dir = folder.join("lists");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"127.0.0.1:1\"\n\
         [[blocklist]]\nname = \"ads\"\nsource = {url:?}\n\
         [lists]\ndir = {dir:?}\ntimeout = \"6s\"\nmax_bytes = \"4MiB\"\n{table}"
    );
    Config::parse(&text, Path::new("ringdns.toml")).unwrap()
}

/// Returns a keeper as a process with this configuration begins.
fn keeper(config: &Config) -> Arc<ListKeeper> {
    let mut lists = Lists::default();
    lists.load(&config.lists).unwrap();
    let resolver = daemon::resolver(config, Clock::start(), Arc::default(), FlightLimits::default(), None);
    ListKeeper::new(lists, config.lists.clone(), resolver)
}

fn names(count: usize) -> String {
    (0..count).map(|at| format!("n{at}.example\n")).collect()
}

fn good() -> String {
    names(RULES)
}

fn body(body: impl AsRef<[u8]>) -> Vec<Say> {
    headed("", body)
}

fn headed(headers: &str, body: impl AsRef<[u8]>) -> Vec<Say> {
    vec![Web::response("200 OK", headers, body.as_ref())]
}

fn status(status: &str, headers: &str) -> Vec<Say> {
    vec![Web::response(status, headers, b"evil.example\n")]
}

fn raw(text: &str) -> Vec<Say> {
    vec![Say::Bytes(text.as_bytes().to_vec())]
}

fn zipped(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

const GZIP: &str = "content-encoding: gzip\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// Answers that are refused: a name, what the server says, and a part of the error.
fn hostile() -> Vec<(&'static str, Vec<Say>, &'static str)> {
    let utf16: Vec<u8> = "evil.example\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let endless = |head: &str, body: &str| {
        vec![Say::Bytes(head.as_bytes().to_vec()), Say::BytesForEver(body.repeat(4_096).into_bytes())]
    };
    let gz = zipped(b"evil.example\n");
    let ok = "HTTP/1.1 200 OK\r\n\r\n";
    vec![
        ("404", status("404 Not Found", ""), "404"),
        ("500", status("500 Internal Server Error", ""), "500"),
        ("204", raw("HTTP/1.1 204 No Content\r\n\r\n"), "204"),
        ("206", status("206 Partial Content", ""), "206"),
        ("304 without a question", raw("HTTP/1.1 304 Not Modified\r\n\r\n"), "not asked about a copy"),
        ("an HTML page", body("<!DOCTYPE html>\n<html><body>evil.example</body></html>\n"), "HTML"),
        ("HTML after a blank line", body("\n\n  <HTML lang=en>\nevil.example\n"), "HTML"),
        ("an XML page", body("<?xml version=\"1.0\"?><Error/>\n"), "XML"),
        ("JSON", body("{\"message\": \"not found\"}\n"), "not recognised"),
        ("empty", body(""), "empty"),
        ("blank", body("\n\n \n"), "empty"),
        ("comments alone", body("# gone\n# for good\n"), "not recognised"),
        ("every name", body("*\n"), "not recognised"),
        ("a NUL byte", body("evil.example\nb\0d.example\n"), "no text"),
        ("a NUL byte late", body(format!("{}\0", "evil.example\n".repeat(9_999))), "no text"),
        ("a program", body(b"\x7fELF\x02\x01\x01\0\0\0"), "no text"),
        ("UTF-16", body(utf16), "not recognised"),
        ("no UTF-8", body(b"\xe9vil.example\n\xfd.example\n"), "not recognised"),
        ("gzip without its header", body(&gz), "no text"),
        ("a ZIP archive", body(b"PK\x03\x04\x14\0\0\0\x08\0evil"), "no text"),
        ("no gzip despite its header", headed(GZIP, "evil.example\n"), "whole list"),
        ("gzip that is cut", headed(GZIP, &gz[..gz.len() - 9]), "whole list"),
        ("a gzip bomb", headed(GZIP, zipped(&vec![b'a'; 64 << 20])), "larger than 4MiB"),
        ("a gzip bomb of lines", headed(GZIP, zipped(&b"a.example\n".repeat(1 << 20))), "larger than 4MiB"),
        ("another encoding", headed("content-encoding: br\r\n", "evil.example\n"), "encoding br"),
        ("an endless list", endless(ok, "evil.example\n"), "larger than 4MiB"),
        ("an endless line", endless(ok, "evil"), "larger than 4MiB"),
        ("endless headers", endless("HTTP/1.1 200 OK\r\n", "x: y\r\n"), "did not answer"),
        ("an endless header", endless("HTTP/1.1 200 OK\r\nx: ", "evil"), "did not answer"),
        (
            "a body of twice its length",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\nevil.example\n"),
            "whole list",
        ),
        (
            "two lengths",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\na\n"),
            "did not answer",
        ),
        ("a length that is none", raw("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\na\n"), "did not answer"),
        ("chunks that are cut", raw(&format!("{CHUNKED}d\r\nevil.example\n\r\n")), "whole list"),
        ("a chunk without a size", raw(&format!("{CHUNKED}zz\r\nevil.example\n")), "whole list"),
        ("no HTTP", raw("220 mail.example ESMTP\r\n"), "did not answer"),
        ("nothing", vec![Say::Close], "did not answer"),
        ("silence", vec![Say::Pause(Duration::from_secs(20))], "not complete after 6s"),
        (
            "a slow body",
            vec![Say::Bytes(ok.into()), Say::Bytes(b"evil.".into()), Say::Pause(Duration::from_secs(20))],
            "not complete after 6s",
        ),
        ("a redirect loop", status("302 Found", "location: /ads.txt\r\n"), "more than 5 times"),
        ("a redirect to nowhere", status("302 Found", ""), "302"),
        ("a redirect to a file", status("301 Moved", "location: file:///etc/passwd\r\n"), "301"),
        (
            "a redirect to a closed port",
            status("307 Moved", "location: http://127.0.0.1:1/\r\n"),
            "cannot be reached",
        ),
        ("a list of a hundredth", body(names(RULES / 200)), "had 2000 rules and would have 10"),
        ("a list of a hundred times", body(names(RULES * 101)), "would have 202000"),
        ("expressions that explode", body("/(a{1000}){1000}/\n/((b{99}){99}){99}/\n"), "would have 0"),
        ("expressions that look back", body("/(?<=evil)a/\n/(a)\\1/\n"), "rule"),
    ]
}

#[tokio::test]
async fn a_bad_download_never_replaces_the_last_good_list() {
    let stand = Stand::set();
    assert_eq!(stand.keeper.status()[0].state, ListState::Degraded, "nothing was downloaded yet");
    assert_eq!(stand.download(body(good())).await, Ok(true));
    let cases = hostile();
    assert!(cases.len() >= 30);
    let mut surprises = Vec::new();
    for (failures, (case, says, error)) in (1..).zip(cases) {
        let told = stand.download(says).await.expect_err(case);
        if !told.contains(error) {
            surprises.push(format!("{case}: {told}"));
        }
        stand.assert_good(case);
        let status = stand.keeper.status().remove(0);
        assert_eq!((status.state, status.last_error), (ListState::Degraded, Some(told)), "{case}");
        assert_eq!(stand.keeper.watched.lock()["ads"].failures, failures, "{case}");
        assert!(stand.keeper.degraded()[0].1.contains("the last good list stays in service"), "{case}");
    }
    assert!(surprises.is_empty(), "{surprises:#?}");
    assert_eq!(stand.download(body(good())).await, Ok(false), "the same list again");
    let status = stand.keeper.status().remove(0);
    assert_eq!((status.state, status.last_error), (ListState::Fresh, None));
    assert!(stand.keeper.degraded().is_empty());
}

#[tokio::test]
async fn bad_lines_are_skipped_and_the_others_used() {
    let stand = Stand::set();
    let line = "x".repeat(1 << 20);
    let text = format!(
        "good.example\nb\u{fc}cher.example\n{line}.example\n-\u{2603}-.\u{2603}\n\u{202e}\n\
         a..b\n*\nlast.example\n"
    );
    let text = [text.as_bytes(), b"\xff\xff.example\n"].concat();
    assert_eq!(stand.download(headed(GZIP, zipped(&text))).await, Ok(true));
    for (name, blocked) in [
        ("good.example", true),
        ("xn--bcher-kva.example", true),
        ("last.example", true),
        ("b.example", false),
    ] {
        assert_eq!(stand.blocks(name), blocked, "{name}");
    }
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused() {
    let (authority, other) = (tls::Authority::generate(), tls::Authority::generate());
    let trusting = format!("tls_ca_file = {:?}\n", authority.path());
    for (case, vouched, error) in [
        ("another name", authority.vouch("shop.example", false), "not for 127.0.0.1"),
        ("expired", authority.vouch("127.0.0.1", true), "expired"),
        ("another authority", other.vouch("127.0.0.1", false), "not trusted"),
    ] {
        let stand = Stand::set_with(Some(tls::server(vouched, b"")), "https", "127.0.0.1", &trusting);
        let told = stand.download(body(good())).await.expect_err(case);
        assert!(told.contains(error), "{case}: {told}");
        assert_eq!(stand.web.heads(), [""; 0], "{case}");
        assert!(!stand.blocks("n1.example") && !stand.copy().exists(), "{case}");
    }
    let acceptor = || Some(tls::server(authority.vouch("127.0.0.1", false), b"http/1.1"));
    let stand = Stand::set_with(acceptor(), "https", "127.0.0.1", &trusting);
    assert_eq!(stand.download(body(good())).await, Ok(true));
    // A redirect that gives up what TLS protects.
    let plain = Web::start(None, |_| body("evil.example\n"));
    let to = format!("location: http://{}/\r\n", plain.address());
    let told = stand.download(status("302 Found", &to)).await.unwrap_err();
    assert!(told.contains("from https:// to another scheme") && plain.heads().is_empty(), "{told}");
    stand.assert_good("a redirect to http://");
    // CAs that are none.
    let stand = Stand::set_with(acceptor(), "https", "127.0.0.1", "tls_ca_file = \"/no/such\"\n");
    let told = stand.download(body(good())).await.unwrap_err();
    assert!(told.contains("lists.tls_ca_file") && told.contains("/no/such"), "{told}");
}

#[tokio::test]
async fn a_server_is_asked_whether_the_list_has_changed() {
    let stand = Stand::set();
    let headers = "etag: \"7\"\r\nlast-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
    assert_eq!(stand.download(headed(headers, good())).await, Ok(true));
    let unchanged = || raw("HTTP/1.1 304 Not Modified\r\n\r\n");
    assert_eq!(stand.download(unchanged()).await, Ok(false));
    stand.assert_good("304");
    let head = stand.web.heads().pop().unwrap();
    assert!(head.contains("if-none-match: \"7\"\r\n"), "{head}");
    assert!(head.contains("if-modified-since: Sun, 06 Nov 1994 08:49:37 GMT\r\n"), "{head}");
    assert!(head.contains("user-agent: ringdns/") && !head.contains("referer"), "{head}");
    // Somebody has changed the copy: it is not what the server would confirm.
    fs::write(stand.copy(), "other.example\n").unwrap();
    let told = stand.download(unchanged()).await.unwrap_err();
    assert!(told.contains("not asked about a copy"), "{told}");
    assert!(!stand.web.heads().pop().unwrap().contains("if-none-match"));
    assert_eq!(stand.download(headed(headers, good())).await, Ok(false));
    stand.assert_good("a restored copy");
}

#[tokio::test]
async fn a_restart_uses_the_copy_and_needs_no_network() {
    let stand = Stand::set();
    assert_eq!(stand.download(body(good())).await, Ok(true));
    let Stand { folder, web, .. } = stand;
    let url = format!("http://{}/ads.txt", web.address());
    drop(web);
    let again = |url: &str| keeper(&config(folder.path(), url, ""));
    assert!(blocks(&again(&url), "n1.example"));
    assert_eq!(again(&url).status()[0].state, ListState::Fresh);
    assert!(!again(&url).until_due("ads").is_zero(), "it is downloaded when it is due");
    // From another URL, the old list is better than none, but is replaced at once.
    let moved = again("http://127.0.0.1:1/new.txt");
    assert!(blocks(&moved, "n1.example") && moved.until_due("ads").is_zero());
    assert_eq!(moved.status()[0].state, ListState::Stale);

    let note = folder.path().join("lists/ads.json");
    fs::write(&note, "{").unwrap();
    assert!(blocks(&again(&url), "n1.example"));
    assert_eq!(again(&url).status()[0].state, ListState::Stale);
    let copy = folder.path().join("lists/ads.list");
    let elsewhere = folder.path().join("elsewhere");
    fs::write(&elsewhere, "n1.example\n").unwrap();
    for (case, spoil) in [
        ("a copy that is corrupt", Box::new(|| fs::write(&copy, "\0\0\0")) as Box<dyn Fn() -> _>),
        ("a copy that is empty", Box::new(|| fs::write(&copy, ""))),
        ("no copy", Box::new(|| fs::remove_file(&copy))),
        ("a symbolic link", Box::new(|| symlink(&elsewhere, &copy))),
        ("a directory", Box::new(|| fs::remove_file(&copy).and_then(|()| fs::create_dir(&copy)))),
    ] {
        spoil().unwrap();
        let keeper = again(&url);
        assert!(!blocks(&keeper, "n1.example"), "{case}");
        let status = keeper.status().remove(0);
        assert_eq!((status.rules, status.state), (0, ListState::Degraded), "{case}");
        assert!(keeper.until_due("ads").is_zero(), "{case}");
    }
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_an_error() {
    let stand = Stand::set();
    fs::write(stand.folder.path().join("lists"), "").unwrap();
    let told = stand.download(body(good())).await.unwrap_err();
    assert!(told.contains("lists.dir") && told.contains("may write"), "{told}");
    assert_eq!(stand.web.heads(), [""; 0]);
    fs::remove_file(stand.folder.path().join("lists")).unwrap();
    assert_eq!(stand.download(body(good())).await, Ok(true));
    stand.assert_good("a directory again");
}

#[tokio::test]
async fn a_host_without_an_address_is_named() {
    let stand = Stand::set_with(None, "http", "lists.invalid", "");
    let told = stand.download(body(good())).await.unwrap_err();
    assert!(told.contains("lists.invalid cannot be reached") && told.contains("no address"), "{told}");
}

#[tokio::test]
async fn downloads_go_through_the_proxy() {
    let proxy = Web::start(None, |_| body(good()));
    let table = format!("proxy = \"http://me:pw@{}\"", proxy.address());
    let stand = Stand::set_with(None, "http", "lists.invalid", &table);
    assert_eq!(stand.download(Vec::new()).await, Ok(true));
    let head = proxy.heads().remove(0);
    assert!(head.starts_with("GET http://lists.invalid:"), "{head}");
    assert!(head.contains("proxy-authorization: Basic bWU6cHc="), "{head}");
}

#[tokio::test]
async fn a_list_from_a_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ads.txt");
    fs::write(&path, good()).unwrap();
    let keeper = keeper(&config(folder.path(), path.to_str().unwrap(), ""));
    let refresh = async |name: Option<&str>| {
        let results = keeper.refresh(name).await.unwrap();
        let [ListRefresh { name, changes, error }] = &results[..] else { panic!("{results:?}") };
        assert_eq!(name, "ads");
        (changes.map(|changes| (changes.added, changes.removed)), error.clone())
    };
    assert_eq!(refresh(None).await, (None, None));
    fs::write(&path, good() + "evil.example\n").unwrap();
    assert!(!blocks(&keeper, "evil.example"));
    assert_eq!(refresh(Some("ads")).await, (Some((1, 0)), None));
    assert!(blocks(&keeper, "evil.example") && keeper.degraded().is_empty());
    assert_eq!(keeper.status()[0].rules, RULES as u64 + 1);
    // What cannot be used is told, and the list stays.
    for (text, reason) in [("<html>\n", "HTML"), ("\0\0\n", "ads.txt"), ("one.example\n", "would have 1")] {
        fs::write(&path, text).unwrap();
        let (changes, error) = refresh(None).await;
        let error = error.unwrap();
        assert!(changes.is_none() && error.contains(reason) && error.contains("ads.txt: "), "{error}");
        assert_eq!(keeper.status()[0].state, ListState::Degraded);
        assert!(keeper.degraded()[0].1.contains("last good list stays"), "{:?}", keeper.degraded());
        assert!(blocks(&keeper, "evil.example"));
    }
    fs::remove_file(&path).unwrap();
    assert!(refresh(None).await.1.unwrap().contains("No such file"));
    fs::write(&path, good()).unwrap();
    assert_eq!(refresh(None).await, (Some((0, 1)), None));
    assert_eq!((keeper.status()[0].state, keeper.degraded().len()), (ListState::Fresh, 0));
    assert_eq!(keeper.refresh(Some("other")).await, None);
}

#[tokio::test]
async fn tasks_follow_the_configuration() {
    let stand = Stand::set();
    *stand.said.lock() = body(good());
    let running = tokio::spawn(stand.keeper.clone().run());
    let wait = async |count: usize| {
        while stand.web.heads().len() < count || stand.keeper.status()[0].state != ListState::Fresh {
            sleep(Duration::from_millis(2)).await;
        }
    };
    wait(1).await;
    let results = stand.keeper.refresh(Some("ads")).await.unwrap();
    assert_eq!(results, [ListRefresh { name: "ads".into(), changes: None, error: None }]);
    assert_eq!(stand.keeper.refresh(Some("other")).await, None);
    assert_eq!(stand.web.heads().len(), 2);
    // The same lists: the task goes on, and nothing is downloaded.
    let config = stand.keeper.kept.lock().config.clone();
    let asks = || stand.keeper.watched.lock()["ads"].asks.clone();
    let before = asks();
    let keeper = stand.keeper.clone();
    let same = config.clone();
    spawn_blocking(move || keeper.load(&same)).await.unwrap().unwrap();
    assert!(asks().same_channel(&before));
    assert_eq!(stand.keeper.refresh(None).await.unwrap().len(), 1);
    assert_eq!(stand.web.heads().len(), 3);
    // Without the list, its task ends.
    let keeper = stand.keeper.clone();
    let none = ListsConfig { block: Vec::new(), ..config };
    spawn_blocking(move || keeper.load(&none)).await.unwrap().unwrap();
    before.closed().await;
    assert_eq!(stand.keeper.status(), []);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
}

/// The API and metrics are served by threads that answer misses too.
#[tokio::test]
async fn what_is_shown_waits_for_no_list_that_is_being_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ads");
    std::fs::write(&path, "ads.example\n").unwrap();
    let keeper = keeper(&config(folder.path(), path.to_str().unwrap(), ""));
    let reading = keeper.kept.lock();
    let (tell, told) = std::sync::mpsc::channel();
    let shown = keeper.clone();
    std::thread::spawn(move || {
        let lists = shown.status().len();
        let named = shown.groups().names().len();
        tell.send((lists, named, shown.degraded().len(), shown.overrides().overrides.len()))
    });
    let shown = told.recv_timeout(Duration::from_secs(10));
    drop(reading);
    assert_eq!(shown, Ok((1, 1, 0, 0)));
}
