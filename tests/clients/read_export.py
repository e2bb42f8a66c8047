"""Opens an export with a library that people use, and tells what it holds as JSON: columns with types, and rows."""

import datetime
import decimal
import json
import math
import sys
import uuid


def plain(value):
    """A value with its type, in a form that JSON keeps."""
    if value is None:
        return None
    if isinstance(value, bool):
        return f"bool {value}"
    if isinstance(value, decimal.Decimal):
        return f"decimal {value}"
    if isinstance(value, (datetime.datetime, datetime.date)):
        return f"{type(value).__name__} {value.isoformat()}"
    if isinstance(value, float):
        return None if math.isnan(value) else f"float {value!r}"
    if isinstance(value, int):
        return f"int {value}"
    if isinstance(value, uuid.UUID):
        return f"uuid {value}"
    if isinstance(value, (list, tuple)) or type(value).__name__ == "ndarray":
        return [plain(element) for element in value]
    return str(value)


def with_duckdb(path):
    import duckdb

    duckdb.sql("set timezone = 'UTC'")
    relation = duckdb.sql(f"select * from read_parquet('{path}')")
    return {
        "columns": dict(zip(relation.columns, map(str, relation.types))),
        "rows": [[plain(value) for value in row] for row in relation.fetchall()],
    }


def with_pandas(path):
    import pandas
    import pyarrow.parquet

    frame = pandas.read_parquet(path, dtype_backend="pyarrow")
    file = pyarrow.parquet.ParquetFile(path)
    groups = [file.metadata.row_group(no).num_rows for no in range(file.num_row_groups)]
    rows = frame.to_dict("records")
    return {
        "columns": {name: str(frame.dtypes[name]) for name in frame.columns},
        "groups": groups,
        "rows": [
            [None if row[name] is pandas.NA else plain(row[name]) for name in frame.columns] for row in rows[:100]
        ],
    }


def with_openpyxl(path):
    import openpyxl
    from openpyxl.utils.escape import unescape
    from openpyxl.utils import get_column_letter

    # Control characters are written as Excel does; of a text within the sheet openpyxl leaves them so.
    def read(value):
        return unescape(value) if isinstance(value, str) else plain(value)

    book = openpyxl.load_workbook(path)
    sheets = {}
    for sheet in book.worksheets:
        row_count = sheet.max_row  # before the loops below make cells
        head = [cell for cell in sheet[1]]
        sheets[sheet.title] = {
            "frozen": sheet.freeze_panes,
            "filter": sheet.auto_filter.ref,
            "bold": all(bool(cell.font.b) for cell in head if cell.value is not None),
            "widths": [sheet.column_dimensions[get_column_letter(at + 1)].width for at in range(len(head))],
            "rows": [[read(cell.value) for cell in row] for row in sheet.iter_rows(max_row=min(row_count, 100))],
            "types": [[cell.data_type for cell in row] for row in sheet.iter_rows(max_row=min(row_count, 100))],
            "formats": [cell.number_format for cell in sheet[2]] if row_count > 1 else [],
            "quoted": [
                cell.coordinate for row in sheet.iter_rows(max_row=min(row_count, 100)) for cell in row if cell.quotePrefix
            ],
            "row_count": row_count,
        }
    return {"sheets": sheets, "order": book.sheetnames}


if __name__ == "__main__":
    how, path = sys.argv[1:]
    readers = {"duckdb": with_duckdb, "pandas": with_pandas, "openpyxl": with_openpyxl}
    print(json.dumps(readers[how](path), ensure_ascii=False))
