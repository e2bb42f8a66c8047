"""One investor's portfolio, three ways: SQL's answer, a workbook and a Parquet file are held against figures that are worked
out here, from nothing but the plain tables as CSV. Prints how many lines agree to the cent; ends with 1 at the first that
does not.

    portfolio.py FOLDER MEMBER_ID DAY

FOLDER holds investment.csv, cash_flow.csv, valuation.csv, instrument.csv, cash_flow_kind.csv, sql.json (objects), lines.xlsx,
lines.parquet."""

import csv
import datetime
import decimal
import json
import pathlib
import sys
from decimal import Decimal

folder, member, day = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
CENT = Decimal("0.01")


def table(name):
    with open(folder / f"{name}.csv", newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if not row.get("deleted_at")]


def cents(value):
    return Decimal(str(value)).quantize(CENT, decimal.ROUND_HALF_UP)


valued_at = {row["code"]: row["valued_at"] for row in table("instrument")}
kinds = {row["code"]: row for row in table("cash_flow_kind")}
cash_flows, valuations = table("cash_flow"), table("valuation")


def worked_out(line):
    flows = [
        flow for flow in cash_flows
        if flow["investment_id"] == line["id"] and flow["kind_code"] and flow["currency"] == line["currency"]]
    so_far = [flow for flow in flows if flow["flow_on"] <= day]

    def sum_of(counts_as):
        return sum((Decimal(flow["amount"]) for flow in so_far if kinds[flow["kind_code"]]["counts_as"] == counts_as), Decimal(0))

    invested, proceeds = -sum_of("paid in"), sum_of("proceeds")
    ends = [flow for flow in flows if kinds[flow["kind_code"]]["ends_line"] == "true"]
    gone = sum((Decimal(flow["quantity"] or 0) for flow in ends if flow["flow_on"] <= day), Decimal(0))
    last_end = max((flow["flow_on"] for flow in ends), default=None)
    approved = [
        value for value in valuations
        if value["startup_id"] == line["startup_id"] and value["approved_on"] and value["currency"] == line["currency"]]
    losses = [value["as_of"] for value in approved if value["method_code"] == "write_off"]
    of_class = [
        value for value in approved
        if value["as_of"] <= day
        and (value["method_code"] == "write_off" or (value["instrument_code"] or "ao") == (line["instrument_code"] or "ao"))]
    latest = max(of_class, key=lambda value: (value["as_of"], value["approved_on"]), default=None)
    over = {"exited": last_end or "", "written_off": last_end or min(losses, default="")}.get(line["status_code"])
    held = None if not line["quantity"] else max(Decimal(line["quantity"]) - gone, Decimal(0))
    is_at_cost = valued_at.get(line["instrument_code"]) == "cost"
    if invested == 0 or (over is not None and over <= day) or (latest and latest["method_code"] == "write_off"):
        value = Decimal(0)
    elif not is_at_cost and latest and latest["price"] and held is not None:
        value = held * Decimal(latest["price"])
    elif is_at_cost and gone == 0:
        repaid = sum((Decimal(flow["amount"]) for flow in so_far if flow["kind_code"] == "repayment"), Decimal(0))
        value = max(invested - repaid, Decimal(0))
    elif held is not None and Decimal(line["quantity"]) > 0:
        value = invested * held / Decimal(line["quantity"])
    else:
        value = invested
    return cents(invested), cents(proceeds), cents(value)


def answers(rows):
    return {row["reference"]: tuple(cents(row[name]) for name in ("invested", "proceeds", "fair_value")) for row in rows}


def workbook():
    import openpyxl

    sheet = openpyxl.load_workbook(folder / "lines.xlsx").worksheets[1]
    head, *rows = sheet.iter_rows(values_only=True)
    return [dict(zip(head, row)) for row in rows]


def parquet():
    import pandas

    return pandas.read_parquet(folder / "lines.parquet", dtype_backend="pyarrow").to_dict("records")


wanted = {line["reference"]: worked_out(line) for line in table("investment") if line["member_id"] == member}
with open(folder / "sql.json", encoding="utf-8") as file:
    by_sql = json.load(file, parse_float=Decimal)
for name, rows in (("SQL", by_sql), ("Excel", workbook()), ("Parquet", parquet())):
    found = answers(rows)
    if found != wanted:
        odd = {line: (found.get(line), wanted.get(line)) for line in found.keys() | wanted.keys() if found.get(line) != wanted.get(line)}
        sys.exit(f"{name} and what is worked out differ: {odd}")
assert day <= datetime.date.today().isoformat() and wanted
print(len(wanted), sum(value for _, _, value in wanted.values()))
