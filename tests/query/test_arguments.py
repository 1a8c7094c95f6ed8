"""Every spelling of an argument gives one value; errors name the others."""

import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from alchemiser_duck.errors import (
    BadParameter,
    BadPeriod,
    CryptoPair,
    UnknownIndicator,
    UnsupportedTimeframe,
)
from alchemiser_duck.query.arguments import (
    IndicatorRequest,
    alpaca_symbol,
    as_calls,
    as_day,
    as_parameter,
    as_period,
    as_symbols,
    as_timeframe,
    parse_call,
)

TICKERS = st.from_regex(r"[A-Z][A-Z0-9]{0,4}(\.[A-Z]{1,2})?", fullmatch=True)
NEW_YORK = ZoneInfo("America/New_York")


@dataclass(frozen=True)
class Symbol:
    """A value object of somebody else's."""

    value: str

    def __str__(self) -> str:
        return self.value


class Text(StrEnum):
    SPY = "spy"


class Plain(Enum):
    SPY = "spy"


@given(tickers=st.lists(TICKERS), separator=st.sampled_from([".", "-", "/"]), lower=st.booleans())
def test_every_container_of_tickers_gives_the_same_symbols(tickers: list[str], separator: str, lower: bool) -> None:
    expected = tuple(dict.fromkeys(tickers))
    typed = [ticker.replace(".", separator) for ticker in tickers]
    try:
        for ticker in typed:
            alpaca_symbol(ticker)
    except CryptoPair:
        assume(False)
    typed = [ticker.lower() for ticker in typed] if lower else typed
    containers: list[Any] = [
        *(list, tuple, iter, np.array, pd.Series, pd.Index, pl.Series, pa.array),
        lambda texts: (Symbol(text) for text in texts),
        lambda texts: dict.fromkeys(texts).keys(),
    ]
    if typed:  # an empty Series has no texts, and an empty text names no symbol
        containers += [",".join, " ".join, ", ".join]
        assert as_symbols(set(typed)) == tuple(sorted(expected))
    for container in containers:
        assert as_symbols(container(typed)) == expected
    assert as_symbols(expected) == expected


@pytest.mark.parametrize(
    ("value", "symbols"),
    [
        (None, None),
        ("aapl", ("AAPL",)),
        (" aapl ,ibm;brk-b\n", ("AAPL", "IBM", "BRK.B")),
        (["AAPL,IBM", "MSFT"], ("AAPL", "IBM", "MSFT")),
        (Symbol("BRK/B"), ("BRK.B",)),
        (Text.SPY, ("SPY",)),
        ([Plain.SPY], ("SPY",)),
        (np.array("AAPL"), ("AAPL",)),
        (pa.scalar("AAPL"), ("AAPL",)),
        ("NULL NA NAN TRUE", ("NULL", "NA", "NAN", "TRUE")),
        ("EQUITIES::SPY//USD", ("SPY",)),
        (["12345A109", "SYM00001"], ("12345A109", "SYM00001")),  # no tickers, but bars are stored under such names
        ([], ()),
    ],
)
def test_symbols_are_read_as_they_are_typed(value: Any, symbols: tuple[str, ...] | None) -> None:
    assert as_symbols(value) == symbols


@pytest.mark.parametrize(
    ("value", "error"),
    [
        *(("", "'' names none"), (" , ", "' , ' names none"), (["AAPL", ""], "'' names none")),
        *(([None], "None is not one"), ([float("nan")], "nan is not one"), (7, "7 is not one"), ([True], "True is")),
        *((b"AAPL", "not bytes"), ({"AAPL": 1}, "not dict"), (pd.DataFrame({"AAPL": [1]}), "not DataFrame")),
        *((["AAPL\0"], "not one"), ("it's", '"it\'s" is not one'), ([object()], "is not one"), ("BRK.BBBBB-C", "one")),
    ],
)
def test_what_is_no_symbol_is_named(value: Any, error: str) -> None:
    with pytest.raises(BadParameter, match=error) as raised:
        as_symbols(value)
    assert "['AAPL', 'BRK.B']" in str(raised.value)


@pytest.mark.parametrize("value", ["BTC/USD", "btc-usd", ["AAPL", "ETH/USD"], "CRYPTO::SOL//USD"])
def test_crypto_pairs_are_refused(value: Any) -> None:
    with pytest.raises(CryptoPair, match="the lake holds stocks"):
        as_symbols(value)


