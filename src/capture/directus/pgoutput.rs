//! Bytes of the `pgoutput` plugin, protocol 1 → messages. Pure, bounds-checked, without a copy of any value:
//! a tuple is the message's [`Bytes`] and a place in it for each column. Layout: Postgres manual, "Logical
//! Replication Message Formats".

use bytes::Bytes;

use crate::model::Lsn;

/// µs between the epochs of Unix (1970) and of Postgres (2000).
pub(super) const POSTGRES_EPOCH_MICROS: i64 = 946_684_800_000_000;

/// One message of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// `at`: commit time, µs since 1970 UTC. `final_lsn`: where the commit record begins.
    Begin {
        final_lsn: Lsn,
        at: i64,
        xid: u32,
    },
    /// `end_lsn`: where the log goes on, which is what is stored and acknowledged.
    Commit {
        commit_lsn: Lsn,
        end_lsn: Lsn,
        at: i64,
    },
    /// Follows `Begin` when the transaction has a replication origin.
    Origin {
        lsn: Lsn,
        name: String,
    },
    /// Before the first change of a table in a session, and again after each invalidation.
    Relation(Relation),
    /// A type that is not built in, before the relation that uses it.
    Type {
        oid: u32,
        schema: String,
        name: String,
    },
    Insert {
        relation: u32,
        new: Tuple,
    },
    Update {
        relation: u32,
        old: Option<Old>,
        new: Tuple,
    },
    Delete {
        relation: u32,
        old: Old,
    },
    Truncate {
        relations: Vec<u32>,
        cascade: bool,
        restart_identity: bool,
    },
    /// `pg_logical_emit_message`.
    Logical {
        transactional: bool,
        lsn: Lsn,
        prefix: String,
        content: Bytes,
    },
}

/// A table as the log describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    pub(super) oid: u32,
    pub(super) schema: String,
    pub(super) name: String,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub(super) identity: u8,
    pub(super) columns: Vec<RelationColumn>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelationColumn {
    pub(super) name: String,
    pub(super) is_key: bool,
    pub(super) type_oid: u32,
    pub(super) type_modifier: i32,
}

/// The row before the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// Only the key's columns have values: a null in another column means nothing.
    Key(Tuple),
    /// Replica identity full: the whole row.
    Full(Tuple),
}

impl Old {
    pub(super) fn tuple(&self) -> &Tuple {
        match self {
            Self::Key(tuple) | Self::Full(tuple) => tuple,
        }
    }
}

/// A row: places in the bytes of its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tuple {
    message: Bytes,
    columns: Vec<Place>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    tag: u8,
    start: u32,
    end: u32,
}

/// A column's content as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Raw<'a> {
    Null,
    /// A large value that did not change and was not sent again.
    Unchanged,
    Text(&'a [u8]),
}

impl Tuple {
    pub(super) fn len(&self) -> usize {
        self.columns.len()
    }

    /// The content of column `at`; `Unchanged` (nothing is known) for a column that is not there.
    pub(super) fn raw(&self, at: usize) -> Raw<'_> {
        let Some(place) = self.columns.get(at) else { return Raw::Unchanged };
        match place.tag {
            b'n' => Raw::Null,
            b'u' => Raw::Unchanged,
            _ => self
                .message
                .get(place.start as usize..place.end as usize)
                .map_or(Raw::Unchanged, Raw::Text),
        }
    }
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the message ends too early: {wanted} more bytes wanted at byte {at}")]
    Short { at: usize, wanted: usize },
    #[error("unknown message `{}` (0x{tag:02x})", tag.escape_ascii())]
    UnknownMessage { tag: u8 },
    #[error("unknown mark `{}` (0x{tag:02x}) at byte {at}", tag.escape_ascii())]
    UnknownMark { tag: u8, at: usize },
    #[error("a name is not UTF-8 at byte {at}")]
    Name { at: usize },
    #[error("a column in binary format, which was not asked for, at byte {at}")]
    Binary { at: usize },
    #[error("{left} bytes are left after the message")]
    Trailing { left: usize },
}

