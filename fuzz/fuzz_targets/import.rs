//! Arbitrary text as another server's configuration: it is refused with a reason, or becomes a
//! configuration that ringdns accepts, and what is reported or is no YAML has a line of the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_config::Config;
use ringdns_import::{Format, ImportError, import};
use std::path::Path;

const FORMATS: [Format; 5] =
    [Format::Unbound, Format::Dnsmasq, Format::AdGuardHome, Format::Blocky, Format::Dnsdist];

fuzz_target!(|input: (u8, &str)| {
    let (choice, text) = input;
    let lines = text.split('\n').count();
    match import(FORMATS[usize::from(choice) % FORMATS.len()], text, "name") {
        Ok(imported) => {
            if let Err(refusal) = Config::parse(&imported.toml, Path::new("name")) {
                panic!("{refusal}\n{}", imported.toml);
            }
            for unmapped in imported.unmapped {
                assert!((1..=lines).contains(&unmapped.line), "{unmapped:?}");
                assert!(!unmapped.reason.is_empty(), "{unmapped:?}");
            }
        }
        Err(ImportError::Yaml { line, .. }) => assert!((1..=lines).contains(&line), "{line}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