@given(day=st.dates(date(1990, 1, 1), date(2060, 1, 1)))
def test_every_way_to_write_a_day_is_that_day(day: date) -> None:
    midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001 (as it is typed)
    stamped = midnight.replace(tzinfo=NEW_YORK)
    for value in (
        *(day, str(day), f" {day} ", midnight, stamped, stamped.astimezone(UTC)),
        *(np.datetime64(day), np.datetime64(midnight, "ns"), np.array(day, "datetime64[s]")),
        *(pd.Timestamp(day), pd.Timestamp(stamped), pa.scalar(day), pa.scalar(stamped)),
    ):
        result = as_day(value, "start")
        assert (result, type(result)) == (day, date)


@given(instant=st.datetimes(timezones=st.timezones()).filter(lambda instant: 1900 < instant.year < 2100))
def test_an_instant_never_names_a_session_that_is_not_over(instant: datetime) -> None:
    """Midnight in New York stamps a bar: it is no instant."""
    in_new_york = instant.astimezone(NEW_YORK)
    assume(in_new_york.time() != datetime.min.time())
    if in_new_york.hour < 16:
        with pytest.raises(BadParameter, match="before the close of its session"):
            as_day(instant, "as_of")
    else:
        day = as_day(instant, "as_of")
        assert datetime(day.year, day.month, day.day, 16, tzinfo=NEW_YORK) <= instant


def test_midnight_in_utc_is_the_session_before() -> None:
    assert as_day(pd.Timestamp("2024-03-02", tz="UTC"), "as_of") == date(2024, 3, 1)


@pytest.mark.parametrize(
    "value",
    [None, 5, "x", "2024-13-01", "", pd.NaT, np.datetime64("NaT"), True, pd.Timestamp("2024-01-31 09:30")],
)
def test_what_is_no_day_is_named_with_its_argument(value: Any) -> None:
    with pytest.raises(BadParameter, match=r"^as_of "):
        as_day(value, "as_of")


@given(
    number=st.integers(1, 9999),
    unit=st.sampled_from(["Y y yr years", "M m mo months", "W w wk weeks", "D d day days"]),
    space=st.sampled_from(["", " "]),
)
def test_periods_have_one_spelling(number: int, unit: str, space: str) -> None:
    for word in unit.split():
        assert as_period(f"{number}{space}{word}") == f"{number}{unit[0]}"
        assert as_period(as_period(f"{number}{space}{word}")) == f"{number}{unit[0]}"
    assert as_period("max") == as_period(" MAX ") == "MAX"


@pytest.mark.parametrize("value", ["0Y", "1.5Y", "Y", "1min", "-1Y", "", "10000D", None, 1, timedelta(days=1), "1Y2M"])
def test_what_is_no_period_is_named(value: Any) -> None:
    with pytest.raises(BadPeriod, match="for example: 1Y"):
        as_period(value)


def test_daily_bars_have_one_spelling() -> None:
    for value in ("1Day", "1D", "day", "1d", "daily", " DAY "):
        assert as_timeframe(value) == "1Day"
    for value in ("1Min", "", None, 1):
        with pytest.raises(UnsupportedTimeframe, match="the lake holds 1Day"):
            as_timeframe(value)


class Number(IntEnum):
    TWO = 2


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        *((np.int64(3), 3), (np.uint8(3), 3), (np.float64(2.5), 2.5), (np.float32(0.5), 0.5), (np.bool_(True), True)),
        *((np.str_("x"), "x"), (Text.SPY, "spy"), (Number.TWO, 2), (np.array(3), 3), (pa.scalar(3), 3)),
        *(
            (Decimal("2.5"), 2.5),
            (Decimal(14), 14),
            (Decimal("1e2"), 100),
            (np.datetime64("2024-01-31"), date(2024, 1, 31)),
        ),
        *((None, None), (True, True), ("x", "x"), (date(2024, 1, 31), date(2024, 1, 31))),
    ],
)
def test_parameters_become_plain_values(value: Any, plain: Any) -> None:
    result = as_parameter(value)
    assert (result, type(result)) == (plain, type(plain))


@pytest.mark.parametrize(
    "value",
    [
        float("nan"),
        np.inf,
        Decimal("NaN"),
        object(),
        [3],
        np.array([3]),
        pl.Series([3]),
        pd.Series([3]),
        b"x",
        "a\0b",
        1j,
    ],
)
def test_what_is_no_parameter_is_named(value: Any) -> None:
    with pytest.raises(BadParameter, match=r"^rsi: n is .*parameters are numbers"):
        as_parameter(value, "rsi: n")


VALUES = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text(st.characters())
)
NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)


