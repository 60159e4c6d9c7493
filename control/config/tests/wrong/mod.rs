//! Wrong configurations, each with what is to be said of it: `wrong.txt`.

/// Start of each file, but of those whose title ends with "whole": four lines without a problem.
const HEAD: &str = "[server]\nlisten = [\"127.0.0.1:5300\"]\n[[upstream]]\naddress = \"192.0.2.1\"\n";

/// A wrong configuration.
#[derive(Debug)]
pub struct Wrong {
    /// Title.
    pub title: &'static str,
    /// Text of the file.
    pub text: String,
    /// Problems in the order of the file: the line, the start of the rest (the key), and parts of the
    /// message.
    pub problems: Vec<(usize, Vec<&'static str>)>,
}

impl Wrong {
    /// Checks that these lines, which name the file `path`, are the expected ones.
    #[track_caller]
    pub fn check(&self, path: &str, said: &[String]) {
        assert_eq!(said.len(), self.problems.len(), "{}: {said:#?}", self.title);
        for (said, (line, parts)) in said.iter().zip(&self.problems) {
            let rest = said.strip_prefix(path).and_then(|rest| rest.strip_prefix(&format!(":{line}:")));
            let rest = rest.and_then(|rest| rest.split_once(": ")).map(|(_, rest)| rest);
            let Some(rest) = rest else { panic!("{}: {said:?} does not name line {line}", self.title) };
            assert!(
                rest.starts_with(parts[0]),
                "{}: {said:?} does not begin with {:?}",
                self.title,
                parts[0]
            );
            for part in parts {
                assert!(rest.contains(part), "{}: no {part:?} in {said:?}", self.title);
            }
        }
    }
}

/// Returns all of them.
pub fn all() -> Vec<Wrong> {
    include_str!("wrong.txt").split("\n%% ").skip(1).map(wrong).collect()
}

fn wrong(block: &'static str) -> Wrong {
    let mut lines = block.lines();
    let title = lines.next().unwrap();
    let is_problem = |line: &&str| line.starts_with("%> ");
    let problems = block.lines().filter(is_problem).map(|line| {
        let mut parts = line[3..].split(" | ");
        let (line, key) = parts.next().unwrap().split_once(": ").unwrap();
        (line.parse().unwrap(), std::iter::once(key).chain(parts).collect())
    });
    let own: String = lines.filter(|line| !is_problem(line)).map(|line| format!("{line}\n")).collect();
    let head = if title.ends_with("whole") { "" } else { HEAD };
    Wrong { title, text: format!("{head}{own}"), problems: problems.collect() }
}
