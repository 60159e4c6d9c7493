//! Part of an entry's identity besides its question, and the note that some entries have.

use crate::{
    dns::key::Flags,
    group::{Group, GroupSet},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Part of an entry's identity besides its question: the key's flags, the group of clients that it
/// is kept for, and the cache's generation.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(transparent)]
pub struct Filed([u8; 2]);

impl Filed {
    /// Flag of an answer with a note, for which a glance has no time. No query is filed under it, so
    /// only a closer look finds the entry.
    const NOTED: u8 = 0x80;
    /// Flags of a key.
    const KEY: u8 = Flags::DO | Flags::CD;

    /// Returns the filing with `flags`, where there were none.
    #[inline(always)]
    pub fn with(self, flags: Flags) -> Self {
        Filed((u16::from_ne_bytes(self.0) | u16::from_ne_bytes([flags.0, 0])).to_ne_bytes())
    }

    /// Returns the key's flags.
    pub fn flags(self) -> Flags {
        Flags(self.0[0] & Self::KEY)
    }

    /// Returns the filing of an answer with a note, or without.
    pub fn noted(self, noted: bool) -> Self {
        Filed([self.0[0] & !Self::NOTED | if noted { Self::NOTED } else { 0 }, self.0[1]])
    }

    /// Whether the answer has a note.
    #[inline(always)]
    pub fn is_noted(self) -> bool {
        self.0[0] & Self::NOTED != 0
    }

    /// Returns the filing for a group of clients, where it was for the default group.
    #[inline(always)]
    pub fn for_group(self, group: Group) -> Self {
        Filed([self.0[0] | in_flags(group), self.0[1]])
    }

    /// Whether it is for a group of clients, and of a key with these flags.
    #[inline(always)]
    pub fn suits(self, flags: Flags, group: Group) -> bool {
        self.0[0] & !Self::NOTED == flags.0 | in_flags(group)
    }

    /// Returns the group of clients that the answer is kept for.
    pub fn group(self) -> Group {
        let number = (self.0[0] >> 1 & 0x07) | (self.0[0] >> 2 & 0x18);
        Group::new(usize::from(number)).unwrap_or(Group::DEFAULT)
    }

    /// Returns the cache's generation.
    #[inline(always)]
    pub fn generation(self) -> u8 {
        self.0[1]
    }

    /// Moves the filing to another generation.
    pub fn set_generation(&mut self, generation: u8) {
        self.0[1] = generation;
    }

    /// Creates the filing under `flags`, in `generation`, for the default group.
    #[inline(always)]
    pub fn new(flags: Flags, generation: u8) -> Self {
        Filed([flags.0, generation])
    }
}

/// Returns a group in the five bits that neither a key's flags nor `NOTED` take.
#[inline(always)]
fn in_flags(group: Group) -> u8 {
    let number = group.number() as u8;
    ((number & 0x07) << 1) | ((number & 0x18) << 2)
}

/// Clients that an answer is for, and the list that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Group of the client that asked.
    pub group: Group,
    /// All groups of clients that get the answer.
    pub groups: GroupSet,
    /// Number of the list that gave it.
    pub list: Option<u8>,
}

impl Scope {
    /// Scope of an answer that all clients get.
    pub const ALL: Scope = Scope { group: Group::DEFAULT, groups: GroupSet::ALL, list: None };

    /// Returns the group that the entry is kept for: the default group if it gets the answer, so
    /// that all groups that get it find it there.
    #[inline(always)]
    pub fn home(&self) -> Group {
        if self.groups.has(Group::DEFAULT) { Group::DEFAULT } else { self.group }
    }
}

/// Note of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// INFO-CODE to send with the answer (RFC 8914).
    pub ede: Option<u16>,
    /// Number of the list that gave the answer.
    pub list: Option<u8>,
    /// Groups of clients that get the answer.
    pub groups: GroupSet,
}

impl Note {
    /// Length in bytes.
    pub const LEN: usize = 8;
    /// Note of an entry without one.
    pub const NONE: Note = Note { ede: None, list: None, groups: GroupSet::ALL };
    const EDE: u8 = 1;
    const LIST: u8 = 2;

    /// Returns the note as it is stored.
    pub fn to_bytes(self) -> [u8; Self::LEN] {
        let [code1, code0] = self.ede.unwrap_or(0).to_be_bytes();
        let has = (u8::from(self.ede.is_some()) * Self::EDE) | (u8::from(self.list.is_some()) * Self::LIST);
        let [a, b, c, d] = self.groups.bits().to_be_bytes();
        [has, self.list.unwrap_or(0), code1, code0, a, b, c, d]
    }

    /// Returns the note that is stored as these bytes.
    pub fn from_bytes([has, list, code1, code0, groups @ ..]: [u8; Self::LEN]) -> Self {
        Note {
            ede: (has & Self::EDE != 0).then(|| u16::from_be_bytes([code1, code0])),
            list: (has & Self::LIST != 0).then_some(list),
            groups: GroupSet::from_bits(u32::from_be_bytes(groups)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::GROUPS;

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let groups = GroupSet::NONE.with(Group::new(GROUPS - 1).unwrap());
        for note in [
            Note::NONE,
            Note { ede: Some(15), list: Some(0), groups },
            Note { ede: None, list: Some(255), groups: GroupSet::ALL },
        ] {
            assert_eq!(Note::from_bytes(note.to_bytes()), note);
        }
    }

    #[test]
    fn each_group_has_a_filing_of_its_own() {
        let groups = (0..GROUPS).filter_map(Group::new);
        for flags in [0, Flags::DO, Flags::CD, Flags::DO | Flags::CD].map(Flags) {
            for group in groups.clone() {
                let filed = Filed::new(flags, 7).for_group(group).noted(true);
                assert_eq!((filed.flags(), filed.group()), (flags, group));
                let suited = groups.clone().filter(|other| filed.suits(flags, *other));
                assert!(suited.eq([group]) && !filed.suits(Flags(flags.0 ^ Flags::DO), group));
            }
        }
    }
}
