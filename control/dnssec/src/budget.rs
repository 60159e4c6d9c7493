//! Bounds on the work for one answer.

/// Most questions, of which a cache answers most.
const QUESTIONS_MAX: u32 = 128;
/// Most signatures in responses.
const SIGNATURES_MAX: u32 = 512;
/// Most verifications of signatures; each attempt with each key counts (KeyTrap, CVE-2023-50387).
const VERIFICATIONS_MAX: u32 = 1024;
/// Most names hashed, each with a bounded number of iterations (CVE-2023-50868).
const HASHES_MAX: u32 = 512;
/// Most names hashed for a proof that is only looked for: without it, an upstream is asked.
const HASHES_OF_PROOF: u32 = 16;

/// The budget of an answer is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spent;

/// Remaining work.
#[derive(Debug)]
pub struct Budget {
    questions: u32,
    signatures: u32,
    verifications: u32,
    hashes: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            questions: QUESTIONS_MAX,
            signatures: SIGNATURES_MAX,
            verifications: VERIFICATIONS_MAX,
            hashes: HASHES_MAX,
        }
    }
}

impl Budget {
    /// Returns the budget of a proof that is not needed.
    pub fn of_proof() -> Self {
        Budget { hashes: HASHES_OF_PROOF, ..Budget::default() }
    }

    pub fn question(&mut self) -> Result<(), Spent> {
        spend(&mut self.questions, 1)
    }

    pub fn signatures(&mut self, count: usize) -> Result<(), Spent> {
        spend(&mut self.signatures, u32::try_from(count).map_err(|_| Spent)?)
    }

    pub fn verification(&mut self) -> Result<(), Spent> {
        spend(&mut self.verifications, 1)
    }

    pub fn hash(&mut self) -> Result<(), Spent> {
        spend(&mut self.hashes, 1)
    }
}

fn spend(left: &mut u32, price: u32) -> Result<(), Spent> {
    let rest = left.checked_sub(price);
    *left = rest.unwrap_or(0);
    rest.map(drop).ok_or(Spent)
}
