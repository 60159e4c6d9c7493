//! Tests of `ringctl top` in a pseudo-terminal, on a running ringdnsd: the screen is read as a
//! terminal shows it.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address, until};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    num::NonZero,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

/// Commands of the shell in the terminal. `stty -g` tells the modes before and after.
const SHELL: &str = r#"stty rows 24 cols 80; before=$(stty -g); tty; "$RINGCTL" --socket "$SOCKET" $ARGUMENTS
status=$?; test "$before" = "$(stty -g)" && echo modes-are-restored; echo "status=$status""#;

/// Terminal of 80 columns and 24 rows in which ringctl runs.
struct Terminal {
    script: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<vt100::Parser>>,
}

impl Terminal {
    fn run(ringdnsd: &Ringdnsd, arguments: &str) -> Self {
        let ctl = ringdnsd.ctl_command();
        let mut script = Command::new("script")
            .args(["--quiet", "--return", "--flush", "--command", SHELL, "/dev/null"])
            .env("RINGCTL", ctl.get_program())
            .env("SOCKET", ringdnsd.socket())
            .env("ARGUMENTS", arguments)
            .env("TERM", "xterm-256color")
            .env("SHELL", "/bin/sh")
            .env_remove("NO_COLOR")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script, of bsdutils");
        let [rows, columns] = [24, 80].map(|n| NonZero::new(n).unwrap());
        let (keys, mut output) = (script.stdin.take().unwrap(), script.stdout.take().unwrap());
        let shown = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let parser = shown.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = output.read(&mut bytes) {
                parser.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..n]);
            }
        });
        Terminal { script, keys, shown }
    }

    /// Returns what a function reads of the screen.
    fn read<T>(&self, look: impl FnOnce(&vt100::Screen) -> T) -> T {
        look(self.shown.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    fn text(&self) -> String {
        self.read(vt100::Screen::contents)
    }

    /// Waits until the screen has all of these words. Returns its text.
    #[track_caller]
    fn shows(&self, words: &[&str]) -> String {
        self.shows_while(words, || {})
    }

    /// Waits until the screen has all of these words, and does something again and again meanwhile.
    #[track_caller]
    fn shows_while(&self, words: &[&str], mut act: impl FnMut()) -> String {
        let mut last = String::new();
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until(&format!("the screen shows {words:?}"), || {
                act();
                last = self.text();
                words.iter().all(|word| last.contains(word)).then_some(())
            });
        }));
        assert!(found.is_ok(), "no {words:?} on the screen:\n{last}");
        last
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// Checks that ringctl ended with status 0 and left the terminal as it was.
    #[track_caller]
    fn has_ended(mut self) {
        let text = self.shows(&["status="]);
        assert!(text.contains("status=0") && text.contains("modes-are-restored"), "{text}");
        self.read(|screen| assert!(!screen.alternate_screen() && !screen.hide_cursor(), "{text}"));
        drop(self.keys);
        self.script.wait().unwrap();
    }
}

/// A ringdnsd behind kernel sockets, and a client.
struct Scene {
    ringdnsd: Ringdnsd,
    client: Client,
    _upstream: Upstream,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::answering(&host);
        let listen = free_address(&host);
        let ringdnsd = Ringdnsd::start(&host, &Settings::loopback(listen, upstream.address()));
        Scene { ringdnsd, client: Client::of(&host, listen), _upstream: upstream }
    }

    /// Returns the JSON that ringctl prints.
    fn json(&self, arguments: &[&str]) -> Value {
        let told = self.ringdnsd.told(&[&["--json"], arguments].concat());
        serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
    }

    fn ask(&self, name: &str) {
        assert_eq!(self.client.ask(&Query::a(name)).rcode(), 0);
    }
}

#[test]
fn top_shows_a_running_ringdnsd_until_q_ends_it() {
    let scene = Scene::set();
    let mut terminal = Terminal::run(&scene.ringdnsd, "top");
    let text =
        terminal.shows(&["answering queries", "TIER", "no drops", "q end  arrows scroll  ? help  d day"]);
    assert!(terminal.read(vt100::Screen::alternate_screen), "{text}");
    let pid = format!("(pid {})", scene.ringdnsd.process().pid());
    assert!(text.contains(&pid), "{text}");
    // The first is a miss, all others are hits: the ratio comes near to 100 %, which only the last second's
    // has.
    let text = terminal.shows_while(&["in the last 1.0 s", "100.0%"], || scene.ask("www.example"));
    let row = |name: &str| {
        let row = text.lines().find(|line| line.starts_with(name)).map(str::split_whitespace);
        row.map(|cells| cells.map(str::to_owned).collect::<Vec<_>>()).unwrap_or_default()
    };
    let answers: f64 = row("worker")[1].parse().unwrap();
    assert!(answers > 10.0, "{text}");
    assert!(row("hit")[2].parse::<f64>().unwrap() > 0.0, "a median: {text}");
    assert!(row("udp://").len() == 9 || row("udp://").len() == 2, "{text}");
    terminal.press("?");
    terminal.shows(&["PgUp, PgDn scroll by a page"]);
    terminal.press("?");
    terminal.shows(&["answering queries"]);
    // An arrow, as a terminal sends it: none of its bytes is a key of its own.
    terminal.press("\x1b[B");
    until("the screen has scrolled, or all rows fit", || {
        let text = terminal.text();
        (!text.starts_with("ringdnsd ") || !text.contains("-24/")).then_some(())
    });
    terminal.press("q");
    terminal.has_ended();
}

