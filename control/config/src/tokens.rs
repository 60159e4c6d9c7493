//! Tokens of the HTTP API, in the file of `control.tokens_file`: a line for each, `name role hash`.

use crate::Problem;
use ringdns_api::Role;
use std::{
    collections::HashSet,
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Most bytes of the file.
const FILE_MAX: u64 = 64 << 10;
/// Most bytes of a name.
const NAME_MAX: usize = 64;
/// Key of the file.
const KEY: &str = "control.tokens_file";

/// Token that a client may present over TCP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Name, which the audit log shows.
    pub name: String,
    /// Requests that it is good for.
    pub role: Role,
    /// SHA-256 of the token.
    pub hash: [u8; 32],
}

/// Reads the tokens of a file.
pub fn read(path: &Path) -> Result<Vec<Token>, Problem> {
    let problem = |reason: String| {
        let remedy =
            "Write lines there as `ringctl token new` prints them: name, role (read or operate), SHA-256";
        Problem::new(KEY, format!("{}: {reason}", path.display()), remedy)
    };
    let text = text(path).map_err(|error| problem(error.to_string()))?;
    parse(&text).map_err(problem)
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_MAX {
        return Err(io::Error::other(format!("it is larger than {} KiB", FILE_MAX >> 10)));
    }
    Ok(text)
}

/// Parses the text of the file. Errors do not repeat it: somebody may have written the token itself.
pub fn parse(text: &str) -> Result<Vec<Token>, String> {
    let mut names = HashSet::new();
    let mut tokens = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).map_err(|reason| format!("line {number}: {reason}"))?;
        if !names.insert(token.name.clone()) {
            return Err(format!("line {number}: an earlier line has this name"));
        }
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err("there is no token in it".into());
    }
    Ok(tokens)
}

fn token(line: &str) -> Result<Token, &'static str> {
    let mut words = line.split_ascii_whitespace();
    let (Some(name), Some(role), Some(hash), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return Err("it has not three words");
    };
    if !is_token_name(name) {
        return Err(
            "the name has other characters than letters, digits, '.', '-', '_' and '@', or more than 64",
        );
    }
    let role = match role {
        "read" => Role::Read,
        "operate" => Role::Operate,
        _ => return Err("the role is neither \"read\" nor \"operate\""),
    };
    let hash = digest(hash).ok_or("the hash is not 64 hexadecimal digits")?;
    Ok(Token { name: name.to_owned(), role, hash })
}

/// Whether a token may have this name.
pub fn is_token_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'@');
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(is_plain)
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut hash = [0; 32];
    if digits.len() != 2 * hash.len() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in hash.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_token() {
        let hash = "ab".repeat(32);
        let tokens =
            parse(&format!("# who\n\ngrafana read {hash}\n ops@lab  operate\t{}\n", "0F".repeat(32)));
        let [grafana, ops] = &tokens.unwrap()[..] else { panic!() };
        let expected = Token { name: "grafana".into(), role: Role::Read, hash: [0xab; 32] };
        assert_eq!(*grafana, expected);
        assert_eq!((&*ops.name, ops.role, ops.hash), ("ops@lab", Role::Operate, [0x0f; 32]));
    }

    #[test]
    fn wrong_lines_are_refused_without_their_text() {
        let hash = "ab".repeat(32);
        for (text, reason) in [
            ("", "no token"),
            ("# only this", "no token"),
            ("secret", "line 1: it has not three words"),
            (&format!("a read {hash} b"), "three words"),
            (&format!("\na/b read {hash}"), "line 2: the name"),
            (&format!("{} read {hash}", "n".repeat(65)), "the name"),
            (&format!("a admin {hash}"), "neither"),
            ("a read secret", "64 hexadecimal"),
            (&format!("a read {}é", "a".repeat(62)), "64 hexadecimal"),
            (&format!("a read {hash}\na operate {hash}"), "line 2: an earlier line"),
        ] {
            let told = parse(text).unwrap_err();
            assert!(told.contains(reason) && !told.contains("secret"), "{text:?}: {told}");
        }
        let problem = read(Path::new("no/such/file")).unwrap_err();
        assert!(problem.to_string().contains("no/such/file"), "{problem}");
    }
}
