"""Symbols are read from SQL, and no other text."""

import pytest

from alchemiser_duck.query.symbols_in_sql import NotSql, symbol_literals


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("select * from bars where b.symbol = 'SPY' and name = 'IWM'", ["SPY"]),
        ("from bars where 'SPY' <> symbol or symbol in ('QQQ', 'TLT')", ["SPY", "QQQ", "TLT"]),
        ("from bars where symbol = any(['SPY', 'QQQ'])", ["SPY", "QQQ"]),
        ("create or replace macro f(n := 20) as table (from bars where symbol = 'SPY')", ["SPY"]),
        ("comment on view v is 'symbol = ''SPY'''", []),
        ("from rsi(14) -- symbol = 'SPY'", []),
    ],
)
def test_literals_beside_symbol_are_read_with_their_offsets(text: str, symbols: list[str]) -> None:
    literals = symbol_literals(text)
    assert sorted({symbol for symbol, _ in literals}) == sorted(symbols)
    for symbol, offset in literals:
        assert text[offset:].startswith(f"'{symbol}'")


def test_text_that_does_not_parse_says_where() -> None:
    with pytest.raises(NotSql) as caught:
        symbol_literals("select *\nfrom (")
    assert caught.value.line == 2
