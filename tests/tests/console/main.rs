//! Tests of the web console in a headless Chromium, against a ringdnsd with queries of real clients.

use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use ringdns_testkit::{
    Browser, Client, Host, Query, Ringdnsd, Settings, Upstream, free_address, free_port, until,
};
use serde_json::json;
use std::{fs, net::SocketAddr, path::Path, process::Command};
use tempfile::TempDir;

const NXDOMAIN: u16 = 3;
const READ: &str = "token-that-reads";
const OPERATE: &str = "token-that-operates";
/// Markup that runs a script where text is taken for markup.
const MARKUP: &str = "<img src=x onerror=broken=1>";
/// Page with two buttons that change places as soon as the pointer is aimed at one of them, three times.
const BUTTONS: &str = "{
    window.heard = [];
    const button = (id, top) => {
        const made = document.createElement('button');
        made.id = id;
        made.style = `position: absolute; left: 0; top: ${top}px; width: 100px; height: 50px`;
        made.addEventListener('click', () => window.heard.push(id));
        document.body.append(made);
        return made;
    };
    const [aim, other] = [button('aim', 0), button('other', 300)];
    let moves = 3;
    aim.getBoundingClientRect = () => {
        const place = Element.prototype.getBoundingClientRect.call(aim);
        if (moves-- > 0) {
            [aim.style.top, other.style.top] = [other.style.top, aim.style.top];
        }
        return place;
    };
}";
const VIEWS: [&str; 4] = ["overview", "lists", "explain", "log"];

/// A ringdnsd with its console on a TCP address of loopback, a list, and the query log.
struct Scene {
    host: Host,
    ringdnsd: Ringdnsd,
    dns: SocketAddr,
    url: String,
    _upstream: Upstream,
    _folder: TempDir,
}

impl Scene {
    fn set() -> Self {
        let (host, folder) = (Host::local(), tempfile::tempdir().unwrap());
        let upstream = Upstream::with_ttl(300);
        let (dns, http) = (free_address(&host), SocketAddr::from(([127, 0, 0, 1], free_port(&host))));
        let [tokens, ads, hosts, overrides, spool] =
            ["tokens", "ads", "hosts", "overrides", "spool"].map(|name| folder.path().join(name));
        let line = |name: &str, role: &str, token: &str| {
            format!("{name} {role} {}\n", HEXLOWER.encode(digest(&SHA256, token.as_bytes()).as_ref()))
        };
        fs::write(&tokens, line("reader", "read", READ) + &line("ops", "operate", OPERATE)).unwrap();
        fs::write(&ads, "||ads.example^\n||tracker.example^\n").unwrap();
        fs::write(&hosts, format!("0.0.0.0 markup.example # {MARKUP}\n")).unwrap();
        let mut settings = Settings::loopback(dns, upstream.address());
        settings.control = format!("http = \"{http}\"\ntokens_file = {tokens:?}");
        settings.tables += &format!(
            "\n[query_log]\nenabled = true\nspool_dir = {spool:?}\nbatch_interval = \"200ms\"\n[lists]\noverrides_file = {overrides:?}\n\
             [[blocklist]]\nname = \"ads\"\nsource = {ads:?}\n\
             [[blocklist]]\nname = \"hosts\"\nsource = {hosts:?}\n\
             [[client_group]]\nname = \"kids\"\nclients = [\"127.0.20.0/24\"]\n"
        );
        let ringdnsd = Ringdnsd::start(&host, &settings);
        Scene { host, ringdnsd, dns, url: format!("http://{http}/"), _upstream: upstream, _folder: folder }
    }

    /// Sets one, and starts a browser that can reach it.
    fn with_browser() -> (Self, Browser) {
        let scene = Self::set();
        let browser = Browser::start(&scene.host);
        (scene, browser)
    }

    fn rcode(&self, name: &str) -> u16 {
        Client::of(&self.host, self.dns).ask(&Query::a(name)).rcode()
    }

    /// Sends queries as clients do: most are hits.
    fn traffic(&self) {
        let client = Client::of(&self.host, self.dns);
        for nth in 0..60 {
            client.ask(&Query::a(&format!("www{}.example", nth % 7)));
        }
        client.ask(&Query::a("x.ads.example"));
    }
}

