//! Packets of a form that are made from one of them: making a long packet anew takes far more work than
//! processing it.

use super::{
    form::Form,
    parts::{Labels, Sum},
};
use crate::stage::Ip;
use anyhow::Result;
use ringdns_dataplane::clock::Secs;
use std::ops::Range;

/// Digits of a name's number.
const DIGITS: usize = 5;
/// Bytes of a message before the digits: the header, the label's length, and a letter.
const BEFORE: usize = 12 + 2;

/// Packet whose number can be changed.
#[derive(Clone, Debug)]
pub struct Template {
    packet: Vec<u8>,
    /// Place of the message.
    message: Range<usize>,
    /// Whether the message has a name with a number.
    is_numbered: bool,
    /// Whether the checksum covers the message.
    is_summed: bool,
    /// Bits in which the checksum differs from the right one.
    wrong: u16,
    number: usize,
}

impl Template {
    /// Returns the template of packets of a form, sent at `now`.
    pub fn new(form: &Form, now: Secs) -> Result<Self> {
        let message = form.message(0, now)?;
        let at = 4 * form.tags + if form.ip == Ip::V4 { 42 } else { 62 };
        let is_numbered =
            form.has_question && form.labels != Labels::Identity && form.cut.is_none_or(|cut| cut >= 64);
        Ok(Template {
            packet: form.packet(0, now)?,
            message: at..at + message.len(),
            is_numbered,
            is_summed: matches!(form.sum, Sum::Right | Sum::Wrong),
            wrong: if form.sum == Sum::Wrong { 0x0100 } else { 0 },
            number: 0,
        })
    }

    /// Returns the packet with this number, and its message.
    pub fn packet(&mut self, number: usize) -> (&[u8], &[u8]) {
        if self.is_numbered && number != self.number {
            self.set_number(number);
        }
        (&self.packet, &self.packet[self.message.clone()])
    }

    fn set_number(&mut self, number: usize) {
        let at = self.message.start + BEFORE;
        let words = |packet: &[u8]| -> u32 {
            // The digits, and the byte before or after them that completes a word of the message.
            let words = packet[at..at + DIGITS + 1].chunks_exact(2);
            words.map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
        };
        let before = words(&self.packet);
        let mut left = number;
        for digit in self.packet[at..at + DIGITS].iter_mut().rev() {
            *digit = b'0' + (left % 10) as u8;
            left /= 10;
        }
        self.number = number;
        let after = words(&self.packet);
        if self.is_summed {
            let place = self.message.start - 2;
            let sum = u16::from_be_bytes([self.packet[place], self.packet[place + 1]]) ^ self.wrong;
            // RFC 1624: the complement of the sum changes by what the sum changes, negated.
            let changed = i64::from(!sum) + i64::from(after) - i64::from(before);
            let folded = changed.rem_euclid(0xffff) as u16;
            self.packet[place..place + 2].copy_from_slice(&(!folded ^ self.wrong).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instructions::shapes::SHAPES;

    #[test]
    fn packets_of_a_template_are_those_of_the_form() {
        for shape in SHAPES {
            let form = (shape.form)();
            let mut template = Template::new(&form, 600).unwrap();
            for number in [0, 1, 7, 99_999, 12, 0] {
                let (packet, message) = template.packet(number);
                assert_eq!(packet, form.packet(number, 600).unwrap(), "{} {number}", shape.name);
                assert_eq!(message, form.message(number, 600).unwrap(), "{} {number}", shape.name);
            }
        }
    }
}
