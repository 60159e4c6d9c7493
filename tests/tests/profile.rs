//! Tests of profiles of a running ringdnsd, read as pprof's tools read them.

use flate2::read::GzDecoder;
use prost::Message;
use ringdns_testkit::{Client, Host, Query, Ringdnsd, Settings, Upstream, free_address};
use std::{collections::HashMap, fs, io::Read, thread};

/// Fields of `profile.proto` that a reader needs to add up samples by function.
#[derive(Message)]
struct Profile {
    #[prost(message, repeated, tag = "1")]
    sample_type: Vec<ValueType>,
    #[prost(message, repeated, tag = "2")]
    sample: Vec<Sample>,
    #[prost(message, repeated, tag = "4")]
    location: Vec<Location>,
    #[prost(message, repeated, tag = "5")]
    function: Vec<Function>,
    #[prost(string, repeated, tag = "6")]
    string_table: Vec<String>,
}

#[derive(Message)]
struct ValueType {
    #[prost(int64, tag = "1")]
    r#type: i64,
    #[prost(int64, tag = "2")]
    unit: i64,
}

#[derive(Message)]
struct Sample {
    #[prost(uint64, repeated, tag = "1")]
    location_id: Vec<u64>,
    #[prost(int64, repeated, tag = "2")]
    value: Vec<i64>,
}

#[derive(Message)]
struct Location {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(message, repeated, tag = "4")]
    line: Vec<Line>,
}

#[derive(Message)]
struct Line {
    #[prost(uint64, tag = "1")]
    function_id: u64,
}

#[derive(Message)]
struct Function {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(int64, tag = "2")]
    name: i64,
}

impl Profile {
    fn read(path: &std::path::Path) -> Self {
        let mut bytes = Vec::new();
        GzDecoder::new(fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
        Profile::decode(&*bytes).unwrap()
    }

    fn text(&self, number: i64) -> &str {
        &self.string_table[number as usize]
    }

    /// Returns the type and unit of the samples.
    fn kind(&self) -> (&str, &str) {
        (self.text(self.sample_type[0].r#type), self.text(self.sample_type[0].unit))
    }

    /// Returns the sum of the samples with a function in their stack whose name contains `part`.
    fn below(&self, part: &str) -> i64 {
        let names: HashMap<_, _> =
            self.function.iter().map(|function| (function.id, self.text(function.name))).collect();
        let is_it =
            |location: &&Location| location.line.iter().any(|line| names[&line.function_id].contains(part));
        let those: Vec<_> = self.location.iter().filter(is_it).map(|location| location.id).collect();
        let samples =
            self.sample.iter().filter(|sample| sample.location_id.iter().any(|id| those.contains(id)));
        samples.map(|sample| sample.value[0]).sum()
    }
}

/// Part of function names in any build profile: in optimized builds, generic functions carry it in
/// their type arguments.
const OURS: &str = "ringdns_";
const WORKER: &str = "ringdns_dataplane::worker";

struct Scene {
    ringdnsd: Ringdnsd,
    client: Client,
    folder: tempfile::TempDir,
    _upstream: Upstream,
}

impl Scene {
    fn set() -> Self {
        let host = Host::local();
        let upstream = Upstream::answering(&host);
        let address = free_address(&host);
        Scene {
            ringdnsd: Ringdnsd::start(&host, &Settings::loopback(address, upstream.address())),
            client: Client::of(&host, address),
            folder: tempfile::tempdir().unwrap(),
            _upstream: upstream,
        }
    }

    fn take(&self, kind: &[&str], name: &str) -> Profile {
        let path = self.folder.path().join(name);
        self.ringdnsd.told(&[&["profile"], kind, &["--output", path.to_str().unwrap()]].concat());
        Profile::read(&path)
    }

    fn ask(&self, name: &str) {
        assert_eq!(self.client.ask(&Query::a(name)).rcode(), 0);
    }
}

#[test]
fn two_profiles_of_the_heap_show_what_has_grown() {
    let scene = Scene::set();
    scene.ask("first.example");
    // The first profile allocates memory for the names of functions.
    scene.take(&["heap"], "first.pprof");
    let before = scene.take(&["heap"], "before.pprof");
    assert_eq!(before.kind(), ("inuse_space", "bytes"));
    assert!(before.below("main") > 1 << 20, "the workers' caches at least");
    // Answers kept in the host tier: one sample stands for half a megabyte, so these give about a
    // dozen samples.
    (0..12_000).for_each(|i| scene.ask(&format!("a-name-that-takes-some-room-{i:0>20}.example")));
    let after = scene.take(&["heap"], "after.pprof");
    let grown = |part: &str| after.below(part) - before.below(part);
    assert!(grown(OURS) > 1 << 20, "answers that are kept: {} bytes", grown(OURS));
    assert!(grown(WORKER) < 2 << 20, "workers have all their memory from the start: {} bytes", grown(WORKER));
}

#[test]
fn a_profile_of_the_processor_shows_who_works() {
    let scene = Scene::set();
    scene.ask("www.example");
    let profile = thread::scope(|scope| {
        let taking = scope.spawn(|| scene.take(&["cpu", "--seconds=2"], "cpu.pprof"));
        while !taking.is_finished() {
            (0..100).for_each(|_| scene.ask("www.example"));
        }
        taking.join().unwrap()
    });
    assert_eq!(profile.kind(), ("cpu", "nanoseconds"));
    let (worker, sampler) = (profile.below("ringdns_dataplane::"), profile.below("perf_signal_handler"));
    assert!(worker > 20_000_000, "{worker} ns of the worker, of {} in all", profile.below(""));
    assert_eq!(sampler, 0, "the sampler must not be in the samples");
}
