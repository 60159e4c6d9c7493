//! Names to query.

use std::path::PathBuf;

use crate::sources::source;

/// Environment variable with the path of a list of names, most popular first, one per line.
const LIST: &str = "RINGDNS_NAMES";

/// Returns `count` different names, most popular first, without the final dot: from the list that
/// `RINGDNS_NAMES` names, else from `../shared/data/names/top-100k.txt` beside the repository.
/// Missing names are made up.
#[track_caller]
pub fn popular_names(count: usize) -> Vec<String> {
    let mut names = match list() {
        Some(path) => match std::fs::read_to_string(&path) {
            Ok(text) => text.lines().take(count).map(str::to_owned).collect(),
            Err(error) => panic!("{}: {error}", path.display()),
        },
        None => Vec::new(),
    };
    names.extend((names.len()..count).map(made_up_name));
    names
}

fn list() -> Option<PathBuf> {
    let beside = || source("../shared/data/names/top-100k.txt");
    match std::env::var_os(LIST) {
        Some(path) => Some(path.into()),
        None => Some(beside()).filter(|path| path.is_file()),
    }
}

/// Returns a made-up name of realistic length: a second-level domain of 3 to 16 letters.
fn made_up_name(number: usize) -> String {
    let length = 3 + number * 7 % 14;
    let word: String = "popularringdnscache".chars().cycle().skip(number % 19).take(length).collect();
    let top = ["com", "net", "org", "de", "info"][number % 5];
    format!("{word}-{number}.{top}")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_as_many_as_wanted_and_different() {
        let names = popular_names(100_500);
        let different: HashSet<_> = names.iter().collect();
        assert_eq!((names.len(), different.len()), (100_500, 100_500));
        assert!(names.iter().all(|name| name.len() < 254 && !name.ends_with('.')));
    }
}
