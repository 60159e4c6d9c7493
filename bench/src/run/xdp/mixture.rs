//! Templates of queries for the generator's program, and their order.

use crate::{
    mix::Pick,
    query::{QUERY_MAX, Template as QueryTemplate},
    question::QUESTION_MAX,
    run::Plan,
};
use anyhow::{Context, Result, ensure};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use ringdns_abi::generator::{MAX_ORDER, MAX_TEMPLATES, Template};

/// Least length of orders, as far as the drawn order is that long. They also have at least
/// `REPEATS` entries for each name.
const SHORTEST: usize = 1 << 16;
const REPEATS: usize = 16;

/// Templates of the names and of the random names, and their order. A random name's template occurs
/// in the order once, and is replaced by another when the program has passed it, so that no random
/// name is asked twice.
pub struct Mixture<'p> {
    plan: &'p Plan,
    order: Vec<u32>,
    /// Positions of random names in the order.
    random: Vec<u32>,
    /// Number of random names replaced so far.
    renewed: u64,
    rng: SmallRng,
}

impl<'p> Mixture<'p> {
    /// Returns the plan's mix, as far as the program's maps hold it.
    pub fn new(plan: &'p Plan) -> Result<Self> {
        let names = plan.questions.len();
        ensure!(
            names < MAX_TEMPLATES as usize,
            "the XDP generator asks for fewer than {MAX_TEMPLATES} names, not {names}: use a smaller --count"
        );
        let room = MAX_TEMPLATES as usize - names;
        let len = plan.order.len().min((REPEATS * names).max(SHORTEST)).min(MAX_ORDER as usize);
        let mut order = Vec::with_capacity(len);
        let mut random = Vec::new();
        for position in 0..len as u64 {
            match plan.order.at(position) {
                Pick::Name(name) => order.push(name),
                Pick::Random if random.len() == room => break,
                Pick::Random => {
                    order.push((names + random.len()) as u32);
                    random.push(position as u32);
                }
            }
        }
        Ok(Mixture { plan, order, random, renewed: 0, rng: SmallRng::seed_from_u64(plan.seed) })
    }

    /// Returns the indices of templates in the order in which they are sent.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Returns the number of templates.
    pub fn templates(&self) -> u32 {
        (self.plan.questions.len() + self.random.len()) as u32
    }

    /// Whether the order has random names.
    pub fn has_random(&self) -> bool {
        !self.random.is_empty()
    }

    /// Makes a template of a name, or of a random name never made before.
    pub fn template(&mut self, index: u32) -> Result<Template> {
        let Plan { questions, template, .. } = self.plan;
        let spelling = self.rng.next_u64();
        if (index as usize) < questions.len() {
            return write(template, questions.get(index), spelling);
        }
        let mut question = [0; QUESTION_MAX];
        let len = template.random_question(self.rng.next_u64(), &mut question);
        write(template, &question[..len], spelling)
    }

    /// Returns the templates of random names that the program has passed when it is at `sequence`,
    /// and that were not renewed since.
    pub fn passed(&mut self, sequence: u64) -> Vec<u32> {
        let (len, count) = (self.order.len() as u64, self.random.len() as u64);
        let within = (sequence % len) as u32;
        let passed = sequence / len * count + self.random.partition_point(|at| *at < within) as u64;
        // A full round behind, each template is renewed once.
        let first = self.renewed.max(passed.saturating_sub(count));
        self.renewed = passed;
        let names = self.plan.questions.len() as u32;
        (first..passed).map(|nth| names + (nth % count) as u32).collect()
    }
}

fn write(template: &QueryTemplate, question: &[u8], spelling: u64) -> Result<Template> {
    let mut message = [0; QUERY_MAX];
    let len = template.write(&mut message, 0, question, spelling);
    Template::new(&message[..len])
        .context("a query is longer than the generator's templates: use shorter names")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{options, run::Args};

    fn plan(options: &[&str]) -> Plan {
        let args: Args = options::parse(&[&["--target=127.0.0.1:53"], options].concat()).unwrap();
        Plan::new(&args.load, &args.query, &args.udp).unwrap()
    }

    #[test]
    fn each_random_name_stands_in_the_order_once() {
        let plan = plan(&["--count=100", "--random-share=30"]);
        let mixture = Mixture::new(&plan).unwrap();
        let mut random: Vec<u32> = mixture.order().iter().copied().filter(|index| *index >= 100).collect();
        assert_eq!(random.len(), mixture.random.len());
        random.dedup();
        assert_eq!(random, (100..mixture.templates()).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_passed_is_renewed_once() {
        let plan = plan(&["--count=100", "--random-share=30"]);
        let mut mixture = Mixture::new(&plan).unwrap();
        let len = mixture.order().len() as u64;
        let (first, second) = (u64::from(mixture.random[0]), u64::from(mixture.random[1]));
        assert!(mixture.passed(first).is_empty());
        assert_eq!(mixture.passed(first + 1), [100]);
        assert!(mixture.passed(first + 1).is_empty());
        assert_eq!(mixture.passed(second + 1), [101]);
        let rest = mixture.passed(len + second + 1);
        assert_eq!(rest.len(), mixture.random.len(), "the rest of this round, and two of the next");
        assert_eq!(rest.last(), Some(&101));
        assert_eq!(mixture.passed(9 * len).len(), mixture.random.len(), "never more than all");
    }

    #[test]
    fn too_many_names_are_refused() {
        let plan = plan(&["--count=131072"]);
        assert!(Mixture::new(&plan).is_err());
    }
}
