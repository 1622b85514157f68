//! Kubernetes' protobuf encoding: the wire format, written by hand so that every field that the Go
//! libraries always write is written, empty or not, and the bytes are theirs.
//!
//! Knows nothing of metrics; the messages are built where their JSON is.

use prost::encoding::{WireType, encode_key, encode_varint};

/// What every body begins with.
const MAGIC: [u8; 4] = *b"k8s\0";

/// A message being written, field by field in rising order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn bytes(mut self, field: u32, value: &[u8]) -> Self {
        encode_key(field, WireType::LengthDelimited, &mut self.0);
        encode_varint(value.len() as u64, &mut self.0);
        self.0.extend_from_slice(value);
        self
    }

    pub fn text(self, field: u32, value: &str) -> Self {
        self.bytes(field, value.as_bytes())
    }

    pub fn message(self, field: u32, value: &Self) -> Self {
        self.bytes(field, &value.0)
    }

    /// A message per element.
    pub fn messages(self, field: u32, values: impl IntoIterator<Item = Self>) -> Self {
        values.into_iter().fold(self, |all, value| all.message(field, &value))
    }

    pub fn number(mut self, field: u32, value: i64) -> Self {
        encode_key(field, WireType::Varint, &mut self.0);
        // Two's complement, as protobuf writes negative int64 values.
        encode_varint(value as u64, &mut self.0);
        self
    }

    /// Fields that are written already.
    pub fn raw(mut self, fields: &[u8]) -> Self {
        self.0.extend_from_slice(fields);
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// `ListMeta` of a list that has no version and no further page.
pub fn list_meta() -> Message {
    Message::default().text(1, "").text(2, "").text(3, "")
}

/// A whole body: the magic bytes and `runtime.Unknown` around the object.
pub fn body(api_version: &str, kind: &str, object: &Message) -> Vec<u8> {
    let type_meta = Message::default().text(1, api_version).text(2, kind);
    let unknown = Message::default().message(1, &type_meta).message(2, object).text(3, "").text(4, "");
    [&MAGIC[..], &unknown.0].concat()
}
