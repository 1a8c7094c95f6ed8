"""Symbols come out of files completely, or as a located error."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alchemiser_duck.errors import BadParameter, CryptoPair, MalformedFile
from alchemiser_duck.strategies.s_expressions import Atom, Group, read_forms
from alchemiser_duck.symbol_extractor import Extraction, IndicatorUse, SymbolExtractor, alpaca_symbol

STRATEGY = r"""
; "QQQ" in a comment, (asset "DIA")
(defsymphony
 "TQQQ For The Long Term"
 {:asset-class "EQUITIES", :rebalance-threshold 0.05}
 (weight-equal
  [(if
    (> (current-price "SPY") (moving-average-price "SPY" {:window 200}))
    [(if (> (rsi "TQQQ" {:window 10}) 79)
      [(asset "UVXY" "ProShares \"Ultra\" VIX (not IWM)")]
      [(group "GLD" [(filter (rsi {:window 12}) (select-top 1) [(asset "BRK/B" "x") (asset "TLT")])])])]
    [(weight-inverse-volatility 14 [(asset "BTC/USD") #_(asset "NOPE") (asset "BIL" "BIL")])
     (weight-specified 0.5 (asset "IEF") 0.5 (asset "SHY"))
     (comment (asset "ALSO_NOT"))
     (filter (max-drawdown "EEM" {:window 30}) (select-bottom 2) ^{:note "VTI"} [(asset "EFA")])])]))
"""

SYMPHONY = {
    "step": "root",
    "name": "QQQ",
    "children": [
        {
            "step": "if",
            "children": [
                {
                    "step": "if-child",
                    "lhs-fn": "relative-strength-index",
                    "lhs-fn-params": {"window": 10},
                    "lhs-val": "TQQQ",
                    "rhs-fixed-value?": True,
                    "rhs-val": "79",
                    "children": [{"step": "asset", "ticker": "EQUITIES::SPY//USD", "name": "IWM 😀"}],
                },
                {
                    "step": "if-child",
                    "is-else-condition?": True,
                    "children": [
                        {
                            "step": "filter",
                            "sort-by-fn": "cumulative-return",
                            "sort-by-fn-params": {"window": 5},
                            "children": [
                                {"step": "asset", "ticker": "TLT"},
                                {"step": "asset", "ticker": "CRYPTO::BTC//USD"},
                            ],
                        }
                    ],
                },
                {
                    "step": "if-child",
                    "lhs-fn": "moving-average-price",
                    "lhs-window-days": "20",
                    "lhs-val": "BRK/B",
                    "rhs-fn": "current-price",
                    "rhs-val": "GLD",
                    "children": [],
                },
            ],
        }
    ],
}


def extract(folder: Path, name: str, text: str) -> Extraction:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return SymbolExtractor().extract(path)


def uses(extraction: Extraction) -> dict[str, list[str]]:
    return {extracted.symbol: [str(use) for use in extracted.indicators] for extracted in extraction.symbols}


def test_a_strategy_gives_its_assets_and_what_is_computed_of_them(tmp_path: Path) -> None:
    extraction = extract(tmp_path, "s.clj", STRATEGY)
    assert uses(extraction) == {
        "BIL": ["weight-inverse-volatility(14)"],
        "BRK.B": ["rsi(12)"],
        "EEM": ["max-drawdown(30)"],
        "EFA": [],
        "IEF": [],
        "SHY": [],
        "SPY": ["current-price", "moving-average-price(200)"],
        "TLT": ["rsi(12)"],
        "TQQQ": ["rsi(10)"],
        "UVXY": [],
    }
    assert [(left_out.text, left_out.place.line) for left_out in extraction.left_out] == [("BTC/USD", 12)]


def test_every_symbol_says_where_it_was_seen(tmp_path: Path) -> None:
    extraction = extract(tmp_path, "s.clj", STRATEGY)
    lines = STRATEGY.split("\n")
    for extracted in extraction.symbols:
        for place in extracted.places:
            assert re.match(r'"[A-Z./]+"', lines[place.line - 1][place.column - 1 :]), extracted
    spy = next(extracted for extracted in extraction.symbols if extracted.symbol == "SPY")
    assert [str(place) for place in spy.places] == [f"{tmp_path}/s.clj:8:23", f"{tmp_path}/s.clj:8:52"]
    assert spy.bars_needed == 201


def test_a_symphony_gives_assets_and_both_sides_of_conditions(tmp_path: Path) -> None:
    extraction = extract(tmp_path, "s.json", json.dumps(SYMPHONY, indent=1))
    assert uses(extraction) == {
        "BRK.B": ["moving-average-price(20)"],
        "GLD": ["current-price"],
        "SPY": [],
        "TLT": ["cumulative-return(5)"],
        "TQQQ": ["relative-strength-index(10)"],
    }
    assert [left_out.text for left_out in extraction.left_out] == ["CRYPTO::BTC//USD"]


def test_a_config_names_files_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "strategies"
    folder.mkdir()
    (folder / "a.clj").write_text('(asset "SPY")')
    (tmp_path / "b.clj").write_text('(asset "QQQ")')
    config = '{"files": ["a.clj", "b.clj", "a.clj"], "allocations": {"a.clj": 0.5}}'
    assert extract(tmp_path, "config.json", config).names == ["QQQ", "SPY"]
    with pytest.raises(MalformedFile, match=r"config\.json:2:12: there is no file 'c\.clj'"):
        extract(tmp_path, "config.json", '{\n "files": ["c.clj"]}')


def test_a_config_finds_a_file_somewhere_in_strategies(tmp_path: Path) -> None:
    for name, symbol in (("one", "SPY"), ("two", "QQQ")):
        (tmp_path / "strategies" / name).mkdir(parents=True)
        (tmp_path / "strategies" / name / f"{name}.clj").write_text(f'(asset "{symbol}")')
    (tmp_path / "config").mkdir()
    assert extract(tmp_path / "config", "prod.json", '{"files": ["one.clj", "two/two.clj"]}').names == ["QQQ", "SPY"]
    (tmp_path / "strategies" / "two" / "one.clj").write_text('(asset "DIA")')
    with pytest.raises(MalformedFile, match=r"prod\.json:1:12: 'one.clj' could be any of .*one/one.clj, .*two/one.clj"):
        extract(tmp_path / "config", "prod.json", '{"files": ["one.clj"]}')


def test_a_manifest_beside_strategies_is_left_out_with_a_note(tmp_path: Path) -> None:
    (tmp_path / "a.clj").write_text('(asset "SPY" nil)')
    (tmp_path / "_manifest.json").write_text('{"description": "QQQ", "groups": []}')
    extraction = SymbolExtractor().extract(tmp_path)
    assert extraction.names == ["SPY"]
    assert [left_out.text for left_out in extraction.left_out] == ["_manifest.json"]
    (tmp_path / "broken.json").write_text('{"description": ')
    with pytest.raises(MalformedFile, match=r"broken\.json:1:17: this is not JSON"):
        SymbolExtractor().extract(tmp_path)


def test_a_window_may_stand_without_its_name(tmp_path: Path) -> None:
    text = '(if (> (rsi "SPY" 14) 70) (filter (rsi 9) (select-top 1) [(asset "EQUITIES::TLT//USD")]) (asset "BIL"))'
    assert uses(extract(tmp_path, "s.clj", text)) == {"SPY": ["rsi(14)"], "TLT": ["rsi(9)"], "BIL": []}
    inverse = '(weight-inverse-vol 10 [(asset "SPY") (volatility "GLD")])'
    assert uses(extract(tmp_path, "s.clj", inverse)) == {"SPY": ["weight-inverse-vol(10)"], "GLD": ["volatility"]}


def test_a_folder_is_all_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "deep" / "a.clj").write_text('(asset "SPY")')
    (tmp_path / ".hidden" / "b.clj").write_text('(asset "NOPE")')
    (tmp_path / "list.txt").write_text("QQQ\n")
    (tmp_path / "README.md").write_text("# DIA\n")
    assert SymbolExtractor().extract(tmp_path).names == ["QQQ", "SPY"]


def test_sql_gives_the_literals_compared_with_symbol(tmp_path: Path) -> None:
    query = """
    create or replace macro f(n := 20, source := 'bars') as table (
        select * from query_table(source) as b where b.symbol = 'SPY' and symbol in ('QQQ', 'BRK-B') and name = 'IWM'
    );
    comment on macro table f is 'about symbol = ''DIA''';
    -- symbol = 'XLE'
    select * from bars where 'GLD' = symbol or (symbol <> 'TLT' and close > 3)
    """
    extraction = extract(tmp_path, "q.sql", query)
    assert extraction.names == ["BRK.B", "GLD", "QQQ", "SPY", "TLT"]
    for extracted in extraction.symbols:
        place = extracted.places[0]
        assert query.split("\n")[place.line - 1][place.column - 1] == "'"
    assert extract(tmp_path, "all.sql", "select * from rsi(14)").names == []


@pytest.mark.parametrize(
    ("name", "text", "symbols"),
    [
        ("l.txt", "SPY, QQQ # DIA\n\nBRK/B;IWM\tNULL", ["BRK.B", "IWM", "NULL", "QQQ", "SPY"]),
        ("l.csv", "name,Symbol\nSpider,SPY\n,BRK-B\n", ["BRK.B", "SPY"]),
        ("l.csv", "SPY\nNA\n", ["NA", "SPY"]),
        ("l.json", '["SPY", "TRUE"]', ["SPY", "TRUE"]),
        ("l.json", '{"symbols": ["SPY"]}', ["SPY"]),
        ("l.json", '[{"ticker": "SPY", "weight": 1}]', ["SPY"]),
        ("l.yaml", "- NO\n- ON\n- NULL\n- BRK/B\n", ["BRK.B", "NO", "NULL", "ON"]),
        ("l.yml", "symbols: [SPY, 'QQQ']\n", ["QQQ", "SPY"]),
        ("l.edn", '[(rsi "SPY" {:window 3}) (my-signal "QQQ" {:window 9})]', ["QQQ", "SPY"]),
    ],
)
def test_lists_give_their_symbols(tmp_path: Path, name: str, text: str, symbols: list[str]) -> None:
    assert extract(tmp_path, name, text).names == symbols


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("f.clj", '(asset "SPY"\n [1 2)', r":2:6: '\)' closes nothing here: '\]' is missing for the bracket at .*:2:2"),
        ("f.clj", '(asset "SPY"', r":1:1: this bracket is never closed"),
        ("f.clj", '(asset "SPY', r":1:8: this string never ends"),
        ("f.clj", '(asset "SPY"))', r":1:14: '\)' closes nothing here: nothing is open"),
        ("f.clj", '(rsi "SPY" {:window})', r":1:12: a map needs a value for every key"),
        ("f.clj", '(rsi "SPY" {:window x})', r":1:21: :window takes a number of bars"),
        ("f.clj", "(asset ticker)", r":1:1: \(asset …\) takes a symbol as text"),
        ("f.clj", "(rsi ticker {:window 3})", r":1:1: \(rsi …\) takes a symbol as text"),
        ("f.clj", '(hold "SPY")', r":1:1: \(hold \"SPY\" …\) is not known"),
        ("f.clj", '(asset "not a ticker")', r":1:8: 'not a ticker' is not a ticker"),
        ("f.clj", r'(asset "S\qPY")', r":1:8: the string holds \\q"),
        ("f.clj", "; only a comment", r":1:1: there is no symbol in this file"),
        ("f.sql", "select *\nfrom (", r"f\.sql:\d+:\d+: this is not SQL"),
        ("f.json", '{"a": 1,\n "symbols" ["SPY"]}', r":2:12: this is not JSON"),
        ("f.json", '{"symbols": ["SPY"], "symbols": []}', r":1:1: the key 'symbols' stands here twice"),
        ("f.json", '{"something": "else"}', r":1:1: expected a list of symbols"),
        ("f.json", '["SPY", 3]', r":1:2: the list holds 3 after this place"),
        ("f.yaml", "symbols: [SPY\n", r":2:1: this is not YAML"),
        ("f.yaml", "symbols: [SPY]\nsymbols: []\n", r":1:1: the key 'symbols' stands here twice"),
        ("f.txt", "SPY\nspy", r":2:1: 'spy' is not a ticker"),
        ("f.csv", "a,b\nSPY,1\n", r":1:1: no column is called symbol or ticker"),
        ("f.csv", "name,symbol\nSPY\n", r":2:1: the row ends before column 2"),
        ("f.py", "SPY", r":1:1: symbols are read from"),
        ("f.yaml", "- \n", r"the list holds None|'' is not a ticker"),
    ],
)
def test_what_is_malformed_is_an_error_with_its_place(tmp_path: Path, name: str, text: str, complaint: str) -> None:
    with pytest.raises(MalformedFile, match=complaint):
        extract(tmp_path, name, text)


def test_what_is_not_text_or_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f.clj").write_bytes(b'(asset "SPY")\n(asset "\xff")')
    with pytest.raises(MalformedFile, match=r"f\.clj:2:9: this is not UTF-8"):
        SymbolExtractor().extract(tmp_path / "f.clj")
    with pytest.raises(MalformedFile, match="cannot be read: No such file"):
        SymbolExtractor().extract(tmp_path / "none.clj")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MalformedFile, match="no file in this folder ends in"):
        SymbolExtractor().extract(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "symbol"),
    [("BRK/B", "BRK.B"), ("BRK-B", "BRK.B"), ("BRK.B", "BRK.B"), (" SPY ", "SPY"), ("EQUITIES::BF/B//USD", "BF.B")],
)
def test_class_shares_take_alpacas_form(text: str, symbol: str) -> None:
    assert alpaca_symbol(text) == symbol


@pytest.mark.parametrize("text", ["BTC/USD", "ETH-USD", "BTCUSD", "CRYPTO::SOL//USD", "ETH/BTC", "DOGE/USDT"])
def test_crypto_pairs_are_told_apart(text: str) -> None:
    with pytest.raises(CryptoPair):
        alpaca_symbol(text)


@pytest.mark.parametrize("text", ["", "spy", "S PY", "A,B", "../X", "TOOLONGNAME", "1234", "FOO::SPY", "BRK//B/C"])
def test_what_is_no_ticker_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        alpaca_symbol(text)


def test_deep_nesting_is_read(tmp_path: Path) -> None:
    depth = 20_000
    extraction = extract(tmp_path, "deep.clj", "(if x " * depth + '(asset "SPY")' + ")" * depth)
    assert extraction.names == ["SPY"]


ATOMS = st.one_of(
    st.text(max_size=8).map(lambda text: Atom("string", text, None)),  # type: ignore[arg-type]
    st.from_regex(r"[a-z][a-z0-9?!*<>=-]{0,5}", fullmatch=True).map(lambda t: Atom("name", t, None)),  # type: ignore[arg-type]
    st.from_regex(r":[a-z][a-z-]{0,5}", fullmatch=True).map(lambda t: Atom("keyword", t, None)),  # type: ignore[arg-type]
    st.integers(-99, 99).map(lambda number: Atom("number", str(number), None)),  # type: ignore[arg-type]
)
FORMS = st.recursive(
    ATOMS,
    lambda inside: st.tuples(st.sampled_from(["list", "vector", "set"]), st.lists(inside, max_size=4)),
    max_leaves=20,
)


def written(form: object, blank: str) -> str:
    if isinstance(form, Atom):
        escaped = form.text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"' if form.kind == "string" else form.text
    kind, items = form  # type: ignore[misc]
    begin, end = {"list": "()", "vector": "[]", "set": ("#{", "}")}[kind]
    return begin + blank.join(written(item, blank) for item in items) + end


def plain(form: object) -> object:
    if isinstance(form, Atom):
        return form.kind, form.text
    if isinstance(form, Group):
        return form.kind, [plain(item) for item in form.items]
    kind, items = form  # type: ignore[misc]
    return kind, [plain(item) for item in items]


@given(st.lists(FORMS, max_size=4), st.sampled_from([" ", "\n", ", ", " ; no\n", ' #_ [out "x"] ']))
def test_what_is_written_is_what_is_read(forms: list[object], blank: str) -> None:
    text = blank.join(written(form, blank) for form in forms)
    assert [plain(form) for form in read_forms(text, Path("f.clj"))] == [plain(form) for form in forms]


@given(st.text(alphabet=st.sampled_from("()[]{}\"\\;#_^'~@:ab1 \n"), max_size=40))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    complaint = "f.clj:1:1: "
    try:
        read_forms(text, Path("f.clj"))
    except MalformedFile as problem:
        complaint = str(problem)
    assert re.match(r"f\.clj:\d+:\d+: ", complaint)


def test_indicator_uses_read_like_calls() -> None:
    assert [str(IndicatorUse("rsi", 10)), str(IndicatorUse("current-price"))] == ["rsi(10)", "current-price"]