#[test]
fn scripts_without_a_document_pass_their_own_tests() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/console");
    let tests = ["figures.mjs", "requests.mjs"].map(|name| folder.join(name));
    let output = Command::new("node").arg("--test").args(tests).output();
    let output = output.unwrap_or_else(|error| panic!("node: {error}; deploy/setup.sh installs nodejs"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_page_asks_for_a_token_and_shows_rates() {
    let (scene, mut browser) = Scene::with_browser();
    browser.open(&scene.url);
    browser.until("!document.getElementById('sign-in').hidden");
    browser.picture("sign-in");
    browser.fill("#token", "a token that is none");
    browser.press("Enter");
    browser.until("!document.getElementById('sign-in-reason').hidden");
    browser.fill("#token", "unknown");
    browser.press("Enter");
    browser.until("document.getElementById('sign-in-reason').innerText.includes('ringctl token new')");

    browser.sign_in(&scene.url, READ);
    browser.until("document.getElementById('state').innerText === 'ready'");
    // Answers a second, as a number above zero.
    until("the rate is shown", || {
        scene.traffic();
        let figure = "parseFloat(document.querySelector('#figures dd').innerText) > 0";
        (browser.value(figure) == true).then_some(())
    });
    browser.until("document.querySelectorAll('.area.worker')[0].getAttribute('d').length > 0");
    until("service times are shown", || {
        scene.traffic();
        (browser.value("document.querySelectorAll('#times rect').length > 0") == true).then_some(())
    });
    browser.until("document.querySelector('#upstreams').innerText.includes('in use')");
    assert!(browser.text("#overview").contains("of one core"), "{}", browser.text("#overview"));
    browser.picture("overview");

    // A page that nobody sees asks for nothing.
    let hide = |is: bool| {
        format!(
            "Object.defineProperty(document, 'hidden', {{ value: {is}, configurable: true }}); \
             document.dispatchEvent(new Event('visibilitychange'))"
        )
    };
    let asked = "performance.getEntriesByType('resource').length";
    browser.value(&hide(true));
    scene.ringdnsd.next_second();
    scene.ringdnsd.next_second();
    let before = browser.value(asked);
    for _ in 0..3 {
        scene.ringdnsd.next_second();
    }
    assert_eq!(browser.value(asked), before);
    browser.value(&hide(false));
    until("the page asks again", || (browser.value(asked) != before).then_some(()));

    browser.click("#sign-out");
    browser.until("!document.getElementById('sign-in').hidden");
    assert_eq!(browser.value("sessionStorage.length"), 0);
    assert_eq!(browser.value("document.getElementById('upstreams').childElementCount"), 0);
    browser.has_no_complaints();
}

/// A page moves when an answer comes, also between two steps of a click.
#[test]
fn a_click_meets_what_it_is_aimed_at() {
    let mut browser = Browser::start(&Host::local());
    browser.value(BUTTONS);
    browser.click("#aim");
    browser.click("#other");
    assert_eq!(browser.value("window.heard"), json!(["aim", "other"]));
}

/// The API escapes names of clients. Lines of lists and errors are as others wrote them.
#[test]
fn what_others_wrote_stays_text() {
    let (scene, mut browser) = Scene::with_browser();
    browser.sign_in(&scene.url, OPERATE);
    browser.press("4");
    until("the tap is open", || (scene.ringdnsd.stat("/query_log/taps") == 1).then_some(()));
    scene.traffic();
    scene.rcode(&format!("{MARKUP}.example"));
    browser.until(r"document.getElementById('rows').innerText.includes('\\060img\\032src')");
    browser.until("document.getElementById('rows').innerText.includes('blocked')");
    browser.picture("log");
    // A filter leaves what it names.
    browser.press("/");
    browser.call("Input.insertText", json!({ "text": "onerror" }));
    browser.until("document.querySelectorAll('#rows tr').length === 1");
    browser.press("Escape");
    browser.click("#rows tr .buttons button");
    browser.until(r"document.getElementById('explained').innerText.includes('\\060img\\032src')");
    let miss = "/Last miss .+: it was asked for the first time/";
    browser.until(&format!("{miss}.test(document.getElementById('explained').innerText)"));

    browser.fill("#explain-name", "markup.example");
    browser.press("Enter");
    browser.until(&format!("document.getElementById('explained').innerText.includes('{MARKUP}')"));
    browser.until("document.querySelectorAll('#explained .way li').length === 5");
    browser.picture("explain-markup");
    browser.value("document.activeElement.blur()");
    browser.press("2");
    browser.fill("#name-name", MARKUP);
    // A refusal is shown for some seconds.
    until("the refusal is shown", || {
        browser.click("#name-form button[value=block]");
        let shown = format!("document.getElementById('toasts').innerText.includes('{MARKUP}')");
        (browser.value(&shown) == true).then_some(())
    });
    assert_eq!(browser.value("document.querySelectorAll('main img, #toasts img').length"), 0);
    assert_eq!(browser.value("typeof broken"), "undefined");
    browser.has_no_complaints();
    // The policy forbids it even to a script of the page.
    let made = browser.value("try { document.body.innerHTML = '<b></b>'; 'made' } catch { 'refused' }");
    assert_eq!(made, "refused");
}

#[test]
fn an_operator_blocks_allows_and_pauses_and_a_reader_does_not() {
    let (scene, mut browser) = Scene::with_browser();
    browser.sign_in(&scene.url, OPERATE);
    browser.press("2");
    browser.until("document.getElementById('sources').innerText.includes('fresh')");
    assert_eq!([scene.rcode("www.shop.example"), scene.rcode("www.ads.example")], [0, NXDOMAIN]);
    browser.fill("#name-name", "shop.example");
    browser.click("#name-form button[value=block]");
    browser.until("document.getElementById('overrides').innerText.includes('shop.example.')");
    until("the name is blocked", || (scene.rcode("www.shop.example") == NXDOMAIN).then_some(()));
    browser.fill("#name-name", "ads.example");
    browser.click("#name-form button[value=allow]");
    until("the name is allowed", || (scene.rcode("www.ads.example") == 0).then_some(()));
    browser.picture("lists");
    browser.until("document.querySelectorAll('#overrides tr').length === 2");
    browser.click("#overrides tr[data-key^='shop'] button");
    until("the name is no longer blocked", || (scene.rcode("www.shop.example") == 0).then_some(()));

    browser.fill("#pause-whom", "127.0.0.1");
    browser.click("#pause-form button");
    browser.until("document.getElementById('pauses').innerText.includes('127.0.0.1')");
    until("no list decides", || (scene.rcode("www.tracker.example") == 0).then_some(()));
    browser.click("#pauses button");
    until("lists decide", || (scene.rcode("www.tracker.example") == NXDOMAIN).then_some(()));
    browser.fill("#name-name", "a..b");
    browser.click("#name-form button[value=block]");
    browser.until("document.querySelector('.toast.critical')?.innerText.includes('a..b') === true");

    browser.click("#sign-out");
    browser.sign_in(&scene.url, READ);
    browser.press("2");
    browser.until("!document.getElementById('read-only').hidden");
    browser.until("document.getElementById('sources').innerText.includes('fresh')");
    let enabled =
        "[...document.querySelectorAll('#lists button')].filter((b) => !b.matches(':disabled')).length";
    assert_eq!(browser.value(enabled), 0);
    browser.picture("lists-read");
    browser.has_no_complaints();
}

#[test]
fn the_page_fits_phones_and_is_dark_where_that_is_wanted() {
    let (scene, mut browser) = Scene::with_browser();
    let brightness = "(() => { const [r, g, b] = getComputedStyle(document.body).backgroundColor.match(/\\d+/g); \
                      return (Number(r) + Number(g) + Number(b)) / 3; })()";
    browser.sign_in(&scene.url, OPERATE);
    assert!(browser.value(brightness).as_f64().unwrap() > 200.0);
    for (width, height, scheme) in [(1280, 900, "dark"), (390, 844, "light"), (360, 740, "dark")] {
        browser.size(width, height);
        browser.scheme(scheme);
        assert_eq!(browser.value(brightness).as_f64().unwrap() < 80.0, scheme == "dark");
        for (nth, view) in VIEWS.iter().enumerate() {
            browser.value("document.activeElement.blur()");
            browser.press(&(nth + 1).to_string());
            browser.until(&format!("!document.getElementById('{view}').hidden"));
            if *view == "explain" {
                browser.fill("#explain-name", "x.ads.example");
                browser.press("Enter");
                browser.until("document.querySelectorAll('#explained .way li').length === 5");
            }
            if *view == "log" {
                let has_rows = "document.querySelectorAll('#rows tr').length > 0";
                until("rows are shown", || {
                    scene.traffic();
                    (browser.value(has_rows) == true).then_some(())
                });
            }
            scene.traffic();
            scene.ringdnsd.next_second();
            let too_wide = browser.value("document.documentElement.scrollWidth - window.innerWidth");
            assert!(too_wide.as_i64().unwrap() <= 0, "{view} at {width}: {too_wide} too wide");
            browser.picture(&format!("{view}-{width}-{scheme}"));
        }
    }
    browser.has_no_complaints();
}

#[test]
fn stored_rows_of_the_query_log_are_found() {
    let (scene, mut browser) = Scene::with_browser();
    browser.sign_in(&scene.url, READ);
    scene.traffic();
    browser.press("4");
    let found = "(() => { const rows = [...document.querySelectorAll('#rows tr')]; \
                 return rows.length > 5 && rows.every((row) => row.innerText.includes('www3.example.')) \
                 && /^\\d+ stored rows/.test(document.getElementById('log-state').innerText); })()";
    until("the rows are stored and found", || {
        browser.fill("#search-suffix", "www3.example");
        browser.press("Enter");
        browser.until("!document.querySelector('#search-form button').disabled");
        (browser.value(found) == true).then_some(())
    });
    browser.picture("search");
    browser.fill("#search-client", "192.0.2.1");
    browser.press("Enter");
    browser.until("document.getElementById('log-state').innerText.startsWith('0 stored rows')");
    browser.fill("#search-client", "somebody");
    browser.press("Enter");
    browser.until("document.getElementById('log-state').innerText.includes('client=\"somebody\"')");
    // New rows come in place of those of the search.
    browser.click("#log-pause");
    until("new rows are shown", || {
        scene.traffic();
        let shown = "document.getElementById('rows').innerText.includes('x.ads.example.')";
        (browser.value(shown) == true).then_some(())
    });
    browser.has_no_complaints();
}

/// Answers of routes in place of those of ringdnsd, with texts that others may have written.
const ANSWERS: &str = r#"
const row = (key, queries) => ({ key, queries, least: queries, most: queries, share: queries / 2000 });
const ranking = (...rows) => ({ kind: "names", seconds: 300, queries: 2000, rows });
const finding = (check, verdict, evidence, remedy = null) => ({ check, verdict, evidence, remedy, fix: null });
const answers = {
  "/v1/top/names": ranking(row("www.example.", 1500), row("<img src=x onerror=broken=1>", 20)),
  "/v1/top/nxdomain": ranking(row("nowhere.example.", 7)),
  "/v1/top/zones": ranking(),
  "/v1/top/clients": ranking(row("192.0.2.7", 1800)),
  "/v1/doctor": [
    finding("ring_sizes", "ok", "Each ring has 4,096 entries."),
    finding("irq_affinity", "advice", "The interrupt of queue 0 is handled by another core.", "echo 1 > /proc/irq/24/smp_affinity"),
    finding("certificate", "fault", "/etc/ringdns/tls.pem <b>expired</b> yesterday.", "Renew it."),
  ],
};
const ask = window.fetch;
window.fetch = (path, options) => {
  const known = answers[new URL(path, location).pathname];
  if (!known) {
    return ask(path, options);
  }
  return Promise.resolve(new Response(JSON.stringify(known)));
};
"#;

#[test]
fn cards_show_rankings_and_what_the_check_finds() {
    let (scene, mut browser) = Scene::with_browser();
    browser.call("Page.addScriptToEvaluateOnNewDocument", json!({ "source": ANSWERS }));
    browser.sign_in(&scene.url, READ);
    browser.until("document.getElementById('top-names').innerText.includes('1.5 k\\t75.0 %')");
    let names = browser.text("#top-names");
    assert!(names.contains("www.example.") && names.contains(MARKUP), "{names}");
    browser.until("document.getElementById('top-zones').innerText.includes('No name was asked for')");
    browser.until("document.getElementById('top-clients').innerText.includes('192.0.2.7')");
    browser.until("document.getElementById('findings').childElementCount === 2");
    let doctor = browser.text("#doctor");
    assert!(doctor.contains("1 of 3 checks find nothing to mend."), "{doctor}");
    assert!(doctor.find("<b>expired</b>").unwrap() < doctor.find("smp_affinity").unwrap(), "{doctor}");
    browser.value("document.getElementById('doctor').scrollIntoView({ block: 'end' })");
    browser.picture("cards");
    browser.value(
        "(() => { const kind = document.getElementById('top-names-kind'); kind.value = 'nxdomain'; \
         kind.dispatchEvent(new Event('change')); })()",
    );
    browser.until("document.getElementById('top-names').innerText.includes('nowhere.example.')");
    browser.size(390, 844);
    let too_wide = browser.value("document.documentElement.scrollWidth - window.innerWidth");
    assert!(too_wide.as_i64().unwrap() <= 0, "{too_wide} too wide");
    browser.value("document.getElementById('top-clients').scrollIntoView({ block: 'end' })");
    browser.picture("cards-390");
    assert_eq!(browser.value("typeof broken"), "undefined");

    // What they show is of the caller who was signed in.
    browser.click("#sign-out");
    let kept = "document.querySelectorAll('#overview .ranking tbody tr, #findings li').length";
    assert_eq!(browser.value(kept), 0);
    browser.has_no_complaints();
}
