//! Parquet: each column with its proper type, decimals exact; in row groups of bounded size.

use std::{
    io::{self, Write},
    sync::Arc,
};

use ::parquet::{
    arrow::ArrowWriter, basic::Compression, errors::ParquetError,
    file::properties::WriterProperties,
};
use arrow_array::{
    ArrayRef, RecordBatch,
    builder::{
        BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
        Int16Builder, Int32Builder, Int64Builder, ListBuilder, StringBuilder,
        TimestampMicrosecondBuilder,
    },
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use chrono::NaiveDate;

use super::{
    Error,
    column::{Column, Kind},
    copy::Sink,
    file::Out,
    query::Query,
    rows::{self, Row},
};

/// Rows that are turned into columns together, at most, and their bytes.
const BATCH_ROW_COUNT_MAX: usize = 8192;
const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// What readers take in one go.
const GROUP_ROW_COUNT_MAX: usize = 122_880;
const GROUP_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Digits of what has no type of its own: a `numeric` without precision.
const ANY_NUMERIC: (u8, i8) = (38, 10);

pub(super) struct Parquet {
    writer: ArrowWriter<Slot>,
    schema: Arc<Schema>,
    report: String,
    columns: Vec<Column>,
    builders: Vec<Builder>,
    row: Row,
    row_no: u64,
    batch_row_count: usize,
    batch_bytes: usize,
}

/// The file, which can be taken back once the writer has written its end.
struct Slot(Option<Out>);

impl Write for Slot {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.as_mut().map_or(Ok(()), Write::flush)
    }
}

enum Builder {
    Text(StringBuilder),
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Date(Date32Builder),
    Micros(TimestampMicrosecondBuilder),
    Texts(ListBuilder<StringBuilder>),
}

