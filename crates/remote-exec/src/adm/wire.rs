//! The messages of `dbinit.proto`, written and read by hand: two strings and two numbers, whose field numbers a site
//! may have chosen otherwise.

use std::io;

use bytes::{Buf, BufMut};
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// The most fields that a message may have. Those of `dbinit.proto` have three; each takes several times its bytes in memory.
const MOST: usize = 64;

/// The fields of a message: strings as bytes, everything else as a number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Message(pub(crate) Vec<(u32, Field)>);

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// Wire type 2: a string.
    Bytes(Vec<u8>),
    /// Wire type 0: a bool or int32.
    Number(u64),
}

impl Message {
    pub(crate) fn with_bytes(mut self, number: u32, value: impl Into<Vec<u8>>) -> Self {
        self.0.push((number, Field::Bytes(value.into())));
        self
    }

    pub(crate) fn with_number(mut self, number: u32, value: u64) -> Self {
        self.0.push((number, Field::Number(value)));
        self
    }

    /// The last field of this number that is a string; empty when there is none, as proto3 has it.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        let found = self.0.iter().rev().find_map(|(n, field)| match field {
            Field::Bytes(bytes) if *n == number => Some(bytes.as_slice()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// The last field of this number that is a number; 0 when there is none.
    pub(crate) fn number(&self, number: u32) -> u64 {
        let found = self.0.iter().rev().find_map(|(n, field)| match field {
            Field::Number(value) if *n == number => Some(*value),
            _ => None,
        });
        found.unwrap_or_default()
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, field) in &self.0 {
            match field {
                // proto3 leaves out what has its default value.
                Field::Bytes(bytes) if !bytes.is_empty() => {
                    push_varint(&mut out, u64::from(*number) << 3 | 2);
                    push_varint(&mut out, bytes.len() as u64);
                    out.extend_from_slice(bytes);
                }
                Field::Number(value) if *value != 0 => {
                    push_varint(&mut out, u64::from(*number) << 3);
                    push_varint(&mut out, *value);
                }
                Field::Bytes(_) | Field::Number(_) => {}
            }
        }
        out
    }

    /// Unknown fields are kept, those of fixed width passed over; a cut message is an error, and so is one of more than
    /// [`MOST`] fields.
    pub(crate) fn decode(mut bytes: &[u8]) -> io::Result<Self> {
        let cut = || io::Error::new(io::ErrorKind::InvalidData, "the message is cut or no protobuf");
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes).ok_or_else(cut)?;
            let number = u32::try_from(key >> 3).map_err(|_| cut())?;
            if fields.len() == MOST {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the message has too many fields"));
            }
            match key & 7 {
                0 => fields.push((number, Field::Number(varint(&mut bytes).ok_or_else(cut)?))),
                2 => {
                    let length = varint(&mut bytes).and_then(|n| usize::try_from(n).ok()).ok_or_else(cut)?;
                    let (value, rest) = bytes.split_at_checked(length).ok_or_else(cut)?;
                    fields.push((number, Field::Bytes(value.to_vec())));
                    bytes = rest;
                }
                wire @ (1 | 5) => bytes = bytes.get(if wire == 1 { 8 } else { 4 }..).ok_or_else(cut)?,
                _ => return Err(cut()),
            }
        }
        Ok(Self(fields))
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// [`Message`] both ways.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plain;

impl Codec for Plain {
    type Encode = Message;
    type Decode = Message;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Plain {
    type Item = Message;
    type Error = Status;

    fn encode(&mut self, item: Message, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item.encode());
        Ok(())
    }
}

impl Decoder for Plain {
    type Item = Message;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Message>, Status> {
        let length = from.remaining();
        let bytes = from.copy_to_bytes(length);
        Message::decode(&bytes).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_that_protobuf_writes() {
        assert_eq!(Message::default().with_bytes(1, "echo 1").encode(), b"\x0a\x06echo 1");
        let reply = Message::default().with_bytes(1, "1\n").with_bytes(2, "e\n").with_number(3, 3);
        assert_eq!(reply.encode(), b"\x0a\x021\n\x12\x02e\n\x18\x03");
        assert_eq!(Message::decode(&reply.encode()).unwrap(), reply);
        assert_eq!(Message::default().with_number(1, 0).encode(), b"");
        // A negative int32 is ten bytes long.
        let minus = Message::default().with_number(3, (-1_i64) as u64);
        assert_eq!(Message::decode(&minus.encode()).unwrap().number(3) as i32, -1);
    }

    #[test]
    fn cut_messages_are_errors_and_unknown_fields_are_not() {
        let whole = Message::default().with_bytes(1, "x".repeat(300)).with_number(3, 300).encode();
        for cut in 1..whole.len() {
            let read = Message::decode(&whole[..cut]);
            assert!(read.is_err() || cut == 303, "{cut}");
        }
        let strange = [0x3d, 1, 2, 3, 4, 0x41, 1, 2, 3, 4, 5, 6, 7, 8, 0x08, 5];
        assert_eq!(Message::decode(&strange).unwrap().number(1), 5);
        assert!(Message::decode(&[0x0b]).is_err());
        assert!(Message::decode(&[0xff; 11]).is_err());
    }

    #[test]
    fn message_of_too_many_fields_is_an_error() {
        assert_eq!(Message::decode(&[8, 1].repeat(MOST)).unwrap().0.len(), MOST);
        for field in [&[8, 1][..], &[0x0a, 0]] {
            assert!(Message::decode(&field.repeat(MOST + 1)).is_err(), "{field:?}");
        }
    }
}
