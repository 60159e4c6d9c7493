//! NOTIFY of a primary: its zone has changed (RFC 1996).

use super::{
    key,
    wire::{HEADER, Message, be16, rtype},
};
use ringdns_config::TransferConfig;
use ringdns_dataplane::dns::{
    header::{AA, NOTIFY, OPCODE, QR},
    query::NOTIFY_MAX,
};

/// Response codes.
const NOERROR: u16 = 0;
const NOTAUTH: u16 = 9;

/// NOTIFY about a zone.
pub struct Notify<'a> {
    bytes: &'a [u8],
    message: Message<'a>,
    flags: u16,
    /// Name of the zone, lowercased.
    pub zone: Vec<u8>,
}

impl<'a> Notify<'a> {
    /// Reads a NOTIFY. `None`: it is another message, or does not fit its header.
    pub fn read(bytes: &'a [u8]) -> Option<Self> {
        let flags = be16(bytes, 2)?;
        if flags & (QR | OPCODE) != NOTIFY || bytes.len() > NOTIFY_MAX || be16(bytes, 4) != Some(1) {
            return None;
        }
        let message = Message::read(bytes)?;
        let (zone, qtype) = message.question.clone()?;
        (qtype == rtype::SOA).then_some(Notify { bytes, message, flags, zone })
    }

    /// Returns the reply, and whether the NOTIFY is accepted: it is if it has the signature that
    /// transfers of the zone have. Reads the file with the secret.
    pub fn judge(&self, source: &TransferConfig, now: u64) -> (Vec<u8>, bool) {
        let Some(config) = &source.tsig else { return (self.reply(NOERROR), true) };
        let verifier = key(config).ok().and_then(|key| {
            let mut verifier = key.verifier();
            verifier.verify(self.bytes, &self.message, now).is_ok().then_some(verifier)
        });
        match verifier {
            Some(verifier) => {
                let mut reply = self.reply(NOERROR);
                verifier.sign_reply(&mut reply, now);
                (reply, true)
            }
            None => (self.reply(NOTAUTH), false),
        }
    }

    /// Returns the reply to a NOTIFY about a zone that its sender is not the primary of.
    pub fn refuse(&self) -> Vec<u8> {
        self.reply(NOTAUTH)
    }

    /// Returns a reply without a signature: the header and the question.
    fn reply(&self, rcode: u16) -> Vec<u8> {
        let id = self.bytes.get(..2).unwrap_or_default();
        let flags = QR | NOTIFY | self.flags & AA | rcode;
        // The question is complete, and its name has no pointer, because nothing is before it.
        let end = HEADER + self.zone.len() + 4;
        let question = self.bytes.get(HEADER..end).unwrap_or_default();
        [id, &flags.to_be_bytes(), &[0, 1, 0, 0, 0, 0, 0, 0], question].concat()
    }
}
