//! Signs zones with the tools of BIND.

use std::fs;
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
        let anchor =
            anchor.ok_or_else(|| std::io::Error::other("dnssec-keygen made no key with flag SEP"))?;
        std::io::Result::Ok(Signed { zone: Zone::written(zone.origin(), text), ds, anchor })
    };
    match signed() {
        Ok(signed) => signed,
        Err(error) => panic!("signing {}: {error}; deploy/setup.sh installs what tests need", zone.origin()),
    }
}

/// Returns the records in all key files.
fn keys(folder: &Path) -> std::io::Result<Vec<String>> {
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

fn run(folder: &TempDir, program: &str, arguments: &[&str]) -> std::io::Result<()> {
    let output = Command::new(program).args(arguments).current_dir(folder).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(std::io::Error::other(format!("{program}: {}", String::from_utf8_lossy(&output.stderr))))
}
