//! Prometheus with the alert rules, and the console in a browser: both watch a ringdnsd, as operators do.

use super::TOLD;
use data_encoding::HEXLOWER;
use ring::digest::{SHA256, digest};
use ringdns_testkit::{Browser, Host, Prometheus, free_port, until_within};
use serde_json::json;
use std::{fs, net::SocketAddr, path::Path, time::Instant};
use tempfile::TempDir;

const TOKEN: &str = "token-of-the-watch";

/// TCP address of the API and a file of tokens, for a ringdnsd that is yet to start.
pub struct Post {
    http: SocketAddr,
    folder: TempDir,
}

impl Post {
    pub fn on(host: &Host) -> Self {
        let (http, folder) =
            (SocketAddr::from(([127, 0, 0, 1], free_port(host))), tempfile::tempdir().unwrap());
        let hash = HEXLOWER.encode(digest(&SHA256, TOKEN.as_bytes()).as_ref());
        fs::write(folder.path().join("tokens"), format!("watch read {hash}\n")).unwrap();
        Post { http, folder }
    }

    /// Returns lines of `[control]`.
    pub fn control(&self) -> String {
        format!("http = \"{}\"\ntokens_file = {:?}\n", self.http, self.folder.path().join("tokens"))
    }

    /// Starts to watch the ringdnsd, which runs now.
    #[track_caller]
    pub fn watch(self, host: &Host) -> Watch {
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/monitoring/prometheus-rules.yml");
        let prometheus = Prometheus::start(host, &rules.canonicalize().unwrap(), &self.http.to_string());
        let mut browser = Browser::start(host);
        browser.sign_in(&format!("http://{}/", self.http), TOKEN);
        let mut watch = Watch { prometheus, browser, _post: self };
        watch.is_well(Instant::now());
        until_within(TOLD, "Prometheus has figures", || {
            (!watch.prometheus.query("ringdns_problems").is_empty()).then_some(())
        });
        watch
    }
}

/// Prometheus and a console that watch a ringdnsd.
pub struct Watch {
    prometheus: Prometheus,
    browser: Browser,
    _post: Post,
}

impl Watch {
    /// Waits until the console shows a problem and its alert fires, within the time for it.
    #[track_caller]
    pub fn tells(&mut self, begun: Instant, kind: &str, severity: &str) {
        let patience = TOLD.saturating_sub(begun.elapsed());
        let article = format!(
            "(() => {{ const found = document.querySelector({}); \
             return found?.checkVisibility() === true && found.innerText.includes('since') \
             && document.getElementById('state').innerText !== 'ready'; }})()",
            json!(format!("#problems .notice.{severity}[data-key^='{kind} ']"))
        );
        until_within(patience, &format!("the console shows {kind}"), || {
            (self.browser.value(&article) == true).then_some(())
        });
        let patience = TOLD.saturating_sub(begun.elapsed());
        until_within(patience, &format!("an alert of {kind} fires"), || {
            let mut firing = self.prometheus.firing().into_iter();
            firing.any(|alert| alert["kind"] == kind && alert["severity"] == severity).then_some(())
        });
        println!("{kind}: told by the console and an alert after {:?}", begun.elapsed());
    }

    /// Waits until the console shows no problem of weight and no alert fires, within the time for it.
    #[track_caller]
    pub fn is_well(&mut self, begun: Instant) {
        let well = "document.querySelectorAll('#problems .notice:not(.info)').length === 0 \
                    && document.getElementById('state').innerText === 'ready'";
        until_within(TOLD.saturating_sub(begun.elapsed()), "the console shows no problem", || {
            (self.browser.value(well) == true).then_some(())
        });
        until_within(TOLD.saturating_sub(begun.elapsed()), "no alert fires", || {
            let mut firing = self.prometheus.firing().into_iter();
            (!firing.any(|alert| alert["kind"].is_string())).then_some(())
        });
        println!("over, by the console and the alerts, after {:?}", begun.elapsed());
    }
}
