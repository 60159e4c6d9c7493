//! Tests of whole files.

use crate::{
    Transport,
    testing::{MINIMAL, parse, project_file, refused},
};
use std::{path::Path, time::Duration};

#[test]
fn the_smallest_file_is_complete() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:5300".parse().unwrap()]);
    assert_eq!((config.server.udp_limit, config.server.fallback), (1232, true));
    assert_eq!(config.upstreams[0].transport, Transport::Udp);
    assert_eq!(config.upstreams[0].timeout, Duration::from_millis(800));
    assert_eq!((config.cache.stale_ttl, config.cache.failure_ttl), (30, 5));
    assert_eq!(config.control.socket, Path::new("/run/ringdns/control.sock"));
    assert_eq!(config.control.http, None);
}

#[test]
fn misspelt_names_and_wrong_syntax_are_refused() {
    refused(
        MINIMAL,
        &[
            ["lisen = []", "5", "upstream[0].lisen", "unknown key", "spelling"],
            ["[resdi]\nurl = \"redis://h\"", "5", "resdi", "unknown table", "Did you mean [redis]?"],
            ["[cache\n", "5", "", "table", "syntax"],
        ],
    );
    refused("", &[["[server", "1", "", "table", "syntax"]]);
}

#[test]
fn the_sample_is_accepted() {
    parse(&project_file("deploy/ringdns.toml")).unwrap();
}

/// Checks that the keys that the sample shows commented out are accepted, and show the defaults.
#[test]
fn the_samples_commented_keys_are_real_and_show_the_defaults() {
    let sample = project_file("deploy/ringdns.toml");
    let open: String =
        sample.lines().map(|l| l.strip_prefix("#:").unwrap_or(l).trim_start().to_owned() + "\n").collect();
    assert_ne!(open, sample);
    let (as_is, mut open) = (parse(&sample).unwrap(), parse(&open).unwrap());
    // That the file gives the sizes is the only difference.
    (open.cache.worker_given, open.cache.host_given) = (false, false);
    assert_eq!(format!("{:?}", as_is.cache), format!("{:?}", open.cache));
    assert_eq!(format!("{:?}", as_is.server), format!("{:?}", open.server));
    assert_eq!(format!("{:?}", as_is.tcp), format!("{:?}", open.tcp));
    assert_eq!(format!("{:?}", as_is.access), format!("{:?}", open.access));
    assert_eq!(format!("{:?}", as_is.cookies), format!("{:?}", open.cookies));
}
