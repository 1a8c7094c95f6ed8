"""The linter refuses harm and look-ahead, and passes sound files."""

import ast
import re
from pathlib import Path

import pytest
from conftest import MORNING
from hypothesis import given, settings
from hypothesis import strategies as st
from sql_file_cases import HARMFUL, OVER, SEES_THE_FUTURE, SOUND, file, macro, of_bars

from alchemiser_duck import CachedMarketDataAdapter, Settings
from alchemiser_duck.errors import SettingsError
from alchemiser_duck.query import linter
from alchemiser_duck.query.catalogue import SqlFile, built_in_files, built_in_names
from alchemiser_duck.query.definitions import in_loading_order
from alchemiser_duck.query.linter import lint
from alchemiser_duck.query.look_back import bar_counts, infer_look_back

KNOWN = built_in_names()


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_indicator_passes_and_loads(name: str, stored_settings: Settings, tmp_path: Path) -> None:
    assert lint([file(SOUND[name])], KNOWN) == []
    (tmp_path / "mine.sql").write_text(SOUND[name])
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}), clock=lambda: MORNING)
    call = "mine" if "view mine" in SOUND[name] else "mine()"
    assert adapter.sql(f"select count(mine) > 10 from {call} where symbol = 'FB'").fetchall()[0] == (True,)


@pytest.mark.parametrize("name", SEES_THE_FUTURE)
def test_what_could_see_the_future_is_refused_with_its_line(name: str) -> None:
    errors = lint([file("-- mine: a header\n" + SEES_THE_FUTURE[name])], KNOWN)
    assert errors, "it got through"
    assert all(error.line >= 3 for error in errors)
    assert str(errors[0]).startswith("mine.sql:3: ")


@pytest.mark.parametrize("view", ["anomalies", "findings", "freshness", "gaps", "symbols"])
def test_views_that_know_the_future_are_no_input(view: str) -> None:
    body = (
        "select b.symbol, b.timestamp, 1 as mine from query_table(source) as b "
        f"left join {view} as v on b.symbol = v.symbol and b.timestamp = v.timestamp"
    )
    [error] = lint([file("-- mine: a header\n" + macro(body))], KNOWN)
    assert f"{view} is allowed to look ahead" in str(error)


@pytest.mark.parametrize("name", SEES_THE_FUTURE)
def test_research_labels_pass_with_a_reason(name: str) -> None:
    header = "-- mine: forward return\n-- allows look-ahead: a label for training\n"
    assert lint([file(header + SEES_THE_FUTURE[name])], KNOWN) == []
    assert lint([file("-- allows look-ahead:\n" + SEES_THE_FUTURE[name])], KNOWN), "a reason is needed"


def test_what_reads_a_research_label_is_refused_too() -> None:
    label = file("-- allows look-ahead: a label\n" + of_bars(f"lead(close) {OVER})"))
    for source in ("mine()", "sma(20, source := 'mine')"):
        reader = file(f"create or replace view other as select symbol, timestamp from {source};", "other")
        errors = lint([reader, label], KNOWN)
        assert [error.path.name for error in errors] == ["other.sql"]
        assert "allowed to look ahead" in errors[0].reason


@pytest.mark.parametrize("name", HARMFUL)
def test_what_could_do_harm_is_refused_even_as_a_research_label(name: str) -> None:
    for header in ("", "-- allows look-ahead: trust me\n"):
        assert lint([file(header + HARMFUL[name])], KNOWN), "it got through"


SEEN_TO_BE_SOUND = {"max_drawdown"}
"""looks to the end of a block, but uses it after that end only: test_indicators.py takes later bars away"""


def test_the_built_in_indicators_pass_their_own_rules() -> None:
    """The rules hold for the layer too."""
    indicators = [indicator for indicator in built_in_files() if indicator.is_indicator]
    errors = [error for error in lint(indicators, KNOWN) if error.path.stem not in SEEN_TO_BE_SOUND]
    assert errors == []


def test_files_are_ordered_by_what_they_read_and_circles_are_named() -> None:
    def view(name: str, reads: str) -> SqlFile:
        return file(f"create or replace view {name} as select symbol, timestamp from {reads};", name)

    ordered = in_loading_order([view("c", "b"), view("a", "bars"), view("b", "a")])
    assert [ordered_file.name for ordered_file in ordered] == ["a", "b", "c"]
    with pytest.raises(SettingsError, match=r"in a circle: a -> b -> a"):
        in_loading_order([view("a", "b"), view("b", "a")])


def test_a_user_s_file_never_shadows_a_built_in_one(stored_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "RSI.sql").write_text(macro("select 1", name="rsi"))
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}))
    with pytest.raises(SettingsError, match=r"has the name of the built-in .*rsi\.sql: rename it"):
        adapter.sql("from bars")


