//! Secrets in files that the configuration names.

use crate::Problem;
use ringdns_dataplane::dns::cookie::Secret;
use std::path::Path;

/// Reads the secret, and an optional second one, from the file that the configuration names under
/// `key`.
pub fn secrets_of(key: &str, path: &Path) -> Result<(Secret, Option<Secret>), Problem> {
    let problem = |reason: String| {
        let remedy =
            "Write one there with `openssl rand -hex 16`, readable by ringdnsd alone, or remove the key";
        Problem::new(key, format!("{}: {reason}", path.display()), remedy)
    };
    let [secret, other] = secrets(path).map_err(problem)?;
    let secret = secret.ok_or_else(|| problem("there is no secret in it".into()))?;
    Ok((secret, other))
}

/// Reads at most two secrets from a file. Errors do not repeat the file's text.
fn secrets(path: &Path) -> Result<[Option<Secret>; 2], String> {
    let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let mut secrets = [None; 2];
    for (at, line) in text.lines().map(str::trim).filter(|line| !line.is_empty()).enumerate() {
        let Some(slot) = secrets.get_mut(at) else {
            return Err("there are more than two secrets in it".into());
        };
        let secret = secret(line).ok_or_else(|| format!("secret {} is not 32 hexadecimal digits", at + 1))?;
        *slot = Some(secret);
    }
    Ok(secrets)
}

fn secret(digits: &str) -> Option<Secret> {
    let plain = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    plain.then(|| u128::from_str_radix(digits, 16).ok()).flatten().map(u128::to_be_bytes)
}
