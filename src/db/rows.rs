//! What statements return: rows, as they came.

use std::sync::Arc;

use fallible_iterator::FallibleIterator as _;
use postgres::types::{FromSql, Type};
use postgres_protocol::message::backend::RowDescriptionBody;

use super::error::Fault;

/// The most columns that a statement of ours returns.
const MAX_COLUMNS: usize = 9;
/// Rows behind the first are kept together up to this, in bytes.
const CHUNK_BYTES: usize = 8 * 1024;

/// A row of the simple protocol: each value as text.
pub type Texts = Vec<Option<String>>;

/// A column of a statement.
#[derive(Debug)]
struct Column {
    name: String,
    kind: Type,
}

/// The columns of a statement; none where it returns no rows.
#[derive(Debug, Clone, Default)]
pub struct Columns(Arc<[Column]>);

impl Columns {
    /// As the server describes them.
    ///
    /// # Errors
    /// When that is no description.
    pub fn read(body: &RowDescriptionBody) -> Result<Self, Fault> {
        // A type that is none of PostgreSQL's own, `citext` for instance, is taken for what it looks like.
        let kind = |oid| Type::from_oid(oid).unwrap_or(Type::UNKNOWN);
        let columns = body
            .fields()
            .map(|field| Ok(Column { name: field.name().to_owned(), kind: kind(field.type_oid()) }));
        Ok(Self(columns.collect::<Vec<_>>()?.into()))
    }
}

/// What a statement returned.
#[derive(Debug, Default)]
pub struct Rows {
    columns: Columns,
    /// The contents of the rows' messages, each behind its length. What is full is left as it is: to make it larger would take the same
    /// room once more.
    chunks: Vec<Vec<u8>>,
}

impl Rows {
    /// None yet, of these columns.
    pub fn new(columns: Columns) -> Self {
        Self { columns, chunks: Vec::new() }
    }

    /// Their columns.
    pub fn columns(&self) -> &Columns {
        &self.columns
    }

    /// Adds one, which came as `content`.
    pub fn push(&mut self, content: &[u8]) {
        let length = content.len().to_be_bytes();
        let needed = length.len() + content.len();
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < needed) {
            // Most statements return one row.
            let room = if self.chunks.is_empty() { needed } else { needed.max(CHUNK_BYTES) };
            self.chunks.push(Vec::with_capacity(room));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(&length);
            chunk.extend_from_slice(content);
        }
    }

    /// Each of them, or an error as of [`Row::read`].
    pub fn iter(&self) -> impl Iterator<Item = Result<Row<'_>, Fault>> {
        let contents = self.chunks.iter().flat_map(|chunk| {
            let mut rest = &chunk[..];
            std::iter::from_fn(move || {
                let (length, behind) = rest.split_first_chunk()?;
                let (content, behind) = behind.split_at_checked(usize::from_be_bytes(*length))?;
                rest = behind;
                Some(content)
            })
        });
        contents.map(|content| Row::read(&self.columns, content))
    }

    /// The first.
    ///
    /// # Errors
    /// As for [`Row::read`].
    pub fn first(&self) -> Result<Option<Row<'_>>, Fault> {
        self.iter().next().transpose()
    }
}

/// A row.
#[derive(Debug)]
pub struct Row<'r> {
    columns: &'r [Column],
    /// One for each column, in PostgreSQL's binary format.
    values: [Option<&'r [u8]>; MAX_COLUMNS],
}