/// Reads one message, all of it.
///
/// # Errors
/// Whatever does not fit the protocol; nothing is guessed.
pub(super) fn decode(message: &Bytes) -> Result<Message, DecodeError> {
    let mut reader = Reader { message, at: 0 };
    let decoded = match reader.u8()? {
        b'B' => {
            Message::Begin { final_lsn: Lsn(reader.u64()?), at: reader.time()?, xid: reader.u32()? }
        }
        b'C' => {
            reader.u8()?;
            Message::Commit {
                commit_lsn: Lsn(reader.u64()?),
                end_lsn: Lsn(reader.u64()?),
                at: reader.time()?,
            }
        }
        b'O' => Message::Origin { lsn: Lsn(reader.u64()?), name: reader.name()? },
        b'R' => Message::Relation(reader.relation()?),
        b'Y' => Message::Type { oid: reader.u32()?, schema: reader.name()?, name: reader.name()? },
        b'I' => {
            let relation = reader.u32()?;
            reader.expect(b'N')?;
            Message::Insert { relation, new: reader.tuple()? }
        }
        b'U' => {
            let relation = reader.u32()?;
            let old = reader.old()?;
            reader.expect(b'N')?;
            Message::Update { relation, old, new: reader.tuple()? }
        }
        b'D' => {
            let relation = reader.u32()?;
            let at = reader.at;
            let tag = reader.peek();
            let old = reader.old()?.ok_or(DecodeError::UnknownMark { tag, at })?;
            Message::Delete { relation, old }
        }
        b'T' => {
            let count = reader.u32()?;
            let options = reader.u8()?;
            let mut relations = Vec::new();
            for _ in 0..count {
                relations.push(reader.u32()?);
            }
            Message::Truncate {
                relations,
                cascade: options & 1 != 0,
                restart_identity: options & 2 != 0,
            }
        }
        b'M' => {
            let transactional = reader.u8()? & 1 != 0;
            let lsn = Lsn(reader.u64()?);
            let prefix = reader.name()?;
            let length = reader.u32()? as usize;
            let (start, end) = reader.take(length)?;
            Message::Logical { transactional, lsn, prefix, content: message.slice(start..end) }
        }
        tag => return Err(DecodeError::UnknownMessage { tag }),
    };
    match message.len() - reader.at {
        0 => Ok(decoded),
        left => Err(DecodeError::Trailing { left }),
    }
}

/// A place in a message that only moves forwards and never past the end.
struct Reader<'a> {
    message: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, length: usize) -> Result<(usize, usize), DecodeError> {
        let start = self.at;
        let left = self.message.len() - start;
        if length > left {
            return Err(DecodeError::Short { at: start, wanted: length - left });
        }
        self.at = start + length;
        Ok((start, self.at))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (start, end) = self.take(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.message[start..end]);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// µs since 1970 UTC.
    fn time(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.array()?).saturating_add(POSTGRES_EPOCH_MICROS))
    }

    /// The byte that comes next, 0 at the end.
    fn peek(&self) -> u8 {
        self.message.get(self.at).copied().unwrap_or(0)
    }

    fn expect(&mut self, mark: u8) -> Result<(), DecodeError> {
        let at = self.at;
        match self.u8()? {
            tag if tag == mark => Ok(()),
            tag => Err(DecodeError::UnknownMark { tag, at }),
        }
    }

    /// Text that ends with a zero byte.
    fn name(&mut self) -> Result<String, DecodeError> {
        let at = self.at;
        let rest = &self.message[at..];
        let Some(length) = rest.iter().position(|byte| *byte == 0) else {
            return Err(DecodeError::Short { at: self.message.len(), wanted: 1 });
        };
        self.at += length + 1;
        match std::str::from_utf8(&rest[..length]) {
            Ok(name) => Ok(name.to_owned()),
            Err(_) => Err(DecodeError::Name { at }),
        }
    }

    fn relation(&mut self) -> Result<Relation, DecodeError> {
        let oid = self.u32()?;
        let schema = self.name()?;
        // The protocol's way of saying pg_catalog.
        let schema = if schema.is_empty() { String::from("pg_catalog") } else { schema };
        let name = self.name()?;
        let identity = self.u8()?;
        let count = self.u16()?;
        let mut columns = Vec::new();
        for _ in 0..count {
            columns.push(RelationColumn {
                is_key: self.u8()? & 1 != 0,
                name: self.name()?,
                type_oid: self.u32()?,
                type_modifier: i32::from_be_bytes(self.array()?),
            });
        }
        Ok(Relation { oid, schema, name, identity, columns })
    }

    /// The old row, if one comes.
    fn old(&mut self) -> Result<Option<Old>, DecodeError> {
        match self.peek() {
            b'K' => {
                self.u8()?;
                Ok(Some(Old::Key(self.tuple()?)))
            }
            b'O' => {
                self.u8()?;
                Ok(Some(Old::Full(self.tuple()?)))
            }
            _ => Ok(None),
        }
    }

    fn tuple(&mut self) -> Result<Tuple, DecodeError> {
        let count = self.u16()?;
        // Each column takes a byte at least: a wrong count can't make us reserve more than the message has.
        let mut columns = Vec::with_capacity(usize::from(count).min(self.message.len() - self.at));
        for _ in 0..count {
            let at = self.at;
            let place = match self.u8()? {
                tag @ (b'n' | b'u') => Place { tag, start: 0, end: 0 },
                b't' => {
                    let length = self.u32()? as usize;
                    let (start, end) = self.take(length)?;
                    let (Ok(start), Ok(end)) = (u32::try_from(start), u32::try_from(end)) else {
                        return Err(DecodeError::Short { at, wanted: length });
                    };
                    Place { tag: b't', start, end }
                }
                b'b' => return Err(DecodeError::Binary { at }),
                tag => return Err(DecodeError::UnknownMark { tag, at }),
            };
            columns.push(place);
        }
        Ok(Tuple { message: self.message.clone(), columns })
    }
}