impl Parquet {
    pub(super) fn new(query: &Query, out: Out) -> Result<Self, Error> {
        let types: Vec<DataType> = query.columns.iter().map(|it| data_type(it.kind)).collect();
        for (column, data_type) in query.columns.iter().zip(&types) {
            if let DataType::Decimal128(precision, _) = data_type
                && *precision > 38
            {
                return Err(Error::Unfit {
                    report: query.name().to_owned(),
                    row: 0,
                    column: column.name.clone(),
                    type_name: column.type_name.clone(),
                    reason: String::from("a decimal of Parquet has at most 38 digits"),
                });
            }
        }
        let fields: Vec<Field> = query
            .columns
            .iter()
            .zip(&types)
            .map(|(column, data_type)| Field::new(&column.name, data_type.clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(GROUP_ROW_COUNT_MAX))
            .set_max_row_group_bytes(Some(GROUP_BYTES_MAX))
            .set_created_by(String::from("plait"))
            .build();
        let writer = ArrowWriter::try_new(Slot(Some(out)), Arc::clone(&schema), Some(properties))
            .map_err(Error::Parquet)?;
        Ok(Self {
            writer,
            schema,
            report: query.name().to_owned(),
            columns: query.columns.clone(),
            builders: types.iter().map(Builder::new).collect(),
            row: Row::default(),
            row_no: 0,
            batch_row_count: 0,
            batch_bytes: 0,
        })
    }

    fn write_batch(&mut self) -> Result<(), Error> {
        if self.batch_row_count == 0 {
            return Ok(());
        }
        self.batch_row_count = 0;
        self.batch_bytes = 0;
        let arrays: Vec<ArrayRef> = self.builders.iter_mut().map(Builder::finish).collect();
        let written = RecordBatch::try_new(Arc::clone(&self.schema), arrays)
            .map_err(ParquetError::from)
            .and_then(|batch| self.writer.write(&batch));
        written.map_err(|error| self.fault(error))
    }

    pub(super) fn end(mut self) -> Result<Out, Error> {
        self.write_batch()?;
        self.writer.finish().map_err(|error| self.fault(error))?;
        let out = self.writer.inner_mut().0.take();
        out.ok_or_else(|| Error::BrokenOff(String::from("the file is gone")))
    }

    fn fault(&mut self, error: ParquetError) -> Error {
        match &mut self.writer.inner_mut().0 {
            Some(out) => out.fault_behind(Error::Parquet(error)),
            None => Error::Parquet(error),
        }
    }
}

impl Sink for Parquet {
    fn take(&mut self, line: &[u8]) -> Result<(), Error> {
        self.row_no += 1;
        let read = self.row.read(line);
        read.ok_or_else(|| Error::BrokenOff(String::from("a row that is none")))?;
        for ((value, builder), column) in
            self.row.values().zip(&mut self.builders).zip(&self.columns)
        {
            if let Err(reason) = builder.append(value) {
                return Err(Error::Unfit {
                    report: self.report.clone(),
                    row: self.row_no,
                    column: column.name.clone(),
                    type_name: column.type_name.clone(),
                    reason,
                });
            }
        }
        self.batch_row_count += 1;
        self.batch_bytes += line.len();
        if self.batch_row_count == BATCH_ROW_COUNT_MAX || self.batch_bytes >= BATCH_BYTES_MAX {
            self.write_batch()?;
        }
        Ok(())
    }
}

fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Boolean => DataType::Boolean,
        Kind::Integer(2) => DataType::Int16,
        Kind::Integer(4) => DataType::Int32,
        Kind::Integer(_) => DataType::Int64,
        Kind::Float(4) => DataType::Float32,
        Kind::Float(_) => DataType::Float64,
        Kind::Numeric(digits) => {
            let of = |(precision, scale): (u32, u32)| {
                Some((u8::try_from(precision).ok()?, i8::try_from(scale).ok()?))
            };
            // What is too long for a type is refused by whoever asked.
            let (precision, scale) =
                digits.map_or(ANY_NUMERIC, |digits| of(digits).unwrap_or((u8::MAX, 0)));
            DataType::Decimal128(precision, scale)
        }
        Kind::Date => DataType::Date32,
        Kind::Instant => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Moment => DataType::Timestamp(TimeUnit::Microsecond, None),
        Kind::Texts => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
        Kind::Text | Kind::Uuid | Kind::Json | Kind::Array | Kind::Other => DataType::Utf8,
    }
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Boolean => Self::Boolean(BooleanBuilder::new()),
            DataType::Int16 => Self::Int16(Int16Builder::new()),
            DataType::Int32 => Self::Int32(Int32Builder::new()),
            DataType::Int64 => Self::Int64(Int64Builder::new()),
            DataType::Float32 => Self::Float32(Float32Builder::new()),
            DataType::Float64 => Self::Float64(Float64Builder::new()),
            DataType::Decimal128(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(data_type.clone());
                Self::Decimal(builder, *precision, *scale)
            }
            DataType::Date32 => Self::Date(Date32Builder::new()),
            DataType::Timestamp(..) => {
                Self::Micros(TimestampMicrosecondBuilder::new().with_data_type(data_type.clone()))
            }
            DataType::List(_) => Self::Texts(ListBuilder::new(StringBuilder::new())),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// The next value, or why it does not fit.
    fn append(&mut self, value: Option<&str>) -> Result<(), String> {
        macro_rules! parsed {
            ($builder:expr, $what:literal) => {
                $builder.append_option(
                    value.map(str::parse).transpose().map_err(|_| String::from($what))?,
                )
            };
        }
        match self {
            Self::Text(builder) => builder.append_option(value),
            Self::Boolean(builder) => builder.append_option(value.map(|value| value == "true")),
            Self::Int16(builder) => parsed!(builder, "it is no whole number of 16 bits"),
            Self::Int32(builder) => parsed!(builder, "it is no whole number of 32 bits"),
            Self::Int64(builder) => parsed!(builder, "it is no whole number of 64 bits"),
            Self::Float32(builder) => parsed!(builder, "it is no number"),
            Self::Float64(builder) => parsed!(builder, "it is no number"),
            Self::Decimal(builder, precision, scale) => {
                let read = |text| {
                    decimal(text, *precision, *scale).ok_or_else(|| {
                        format!("it does not fit a decimal of {precision} digits, {scale} of them behind the point")
                    })
                };
                builder.append_option(value.map(read).transpose()?);
            }
            Self::Date(builder) => {
                let days = |text| {
                    let day = rows::date(text)?;
                    i32::try_from((day - NaiveDate::default()).num_days()).ok()
                };
                let read = |text| days(text).ok_or("it is no day of the years 1 to 9999");
                builder.append_option(value.map(read).transpose()?);
            }
            Self::Micros(builder) => {
                let read = |text| {
                    let at = rows::moment(text).ok_or("it is no time of the years 1 to 9999")?;
                    Ok::<_, String>(at.and_utc().timestamp_micros())
                };
                builder.append_option(value.map(read).transpose()?);
            }
            Self::Texts(builder) => {
                let Some(text) = value else {
                    builder.append_null();
                    return Ok(());
                };
                let elements: Vec<serde_json::Value> =
                    serde_json::from_str(text).map_err(|error| error.to_string())?;
                for element in elements {
                    match element {
                        serde_json::Value::Null => builder.values().append_null(),
                        serde_json::Value::String(text) => builder.values().append_value(text),
                        other => builder.values().append_value(other.to_string()),
                    }
                }
                builder.append(true);
            }
        }
        Ok(())
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Boolean(builder) => Arc::new(builder.finish()),
            Self::Int16(builder) => Arc::new(builder.finish()),
            Self::Int32(builder) => Arc::new(builder.finish()),
            Self::Int64(builder) => Arc::new(builder.finish()),
            Self::Float32(builder) => Arc::new(builder.finish()),
            Self::Float64(builder) => Arc::new(builder.finish()),
            Self::Decimal(builder, ..) => Arc::new(builder.finish()),
            Self::Date(builder) => Arc::new(builder.finish()),
            Self::Micros(builder) => Arc::new(builder.finish()),
            Self::Texts(builder) => Arc::new(builder.finish()),
        }
    }
}

/// `-12.50` as a count of the smallest unit; `None`: it has more digits than there is room for, or is no number.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() {
        return None;
    }
    let scale = usize::try_from(scale).ok()?;
    let mut number: i128 = 0;
    let mut push = |digit: u8| {
        let digit = digit.is_ascii_digit().then(|| i128::from(digit - b'0'))?;
        number = number.checked_mul(10)?.checked_add(digit)?;
        Some(())
    };
    for digit in whole.bytes() {
        push(digit)?;
    }
    let mut fraction = fraction.bytes();
    for _ in 0..scale {
        push(fraction.next().unwrap_or(b'0'))?;
    }
    if fraction.any(|digit| digit != b'0') || number >= 10_i128.checked_pow(precision.into())? {
        return None;
    }
    Some(if is_negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn export_decimals_are_exact_or_refused() {
        assert_eq!(decimal("-12.50", 18, 2), Some(-1250));
        assert_eq!(decimal("12", 18, 2), Some(1200));
        assert_eq!(decimal("0.0100", 18, 2), Some(1));
        assert_eq!(decimal("9999.99", 6, 2), Some(999_999));
        assert_eq!(decimal("10000.00", 6, 2), None);
        assert_eq!(decimal("0.001", 18, 2), None);
        assert_eq!(decimal("NaN", 18, 2), None);
        let long = "9999999999999999999999999999.9999999999";
        assert_eq!(decimal(long, 38, 10), Some(10_i128.pow(38) - 1));
        assert_eq!(decimal(&format!("1{long}"), 38, 10), None);
    }
}
