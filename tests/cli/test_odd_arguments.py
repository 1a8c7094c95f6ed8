"""Whatever is typed ends in rows or in one sentence with the promised exit code, never in a traceback."""

import csv
import io
import os
from pathlib import Path

import pytest
from command_line import run

from alchemiser_duck import Settings
from alchemiser_duck.errors import ExitCode
from alchemiser_duck.sandbox import Sandbox

ODD: dict[str, list[str]] = {
    "an empty symbol": ["bars", ""],
    "a blank symbol": ["bars", " "],
    "a symbol of another script": ["bars", "\N{GREEK CAPITAL LETTER ALPHA}APL"],
    "a symbol with an escape": ["bars", "AA\x1b[31mPL"],
    "a symbol as long as a page": ["bars", "A" * 5000],
    "a symbol that is SQL": ["bars", "AAPL'; drop table bars --"],
    "a symbol in bytes of no encoding": ["bars", "\udcff\udcfe"],
    "a day that is not": ["bars", "AAPL", "--start", "2025-02-30"],
    "a day of year 0": ["bars", "AAPL", "--start", "0000-01-01"],
    "a day of year 10000": ["bars", "AAPL", "--end", "10000-01-01"],
    "an empty day": ["bars", "AAPL", "--start", ""],
    "days the wrong way round": ["bars", "AAPL", "--start", "2025-02-01", "--end", "2025-01-01"],
    "a day to look from that is not": ["bars", "AAPL", "--as-of", "yesterday"],
    "an empty day to look from": ["bars", "AAPL", "--as-of", ""],
    "an adjustment that is not": ["bars", "AAPL", "--adjustment", "both"],
    "a negative limit": ["bars", "AAPL", "--limit", "-1"],
    "a limit beyond 64 bits": ["bars", "AAPL", "--limit", "99999999999999999999"],
    "a format that is not": ["bars", "AAPL", "-f", "xml"],
    "a folder to write to": ["bars", "AAPL", "-o", "."],
    "a folder that is not there": ["bars", "AAPL", "-o", "nowhere/at/all.csv"],
    "a name with no bytes": ["bars", "AAPL", "-f", "parquet", "-o", ""],
    "parquet on a terminal": ["bars", "AAPL", "-f", "parquet"],
    "no symbol": ["bars"],
    "an indicator that is not": ["indicator", "smaa", "AAPL"],
    "an empty indicator": ["indicator", "", "AAPL"],
    "an indicator that is SQL": ["indicator", "sma(20) --", "AAPL"],
    "a relation for an indicator": ["indicator", "bars", "AAPL"],
    "a stage for an indicator": ["indicator", "true_ranges", "AAPL"],
    "a parameter without a value": ["indicator", "sma", "AAPL", "-p", "n"],
    "an empty parameter": ["indicator", "sma", "AAPL", "-p", "n="],
    "a parameter that is not": ["indicator", "sma", "AAPL", "-p", "window=3"],
    "a negative number of bars": ["indicator", "sma", "AAPL", "-p", "n=-3"],
    "half a bar": ["indicator", "sma", "AAPL", "-p", "n=2.5", "--latest"],
    "no number": ["indicator", "sma", "AAPL", "-p", "n=twenty"],
    "no number, newest": ["indicator", "rsi", "AAPL", "-p", "n=nan", "--latest"],
    "a number beyond 64 bits": ["indicator", "sma", "AAPL", "-p", "n=99999999999999999999"],
    "a number beyond doubles": ["indicator", "bbands", "AAPL", "-p", "upper_deviations=1e999"],
    "a quotation mark": ["indicator", "ma", "AAPL", "-p", "kind='"],
    "the newest of a range": ["indicator", "sma", "AAPL", "--latest", "--start", "2025-01-01"],
    "a source that is not": ["indicator", "sma", "AAPL", "--source", "bar"],
    "a source that is a file": ["indicator", "sma", "AAPL", "--source", "/etc/passwd"],
    "no panel": ["panel", "AAPL"],
    "an empty panel": ["panel", "AAPL", "--with", ""],
    "a panel with a column twice": ["panel", "AAPL", "--with", "sma(20), sma(20)"],
    "half a call": ["panel", "AAPL", "--with", "sma(20"],
    "a call in a call": ["panel", "AAPL", "--with", "sma(sma(3))"],
    "empty SQL": ["sql", ""],
    "SQL that is a comment": ["sql", "-- nothing"],
    "SQL that writes": ["sql", "create table t as select 1"],
    "two statements": ["sql", "select 1; select 2"],
    "SQL that is cut off": ["sql", "select * from"],
    "SQL in bytes of no encoding": ["sql", "select '\udcff'"],
    "no action": ["actions"],
    "an action that is not": ["actions", "override", "nope", "--drop", "--reason", "x"],
    "an override of nothing": ["actions", "override", "nope", "--reason", "x"],
    "an override without a value": ["actions", "override", "nope", "--set", "rate", "--reason", "x"],
    "an override without a reason": ["actions", "override", "nope", "--drop"],
    "a file that is not there": ["symbols", "extract", "nowhere.py"],
    "a folder of indicators that is not there": ["indicators", "check", "nowhere"],
    "an indicator's name that is not": ["indicators", "new", "../escape"],
    "an indicator to show that is not": ["indicators", "show", "nope"],
    "a moment that is not": ["check", "--now", "25:00"],
    "a moment at the end of time": ["check", "--now", "9999-12-31T23:59:59-14:00"],
    "a moment at the beginning": ["check", "--now", "0001-01-01T00:00:00+14:00"],
    "a start of post-close": ["refresh", "--mode", "post-close", "--start", "2025-01-01"],
    "a start that is no day": ["refresh", "--start", "soon"],
    "symbols that are commas": ["refresh", "--symbols", ",,"],
    "a mode that is not": ["refresh", "--mode", "always"],
    "a command that is not": ["bar", "AAPL"],
    "an option that is not": ["bars", "AAPL", "--all"],
}
"""What each kind of odd argument is, and a command that has it. None of them succeeds."""


