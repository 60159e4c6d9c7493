//! Arbitrary bytes as a lease file: the names in it are names, their number has a bound, and no line is
//! skipped twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_policy::data::leases::{host, read};

/// Unix time at which files are read.
const NOW: u64 = 1_700_000_000;
/// Most names.
const MOST: usize = 8;

fuzz_target!(|bytes: &[u8]| {
    let Some(leases) = read(bytes, NOW, MOST) else { return };
    let lines = bytes.split(|byte| *byte == b'\n').count() as u64;
    assert!(leases.skipped <= lines && leases.names.len() <= MOST);
    for (address, name) in &leases.names {
        assert_eq!(host(name).as_deref(), Some(&**name), "the name is read in two ways");
        assert_eq!(address.to_canonical(), *address);
        assert!(name.bytes().all(|byte| byte.is_ascii_graphic()));
    }
});
