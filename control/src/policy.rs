//! What the data plane measures queries by, out of the configuration and the files that it names.

use crate::config::{self, Config, Problem};
use ringdns_dataplane::{
    dns::cookie::{Cookies, Secret},
    policy::Policy,
};
use std::path::Path;

/// The policy that `config` describes.
pub fn policy(config: &Config) -> Result<Policy, Problem> {
    Ok(Policy { cookies: cookies(&config.cookies)?, require_cookies: config.cookies.require_over_udp })
}

fn cookies(config: &config::Cookies) -> Result<Option<Cookies>, Problem> {
    if !config.enabled {
        return Ok(None);
    }
    let Some(path) = &config.secret_file else { return Ok(Some(Cookies::new(rand::random(), None))) };
    let problem = |reason: String| {
        let remedy =
            "Write one there with `openssl rand -hex 16`, readable by ringdnsd alone, or remove the key";
        Problem::new("cookies.secret_file", format!("{}: {reason}", path.display()), remedy)
    };
    let [secret, other] = secrets(path).map_err(problem)?;
    let Some(secret) = secret else { return Err(problem("there is no secret in it".into())) };
    Ok(Some(Cookies::new(secret, other)))
}

/// The secrets in a file, at most two. What is wrong is told without what is written there.
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

#[cfg(test)]
mod tests {
    use super::*;
    use ringdns_dataplane::dns::cookie::Cookie;
    use std::{io::Write, net::Ipv4Addr};

    fn made_from(text: &str) -> Result<Option<Cookies>, Problem> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        let secret_file = Some(file.path().to_owned());
        cookies(&config::Cookies { enabled: true, secret_file, require_over_udp: false })
    }

    #[test]
    fn the_secrets_are_those_in_the_file() {
        let server = "010000005cf79f111f8130c3eee29480";
        let cookie = Cookie {
            client: 0x2464_c4ab_cf10_c957_u64.to_be_bytes(),
            server: u128::from_str_radix(server, 16).ok().map(u128::to_be_bytes),
        };
        // RFC 9018 appendix A.1.
        let good = |text: &str| {
            let client = Ipv4Addr::new(198, 51, 100, 100).into();
            made_from(text).unwrap().unwrap().answer(&cookie, client, 1_559_731_985).1
        };
        let (ours, other) = ("e5e973e5a6b2a43f48e7dc849e37bfcf", "00000000000000000000000000000000");
        assert!(good(ours) && good(&format!("{}\r\n", ours.to_uppercase())));
        assert!(good(&format!("{ours}\n{other}\n")) && good(&format!("{other}\n\n {ours}")));
        assert!(!good(other));
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let secret = "e5e973e5a6b2a43f48e7dc849e37bfcf";
        for (text, reason) in [
            ("", "no secret"),
            ("e5e9", "secret 1"),
            (&format!("{secret}\n{secret}0"), "secret 2"),
            (&format!("+{}", &secret[1..]), "secret 1"),
            (&[secret; 3].join("\n"), "more than two"),
        ] {
            let problem = made_from(text).unwrap_err();
            assert_eq!(problem.key, "cookies.secret_file");
            assert!(problem.reason.contains(reason) && !problem.reason.contains("e5e9"), "{problem}");
        }
        let missing = config::Cookies {
            enabled: true,
            secret_file: Some("no/such/file".into()),
            require_over_udp: false,
        };
        assert!(cookies(&missing).unwrap_err().reason.contains("no/such/file"));
        assert!(cookies(&config::Cookies { enabled: false, ..missing }).unwrap().is_none());
    }
}