@pytest.fixture
def variables(box: Sandbox, stored_settings: Settings) -> dict[str, str]:
    return os.environ | box.environment | {"MARKET_DATA_BUCKET": stored_settings.market_data_bucket}


@pytest.mark.parametrize("arguments", ODD.values(), ids=ODD)
def test_an_odd_argument_is_one_sentence(variables: dict[str, str], tmp_path: Path, arguments: list[str]) -> None:
    ended = run(variables, *arguments, cwd=tmp_path)
    assert "Traceback" not in ended.stderr
    assert ended.returncode in set(ExitCode) - {ExitCode.OK}, ended.stdout
    assert ended.stdout == ""
    assert "\x1b" not in ended.stderr
    assert ended.stderr.startswith("error: ")
    assert len(ended.stderr.splitlines()) <= 4
    assert list(tmp_path.iterdir()) == []


def test_deep_parentheses_are_no_trouble(variables: dict[str, str]) -> None:
    assert run(variables, "sql", "select " + "(" * 3000 + "1" + ")" * 3000, "-f", "json").returncode == 0


def test_data_never_steers_a_terminal(variables: dict[str, str]) -> None:
    """A table spells control characters out; what programs read has the data as it is."""
    query = "select 'a' || chr(27) || '[31mb' || chr(10) || chr(8238) || 'c' as text"
    assert run(variables, "sql", query).stdout.splitlines()[1].strip() == r"a\x1b[31mb\n\u202ec"
    assert next(csv.DictReader(io.StringIO(run(variables, "sql", query, "-f", "csv").stdout)))["text"] == (
        "a\x1b[31mb\n\u202ec"
    )


def test_a_panel_gives_the_columns_of_its_calls(variables: dict[str, str]) -> None:
    ended = run(
        variables, "panel", "AAPL", "IBM", "--with", "sma(50), rsi(n=14)", "-w", "sma(200)", "--latest", "-f", "csv"
    )
    assert ended.returncode == 0, ended.stderr
    rows = list(csv.DictReader(io.StringIO(ended.stdout)))
    assert [row["symbol"] for row in rows] == ["AAPL", "IBM"]
    assert list(rows[0])[2:] == ["sma_50", "rsi", "sma_200"]
    alone = run(variables, "indicator", "rsi", "AAPL", "IBM", "--latest", "-f", "csv")
    values = [float(row["rsi"]) for row in csv.DictReader(io.StringIO(alone.stdout))]
    assert [float(row["rsi"]) for row in rows] == pytest.approx(values, rel=1e-9)


@pytest.mark.parametrize(
    "arguments",
    [
        ["indicator", "rsi", "AAPL", "-p", "n=5", "--latest"],
        ["panel", "AAPL", "--with", "rsi(5), ma(10)", "--start", "2025-01-02"],
    ],
    ids=["indicator", "panel"],
)
def test_sql_shows_what_would_run(variables: dict[str, str], arguments: list[str]) -> None:
    ended = run(variables, *arguments, "--sql")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("-- reads bars from ")
    assert "decayed_sum" in ended.stdout.lower()
    assert "-- rsi: " in ended.stdout
