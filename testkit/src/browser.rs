//! A headless Chromium, driven by its DevTools protocol over a pair of pipes.

use crate::{Host, Process, until};
use data_encoding::BASE64;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::{Value, json};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
/// Script of the shell that gives the browser its pipes: it reads commands from descriptor 3, and writes
/// answers to descriptor 4.
const START: &str = "exec 3<\"$1\" 4>\"$2\"; shift 2; exec chromium \"$@\"";

/// Function that returns the middle of an element, or null if it is not shown, and keeps events of the pointer from
/// other elements. `aimed.end()` ends that, and tells whether the element was clicked on.
const AIM: &str = "selector => {
    const element = document.querySelector(selector);
    if (!element?.getClientRects().length) {
        return null;
    }
    element.scrollIntoView({ block: 'center' });
    const { x, y, width, height } = element.getBoundingClientRect();
    const kinds = ['pointerdown', 'mousedown', 'pointerup', 'mouseup', 'click'];
    let isHit = false;
    const guard = event => {
        if (!element.contains(event.target)) {
            event.stopImmediatePropagation();
            event.preventDefault();
        } else if (event.type === 'click') {
            isHit = true;
        }
    };
    kinds.forEach(kind => window.addEventListener(kind, guard, true));
    const end = () => {
        kinds.forEach(kind => window.removeEventListener(kind, guard, true));
        return isHit;
    };
    window.aimed = { end };
    return [x + width / 2, y + height / 2];
}";

/// A browser with one page. It ends on drop.
pub struct Browser {
    commands: File,
    answers: Receiver<Value>,
    /// Session of the page.
    session: String,
    last: u64,
    complaints: Vec<String>,
    _process: Process,
    _folder: TempDir,
}

impl Browser {
    /// Starts a browser with an empty page.
    #[track_caller]
    pub fn start(host: &Host) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let [to, from, profile] = ["to", "from", "profile"].map(|name| folder.path().join(name));
        for path in [&to, &from] {
            mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        }
        let mut command = host.command("sh");
        command.args(["-c", START, "sh"]).args([&to, &from]);
        command.arg(format!("--user-data-dir={}", profile.display())).env("HOME", folder.path()).args([
            "--headless=new",
            "--remote-debugging-pipe",
            // Tests run as root, in a network of their own.
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--disable-component-update",
            "--no-first-run",
            "--hide-scrollbars",
            "--window-size=1280,900",
            "about:blank",
        ]);
        let process = Process::spawn("chromium", command);
        let commands = OpenOptions::new().write(true).open(&to).unwrap();
        let reader = BufReader::new(File::open(&from).unwrap());
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            for message in reader.split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser {
            commands,
            answers,
            session: String::new(),
            last: 0,
            complaints: Vec::new(),
            _process: process,
            _folder: folder,
        };
        let page = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": page["targetId"], "flatten": true });
        let attached = browser.call("Target.attachToTarget", attach);
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Audits"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.size(1280, 900);
        browser
    }

    /// Sends a command, and returns its result.
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.as_str().into();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.unwrap_or_else(|error| {
                panic!(
                    "{method}: {error}; deploy/setup.sh installs chromium; it said:\n{}",
                    self._process.output()
                )
            });
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method} {parameters}: {answer}");
                return answer["result"].clone();
            }
            self.complaints.extend(complaint(&answer));
        }
    }

    /// Returns the value of an expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Waits until an expression in the page is true.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        until(expression, || (self.value(expression) == true).then_some(()));
    }

    /// Returns the text of the first element of a selector, as it is seen.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.value(&format!("document.querySelector({}).innerText", json!(selector)));
        text.as_str().unwrap().to_owned()
    }

    /// Opens an address.
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until("document.readyState === 'complete'");
    }

    /// Opens the console at an address, and signs in with a token.
    #[track_caller]
    pub fn sign_in(&mut self, url: &str, token: &str) {
        self.open(url);
        self.until("document.getElementById('sign-in')?.hidden === false");
        self.fill("#token", token);
        self.press("Enter");
        self.until("!document.getElementById('views').hidden");
    }

    /// Clicks on the first element of a selector, as a pointer does, when it is shown and enabled. An answer
    /// that comes between two of its steps may move the element: what the pointer meets in its place hears
    /// nothing, and the click is made again.
    #[track_caller]
    pub fn click(&mut self, selector: &str) {
        let aim = format!("({AIM})({})", json!(selector));
        until(&format!("a click on {selector}"), || {
            let place = self.value(&aim);
            if place.is_null() {
                return None;
            }
            for kind in ["mousePressed", "mouseReleased"] {
                let event =
                    json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
                self.call("Input.dispatchMouseEvent", event);
            }
            (self.value("window.aimed.end()") == true).then_some(())
        });
    }

    /// Writes text into the first field of a selector, when it is shown: a hidden one takes no focus, and a view
    /// is opened some time after the key for it.
    #[track_caller]
    pub fn fill(&mut self, selector: &str, text: &str) {
        let field = format!("document.querySelector({})", json!(selector));
        self.until(&format!("{field}.focus(); {field}.select(); document.activeElement === {field}"));
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Presses a key that has a letter or a name.
    pub fn press(&mut self, key: &str) {
        let (text, code) = match key {
            "Enter" => ("\r", 13),
            "Escape" => ("", 27),
            letter => (letter, 0),
        };
        let down = json!({ "type": "keyDown", "key": key, "text": text, "windowsVirtualKeyCode": code });
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
    }

    /// Sets the size of the window; a narrow one is that of a phone.
    pub fn size(&mut self, width: u32, height: u32) {
        let is_phone = width < 600;
        let metrics = json!({
            "width": width, "height": height, "deviceScaleFactor": if is_phone { 2 } else { 1 }, "mobile": is_phone,
        });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
    }

    /// Makes the page dark or light.
    pub fn scheme(&mut self, scheme: &str) {
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", features);
    }

    /// Takes a picture, if `RINGDNS_SCREENSHOTS` names a folder for it.
    pub fn picture(&mut self, name: &str) {
        let Some(folder) = std::env::var_os("RINGDNS_SCREENSHOTS") else { return };
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = BASE64.decode(taken["data"].as_str().unwrap().as_bytes()).unwrap();
        fs::create_dir_all(&folder).unwrap();
        fs::write(Path::new(&folder).join(format!("{name}.png")), bytes).unwrap();
    }

    /// Asserts that the page has met no error and no forbidden address so far.
    #[track_caller]
    pub fn has_no_complaints(&mut self) {
        // Events that came before the answer to this are seen.
        self.value("1");
        assert!(self.complaints.is_empty(), "{:#?}", self.complaints);
    }
}

/// Returns what an event says of a defect of the page. Answers with an error are none: the page is to
/// tell of them.
fn complaint(event: &Value) -> Option<String> {
    let parameters = &event["params"];
    let is_defect = match event["method"].as_str()? {
        "Runtime.exceptionThrown" => true,
        "Runtime.consoleAPICalled" => {
            ["error", "warning", "assert"].iter().any(|kind| parameters["type"] == *kind)
        }
        "Log.entryAdded" => {
            let entry = &parameters["entry"];
            entry["source"] != "network" && ["error", "warning"].iter().any(|level| entry["level"] == *level)
        }
        "Audits.issueAdded" => parameters["issue"]["code"] == "ContentSecurityPolicyIssue",
        _ => false,
    };
    is_defect.then(|| event.to_string())
}
