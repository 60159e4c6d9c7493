//! EDNS options (RFC 6891 section 6.1.2): what our OPT records say beside their fixed part.

use super::{
    answer::{Status, View},
    rcode,
    reply::Age,
};
use arrayvec::ArrayVec;

/// Option codes (IANA).
pub mod code {
    /// Extended DNS errors (RFC 8914).
    pub const EDE: u16 = 15;
}

/// INFO-CODEs of extended DNS errors (RFC 8914 section 4) that are said here.
pub mod ede {
    /// Stale Answer.
    pub const STALE: u16 = 3;
    /// Cached Error.
    pub const CACHED_ERROR: u16 = 13;
    /// Stale NXDOMAIN Answer.
    pub const STALE_NXDOMAIN: u16 = 19;
}

/// Bytes of an option before its data.
const HEAD: usize = 4;

/// The extended errors of one reply: what the answer brings along, and what its age adds.
#[derive(Clone, Debug, Default)]
pub struct Errors(ArrayVec<u16, 2>);

impl Errors {
    /// Of an answer that is given at this age.
    #[inline(always)]
    pub fn of(view: &View<'_>, age: Age) -> Self {
        let failed = !matches!(view.status.rcode(), rcode::NOERROR | rcode::NXDOMAIN);
        if view.ede.is_none() && matches!(age, Age::Fresh(_) | Age::New(_)) && !failed {
            return Self::default();
        }
        Self::of_special(view.ede, view.status, age)
    }

    #[cold]
    fn of_special(ede: Option<u16>, status: Status, age: Age) -> Self {
        let from_age = match (age, status.rcode()) {
            (Age::Stale(_), rcode::NXDOMAIN) => Some(ede::STALE_NXDOMAIN),
            (Age::Stale(_), _) => Some(ede::STALE),
            (Age::New(_), _) | (_, rcode::NOERROR | rcode::NXDOMAIN) => None,
            (Age::Fresh(_), _) => Some(ede::CACHED_ERROR),
        };
        Errors(ede.into_iter().chain(from_age.filter(|code| ede != Some(*code))).collect())
    }

    /// Whether there are none, as there usually are.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.0.len() * (HEAD + 2)
    }

    /// Writes them to the start of `to`, which has room.
    pub fn write(&self, to: &mut [u8]) {
        for (option, code) in to.as_chunks_mut::<{ HEAD + 2 }>().0.iter_mut().zip(&self.0) {
            let ([k1, k0], [c1, c0]) = (code::EDE.to_be_bytes(), code.to_be_bytes());
            *option = [k1, k0, 0, 2, c1, c0];
        }
    }
}
