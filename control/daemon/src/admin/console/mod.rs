//! Files of the web console, which `control.http` serves to all: a page that uses the API with a token
//! that its user gives it. They are part of the program, and have no data.
//!
//! The names that the page shows are of clients, so it has no way to make text into markup: scripts
//! set text alone, and the policy that each file is sent with forbids scripts and addresses of others
//! (`docs/console.md`).

use axum::{
    http::{
        HeaderMap, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY,
        },
    },
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use data_encoding::BASE64URL_NOPAD;
use ring::digest::{SHA256, digest};
use std::future::ready;

/// Path of the page.
const ENTRANCE: &str = "/";
/// Content-Security-Policy of each file. No script can parse text into markup (`trusted-types`).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// File of the console.
pub(super) struct ConsoleFile {
    /// Path that it is served at.
    pub(super) path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! file {
    ($path:literal, $kind:expr, $name:literal) => {
        ConsoleFile { path: $path, kind: $kind, text: include_str!($name) }
    };
}

/// Files of the console.
pub(super) static FILES: [ConsoleFile; 13] = [
    file!("/", "text/html; charset=utf-8", "index.html"),
    file!("/console/console.css", "text/css; charset=utf-8", "console.css"),
    file!("/console/icon.svg", "image/svg+xml", "icon.svg"),
    file!("/console/main.mjs", SCRIPT, "main.mjs"),
    file!("/console/api.mjs", SCRIPT, "api.mjs"),
    file!("/console/page.mjs", SCRIPT, "page.mjs"),
    file!("/console/figures.mjs", SCRIPT, "figures.mjs"),
    file!("/console/charts.mjs", SCRIPT, "charts.mjs"),
    file!("/console/cards.mjs", SCRIPT, "cards.mjs"),
    file!("/console/overview.mjs", SCRIPT, "overview.mjs"),
    file!("/console/lists.mjs", SCRIPT, "lists.mjs"),
    file!("/console/explain.mjs", SCRIPT, "explain.mjs"),
    file!("/console/log.mjs", SCRIPT, "log.mjs"),
];

/// Whether a path is that of the page, which pages of other origins may link to.
pub(super) fn is_entrance(path: &str) -> bool {
    path == ENTRANCE
}

/// Returns the route of a file.
pub(super) fn route<S: Clone + Send + Sync + 'static>(file: &'static ConsoleFile) -> MethodRouter<S> {
    let tag = format!("\"{}\"", BASE64URL_NOPAD.encode(digest(&SHA256, file.text.as_bytes()).as_ref()));
    get(move |headers: HeaderMap| ready(answer(file, &tag, &headers)))
}

/// Answers with a file, or says that the browser has it already.
fn answer(file: &ConsoleFile, tag: &str, headers: &HeaderMap) -> Response {
    // The browser asks each time, so that a page never runs with scripts of another version.
    let fields = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_TYPE, file.kind),
        (ETAG, tag),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let known = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    match known.flat_map(|tags| tags.split(',')).any(|known| known.trim() == tag) {
        true => (StatusCode::NOT_MODIFIED, fields).into_response(),
        false => (fields, file.text).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Most bytes of all files.
    const BYTES_MAX: usize = 150_000;
    const LINES_MAX: usize = 500;

    #[test]
    fn the_console_is_small() {
        let bytes: usize = FILES.iter().map(|file| file.text.len()).sum();
        assert!(bytes < BYTES_MAX, "{bytes}");
        for file in &FILES {
            assert!(file.text.lines().count() < LINES_MAX, "{}", file.path);
        }
    }

    /// Addresses of others, and what could make text into markup or script. The only other address is
    /// the name of SVG.
    #[test]
    fn no_file_asks_others_or_parses_text() {
        for file in &FILES {
            let text = file.text.replace("http://www.w3.org/2000/svg", "");
            for forbidden in [
                "://",
                "url(",
                "@import",
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "DOMParser",
                "createContextualFragment",
                "eval(",
                "Function(",
                "srcdoc",
                "javascript:",
                "style=",
                "onclick=",
                "onload=",
                "onerror=",
                "onsubmit=",
                "<script>",
                "<style",
            ] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", file.path);
            }
        }
    }

    /// A script that is not served would not be found, and one that is not named in the page would be
    /// loaded late.
    #[test]
    fn each_script_is_served_and_named_in_the_page() {
        let page = FILES.iter().find(|file| is_entrance(file.path)).unwrap().text;
        for file in FILES.iter().filter(|file| !is_entrance(file.path)) {
            assert!(page.contains(&format!("\"{}\"", file.path)), "{}", file.path);
            for rest in file.text.split("from \"./").skip(1) {
                let path = format!("/console/{}", rest.split('"').next().unwrap_or_default());
                assert!(FILES.iter().any(|file| file.path == path), "{}: {path}", file.path);
            }
        }
    }
}
