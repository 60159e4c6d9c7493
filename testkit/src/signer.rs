//! Signs zones with the tools of BIND.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::Zone;

/// Zone with its signatures, and the records of it for its parent and for validators.
pub struct Signed {
    pub zone: Zone,
    /// DS records for the parent, one per line.
    pub ds: String,
    /// DNSKEY records of the key-signing key, one per line: a trust anchor.
    pub anchor: String,
}

/// Signs a zone with new keys. `options` are those of `dnssec-signzone`, such as `-3 -` for NSEC3,
/// or `-s` and `-e` for the validity period of the signatures.
#[track_caller]
pub fn sign(zone: &Zone, options: &[&str]) -> Signed {
    let signed = || {
        let folder = tempfile::Builder::new().prefix("ringdns-signer-").tempdir()?;
        for key in [&["-f", "KSK"][..], &[]] {
            run(
                &folder,
                "dnssec-keygen",
                &[&["-q", "-a", "ECDSAP256SHA256"], key, &[zone.origin()]].concat(),
            )?;
        }
        fs::write(folder.path().join("zone"), zone.text())?;
        let from = ["-q", "-P", "-S", "-o", zone.origin(), "-f", "signed"];
        run(&folder, "dnssec-signzone", &[&from, options, &["zone"]].concat())?;
        let ds = fs::read_to_string(folder.path().join(format!("dsset-{}", zone.origin())))?;
        let anchor = keys(folder.path())?.into_iter().find(|key| key.contains(" DNSKEY 257 "));
        let text = fs::read_to_string(folder.path().join("signed"))?;
        let anchor = anchor.ok_or_else(|| io::Error::other("dnssec-keygen made no key with flag SEP"))?;
        io::Result::Ok(Signed { zone: Zone::written(zone.origin(), text), ds, anchor })
    };
    match signed() {
        Ok(signed) => signed,
        Err(error) => panic!("signing {}: {error}; deploy/setup.sh installs what tests need", zone.origin()),
    }
}

/// Returns the records in all key files.
fn keys(folder: &Path) -> io::Result<Vec<String>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            let text = fs::read_to_string(path)?;
            keys.extend(text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned));
        }
    }
    Ok(keys)
}

/// Keys of a zone in a folder of their own, for tests that change keys: they say which keys are in
/// the zone and which ones sign it.
pub struct KeyRing {
    origin: String,
    folder: TempDir,
    zone_key: String,
}

/// Key-signing key of a [`KeyRing`]: the name of its files.
#[derive(Clone, Debug)]
pub struct KeySigningKey(String);

impl KeySigningKey {
    /// Returns the key tag.
    #[track_caller]
    pub fn tag(&self) -> u16 {
        match self.0.rsplit_once('+').and_then(|(_, tag)| tag.parse().ok()) {
            Some(tag) => tag,
            None => panic!("{}: not the name of a key's files", self.0),
        }
    }
}

impl KeyRing {
    /// Makes a ring with the key that signs all records of the zone but its keys.
    #[track_caller]
    pub fn new(origin: &str) -> Self {
        let made = || {
            let folder = tempfile::Builder::new().prefix("ringdns-keys-").tempdir()?;
            let zone_key = run(&folder, "dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", origin])?;
            io::Result::Ok(Self { origin: origin.to_owned(), folder, zone_key })
        };
        done(origin, made())
    }

    /// Makes a key-signing key.
    #[track_caller]
    pub fn key_signing(&self) -> KeySigningKey {
        let arguments = ["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", &self.origin];
        KeySigningKey(done(&self.origin, run(&self.folder, "dnssec-keygen", &arguments)))
    }

    /// Returns the same key with the REVOKE bit (RFC 5011 section 2.1).
    #[track_caller]
    pub fn revoked(&self, key: &KeySigningKey) -> KeySigningKey {
        KeySigningKey(done(&self.origin, run(&self.folder, "dnssec-revoke", &[&key.0])))
    }

    /// Returns the DNSKEY record of a key.
    #[track_caller]
    pub fn record(&self, key: &KeySigningKey) -> String {
        done(&self.origin, self.read(&key.0))
    }

    /// Returns `zone` with the keys `published` and signed keys, whose set `signers` have signed.
    /// `options` are those of `dnssec-signzone`, with the validity period of the signatures.
    #[track_caller]
    pub fn sign(
        &self,
        zone: &Zone,
        published: &[&KeySigningKey],
        signers: &[&KeySigningKey],
        options: &[&str],
    ) -> Zone {
        let signed = || {
            let mut text = zone.text().to_owned();
            for name in published.iter().map(|key| &key.0).chain([&self.zone_key]) {
                text += &(self.read(name)? + "\n");
            }
            fs::write(self.folder.path().join("zone"), text)?;
            let mut arguments = vec!["-q", "-P", "-x", "-o", &self.origin, "-f", "signed"];
            arguments.extend(options);
            arguments.extend(signers.iter().flat_map(|key| ["-k", &key.0]));
            run(&self.folder, "dnssec-signzone", &[&arguments[..], &["zone", &self.zone_key]].concat())?;
            fs::read_to_string(self.folder.path().join("signed"))
        };
        Zone::written(&self.origin, done(&self.origin, signed()))
    }

    fn read(&self, name: &str) -> io::Result<String> {
        let text = fs::read_to_string(self.folder.path().join(format!("{name}.key")))?;
        let record = text.lines().find(|line| !line.starts_with(';')).map(str::to_owned);
        record.ok_or_else(|| io::Error::other(format!("{name}.key has no record")))
    }
}

#[track_caller]
fn done<T>(origin: &str, outcome: io::Result<T>) -> T {
    match outcome {
        Ok(outcome) => outcome,
        Err(error) => panic!("keys of {origin}: {error}; deploy/setup.sh installs what tests need"),
    }
}

/// Runs a program to its end, and returns the first line of its output.
fn run(folder: &TempDir, program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(arguments).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned());
    }
    Err(io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))))
}
