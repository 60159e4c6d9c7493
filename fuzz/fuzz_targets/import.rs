//! Arbitrary text as another server's configuration: it is refused with a reason, or becomes a
//! configuration that ringdns accepts, and what is reported has a line of the text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_config::Config;
use ringdns_import::{Format, import};
use std::path::Path;

const FORMATS: [Format; 5] =
    [Format::Unbound, Format::Dnsmasq, Format::AdGuardHome, Format::Blocky, Format::Dnsdist];

fuzz_target!(|input: (u8, &str)| {
    let (choice, text) = input;
    match import(FORMATS[usize::from(choice) % FORMATS.len()], text, "name") {
        Ok(imported) => {
            if let Err(refusal) = Config::parse(&imported.toml, Path::new("name")) {
                panic!("{refusal}\n{}", imported.toml);
            }
            let lines = text.split('\n').count();
            for unmapped in imported.unmapped {
                assert!((1..=lines).contains(&unmapped.line), "{unmapped:?}");
                assert!(!unmapped.reason.is_empty(), "{unmapped:?}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
