//! Manual page of the configuration file, generated from the tables.

use crate::tables::RawConfig;
use roff::{Inline, Roff, bold, roman};

/// Returns the page `ringdns.toml(5)`.
pub fn page() -> String {
    let mut page = Roff::new();
    page.control("TH", ["ringdns.toml", "5", "", "ringdns", "ringdns"]);
    page.control("SH", ["NAME"]);
    page.text([roman("ringdns.toml - configuration of ringdnsd")]);
    page.control("SH", ["DESCRIPTION"]);
    for paragraph in HEAD {
        page.control("PP", []);
        page.text(inline(paragraph));
    }
    for table in RawConfig::tables() {
        page.control("SH", [table.header]);
        for paragraph in paragraphs(table.doc) {
            page.control("PP", []);
            page.text(inline(&paragraph));
        }
        for key in table.keys {
            page.control("TP", []);
            let default =
                key.default.filter(|default| default != "[]").map(|default| format!(" = {default}"));
            page.text([
                bold(key.name),
                bold(default.unwrap_or_default()),
                roman(format!("  ({})", key.kind)),
            ]);
            for (nth, paragraph) in paragraphs(key.doc).iter().enumerate() {
                if nth > 0 {
                    page.control("IP", []);
                }
                page.text(inline(paragraph));
            }
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold("ringdnsd"), roman("(8), "), bold("ringctl"), roman("(1)")]);
    page.render()
}

const HEAD: [&str; 3] = [
    "`ringdnsd` reads one TOML file: `/etc/ringdns/ringdns.toml`, or that of `--config`. `--check` only reports \
     whether it is valid. Unknown keys are refused, so that a misspelt key is not taken for its default. A \
     refusal names the line, the key, the reason and the remedy, and the exit status is 2. Each section below \
     is a table of the file. A key is shown with its default, if it has one.",
    "A number of bytes is an integer or a string such as \"64MiB\" (KiB, MiB, GiB, kB, MB, GB). A duration is a \
     string such as \"800ms\", \"5s\", \"1h\" (us, ms, s, m, h, d).",
    "The smallest complete file has `listen` in the table `[server]`, and `address` in a table `[[upstream]]`.",
];

/// Joins the lines of a doc comment; an empty line ends a paragraph.
fn paragraphs(lines: &[&str]) -> Vec<String> {
    let paragraphs = lines.split(|line| line.trim().is_empty());
    paragraphs.map(|lines| lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")).collect()
}

/// Returns Markdown text in bold where it is code, and without the targets of links.
fn inline(text: &str) -> Vec<Inline> {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        let parts = link.split_once("](").and_then(|(label, rest)| Some((label, rest.split_once(')')?.1)));
        plain.push_str(before);
        match parts.filter(|(label, _)| !label.contains(['[', '`'])) {
            Some((label, after)) => {
                plain.push_str(label);
                rest = after;
            }
            None => {
                plain.push('[');
                rest = link;
            }
        }
    }
    plain.push_str(rest);
    let parts = plain.split('`').enumerate();
    parts.map(|(nth, part)| if nth % 2 == 0 { roman(part) } else { bold(part) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_has_each_table_and_each_key_with_its_default() {
        let page = page();
        for table in RawConfig::tables() {
            let begins = |section: &&str| section.trim_start_matches('"').starts_with(table.header);
            let section = page.split("\n.SH ").find(begins);
            let section = section.unwrap_or_else(|| panic!("no section {}", table.header));
            for key in &table.keys {
                let shown = key.name.replace('-', "\\-");
                assert!(section.contains(&format!("\\fB{shown}\\fR")), "{} {}", table.header, key.name);
            }
        }
        assert!(!page.contains('`') && !page.contains("]("), "no Markdown is left");
    }

    #[test]
    fn code_is_bold_and_links_are_their_text() {
        let text = inline("see [the page](x.md), `[server]` and `a`");
        assert_eq!(text, [roman("see the page, "), bold("[server]"), roman(" and "), bold("a"), roman("")]);
    }
}
