//! Queries by position: the drawn order of names and random names, or a recording.

use super::replay::Recording;
use crate::{
    mix::{Order, Pick},
    names::Questions,
    query::Template,
    question::QUESTION_MAX,
};

/// Class of a query for counts and latencies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Name of the list, or of a recording.
    Listed,
    /// Name never asked before.
    Random,
}

/// Queries by position: equal positions give equal queries, bit for bit except for the ID.
#[derive(Clone, Copy, Debug)]
pub enum Source<'p> {
    /// Names in their drawn order, over and over.
    Mix {
        /// Drawn order.
        order: &'p Order,
        /// All questions.
        questions: &'p Questions,
        /// Template of the queries.
        template: &'p Template,
        /// Seed of random names and spellings.
        seed: u64,
        /// Number of queries; `None` means as many as the time allows.
        total: Option<u64>,
    },
    /// Given names, each once.
    Names {
        /// Indices of the names.
        names: &'p [u32],
        /// All questions.
        questions: &'p Questions,
        /// Template of the queries.
        template: &'p Template,
        /// Seed of the spellings.
        seed: u64,
    },
    /// Recording, once.
    Recording(&'p Recording),
}

impl Source<'_> {
    /// Returns the number of queries, if it is limited.
    pub fn total(&self) -> Option<u64> {
        match self {
            Source::Mix { total, .. } => *total,
            Source::Names { names, .. } => Some(names.len() as u64),
            Source::Recording(recording) => Some(recording.len() as u64),
        }
    }

    /// Returns the due time of a query, in nanoseconds of the run, if the source has one.
    #[inline]
    pub fn due(&self, position: u64) -> Option<u64> {
        match self {
            Source::Recording(recording) => Some(recording.due(position as usize)),
            _ => None,
        }
    }

    /// Returns the index of the name of the list that a query asks for, if it does.
    pub fn name(&self, position: u64) -> Option<u32> {
        match self {
            Source::Mix { order, .. } => order.at(position).name(),
            Source::Names { names, .. } => Some(names[position as usize]),
            Source::Recording(_) => None,
        }
    }

    /// Returns the class of a query.
    #[inline]
    pub fn kind(&self, position: u64) -> Kind {
        match self {
            Source::Mix { order, .. } if order.at(position) == Pick::Random => Kind::Random,
            _ => Kind::Listed,
        }
    }

    /// Writes the query and returns its length.
    #[inline]
    pub fn write(&self, position: u64, id: u16, message: &mut [u8]) -> usize {
        match self {
            Source::Recording(recording) => {
                let query = recording.message(position as usize);
                message[..query.len()].copy_from_slice(query);
                message[..2].copy_from_slice(&id.to_be_bytes());
                query.len()
            }
            Source::Mix { template, seed, .. } | Source::Names { template, seed, .. } => {
                let mut buffer = [0; QUESTION_MAX];
                let len = self.plain_question(position, &mut buffer);
                template.write(message, id, &buffer[..len], drawn(*seed, position))
            }
        }
    }

    /// Writes the question, spelled as in the query and so in a right answer, into `buffer`, and
    /// returns it.
    #[inline]
    pub fn question<'b>(&self, position: u64, buffer: &'b mut [u8; QUESTION_MAX]) -> &'b [u8] {
        let len = self.plain_question(position, buffer);
        if let Source::Mix { template, seed, .. } | Source::Names { template, seed, .. } = self {
            template.spell(&mut buffer[..len], drawn(*seed, position));
        }
        &buffer[..len]
    }

    #[inline]
    fn plain_question(&self, position: u64, buffer: &mut [u8; QUESTION_MAX]) -> usize {
        let question = match self {
            Source::Recording(recording) => recording.question(position as usize),
            Source::Names { names, questions, .. } => questions.get(names[position as usize]),
            Source::Mix { order, questions, template, seed, .. } => match order.at(position) {
                Pick::Name(name) => questions.get(name),
                Pick::Random => return template.random_question(drawn(!seed, position), buffer),
            },
        };
        buffer[..question.len()].copy_from_slice(question);
        question.len()
    }
}

/// Returns a pseudo-random number that depends on seed and position alone (SplitMix64's finalizer,
/// Steele et al. 2014).
#[inline]
pub(crate) fn drawn(seed: u64, position: u64) -> u64 {
    let mut z = seed.wrapping_add((position + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
