"""`indicators check`: the linter's rules, a dry run, and experiments that take bars away."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from sql_file_cases import OVER, SEES_THE_FUTURE, SOUND, macro, of_bars

from alchemiser_duck.errors import BadParameter
from alchemiser_duck.query.catalogue import SqlFile, built_in_files
from alchemiser_duck.query.checker import _dry_run, begin, check

# what only the rules see: on the sample bars these do not run, mix symbols but not times, or happen to give the same
BEYOND_THE_EXPERIMENT = {
    *("recursive", "a parameter that hides time", "a pivot", "sample", "tablesample", "asof join"),
    "tablesample in a nested query",
    *("a column as offset", "distinct on", "exists", "in a query", "positional join", "no partition"),
}


@pytest.mark.parametrize("name", SOUND)
def test_sound_indicators_have_no_errors(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(SOUND[name])
    assert check(tmp_path / "mine.sql") == []


@pytest.mark.parametrize("name", sorted(set(SEES_THE_FUTURE) - BEYOND_THE_EXPERIMENT))
def test_the_experiment_alone_finds_what_the_rules_refuse(name: str) -> None:
    """Sample bars show the fault without the linter's rules."""
    errors = _dry_run([SqlFile(Path("mine.sql"), SEES_THE_FUTURE[name])])
    assert errors, "it got through"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            macro("select symbol, close as mine from query_table(source)"),
            "expected symbol, timestamp and at least one value",
        ),
        (
            macro("select symbol, timestamp, nonsense(close) as mine from query_table(source)"),
            "does not run on sample bars",
        ),
        (
            macro(
                "select symbol, timestamp, close as mine from bars union all select symbol, timestamp, open from bars"
            ),
            "must name the same columns",
        ),
        (
            macro(
                "select symbol, timestamp, 2 as mine from bars union all select symbol, timestamp, 1 as mine from bars"
            ),
            "twice",
        ),
        (
            macro("select symbol, timestamp, close::date as mine from query_table(source)"),
            "does not run on sample bars",
        ),
    ],
)
def test_what_does_not_fit_is_found(text: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(text)
    errors = check(tmp_path)
    assert len(errors) == 1
    assert says in errors[0].reason


@pytest.mark.parametrize(
    ("look_back", "value"),
    [
        ("n - 2", f"avg(close) {OVER} rows between n - 1 preceding and current row)"),
        ("18", f"avg(close) {OVER} rows between 18 preceding and current row) / lag(close, n) {OVER})"),
        ("4", f"lag(close, n) {OVER})"),  # right for the default, and for it alone
        ("n - 2", f"max(high) {OVER} rows between n - 1 preceding and current row)"),
        ("0", f"row_number() {OVER})"),
        ("-1", "close"),
        ("n", f"case when count(close) {OVER}) > n + 1 then 1 end"),
        # conditions, which most bars do not tell
        ("30", f"close > avg(close) {OVER} rows between 40 preceding and current row)"),
        ("60", f"max(close) {OVER} rows between 70 preceding and current row) > 3 * close"),
        ("60", f"min(low) {OVER} rows between 70 preceding and current row) < low / 3"),
        ("60", f"max(volume) {OVER} rows between 62 preceding and current row) > 5000000"),
        (
            "20",
            f"(close > lag(close) {OVER}))::integer + count(close) {OVER} rows between 21 preceding and current row)",
        ),
    ],
)
def test_a_look_back_that_is_too_short_is_found(look_back: str, value: str, tmp_path: Path) -> None:
    """`latest` reads no more than that: its values would not be those of SQL."""
    (tmp_path / "mine.sql").write_text(f"-- mine: a value\n-- look-back: {look_back}\n{of_bars(value)}")
    [error] = check(tmp_path)
    assert error.line == 2
    assert f"look-back {look_back!r} is " in error.reason


@pytest.mark.parametrize(
    ("look_back", "value"),
    [
        ("n - 1", f"avg(close) {OVER} rows between n - 1 preceding and current row)"),
        ("n + 30", f"stddev_pop(close) {OVER} rows between n - 1 preceding and current row)"),
        ("0", "rank() over (partition by timestamp order by close)"),
        ("6000", f"lag(close, n) {OVER})"),  # more than is tried out
    ],
)
def test_a_look_back_that_is_long_enough_is_none(look_back: str, value: str, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(f"-- look-back: {look_back}\n{of_bars(value)}")
    assert check(tmp_path) == []


@pytest.mark.parametrize("name", ["ema", "rsi", "macd", "stochrsi", "ma"])
def test_the_layers_own_look_backs_are_long_enough(name: str, tmp_path: Path) -> None:
    text = next(own for own in built_in_files() if own.name == name).text
    (tmp_path / f"my_{name}.sql").write_text(text.replace(f"macro {name}(", f"macro my_{name}(").split("comment on")[0])
    assert check(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("-- mine: x\n-- look-back: n -\n" + of_bars("close"), 2),
        ("-- mine: x\n" + macro("select symbol, timestamp,\nclose close close from bars"), 4),
        ("-- mine: x\n" + macro("select (((\nfrom bars"), 5),
    ],
)
def test_a_syntax_error_is_found_with_its_line(text: str, line: int, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text(text)
    [error] = check(tmp_path)
    assert error.line == line
    checked = run("check", "mine.sql", folder=tmp_path)
    assert (checked.returncode, checked.stdout) == (4, f"mine.sql:{line}: {error.reason}\n")
    assert "Traceback" not in checked.stderr


def test_the_template_is_sound_and_never_overwrites(tmp_path: Path) -> None:
    path = begin("my_signal", tmp_path)
    assert check(path) == []
    with pytest.raises(BadParameter, match="left as it is"):
        begin("my_signal", tmp_path)
    for name in ("Rsi", "my signal", "x;y", "über", "1st"):
        with pytest.raises(BadParameter, match="is not a name"):
            begin(name, tmp_path)
    with pytest.raises(BadParameter, match="built in"):
        begin("rsi", tmp_path)
    with pytest.raises(BadParameter, match="built in"):
        begin("read_parquet", tmp_path)


def test_a_folder_without_sql_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.sql"):
        with pytest.raises(BadParameter, match="indicators new"):
            check(path)


def run(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "alchemiser_duck", "indicators", *arguments],
        cwd=folder,
        env={name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_commands_take_an_indicator_from_idea_to_checked(tmp_path: Path) -> None:
    assert run("new", "my_signal", folder=tmp_path).stdout == "my_signal.sql\n"
    checked = run("check", "my_signal.sql", folder=tmp_path)
    assert (checked.returncode, checked.stdout) == (0, "")
    (tmp_path / "bad.sql").write_text(SEES_THE_FUTURE["lead"].replace("mine", "bad"))
    checked = run("check", ".", folder=tmp_path)
    assert checked.returncode == 4
    assert checked.stdout == "bad.sql:2: lead() sees the future\n"
    assert run("show", "sma", folder=tmp_path).stdout.strip() == (ROOT / "sql/indicators/sma.sql").read_text().strip()
    assert "did you mean sma" in run("show", "smma", folder=tmp_path).stderr
    listed = json.loads(run("--format", "json", folder=tmp_path).stdout)
    assert {"sma", "rsi", "my_signal"} - {row["name"] for row in listed} == {"my_signal"}  # not in ALCHEMISER_SQL_DIR
