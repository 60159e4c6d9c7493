//! The reference of the configuration file, made from [`super::raw`].

use super::raw;
use std::fmt::Write;

/// The reference as Markdown; what `docs/configuration.md` holds.
pub fn markdown() -> String {
    let mut page = String::from(HEAD);
    for table in raw::tables() {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## `{}`\n\n{}\n\n", table.header, joined(table.doc));
        page.push_str("| key | type | default | |\n| --- | --- | --- | --- |\n");
        for key in table.keys {
            let default = key.default.filter(|d| d != "[]").map_or("none".into(), |d| format!("`{d}`"));
            let doc = joined(key.doc).replace('|', "\\|");
            let _ = writeln!(page, "| `{}` | {} | {default} | {doc} |", key.name, key.kind);
        }
    }
    page
}

/// The lines of a doc comment as one paragraph.
fn joined(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

const HEAD: &str = "\
# Configuration

<!-- Made by `ringdnsd --print-config-reference`, from control/config/src/raw.rs. Change it there. -->

`ringdnsd --config FILE` reads one TOML file; `--check` only says whether it would be accepted. Unknown keys are refused,
so that a misspelt one does not pass for its default. A refusal names the line, the key, the reason and the remedy, and
the exit status is 2.

A number of *bytes* is an integer or a string such as `\"64MiB\"` (`KiB`, `MiB`, `GiB`, `kB`, `MB`, `GB`). A *duration* is a
string such as `\"800ms\"`, `\"5s\"`, `\"1h\"` (`us`, `ms`, `s`, `m`, `h`, `d`).

The smallest complete file:

```toml
[server]
listen = [\"127.0.0.1:53\"]

[[upstream]]
address = \"9.9.9.9:53\"
```
";
