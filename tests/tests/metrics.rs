//! Tests of the metrics: both formats by parsers of others, the page that lists them all, and the alert
//! rules and the dashboard in a real Prometheus.

use ringdns_api::{ProblemKind, Severity};
use ringdns_testkit::{
    Client, DNS_V4, Knot, Lab, Process, Prometheus, Query, Redis, Ringdnsd, Settings, Zone, until_within,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

/// Time for Prometheus to start, and to know what it scrapes.
const PATIENCE: Duration = Duration::from_secs(60);
/// Port of the metrics on the server's loopback interface.
const HTTP: &str = "127.0.0.1:8053";
/// Variable that has the page of metrics written anew instead of compared.
const WRITE: &str = "RINGDNS_WRITE_METRICS";

fn rules_file() -> PathBuf {
    file("deploy/monitoring/prometheus-rules.yml").canonicalize().unwrap()
}

fn file(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A ringdnsd with every part that has metrics of its own, over AF_XDP.
struct Scene {
    lab: Lab,
    knot: Option<Knot>,
    _ringdnsd: Ringdnsd,
    _reader: Process,
    _redis: Redis,
    _folder: TempDir,
}

impl Scene {
    /// Starts one with Redis, or with a snapshot in its place.
    fn set(has_redis: bool) -> Option<Self> {
        let lab = Lab::up()?;
        let knot = Knot::upstream(lab.server(), &[Zone::example()]);
        let (redis, folder) = (Redis::start(), tempfile::tempdir().unwrap());
        let path = |name: &str| folder.path().join(name);
        fs::write(path("ads"), "||ads.example^\n").unwrap();
        let tier = match has_redis {
            true => format!("[redis]\nurl = {:?}\n", redis.url()),
            false => format!("snapshot_file = {:?}\nsnapshot_every = \"1s\"\n", path("cache.snapshot")),
        };
        let tables = format!(
            "[cache]\nbytes_per_worker = \"4MiB\"\nhost_bytes = \"16MiB\"\n{tier}[query_log]\nenabled = true\nspool_dir = {:?}\n[rate_limit]\nper_second = 10000\n\
             [names]\nentries = 1000\n[client_names]\nptr = true\n[[nftset]]\nsuffixes = [\"example\"]\ntable = \"inet ringdns\"\nset4 = \"a4\"\n\
             [[blocklist]]\nname = \"ads\"\nsource = {:?}\n[dnstap]\nsocket = {:?}\n[dnssec]\nvalidate = true\nmanaged_anchor_file = {:?}\n",
            path("spool"),
            path("ads"),
            path("tap"),
            path("anchors"),
        );
        let control = format!("http = {HTTP:?}");
        let settings = Settings { tables, control, ..Settings::xdp(knot.address()) };
        let tap = path("tap");
        let arguments = ["-t", "protobuf:dnstap.Dnstap", "-w", "/dev/null", "-u", tap.to_str().unwrap()];
        let reader = lab.server().spawn("fstrm_capture", arguments);
        reader.wait_for_line("opening", PATIENCE);
        let ringdnsd = Ringdnsd::start(lab.server(), &settings);
        Some(Scene {
            lab,
            knot: Some(knot),
            _ringdnsd: ringdnsd,
            _reader: reader,
            _redis: redis,
            _folder: folder,
        })
    }

    /// Asks for names of every kind, often enough that rates are above zero.
    fn ask(&self) {
        let client = Client::of(self.lab.client(), DNS_V4);
        for nth in 0..20 {
            for name in ["www.example", "ads.example", &format!("n{nth}.wild.example")] {
                client.ask(&Query::a(name).id(nth));
            }
        }
    }

    fn scrape(&self, accept: &str) -> String {
        let url = format!("http://{HTTP}/metrics");
        self.lab.server().run("curl", ["--silent", "--fail", "--header", &format!("Accept: {accept}"), &url])
    }
}

/// Gives a program a text, and returns its output. Panics unless it succeeds.
#[track_caller]
fn fed(command: &mut Command, text: &str) -> String {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    // A program that refuses the text does not read it to its end, and says why.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Returns the names of families that a parser of Python's client library finds.
#[track_caller]
fn parsed_by_python(module: &str, text: &str) -> BTreeSet<String> {
    let program = format!(
        "import sys\nfrom {module} import text_string_to_metric_families as parse\n\
         [print(f.name) for f in parse(sys.stdin.read())]"
    );
    fed(Command::new("/usr/bin/python3").args(["-c", &program]), text).lines().map(str::to_owned).collect()
}

#[test]
fn parsers_of_others_read_both_formats_and_the_page_has_every_metric() {
    let Some(with_snapshot) = Scene::set(false) else { return };
    let of_snapshot = with_snapshot.scrape("text/plain");
    drop(with_snapshot);
    let Some(scene) = Scene::set(true) else { return };
    scene.ask();
    let (classic, open) = (scene.scrape("text/plain"), scene.scrape("application/openmetrics-text"));
    fed(Command::new("promtool").args(["check", "metrics"]), &classic);
    let names = parsed_by_python("prometheus_client.openmetrics.parser", &open);
    assert_eq!(names, parsed_by_python("prometheus_client.parser", &classic));
    assert!(names.len() > 200, "{}", names.len());

    let page = page(&[of_snapshot, classic].concat());
    let path = file("docs/metrics.md");
    if std::env::var_os(WRITE).is_some() {
        fs::write(&path, &page).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let (now, before) = (lines(&page), lines(&written));
    let differ: Vec<_> = now.symmetric_difference(&before).collect();
    assert!(differ.is_empty(), "docs/metrics.md differs; {WRITE}=1 writes it anew: {differ:#?}");
}

/// Returns the page that lists all metrics.
fn page(classic: &str) -> String {
    let mut rows = BTreeMap::<&str, (&str, &str, BTreeSet<&str>)>::new();
    let (mut family, mut help) = ("", "");
    for line in classic.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            (_, help) = rest.split_once(' ').unwrap();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            family = name;
            rows.entry(family).or_insert((kind, help, BTreeSet::new()));
        } else if let Some((_, inside)) = line.split_once('{') {
            let named = inside.split("\",").filter_map(|pair| pair.split_once("=\""));
            rows.get_mut(family).unwrap().2.extend(named.map(|(name, _)| name).filter(|name| *name != "le"));
        }
    }
    let mut page = String::from(
        "# Metrics\n\n`GET /metrics` answers in Prometheus' classic text format, or as OpenMetrics if `Accept` names \
         `application/openmetrics-text`. This page is generated by a test (`tests/tests/metrics.rs`) from a ringdnsd \
         with every part configured; parts that are not configured have no metrics. Names, types and labels do not \
         change without a note in the changelog. The number of label values is bounded: workers, upstreams, lists and \
         groups of the configuration, and fixed words; no name or client is ever a label.\n\n\
         [`deploy/monitoring`](../deploy/monitoring) has alert rules for Prometheus and a dashboard for Grafana.\n\n\
         | metric | type | labels | meaning |\n|---|---|---|---|\n",
    );
    for (name, (kind, help, labels)) in rows {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        page += &format!("| `{name}` | {kind} | {} | {} |\n", labels.join(", "), help.replace('|', "\\|"));
    }
    page
}

/// Returns the expressions of the dashboard, as Grafana asks them.
fn expressions_of_the_dashboard() -> Vec<(String, String)> {
    let text = fs::read_to_string(file("deploy/monitoring/grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            let expression = target["expr"].as_str().unwrap();
            let asked = expression.replace("$instance", ".*").replace("$__rate_interval", "10s");
            expressions.push((panel["title"].as_str().unwrap().to_owned(), asked));
        }
    }
    expressions
}

/// Returns the expressions of the alert rules, each with its name.
fn expressions_of_the_rules(prometheus: &Prometheus) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    prometheus.rules().iter().map(|rule| (text(&rule["name"]), text(&rule["query"]))).collect()
}

/// Returns the expression without its comparison at the end: alerts have no result while all is well.
fn without_threshold(expression: &str) -> &str {
    expression
        .rsplit_once([' '])
        .map_or(expression, |(left, _)| left.trim_end_matches(|letter: char| " ><=!".contains(letter)))
}

#[test]
fn the_alerts_and_the_dashboard_work_in_prometheus() {
    let Some(mut scene) = Scene::set(true) else { return };
    let prometheus = Prometheus::start(scene.lab.server(), &rules_file(), HTTP);
    until_within(PATIENCE, "ringdnsd is scraped", || {
        scene.ask();
        (!prometheus.query("ringdns_build_info").is_empty()).then_some(())
    });
    let mut expressions = expressions_of_the_dashboard();
    let rules = expressions_of_the_rules(&prometheus);
    assert!(expressions.len() > 30 && rules.len() >= 10, "{} {}", expressions.len(), rules.len());
    // Each is one that Prometheus can evaluate.
    for (_, expression) in expressions.iter().chain(&rules) {
        prometheus.query(expression);
    }
    // The root's anchors are not refreshed: nobody here has its keys.
    let rules = rules.into_iter().filter(|(name, _)| name != "RingdnsTrustAnchorsOld");
    // Five minutes are not what the test has.
    expressions.extend(
        rules.map(|(name, expression)| (name, without_threshold(&expression).replace("[5m]", "[10s]"))),
    );
    // Parts of these panels have a result only when something is lost.
    expressions.retain(|(_, expression)| !expression.ends_with("> 0"));
    for (title, expression) in &expressions {
        until_within(PATIENCE, &format!("{title}: {expression} has a result"), || {
            scene.ask();
            (!prometheus.query(expression).is_empty()).then_some(())
        });
    }
    let fires = |name: &str| prometheus.firing().iter().any(|alert| alert["alertname"] == name);
    assert!(!fires("RingdnsCriticalProblem") && !fires("RingdnsNotReady"));
    drop(scene.knot.take());
    let client = Client::of(scene.lab.client(), DNS_V4);
    let mut names = (0..).map(|nth| format!("www.gone{nth}.example"));
    // RingdnsNotReady waits for 30 s.
    until_within(PATIENCE, "the alerts fire", || {
        client.ask(&Query::a(&names.next()?));
        (fires("RingdnsCriticalProblem") && fires("RingdnsNotReady")).then_some(())
    });
    let is_it =
        |alert: &Value| alert["alertname"] == "RingdnsCriticalProblem" && alert["kind"] == "no_upstream";
    assert!(prometheus.firing().iter().any(is_it), "{:?}", prometheus.firing());
}

/// Each kind of problem that an operator has to act on fires an alert of its severity at once, which ends with
/// the problem; others fire none. `promtool` works the rules out over made-up series.
#[test]
fn every_problem_of_weight_fires_an_alert_and_ends_it() {
    // A sample each second: 20 without the problem, 20 with it, and 20 without it.
    let series = "0x19 1x19 0x19";
    let mut text = format!("rule_files: [ {:?} ]\nevaluation_interval: 1s\ntests:\n", rules_file());
    for kind in ProblemKind::ALL {
        let (name, severity) = (kind.label(), kind.severity().label());
        let alert = match kind.severity() {
            Severity::Critical => "RingdnsCriticalProblem",
            Severity::Warning | Severity::Info => "RingdnsProblem",
        };
        let fires = match kind.severity() {
            Severity::Info => "[]".to_owned(),
            _ => format!(
                "[ {{ exp_labels: {{ severity: {severity}, kind: {name}, instance: dns1 }}, exp_annotations: \
                 {{ summary: \"dns1: {name}\", action: \"ringctl status has the text and the remedy\" }} }} ]"
            ),
        };
        text += &format!(
            "- interval: 1s\n  input_series:\n  - series: 'ringdns_problems{{kind=\"{name}\",severity=\"{severity}\",\
             instance=\"dns1\"}}'\n    values: '{series}'\n  alert_rule_test:\n"
        );
        for (at, alerts) in [("19s", "[]"), ("21s", &fires), ("39s", &fires), ("41s", "[]")] {
            text += &format!("  - {{ eval_time: {at}, alertname: {alert}, exp_alerts: {alerts} }}\n");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let tests = folder.path().join("tests.yml");
    fs::write(&tests, text).unwrap();
    let said = fed(Command::new("promtool").args(["test", "rules"]).arg(&tests), "");
    assert!(said.contains("SUCCESS"), "{said}");
}
