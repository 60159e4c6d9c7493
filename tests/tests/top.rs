//! Tests of `ringctl top` in a pseudo-terminal, on a running ringdnsd: the screen is read as a
//! terminal shows it.

use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address, until};
use std::{
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

    fn ask(&self, name: &str) {
        assert_eq!(self.client.ask(&Query::a(name)).rcode(), 0);
    }
}

#[test]
fn top_shows_a_running_ringdnsd_until_q_ends_it() {
    let scene = Scene::set();
    let mut terminal = Terminal::run(&scene.ringdnsd, "top");
    let text = terminal.shows(&["answering queries", "TIER", "no drops", "q end  arrows scroll  ? help"]);
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