def test_a_refused_file_stops_every_read_and_says_where(stored_settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "mine.sql").write_text("-- mine: x\n" + SEES_THE_FUTURE["lead"])
    (tmp_path / "binary.sql").write_bytes(b"\xff\xfe\x00")
    adapter = CachedMarketDataAdapter(stored_settings.model_copy(update={"sql_dir": tmp_path}))
    with pytest.raises(SettingsError, match=r"binary\.sql cannot be read as text"):
        adapter.sql("from bars")
    (tmp_path / "binary.sql").unlink()
    with pytest.raises(SettingsError, match=r"mine\.sql:3: lead\(\) sees the future"):
        adapter.sql("from bars")


def rules() -> list[str]:
    """Return the reason of every rule in the linter, as a pattern."""
    tree = ast.parse(Path(linter.__file__).read_text())
    patterns = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple):
            reason = node.value.elts[1]
            parts = reason.values if isinstance(reason, ast.JoinedStr) else [reason]
            patterns.append(
                "".join(re.escape(part.value) if isinstance(part, ast.Constant) else ".*" for part in parts)
            )
    return patterns


def test_every_rule_fires() -> None:
    """A version of sqlglot that renames a node would silence a rule."""
    label = file("-- allows look-ahead: a label\n" + of_bars("close", "").replace("mine", "label"), "label")
    reader = file(of_bars("close").replace("query_table(source)", "label()"))
    reasons = {error.reason for error in lint([label, reader], KNOWN)}
    for text in (*SEES_THE_FUTURE.values(), *HARMFUL.values()):
        reasons |= {error.reason for error in lint([file(text)], KNOWN)}
    reasons |= {error.reason for error in lint([file(macro("from bars", "read_parquet"), "read_parquet")], KNOWN)}
    silent = [rule for rule in rules() if not any(re.fullmatch(rule, reason) for reason in reasons)]
    assert len(rules()) > 20
    assert silent == []


@pytest.mark.parametrize("name", ["read_parquet", "Read_CSV", "sum", "duckdb_secrets", "now", "unnest"])
def test_a_file_is_not_named_like_a_function_of_duckdb(name: str) -> None:
    """A call of DuckDB's function would be taken for the user's own."""
    [error] = lint([file(macro("select symbol, timestamp, close from query_table(source)", name), name)], KNOWN)
    assert f"{name.lower()} is a function of DuckDB: rename the file" in error.reason


@pytest.mark.parametrize(
    ("look_back", "says"),
    [
        ("(select count(*) from bars)", "it may hold"),
        ("n in (select 1)", "it may hold"),
        ("max(n)", "it may hold"),
        ("getenv('HOME')", "it may hold"),
        ("random() * n", "it may hold"),
        ("sma_look_back(n)", "it may hold"),
        ("m - 1", "names m, which is no parameter; mine takes n := 5"),
        ("n.x", "names n.x, which is no parameter"),
        ("n -", "cannot be read"),
        ("n - 1) or (1", "cannot be read"),
        ("n; drop view bars", "a comment or a semicolon"),
        ("n -- bars", "a comment or a semicolon"),
        ("n as x", "it may hold"),
    ],
)
def test_a_look_back_is_arithmetic_and_nothing_else(look_back: str, says: str) -> None:
    """It is evaluated before any bar is read."""
    [error] = lint([file(f"-- mine: the close\n-- look-back: {look_back}\n" + of_bars("close"))], KNOWN)
    assert error.line == 2
    assert says in error.reason


@pytest.mark.parametrize(
    "look_back",
    [
        "0",
        "n - 1",
        "2 * wilder_look_back(n) + n // 2 % 7",
        "greatest(n, ceil(ln(n)), floor(log(n)), pow(n, 2), n ^ 2, sqrt(n), 3)",
        "least(cast(n / 2 as integer), N::bigint)",
        "case when n > 5 and source = 'bars' then 6 else ema_look_back(n) end",
    ],
)
def test_arithmetic_over_the_parameters_is_a_look_back(look_back: str) -> None:
    assert lint([file(f"-- look-back: {look_back}\n" + of_bars("close"))], KNOWN) == []


@settings(max_examples=300, deadline=None)
@given(
    text=st.sampled_from([*SOUND.values(), *SEES_THE_FUTURE.values()]),
    cut=st.tuples(st.integers(0, 400), st.integers(0, 30)),
    put=st.sampled_from(["", "(", ")", "'", '"', ";", "--", "/*", "$$", "over", ",", "\x00", "é", "select", "\n", "}"]),
)
def test_a_damaged_file_is_an_error_with_a_line_and_never_a_crash(text: str, cut: tuple[int, int], put: str) -> None:
    start, length = cut
    damaged = text[:start] + put + text[start + length :]
    for error in lint([file(damaged), file("-- look-back: " + damaged)], KNOWN):
        assert 1 <= error.line <= damaged.count("\n") + 2


def test_a_file_that_cannot_be_read_is_a_settings_error_everywhere() -> None:
    """Look-backs are asked for before files are loaded."""
    broken = file("-- mine: x\n" + macro("select symbol,\nfrom where close >"))
    for read in (infer_look_back, bar_counts, lambda one: in_loading_order([one])):
        with pytest.raises(SettingsError, match=r"mine\.sql:\d: "):
            read(broken)