#[test]
fn top_goes_on_without_ringdnsd_and_ends_by_signals() {
    let mut scene = Scene::set();
    let mut terminal = Terminal::run(&scene.ringdnsd, "top");
    terminal.shows(&["answering queries", "TIER"]);
    scene.ringdnsd.kill9();
    let text = terminal.shows(&["no ringdnsd at"]);
    assert!(text.contains("TIER"), "the last state stays: {text}");
    terminal.press("\x03");
    terminal.has_ended();
}

#[test]
fn the_busiest_names_and_clients_are_counted_and_shown_live() {
    let scene = Scene::set();
    (0..30).for_each(|_| scene.ask("www.example.com"));
    (0..10).for_each(|_| scene.ask("mail.example.com"));
    (0..5).for_each(|_| scene.ask("www.other.example"));
    let rows = |kind: &str| {
        let ranking = scene.json(&["top", kind, "--minutes", "2"]);
        let rows = ranking["rows"].as_array().unwrap().iter();
        let row = |row: &Value| (row["key"].as_str().unwrap().to_owned(), row["queries"].as_u64().unwrap());
        rows.map(row).collect::<Vec<_>>()
    };
    let told = |list: &[(&str, u64)]| list.iter().map(|(key, n)| ((*key).to_owned(), *n)).collect::<Vec<_>>();
    // Each query was a burst of its own, so all counts are exact.
    let names = told(&[("www.example.com.", 30), ("mail.example.com.", 10), ("www.other.example.", 5)]);
    until("all queries are counted", || (rows("names") == names).then_some(()));
    assert_eq!(rows("zones"), told(&[("example.com.", 40), ("other.example.", 5)]));
    assert_eq!(rows("clients"), told(&[("127.0.0.1", 45)]));
    assert_eq!(rows("nxdomain"), told(&[]));
    let text = scene.ringdnsd.told(&["top", "names", "--once", "-n", "1"]);
    assert!(text.contains("www.example.com.") && !text.contains("mail.example.com."), "{text}");
    let mut terminal = Terminal::run(&scene.ringdnsd, "top zones");
    let text = terminal.shows(&["queries by zone, last ", "example.com.", "88.9%", "q end"]);
    assert!(text.contains("ZONE"), "{text}");
    terminal.shows_while(&["example.net."], || scene.ask("new.example.net"));
    terminal.press("q");
    terminal.has_ended();
}

#[test]
fn histograms_are_exported_by_interval_tier_and_worker_and_added_up() {
    let scene = Scene::set();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    (0..20).for_each(|_| scene.ask("www.example"));
    let tiers = scene.ringdnsd.told(&["histogram", "export", "--by", "tier", "--format", "log"]);
    for tag in ["hit", "stale", "host", "redis", "upstream", "other"] {
        assert!(tiers.contains(&format!("Tag={tag},")), "{tiers}");
    }
    let workers = scene.ringdnsd.told(&["histogram", "export", "--by", "worker", "--format", "log"]);
    assert!(workers.contains("Tag=worker0-hit,") && workers.contains("Tag=worker0-miss,"), "{workers}");
    let (one, other, both) = (path("one"), path("other"), path("both"));
    let export = ["histogram", "export", "--interval", "300ms", "--count", "2", "-o", &one];
    scene.ringdnsd.told(&export);
    let intervals = fs::read_to_string(&one).unwrap();
    assert_eq!(intervals.matches("Tag=hit,").count(), 2, "{intervals}");
    scene.ringdnsd.told(&["histogram", "export", "--format", "log", "-o", &other]);
    let picture = path("picture.svg");
    scene.ringdnsd.told(&["histogram", "merge", &other, &other, &one, "-o", &both, "--svg", &picture]);
    // 19 hits and a miss, twice; the intervals were idle.
    let plot = scene.ringdnsd.told(&["histogram", "plot", &both]);
    assert!(plot.contains("a hit: 38, ") && plot.contains("b miss: 2, "), "{plot}");
    assert!(plot.lines().all(|line| line.chars().count() <= 80), "{plot}");
    assert!(fs::read_to_string(&picture).unwrap().contains("hit (38)"));
    let refused = scene.ringdnsd.ctl(&["histogram", "merge", &picture]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let history = scene.json(&["history", "--last", "2h"]);
    assert!(history["points"].is_array(), "{history}");
}
