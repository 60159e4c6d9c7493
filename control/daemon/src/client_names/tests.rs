//! Tests of names of clients from files.

use super::*;
use std::{fs, path::Path};

/// Files with names, and the names of clients in them.
struct Scene {
    folder: tempfile::TempDir,
    names: Arc<ClientNames>,
}

impl Scene {
    fn set(hosts: &str, leases: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("hosts"), hosts).unwrap();
        fs::write(folder.path().join("leases"), leases).unwrap();
        let config = config(folder.path(), "enabled = true");
        Scene { names: ClientNames::new(&config, Clock::start()).unwrap(), folder }
    }

    /// Changes a file, and looks at the files as is done every two seconds.
    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        // Another file, so that it differs even within the resolution of times.
        let (path, part) = (self.folder.path().join(file), self.folder.path().join("part"));
        fs::write(&part, text).unwrap();
        fs::rename(part, path).unwrap();
        self.names.refresh();
    }

    fn of(&self, client: &str) -> String {
        let client = match client.parse().unwrap() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        self.names.name_of(client).map_or_else(String::new, |name| name.to_string())
    }
}

fn config(folder: &Path, log: &str) -> Config {
    let leases = folder.join("leases");
    config_with(folder, log, &format!("hosts_files = true\nlease_files = [{leases:?}]"))
}

fn config_with(folder: &Path, log: &str, names: &str) -> Config {
    let hosts = folder.join("hosts");
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:53\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n\
         [local]\nhosts_files = [{hosts:?}]\n[client_names]\n{names}\n[query_log]\n{log}\n"
    );
    Config::parse(&text, Path::new("test")).unwrap()
}

#[test]
fn another_configuration_names_clients_at_once() {
    let scene = Scene::set("192.0.2.1 nas\n", "0 02:00:00:00:00:01 192.0.2.2 laptop *\n");
    let set = |names: &str| scene.names.set(&config_with(scene.folder.path(), "enabled = true", names));
    let names = || ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|client| scene.of(client));
    assert_eq!(names(), ["nas", "laptop", ""]);
    let read = scene.names.counters.files_read.get();
    set("hosts_files = true");
    assert_eq!(names(), ["nas", "", ""]);
    assert_eq!(scene.names.counters.files_read.get(), read, "the file has not changed");
    let more = scene.folder.path().join("more");
    fs::write(&more, "0 02:00:00:00:00:01 192.0.2.3 phone *\n").unwrap();
    set(&format!("lease_files = [{more:?}]\nptr = true\nptr_clients = [\"192.0.2.1\"]"));
    assert_eq!(names(), ["", "", "phone"]);
    assert_eq!(scene.names.ptr.len(), 1, "its PTR record is looked up");
    set("");
    assert_eq!(names(), ["", "", ""]);
    assert_eq!(scene.names.ptr.len(), 0);
}

#[test]
fn files_name_clients_and_are_followed() {
    let scene = Scene::set("192.0.2.1 Nas.example nas\n", "0 02:00:00:00:00:01 192.0.2.1 other *\n");
    assert_eq!((scene.of("192.0.2.1"), scene.of("192.0.2.2")), ("nas.example".into(), String::new()));
    scene.write("leases", "0 02:00:00:00:00:01 192.0.2.2 laptop *\n0 7 2001:db8::7 laptop 00:01\n");
    assert_eq!([scene.of("192.0.2.2"), scene.of("2001:db8::7")], ["laptop", "laptop"]);
    scene.write("hosts", "192.0.2.2 desk\n");
    assert_eq!([scene.of("192.0.2.1"), scene.of("192.0.2.2")], ["", "desk"], "hosts files come first");
    assert_eq!(scene.names.gauges()[0].value, 2);
    let counters = &scene.names.counters;
    let before = counters.files_read.get();
    scene.names.refresh();
    assert_eq!(counters.files_read.get(), before, "a file that has not changed is not read");
}

#[test]
fn files_that_cannot_be_used_keep_their_names() {
    let scene = Scene::set("192.0.2.1 nas\n", "0 02:00:00:00:00:01 192.0.2.2 laptop *\n");
    let check = |scene: &Scene| assert_eq!([scene.of("192.0.2.1"), scene.of("192.0.2.2")], ["nas", "laptop"]);
    let counters = &scene.names.counters;
    for (nth, text) in [&b"<html>\n"[..], &[0; 100_000], b"\xff\xff\xff"].into_iter().enumerate() {
        scene.write("hosts", text);
        scene.write("leases", text);
        check(&scene);
        assert_eq!(counters.files_refused.get(), 2 * (nth as u64 + 1));
    }
    fs::remove_file(scene.folder.path().join("leases")).unwrap();
    scene.names.refresh();
    check(&scene);
    scene.write("leases", "0 02:00:00:00:00:01 192.0.2.2 laptop *\n0 x y z w\n");
    check(&scene);
    assert_eq!(counters.lines_skipped.get(), 1);
}

#[test]
fn without_a_log_of_addresses_nobody_needs_names() {
    let folder = tempfile::tempdir().unwrap();
    assert!(ClientNames::new(&config(folder.path(), "enabled = false"), Clock::start()).is_none());
    let hidden = config_with(folder.path(), "enabled = true\nprivacy = \"truncate\"", "");
    assert!(ClientNames::new(&hidden, Clock::start()).is_none());
    // Files that are not there yet are no reason not to start.
    assert!(ClientNames::new(&config(folder.path(), "enabled = true"), Clock::start()).is_some());
}
