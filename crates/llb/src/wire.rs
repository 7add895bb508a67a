//! The protobuf wire format, written as Go's implementation writes it.

const VARINT: u32 = 0;
const LENGTH: u32 = 2;

/// Appends fields to a message.
#[derive(Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value as u8) | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    /// A varint field that is written even when it is 0 (members of a `oneof`, map values).
    pub(crate) fn unsigned_always(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.varint(value);
    }

    pub(crate) fn unsigned(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.unsigned_always(field, value);
        }
    }

    pub(crate) fn signed(&mut self, field: u32, value: i64) {
        self.unsigned(field, value as u64);
    }

    /// A position, where -1 stands for none.
    pub(crate) fn index(&mut self, field: u32, value: Option<usize>) {
        self.signed(field, index(value));
    }

    pub(crate) fn boolean(&mut self, field: u32, value: bool) {
        self.unsigned(field, u64::from(value));
    }

    /// A length-delimited field that is written even when it is empty.
    pub(crate) fn bytes_always(&mut self, field: u32, value: &[u8]) {
        self.tag(field, LENGTH);
        self.varint(value.len() as u64);
        self.bytes.extend_from_slice(value);
    }

    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes_always(field, value);
        }
    }

    pub(crate) fn string(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    pub(crate) fn strings(&mut self, field: u32, values: &[String]) {
        for value in values {
            self.bytes_always(field, value.as_bytes());
        }
    }

    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Writer)) {
        let mut nested = Writer::default();
        write(&mut nested);
        self.bytes_always(field, &nested.bytes);
    }

    /// An entry of a `map<string, …>`: Go writes key and value even when they are empty.
    pub(crate) fn entry(&mut self, field: u32, key: &str, write: impl FnOnce(&mut Writer)) {
        self.message(field, |entry| {
            entry.bytes_always(1, key.as_bytes());
            write(entry);
        });
    }

    /// A packed repeated field.
    pub(crate) fn packed(&mut self, field: u32, values: impl ExactSizeIterator<Item = i64>) {
        if values.len() == 0 {
            return;
        }
        let mut nested = Writer::default();
        values.for_each(|value| nested.varint(value as u64));
        self.bytes_always(field, &nested.bytes);
    }
}

/// The number that stands for a position on the wire.
pub(crate) fn index(value: Option<usize>) -> i64 {
    value.map_or(-1, |position| position as i64)
}
