//! Reading whole messages, where each record counts.

use hickory_proto::{
    op::{Message, OpCode},
    rr::{RData, Record, RecordType},
    serialize::binary::DecodeError,
};

/// The message in these bytes.
pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
    // To the library, records without data are sound in an update alone. They are so anywhere, if their type allows it
    // (RFC 3597 section 5, RFC 3123 section 4).
    const UPDATE: u8 = 5 << 3;
    let mut bytes = bytes.to_vec();
    if let Some(flags) = bytes.get_mut(2) {
        *flags |= UPDATE;
    }
    let mut message = Message::from_vec(&bytes)?;
    message.metadata.op_code = OpCode::Query;
    let unsound = |record: &Record| match record.data {
        RData::Update0(rtype) => !matches!(rtype, RecordType::NULL | RecordType::Unknown(_)),
        _ => false,
    };
    let sections = [&message.answers, &message.authorities, &message.additionals];
    if sections.into_iter().flatten().any(unsound) {
        Err(DecodeError::InvalidEmptyRecord)
    } else {
        Ok(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::{
        op::{MessageType, Query},
        rr::Name,
    };

    #[test]
    fn records_without_data_are_sound_if_their_type_allows_it() {
        for (rtype, sound) in [
            (RecordType::Unknown(65281), true),
            (RecordType::Unknown(42), true),
            (RecordType::NULL, true),
            (RecordType::A, false),
            (RecordType::TXT, false),
        ] {
            let mut message = Message::new(7, MessageType::Response, OpCode::Query);
            message.add_query(Query::query(Name::root(), rtype));
            message.answers.push(Record::from_rdata(Name::root(), 60, RData::Update0(rtype)));
            let decoded = decode(&message.to_vec().unwrap());
            assert_eq!(decoded.ok(), sound.then_some(message), "{rtype}");
        }
        assert!(decode(&[]).is_err());
    }
}
