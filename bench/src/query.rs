//! Queries on the wire: one template, filled in for each question.

use crate::question::{CLASS_IN, HEADER, QUESTION_MAX, wire_name};
use anyhow::{Result, ensure};
use rand::RngCore;

const RD: u16 = 0x0100;
const AD: u16 = 0x0020;
const CD: u16 = 0x0010;

/// What queries look like besides their question.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// Send EDNS, and say that answers of this size are taken.
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "1232")]
    pub edns: Option<u16>,
    /// Ask for DNSSEC records (DO); implies EDNS.
    #[arg(long = "do")]
    pub dnssec_ok: bool,
    /// Send a client cookie (RFC 7873), as dig does; implies EDNS.
    #[arg(long)]
    pub cookie: bool,
    /// Set CD: ask for unvalidated data.
    #[arg(long)]
    pub cd: bool,
    /// Set AD: ask to be told whether data is authentic.
    #[arg(long)]
    pub ad: bool,
    /// Clear RD.
    #[arg(long)]
    pub no_recurse: bool,
    /// Spell names in random case, and expect them back in the same (the "0x20" bits).
    #[arg(long)]
    pub mixed_case: bool,
    /// Random names are made under this suffix.
    #[arg(long, value_name = "SUFFIX", default_value = "random.example")]
    pub random_suffix: String,
}

/// Longest query: header, question, and an OPT record with a cookie.
pub const QUERY_MAX: usize = HEADER + QUESTION_MAX + 23;

/// Makes queries.
#[derive(Clone, Debug)]
pub struct Template {
    flags: u16,
    opt: Vec<u8>,
    mixed_case: bool,
    /// The question of a random name, its first label yet to be filled in.
    random: Vec<u8>,
}

/// Length of the first label of random names: 64 bits, five a character, behind a letter.
const RANDOM_LABEL: usize = 14;

impl Template {
    /// Queries as `args` say; random names are asked for `qtype`.
    pub fn new(args: &QueryArgs, qtype: u16) -> Result<Self> {
        let bit = |set: bool, bit: u16| if set { bit } else { 0 };
        let mut random = vec![RANDOM_LABEL as u8; 1 + RANDOM_LABEL];
        random.extend(wire_name(&args.random_suffix)?);
        ensure!(random.len() <= 255, "--random-suffix \"{}\" leaves no room for a label", args.random_suffix);
        random.extend(qtype.to_be_bytes());
        random.extend(CLASS_IN.to_be_bytes());
        Ok(Template {
            flags: bit(!args.no_recurse, RD) | bit(args.ad, AD) | bit(args.cd, CD),
            opt: opt(args),
            mixed_case: args.mixed_case,
            random,
        })
    }

    /// Writes a query and returns its length. `spelling` decides the letters' case, if that is mixed.
    #[inline]
    pub fn write(&self, message: &mut [u8], id: u16, question: &[u8], spelling: u64) -> usize {
        let [id1, id0] = id.to_be_bytes();
        let [flags1, flags0] = self.flags.to_be_bytes();
        let additional = u8::from(!self.opt.is_empty());
        message[..HEADER].copy_from_slice(&[id1, id0, flags1, flags0, 0, 1, 0, 0, 0, 0, 0, additional]);
        let end = HEADER + question.len();
        message[HEADER..end].copy_from_slice(question);
        self.spell(&mut message[HEADER..end], spelling);
        message[end..end + self.opt.len()].copy_from_slice(&self.opt);
        end + self.opt.len()
    }

    /// Changes the letters of a question as [`write`](Self::write) does.
    #[inline]
    pub fn spell(&self, question: &mut [u8], spelling: u64) {
        if self.mixed_case {
            let name = question.len() - 4;
            for (i, byte) in question[..name].iter_mut().enumerate() {
                // Lengths of labels are below the letters, so they stay.
                if byte.is_ascii_alphabetic() && spelling >> (i % 64) & 1 == 1 {
                    *byte ^= 0x20;
                }
            }
        }
    }

