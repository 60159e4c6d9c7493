//! Arbitrary text as a configuration: it is refused in one printable line that names a line of the
//! file, the reason and a remedy, or it is accepted, and then `--check` and everything that is made
//! of a configuration take it too, or refuse it as clearly.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringdns_common::printable::Printable;
use ringdns_config::{
    Config, ConfigError, Problem,
    error::{FilePlace, PlacedProblem},
};
use ringdns_daemon::{lists::Groups, policy, preflight, workers};
use ringdns_dataplane::clock::Clock;
use ringdns_resolver::{FlightLimits, Resolver, host::HostTier};
use std::{path::Path, sync::Arc};

/// Panics unless an operator can see what is wrong and what to do.
fn check_problem(problem: &Problem) {
    let Problem { reason, remedy, .. } = problem;
    assert!(!reason.is_empty() && !remedy.is_empty(), "{problem:?}");
    let shown = Printable(problem).to_string();
    assert!(!shown.contains(char::is_control), "{shown:?}");
}

fn check_refusal(text: &str, error: &ConfigError) {
    let ConfigError::Refused { problems, .. } = error else { panic!("nothing is read: {error}") };
    assert!(!problems.is_empty());
    for PlacedProblem { place, problem } in problems {
        check_problem(problem);
        let FilePlace(Some(place)) = place else { panic!("{problem} has no line") };
        assert!((1..=text.split('\n').count()).contains(&place.line), "{place:?}");
    }
}

/// Makes everything of an accepted configuration that needs no more than the configuration.
fn use_it(config: &mut Config) {
    assert!(!config.upstreams.is_empty() && !config.server.listen.is_empty());
    let problems = preflight::check(config);
    if !problems.is_empty() {
        return problems.iter().for_each(check_problem);
    }
    let policy = policy::policy(config, &Groups::of(&config.lists.groups).expect("they were checked"))
        .expect("it was checked");
    workers::settings(config, Arc::new(policy), config.cache.bytes_per_worker, false);
    let host = Arc::new(HostTier::new(1 << 16, Arc::default()));
    let resolver = Resolver::new(host, config, Clock::start(), FlightLimits::default(), None);
    assert_eq!(resolver.upstreams().iter().len(), config.upstreams.len());
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("ringdns.toml");
    match Config::parse(text, path) {
        Err(error) => check_refusal(text, &error),
        Ok(mut config) => {
            let again = Config::parse(text, path).expect("it was accepted");
            assert_eq!(format!("{config:?}"), format!("{again:?}"), "read in two ways");
            use_it(&mut config);
        }
    }
});