impl<'r> Row<'r> {
    /// The row of these columns that came as `content`: how many there are, and for each how long it is, or -1 where it is null, and
    /// what it is.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(columns: &'r Columns, content: &'r [u8]) -> Result<Self, Fault> {
        Self::split(&columns.0, content)
            .ok_or_else(|| Fault::value("a row", "it is not what its statement returns"))
    }

    fn split(columns: &'r [Column], content: &'r [u8]) -> Option<Self> {
        let (count, mut rest) = content.split_first_chunk()?;
        let mut values = [None; MAX_COLUMNS];
        if usize::from(u16::from_be_bytes(*count)) != columns.len() {
            return None;
        }
        for value in values.get_mut(..columns.len())? {
            let (length, behind) = rest.split_first_chunk()?;
            rest = behind;
            if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
                let (own, behind) = rest.split_at_checked(length)?;
                (*value, rest) = (Some(own), behind);
            }
        }
        rest.is_empty().then_some(Self { columns, values })
    }

    /// The value of a column, counted from 0.
    ///
    /// # Errors
    /// When there is no such column, or its value is no `T`.
    pub fn try_get<T: FromSql<'r>>(&self, column: usize) -> Result<T, Fault> {
        let Some(Column { name, kind }) = self.columns.get(column) else {
            return Err(Fault::value(column, "there is no such column"));
        };
        if !T::accepts(kind) {
            return Err(Fault::value(name, format_args!("is of the type `{kind}`")));
        }
        T::from_sql_nullable(kind, self.values[column]).map_err(|error| Fault::value(name, error))
    }

    /// The value of the column of this name.
    ///
    /// # Errors
    /// As for [`Row::try_get`].
    pub fn try_get_named<T: FromSql<'r>>(&self, name: &str) -> Result<T, Fault> {
        match self.columns.iter().position(|column| column.name == name) {
            Some(column) => self.try_get(column),
            None => Err(Fault::value(name, "there is no such column")),
        }
    }

    /// All values, where they came as texts.
    pub fn texts(&self) -> Texts {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.values[..self.columns.len()].iter().map(|value| value.map(text)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns() -> Columns {
        let column = |name: &str, kind| Column { name: name.to_owned(), kind };
        Columns([column("id", Type::INT4), column("title", Type::TEXT), column("odd", Type::UNKNOWN)].into())
    }

    const CONTENT: &[u8] = b"\0\x03\0\0\0\x04\0\0\0\x07\xff\xff\xff\xff\0\0\0\x02ab";

    #[test]
    fn a_value_is_read_as_what_it_is() {
        let columns = columns();
        let row = Row::read(&columns, CONTENT).unwrap();
        assert_eq!(row.try_get::<i32>(0).unwrap(), 7);
        assert_eq!(row.try_get::<Option<&str>>(1).unwrap(), None);
        assert_eq!(row.try_get_named::<&str>("odd").unwrap(), "ab");
        for wrong in [
            row.try_get::<&str>(0).unwrap_err(),
            row.try_get::<&str>(1).unwrap_err(),
            row.try_get::<&str>(3).unwrap_err(),
            row.try_get_named::<&str>("key").unwrap_err(),
        ] {
            assert!(matches!(wrong, Fault::Value(_)), "{wrong}");
        }
        assert_eq!(row.try_get::<&str>(0).unwrap_err().to_string(), "`id`: is of the type `int4`");
    }

    #[test]
    fn what_is_no_row_of_the_statement_is_refused() {
        let columns = columns();
        for length in 0..CONTENT.len() {
            assert!(Row::read(&columns, &CONTENT[..length]).is_err(), "{length}");
        }
        assert!(Row::read(&columns, &[CONTENT, b"c"].concat()).is_err());
        assert!(Row::read(&Columns::default(), CONTENT).is_err());
        let many: Vec<_> =
            (0..=MAX_COLUMNS).map(|_| Column { name: String::new(), kind: Type::INT4 }).collect();
        let nulls = [&[0, many.len() as u8][..], &b"\xff".repeat(4 * many.len())].concat();
        assert!(Row::read(&Columns(many.into()), &nulls).is_err(), "more columns than there is room for");
    }

    #[test]
    fn rows_come_as_they_went() {
        let mut rows = Rows::new(columns());
        assert!(rows.first().unwrap().is_none());
        let text = |number: usize| "x".repeat([1, 100, 5_000, 50_000][number % 4] + number);
        for number in 0..100 {
            let text = text(number);
            let lengths = [4, text.len()].map(|length| (length as u32).to_be_bytes());
            let id = (number as u32).to_be_bytes();
            let null = [0xff; 4];
            rows.push(&[b"\0\x03", &lengths[0][..], &id, &lengths[1], text.as_bytes(), &null].concat());
        }
        let mut count = 0;
        for (number, row) in rows.iter().enumerate() {
            let row = row.unwrap();
            assert_eq!(row.try_get::<i32>(0).unwrap(), number as i32);
            assert_eq!(row.try_get::<&str>(1).unwrap(), text(number));
            count += 1;
        }
        assert_eq!(count, 100);
        assert_eq!(rows.first().unwrap().unwrap().try_get::<i32>(0).unwrap(), 0);
    }
}