    /// Writes the question of the random name number `number`, and returns its length.
    #[inline]
    pub fn random_question(&self, number: u64, question: &mut [u8; QUESTION_MAX]) -> usize {
        const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        let question = &mut question[..self.random.len()];
        question.copy_from_slice(&self.random);
        question[1] = b'r';
        for (i, byte) in question[2..1 + RANDOM_LABEL].iter_mut().enumerate() {
            *byte = DIGITS[(number >> (5 * i) & 31) as usize];
        }
        question.len()
    }

    /// The suffix of random names in wire form.
    pub fn random_suffix(&self) -> &[u8] {
        &self.random[1 + RANDOM_LABEL..self.random.len() - 4]
    }

    /// What follows the question: an OPT record, or nothing.
    pub fn opt(&self) -> &[u8] {
        &self.opt
    }

    /// The header's flags.
    pub fn flags(&self) -> u16 {
        self.flags
    }
}

fn opt(args: &QueryArgs) -> Vec<u8> {
    if args.edns.is_none() && !args.dnssec_ok && !args.cookie {
        return Vec::new();
    }
    let [size1, size0] = args.edns.unwrap_or(1232).to_be_bytes();
    let dnssec_ok = if args.dnssec_ok { 0x80 } else { 0 };
    let mut opt = vec![0, 0, 41, size1, size0, 0, 0, dnssec_ok, 0, 0, 0];
    if args.cookie {
        let mut cookie = [0, 10, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        rand::rng().fill_bytes(&mut cookie[4..]);
        opt[10] = cookie.len() as u8;
        opt.extend(cookie);
    }
    opt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::question::wire_question;
    use hickory_proto::op::Message;

    fn template(arguments: &[&str]) -> Template {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            query: QueryArgs,
        }
        let cli: Cli = clap::Parser::parse_from([&["test"], arguments].concat());
        Template::new(&cli.query, 1).unwrap()
    }

    fn parse(template: &Template, question: &[u8], spelling: u64) -> Message {
        let mut message = [0; QUERY_MAX];
        let len = template.write(&mut message, 7, question, spelling);
        Message::from_vec(&message[..len]).unwrap()
    }

    #[test]
    fn queries_are_what_was_ordered() {
        let question = wire_question("example.com", 28).unwrap();
        let plain = parse(&template(&[]), &question, 0);
        assert!(
            plain.metadata.recursion_desired && !plain.metadata.checking_disabled && plain.edns.is_none()
        );
        assert_eq!(plain.queries[0].to_string(), "example.com. IN AAAA");
        let full =
            parse(&template(&["--edns=4096", "--do", "--cookie", "--cd", "--no-recurse"]), &question, 0);
        assert!(!full.metadata.recursion_desired && full.metadata.checking_disabled);
        let edns = full.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.flags().dnssec_ok), (4096, true));
        assert_eq!(edns.options().as_ref().len(), 1);
    }

    #[test]
    fn mixed_case_changes_letters_only() {
        let question = wire_question("ab-1.test", 1).unwrap();
        let mixed = parse(&template(&["--mixed-case"]), &question, 0b10);
        assert_eq!(mixed.queries[0].name().to_ascii(), "Ab-1.test.");
        let mixed = parse(&template(&["--mixed-case"]), &question, u64::MAX);
        assert_eq!(mixed.queries[0].name().to_ascii(), "AB-1.TEST.");
    }

    #[test]
    fn random_names_differ_and_stand_under_the_suffix() {
        let template = template(&["--random-suffix=nx.test"]);
        let name = |number| {
            let mut question = [0; QUESTION_MAX];
            let len = template.random_question(number, &mut question);
            parse(&template, &question[..len], 0).queries[0].name().to_ascii()
        };
        assert_eq!(name(1), "rbaaaaaaaaaaaa.nx.test.");
        assert_ne!(name(u64::MAX), name(u64::MAX >> 1));
    }
}