#[cfg(test)]
mod tests {
    use bytes::{BufMut, BytesMut};
    use pg_walstream::{LogicalReplicationMessage, LogicalReplicationParser};
    use proptest::prelude::*;

    use super::*;

    type Column = Option<Option<Vec<u8>>>;

    fn put_tuple(out: &mut BytesMut, columns: &[Column]) {
        out.put_u16(u16::try_from(columns.len()).unwrap());
        for column in columns {
            match column {
                None => out.put_u8(b'u'),
                Some(None) => out.put_u8(b'n'),
                Some(Some(text)) => {
                    out.put_u8(b't');
                    out.put_u32(u32::try_from(text.len()).unwrap());
                    out.put_slice(text);
                }
            }
        }
    }

    fn put_name(out: &mut BytesMut, name: &str) {
        out.put_slice(name.as_bytes());
        out.put_u8(0);
    }

    fn columns_of(tuple: &Tuple) -> Vec<Column> {
        (0..tuple.len())
            .map(|at| match tuple.raw(at) {
                Raw::Unchanged => None,
                Raw::Null => Some(None),
                Raw::Text(text) => Some(Some(text.to_vec())),
            })
            .collect()
    }

    fn columns() -> impl Strategy<Value = Vec<Column>> {
        prop::collection::vec(
            prop::option::of(prop::option::of(prop::collection::vec(any::<u8>(), 0..40))),
            0..12,
        )
    }

    proptest! {
        #[test]
        fn decode_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            // Whatever comes out, coming out at all is what is tested.
            drop(decode(&Bytes::from(bytes)));
        }

        #[test]
        fn decode_arbitrary_body_of_each_tag_never_panics(
            tag in prop::sample::select(b"BCORYIUDTM".to_vec()),
            body in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut bytes = vec![tag];
            bytes.extend(body);
            drop(decode(&Bytes::from(bytes)));
        }

        #[test]
        fn decode_row_messages_gives_back_what_was_encoded(
            relation in any::<u32>(), old in columns(), new in columns(), full in any::<bool>(),
        ) {
            let mut out = BytesMut::new();
            out.put_u8(b'U');
            out.put_u32(relation);
            out.put_u8(if full { b'O' } else { b'K' });
            put_tuple(&mut out, &old);
            out.put_u8(b'N');
            put_tuple(&mut out, &new);
            let message = decode(&out.freeze()).unwrap();
            let Message::Update { relation: read, old: Some(before), new: after } = message else {
                panic!("{message:?}")
            };
            prop_assert_eq!(read, relation);
            prop_assert_eq!(matches!(before, Old::Full(_)), full);
            prop_assert_eq!(columns_of(before.tuple()), old);
            prop_assert_eq!(columns_of(&after), new);
        }

