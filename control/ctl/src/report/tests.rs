//! Secrets, names and addresses do not get into an archive.

use super::*;
use flate2::read::GzDecoder;
use std::io::Read;

const CONFIG: &str = r#"
[server]
listen = ["192.0.2.53:53"]
[[upstream]]
address = "192.0.2.1"
[access]
allow = ["198.51.100.0/24"]
[[client_group]]
name = "kids"
clients = ["198.51.100.7"]
[[local_record]]
name = "printer.home.example"
type = "A"
data = "198.51.100.9"
[query_log]
exclude_clients = ["198.51.100.8"]
exclude_names = ["private.example"]
[redis]
url = "rediss://fleet:urlS3cret@192.0.2.9/0"
"#;

/// Returns the files of an archive as one text.
fn unpacked(archive: &[u8]) -> String {
    let mut text = String::new();
    for entry in tar::Archive::new(GzDecoder::new(archive)).entries().unwrap() {
        let mut entry = entry.unwrap();
        text += &format!("{}\n", entry.path().unwrap().display());
        entry.read_to_string(&mut text).unwrap();
    }
    text
}

#[test]
fn secrets_of_the_configuration_are_removed_from_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let [config, password, tsig] = ["ringdns.toml", "password", "tsig"].map(|name| folder.path().join(name));
    fs::write(&password, "clickS3cret\n").unwrap();
    fs::write(&tsig, "key \"k\" { algorithm hmac-sha256; secret \"dHNpZ1NlY3JldA==\"; };\n").unwrap();
    let text = format!(
        "{CONFIG}password_file = {password:?}\n[[blocklist]]\nname = \"zone\"\nsource = \"axfr://192.0.2.2/rpz.example\"\n\
         tsig_name = \"k\"\ntsig_file = {tsig:?}\npassword = \"inl1neS3cret\"\n"
    )
    .replace("fleet:urlS3cret@", "fleet@");
    fs::write(&config, &text).unwrap();
    let mut secrets = Secrets::default();
    secrets.add_file(&config);
    let said = "a=clickS3cret b=dHNpZ1NlY3JldA== c=inl1neS3cret hmac-sha256 algorithm";
    let removed = secrets.remove(said);
    assert_eq!(removed, "a=[secret] b=[secret] c=[secret] hmac-sha256 algorithm");
    fs::write(&config, CONFIG).unwrap();
    secrets.add_file(&config);
    assert_eq!(secrets.remove("rediss://fleet:urlS3cret@host"), "rediss://[secret]@host");
    assert_eq!(secrets.remove("AUTH fleet urlS3cret"), "AUTH fleet [secret]");
    let mut contents = Contents::default();
    contents.add("stats.json", said);
    let mut archived = Vec::new();
    archive(&contents, &secrets, 0, &mut archived).unwrap();
    let text = unpacked(&archived);
    assert!(text.starts_with("ringdns-report/stats.json\na=[secret]"), "{text}");
}

#[test]
fn users_and_passwords_of_urls_are_removed_as_they_are_and_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("ringdns.toml");
    let urls = "a = \"https://t0ken%2Bone@lists.example/@everyone\"\nb = \"redis://ringdns:p%40ssw0rd@h\"\n\
                c = \"https://ringdns:hushhush@h/@a\"\n";
    fs::write(&config, urls).unwrap();
    let mut secrets = Secrets::default();
    secrets.add_file(&config);
    let removed = secrets.remove("t0ken%2Bone t0ken+one p%40ssw0rd p@ssw0rd ringdns ringdns:p@ssw0rd@h");
    assert_eq!(removed, "[secret] [secret] [secret] [secret] ringdns [secret]@h");
    assert_eq!(secrets.remove("lists.example everyone hushhush"), "lists.example everyone [secret]");
}

#[test]
fn a_configuration_is_without_clients() {
    let tables = settings::masked(&toml::from_str(CONFIG).unwrap());
    let text = toml::to_string(&redact::without_clients(&tables)).unwrap();
    for gone in ["198.51.100", "printer", "private", "urlS3cret"] {
        assert!(!text.contains(gone), "{gone} in {text}");
    }
    assert!(text.contains("kids") && text.contains("192.0.2.53:53") && text.contains("1 left out"), "{text}");
}

#[test]
fn a_log_is_without_names_and_addresses() {
    let log = "2026-11-30T01:02:03+0000 host ringdnsd[7]: ready listen=[192.0.2.53:53] version=0.1.0\n\
               WARN ringdns_resolver::flood: zone victim.example. is capped: client=2001:db8::7 \"printer\" www.a-b.example,x www.video.rs\n\
               INFO configuration /etc/ringdns/ringdns.toml read in 1.5 ms\n";
    let masked = anonymous(log);
    for gone in ["victim", "2001:db8", "printer", "a-b", "video", "192.0.2.53"] {
        assert!(!masked.contains(gone), "{gone} in {masked}");
    }
    for kept in [
        "version=0.1.0",
        "ringdns_resolver::flood",
        "/etc/ringdns/ringdns.toml",
        "1.5 ms",
        "is capped",
        "[name],x",
    ] {
        assert!(masked.contains(kept), "no {kept} in {masked}");
    }
}
