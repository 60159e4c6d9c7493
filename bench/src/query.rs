//! Queries on the wire: one template, filled in for each question.

use crate::{
    mix::Types,
    question::{CLASS_IN, HEADER, QUESTION_MAX, wire_name},
    upstream::percent,
};
use anyhow::{Result, ensure};
use rand::RngCore;
use ringdns_testkit::scenario::{AD, CD, RD};

/// Properties of queries besides their question.
#[derive(Clone, Debug, clap::Args)]
pub struct QueryArgs {
    /// Send EDNS with this size for answers.
    #[arg(long, value_name = "BYTES", num_args = 0..=1, default_missing_value = "1232")]
    pub edns: Option<u16>,
    /// Share of the queries with EDNS, in percent, when --edns is given.
    #[arg(long, value_name = "PCT", default_value_t = 100.0, requires = "edns", value_parser = percent)]
    pub edns_share: f64,
    /// Ask for DNSSEC records (DO), in all queries or a share of them in percent; implies EDNS.
    #[arg(long = "do", value_name = "PCT", num_args = 0..=1, default_missing_value = "100", value_parser = percent)]
    pub dnssec_ok: Option<f64>,
    /// Send a client cookie (RFC 7873), as dig does, in all queries or a share of them in percent; implies EDNS.
    #[arg(long, value_name = "PCT", num_args = 0..=1, default_missing_value = "100", value_parser = percent)]
    pub cookie: Option<f64>,
    /// Set CD: ask for unvalidated data.
    #[arg(long)]
    pub cd: bool,
    /// Set AD: ask to be told whether data is authentic.
    #[arg(long)]
    pub ad: bool,
    /// Clear RD.
    #[arg(long)]
    pub no_recurse: bool,
    /// Spell names in random case, and expect the same case back (the "0x20" bits).
    #[arg(long)]
    pub mixed_case: bool,
    /// Suffix of random names.
    #[arg(long, value_name = "SUFFIX", default_value = "random.example")]
    pub random_suffix: String,
}

/// Length of the longest query, in bytes: header, question, and an OPT record with a cookie.
pub const QUERY_MAX: usize = HEADER + QUESTION_MAX + 23;

/// Template of queries.
#[derive(Clone, Debug)]
pub struct Template {
    flags: u16,
    options: Options,
    mixed_case: bool,
    /// Question of a random name; first label and type are filled in later.
    random: Vec<u8>,
    /// Types of random names, each in proportion to its weight.
    random_types: Vec<[u8; 2]>,
}

/// OPT records of queries, and the share of each.
#[derive(Clone, Debug)]
struct Options {
    /// Records by content: EDNS alone, DO, a cookie, both.
    records: [Vec<u8>; 4],
    /// Number of queries, out of 65,536, that have EDNS for its own sake, DO, and a cookie.
    shares: [u32; 3],
}

impl Options {
    fn new(args: &QueryArgs) -> Self {
        let share = |percent: f64| (percent * 655.36).round() as u32;
        let shares = [
            args.edns.map_or(0, |_| share(args.edns_share)),
            share(args.dnssec_ok.unwrap_or(0.0)),
            share(args.cookie.unwrap_or(0.0)),
        ];
        let size = args.edns.unwrap_or(1232);
        Options {
            records: [(false, false), (true, false), (false, true), (true, true)].map(|has| opt(size, has)),
            shares,
        }
    }

    /// Returns the bytes after the question in a query.
    #[inline]
    fn of(&self, drawn: u64) -> &[u8] {
        // Other bits than those that spell the name.
        let drawn = drawn.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let [edns, dnssec_ok, cookie] =
            [0, 1, 2].map(|nth| (drawn >> (16 + 16 * nth) & 0xffff) < u64::from(self.shares[nth]));
        if !edns && !dnssec_ok && !cookie {
            return &[];
        }
        &self.records[usize::from(dnssec_ok) + 2 * usize::from(cookie)]
    }
}

/// Length of the first label of random names: 64 bits, five a character, after a letter.
const RANDOM_LABEL: usize = 14;

/// Period of the types of random names: a prime, so that types do not correlate with a letter of
/// the label.
const TYPES: usize = 251;

