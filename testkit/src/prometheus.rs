//! Prometheus, which scrapes metrics and evaluates alert rules.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::{Host, Process, free_address};

const START: Duration = Duration::from_secs(60);

/// `prometheus` with one target, which it scrapes each second.
pub struct Prometheus {
    _process: Process,
    host: Host,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes `target`, as `ip:port`, under the job `ringdns`, and evaluates a file of rules.
    #[track_caller]
    pub fn start(host: &Host, rules: &Path, target: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address(host));
        let configuration = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [ {rules:?} ]\n\
             scrape_configs:\n  - job_name: ringdns\n    static_configs: [ {{ targets: [ {target:?} ] }} ]\n"
        );
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, configuration).unwrap();
        let options = [
            format!("--config.file={}", file.display()),
            format!("--storage.tsdb.path={}", folder.path().join("data").display()),
            format!("--web.listen-address={address}"),
        ];
        let process = host.spawn("prometheus", options);
        process.wait_for_line("Server is ready to receive web requests", START);
        Prometheus { _process: process, host: host.clone(), address, _folder: folder }
    }

    /// Evaluates an expression. Returns the samples of the result.
    #[track_caller]
    pub fn query(&self, expression: &str) -> Vec<Value> {
        let url = format!("http://{}/api/v1/query", self.address);
        let encoded = format!("query={expression}");
        let said = self.asked(&["--data-urlencode", &encoded, &url]);
        assert_eq!(said["status"], "success", "{expression}: {said}");
        said["data"]["result"].as_array().unwrap().clone()
    }

    /// Returns the rules of the first group.
    #[track_caller]
    pub fn rules(&self) -> Vec<Value> {
        let rules = self.asked(&[&format!("http://{}/api/v1/rules", self.address)]);
        rules["data"]["groups"][0]["rules"].as_array().unwrap().clone()
    }

    /// Returns the labels of the alerts that fire. An alert that still waits for its `for` is none of them.
    #[track_caller]
    pub fn firing(&self) -> Vec<Value> {
        let alerts = self.query("ALERTS{alertstate=\"firing\"}");
        alerts.into_iter().map(|mut alert| alert["metric"].take()).collect()
    }

    #[track_caller]
    fn asked(&self, arguments: &[&str]) -> Value {
        let said = self.host.run("curl", ["--silent"].iter().chain(arguments));
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {said}"))
    }
}
