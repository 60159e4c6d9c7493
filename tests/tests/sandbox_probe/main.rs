//! Tries the limits that ringdnsd sets to itself from inside. Without libtest, whose threads would not
//! have them: this program starts itself again for each configuration.

mod inside;
mod raw;

use std::{env, fs, process::Command};

/// Tries the sandbox of a configuration with these lines from inside. Returns what was tried.
fn tried(lines: &str) -> String {
    // Not in the folder of temporary files, which can be used in any case.
    let elsewhere = || tempfile::tempdir_in("/var/tmp").unwrap();
    let (folder, others) = (elsewhere(), elsewhere());
    let (config, outside) = (folder.path().join("etc/ringdns.toml"), others.path().join("secret"));
    fs::create_dir(config.parent().unwrap()).unwrap();
    let at = folder.path().display();
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:53\"]\n{lines}\n[[upstream]]\naddress = \"192.0.2.1:53\"\n\
         [control]\nsocket = \"{at}/run/control.sock\"\n\
         [lists]\ndir = \"{at}/state/lists\"\noverrides_file = \"{at}/state/overrides.toml\"\n"
    );
    fs::write(&config, text).unwrap();
    fs::write(&outside, "").unwrap();
    let output = Command::new(env::current_exe().unwrap())
        .env(inside::CONFIG, &config)
        .env(inside::OUTSIDE, &outside)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let line = said.lines().find_map(|line| line.split_once("tried: ")).expect(&said).1.to_owned();
    assert!(outside.exists(), "{line}");
    line
}

fn main() {
    if env::var_os(inside::CONFIG).is_some() {
        inside::try_all();
        return;
    }
    for (lines, calls, arguments) in [("", 800, 24), ("interface = \"lo\"", 800, 21)] {
        let line = tried(lines);
        let count = |what: &str| -> usize {
            let part = line.split(", ").find_map(|part| part.strip_suffix(what)).expect(&line);
            part.trim().parse().unwrap()
        };
        assert!(count("calls") > calls && count("arguments") == arguments, "{line}");
        // Of 41 in Linux 6.
        assert!(count("capabilities") >= 30, "{line}");
        assert_eq!(count("paths"), 14, "this kernel has no Landlock: {line}");
        println!("{line}");
    }
}