impl Template {
    /// Returns a template as `args` say, with random names of type `qtype`.
    pub fn new(args: &QueryArgs, qtype: u16) -> Result<Self> {
        let bit = |set: bool, bit: u16| if set { bit } else { 0 };
        let mut random = vec![RANDOM_LABEL as u8; 1 + RANDOM_LABEL];
        random.extend(wire_name(&args.random_suffix)?);
        ensure!(random.len() <= 255, "--random-suffix \"{}\" leaves no room for a label", args.random_suffix);
        random.extend(qtype.to_be_bytes());
        random.extend(CLASS_IN.to_be_bytes());
        Ok(Template {
            flags: bit(!args.no_recurse, RD) | bit(args.ad, AD) | bit(args.cd, CD),
            options: Options::new(args),
            mixed_case: args.mixed_case,
            random,
            random_types: vec![qtype.to_be_bytes(); TYPES],
        })
    }

    /// Draws the types of random names in proportion to the weights of `types`.
    pub fn with_random_types(mut self, types: &Types) -> Self {
        self.random_types = types.spread(TYPES).map(u16::to_be_bytes).collect();
        self
    }

    /// Writes a query and returns its length. `spelling` selects the case of letters, if that is
    /// mixed, and the options, if not all queries have them.
    #[inline]
    pub fn write(&self, message: &mut [u8], id: u16, question: &[u8], spelling: u64) -> usize {
        let [id1, id0] = id.to_be_bytes();
        let [flags1, flags0] = self.flags.to_be_bytes();
        let opt = self.options.of(spelling);
        let additional = u8::from(!opt.is_empty());
        message[..HEADER].copy_from_slice(&[id1, id0, flags1, flags0, 0, 1, 0, 0, 0, 0, 0, additional]);
        let end = HEADER + question.len();
        message[HEADER..end].copy_from_slice(question);
        self.spell(&mut message[HEADER..end], spelling);
        message[end..end + opt.len()].copy_from_slice(opt);
        end + opt.len()
    }

    /// Changes the case of a question's letters as [`write`](Self::write) does.
    #[inline]
    pub fn spell(&self, question: &mut [u8], spelling: u64) {
        if self.mixed_case {
            let name = question.len() - 4;
            for (i, byte) in question[..name].iter_mut().enumerate() {
                // Bytes of label lengths are below those of letters, so they stay.
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
        let len = question.len();
        question[len - 4..len - 2].copy_from_slice(&self.random_types[number as usize % TYPES]);
        len
    }
}

/// Returns an OPT record.
fn opt(size: u16, (dnssec_ok, cookie): (bool, bool)) -> Vec<u8> {
    let [size1, size0] = size.to_be_bytes();
    let mut opt = vec![0, 0, 41, size1, size0, 0, 0, if dnssec_ok { 0x80 } else { 0 }, 0, 0, 0];
    if cookie {
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
        crate::stage::template(arguments).unwrap()
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
    fn options_have_the_shares_that_were_ordered() {
        let question = wire_question("example.com", 1).unwrap();
        let template = template(&["--edns", "--edns-share=50", "--do=20", "--cookie=10"]);
        let (mut edns, mut dnssec_ok, mut cookie) = (0, 0, 0);
        for drawn in 0..4000u64 {
            // As well mixed as the numbers that generators pass in.
            let message =
                parse(&template, &question, drawn.wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(29));
            let Some(opt) = message.edns else { continue };
            edns += 1;
            dnssec_ok += u32::from(opt.flags().dnssec_ok);
            cookie += opt.options().as_ref().len();
        }
        // The share with EDNS is 1 - 0.5 * 0.8 * 0.9.
        assert!((2400..2720).contains(&edns), "{edns}");
        assert!((700..900).contains(&dnssec_ok), "{dnssec_ok}");
        assert!((320..480).contains(&cookie), "{cookie}");
    }

    #[test]
    fn random_names_have_the_types_that_were_ordered() {
        let template = template(&[]).with_random_types(&"A:75,AAAA:25".parse().unwrap());
        let aaaa = |number: u64| {
            let mut question = [0; QUESTION_MAX];
            let len = template.random_question(number.wrapping_mul(0xbf58_476d_1ce4_e5b9), &mut question);
            question[len - 3] == 28
        };
        let count = (0..4000).filter(|number| aaaa(*number)).count();
        assert!((900..1100).contains(&count), "{count}");
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