        #[test]
        fn decode_agrees_with_the_other_decoder(
            relation in any::<u32>(), old in columns(), new in columns(), kind in 0..3_u8,
            names in prop::collection::vec("[a-z_é]{1,9}", 1..6),
        ) {
            let mut out = BytesMut::new();
            match kind {
                0 => {
                    out.put_u8(b'I');
                    out.put_u32(relation);
                    out.put_u8(b'N');
                    put_tuple(&mut out, &new);
                }
                1 => {
                    out.put_u8(b'D');
                    out.put_u32(relation);
                    out.put_u8(b'K');
                    put_tuple(&mut out, &old);
                }
                _ => {
                    out.put_u8(b'R');
                    out.put_u32(relation);
                    put_name(&mut out, "public");
                    put_name(&mut out, "table");
                    out.put_u8(b'd');
                    out.put_u16(u16::try_from(names.len()).unwrap());
                    for (at, name) in names.iter().enumerate() {
                        out.put_u8(u8::from(at == 0));
                        put_name(&mut out, name);
                        out.put_u32(25);
                        out.put_i32(-1);
                    }
                }
            }
            let bytes = out.freeze();
            let ours = decode(&bytes).unwrap();
            let theirs = LogicalReplicationParser::with_protocol_version(1)
                .parse_wal_message(&bytes)
                .unwrap()
                .message;
            let read = |tuple: &pg_walstream::TupleData| -> Vec<Column> {
                (0..tuple.column_count())
                    .map(|at| {
                        let column = tuple.get_column(at).unwrap();
                        if column.is_unchanged() {
                            None
                        } else if column.is_null() {
                            Some(None)
                        } else {
                            Some(Some(column.as_bytes().to_vec()))
                        }
                    })
                    .collect()
            };
            match (&ours, &theirs) {
                (
                    Message::Insert { relation, new },
                    LogicalReplicationMessage::Insert { relation_id, tuple },
                ) => {
                    prop_assert_eq!(relation, relation_id);
                    prop_assert_eq!(columns_of(new), read(tuple));
                }
                (
                    Message::Delete { relation, old },
                    LogicalReplicationMessage::Delete { relation_id, old_tuple, .. },
                ) => {
                    prop_assert_eq!(relation, relation_id);
                    prop_assert_eq!(columns_of(old.tuple()), read(old_tuple));
                }
                (
                    Message::Relation(ours),
                    LogicalReplicationMessage::Relation { relation_id, columns, .. },
                ) => {
                    prop_assert_eq!(ours.oid, *relation_id);
                    let read: Vec<_> =
                        columns.iter().map(|column| (column.name.to_string(), column.is_key())).collect();
                    let ours: Vec<_> =
                        ours.columns.iter().map(|column| (column.name.clone(), column.is_key)).collect();
                    prop_assert_eq!(ours, read);
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn decode_boundaries_as_the_manual_has_them() {
        let mut begin = BytesMut::new();
        begin.put_u8(b'B');
        begin.put_u64(0x10);
        begin.put_i64(5);
        begin.put_u32(77);
        let at = POSTGRES_EPOCH_MICROS + 5;
        assert_eq!(decode(&begin.freeze()), Ok(Message::Begin { final_lsn: Lsn(16), at, xid: 77 }));
        let mut message = BytesMut::new();
        message.put_u8(b'M');
        message.put_u8(1);
        message.put_u64(3);
        put_name(&mut message, "p");
        message.put_u32(2);
        message.put_slice(b"ab");
        let logical = Message::Logical {
            transactional: true,
            lsn: Lsn(3),
            prefix: "p".into(),
            content: Bytes::from_static(b"ab"),
        };
        assert_eq!(decode(&message.freeze()), Ok(logical));
        assert_eq!(
            decode(&Bytes::from_static(b"S\0")),
            Err(DecodeError::UnknownMessage { tag: b'S' })
        );
        assert_eq!(
            decode(&Bytes::from_static(b"T\0\0\0\x01\0")),
            Err(DecodeError::Short { at: 6, wanted: 4 })
        );
    }
}