def typed(value: Any, quote: str) -> str:
    return quote + value.replace(quote, quote * 2) + quote if isinstance(value, str) else str(value)


@given(
    name=NAMES,
    positional=st.lists(VALUES, max_size=3),
    named=st.dictionaries(NAMES, VALUES, max_size=3),
    sign=st.sampled_from(["=", ":=", " := ", " = "]),
    quote=st.sampled_from("'\""),
)
def test_a_call_is_read_as_it_was_written(
    name: str, positional: list[Any], named: dict[str, Any], sign: str, quote: str
) -> None:
    values = [typed(value, quote) for value in positional]
    values += [f"{parameter}{sign}{typed(value, quote)}" for parameter, value in named.items()]
    assert parse_call(f" {name.upper()} ( {', '.join(values)} ) ") == (name, tuple(positional), named)


@given(text=st.one_of(st.text(), st.from_regex(r"[a-z(),=:'\" 0-9.]{0,20}", fullmatch=True)))
def test_any_other_text_is_a_bad_parameter(text: str) -> None:
    try:
        name, _, _ = parse_call(text)
    except BadParameter:
        return
    assert name == text.strip().split("(")[0].strip().lower()


@pytest.mark.parametrize(
    ("indicators", "requests"),
    [
        ("rsi", [("rsi", {}, False)]),
        ("RSI(n=14)", [("rsi", {"n": 14}, False)]),
        (["rsi", "sma"], [("rsi", {}, False), ("sma", {}, False)]),
        (("sma(50)", "SMA(n := 200)"), [("sma", {"n": 50}, True), ("sma", {"n": 200}, True)]),
        (["ma(20, ema)"], [("ma", {"n": 20, "kind": "ema"}, False)]),
        ({"RSI": {"N": 14}, "bbands": None}, [("rsi", {"n": 14}, False), ("bbands", {}, False)]),
        (
            {"rsi": {"n": np.int64(14)}, "sma": [{"n": 50}, {}]},
            [("rsi", {"n": 14}, False), ("sma", {"n": 50}, True), ("sma", {}, True)],
        ),
        ({"sma": [{"n": 50}]}, [("sma", {"n": 50}, True)]),
        ([], []),
        ({}, []),
    ],
)
def test_indicators_are_asked_for_in_any_of_these_ways(indicators: Any, requests: list[Any]) -> None:
    assert as_calls(indicators) == [IndicatorRequest(*request) for request in requests]


@pytest.mark.parametrize(
    ("indicators", "error", "says"),
    [
        ("smaa(3)", UnknownIndicator, "did you mean sma"),
        ({"bars": {}}, UnknownIndicator, "no indicator 'bars'"),
        ("sma(m=3)", BadParameter, "sma has no parameter m"),
        ("sma(1, 2)", BadParameter, "sma takes n: got 2 values"),
        ("sma(1, n=2)", BadParameter, "given n twice"),
        ("sma(n=1, N=2)", BadParameter, "gives N twice"),
        ("sma(n=1, 2)", BadParameter, "name it too"),
        ("sma(50, source=bars_weekly)", BadParameter, "source is an argument of its own"),
        ({"sma": {"source": "bars_weekly"}}, BadParameter, "source is an argument of its own"),
        ("sma(50", BadParameter, "not an indicator's call"),
        ("sma(50,)", BadParameter, "is not a parameter"),
        ({"sma": 50}, BadParameter, "by name, not 50"),
        ({"sma": "n=50"}, BadParameter, "by name, not 'n=50'"),
        ({"sma": [50]}, BadParameter, "by name, not 50"),
        ({5: {}}, BadParameter, "got 5"),
        ([{"sma": 50}], BadParameter, "not an indicator's call"),
        (7, BadParameter, "not 7"),
        ({"sma": {"n": [1]}}, BadParameter, r"sma: n is \[1\]"),
    ],
)
def test_what_is_no_indicator_is_named(indicators: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        as_calls(indicators)


def test_the_users_own_indicators_are_found_in_their_folder(tmp_path: Path) -> None:
    text = "create or replace macro mine(Fast := 5, source := 'bars') as table (select symbol, timestamp, 1 as mine);"
    (tmp_path / "mine.sql").write_text(text)
    assert as_calls(["Mine(fast=7)"], tmp_path) == [IndicatorRequest("mine", {"Fast": 7})]


def test_no_library_of_tables_is_imported() -> None:
    """To import one takes longer than most calls."""
    libraries = {"numpy", "pandas", "polars", "sqlglot"}
    code = f"import sys, alchemiser_duck.query.arguments; print({libraries} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
