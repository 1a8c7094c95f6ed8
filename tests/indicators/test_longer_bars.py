"""Weekly and monthly bars: what pandas makes of the daily ones; a running period is marked."""

from datetime import date, timedelta

import pandas as pd
import pytest

from alchemiser_duck import CachedMarketDataAdapter

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize(("relation", "frequency"), [("bars_weekly", "W-SUN"), ("bars_monthly", "ME")])
def test_longer_bars_equal_pandas_resampling(adapter: CachedMarketDataAdapter, relation: str, frequency: str) -> None:
    for symbol in ("AAPL", "IBM"):
        daily = adapter.bars([symbol]).df().set_index("date")
        daily.index = pd.to_datetime(daily.index)
        daily["value"] = daily.vwap * daily.volume
        expected = (
            daily.assign(last=daily.index)
            .resample(frequency)
            .agg(
                {
                    "last": "max",
                    "open": "first",
                    "high": "max",
                    "low": "min",
                    "close": "last",
                    "value": "sum",
                    "volume": "sum",
                    "trade_count": "sum",
                    "timestamp": "max",
                }
            )
            .dropna(subset="close")
        )
        ours = adapter.sql(f"from {relation} where symbol = $1 order by timestamp", [symbol]).df()
        assert len(ours) == len(expected)
        for column in ("open", "high", "low", "close", "volume", "trade_count"):
            assert (ours[column].to_numpy() == expected[column].to_numpy()).all()
        assert (pd.to_datetime(ours["date"]).to_numpy() == expected["last"].to_numpy()).all()
        assert (ours["timestamp"].to_numpy() == expected["timestamp"].to_numpy()).all()
        assert ours["vwap"].to_numpy() == pytest.approx((expected["value"] / expected["volume"]).to_numpy(), rel=1e-12)
        assert ours["is_complete"].to_list()[:-1] == [True] * (len(ours) - 1)


def completeness(adapter: CachedMarketDataAdapter, relation: str, day: date) -> bool:
    query = f"select is_complete from {relation} where symbol = 'IBM' order by timestamp desc limit 1"
    return bool(adapter.as_of(day).sql(query).fetchall()[0][0])


def test_a_period_is_complete_on_its_last_weekday_or_when_a_later_bar_is_there(
    adapter: CachedMarketDataAdapter,
) -> None:
    monday = date(2025, 6, 23)
    days = [monday + timedelta(days=n) for n in range(5)]
    assert [completeness(adapter, "bars_weekly", day) for day in days] == [False, False, False, False, True]
    assert not completeness(adapter, "bars_monthly", date(2025, 5, 29))
    assert completeness(adapter, "bars_monthly", date(2025, 5, 30))  # a Friday, the 31st is no weekday
    assert completeness(adapter, "bars_monthly", date(2025, 6, 30))


def test_a_longer_bar_is_a_source_like_any_other(adapter: CachedMarketDataAdapter) -> None:
    weekly = adapter.indicator("rsi", ["IBM"], source="bars_weekly", n=14).fetchall()
    assert len(weekly) == adapter.sql("select count(*) from bars_weekly where symbol = 'IBM'").fetchall()[0][0]
    assert [row[2] is None for row in weekly[:16]] == [True] * 14 + [False] * 2
    in_sql = adapter.sql("select rsi from rsi(14, source := 'bars_weekly') where symbol = 'IBM' order by timestamp")
    assert [row[2] for row in weekly] == [row[0] for row in in_sql.fetchall()]
    table = adapter.indicators_table({"rsi": {"n": 14}}, ["IBM"], source="bars_weekly")
    assert table.fetchall() == weekly


def test_a_rank_across_the_universe_is_one_statement(adapter: CachedMarketDataAdapter) -> None:
    """As in sql/README.md: the rank of rsi(14) among all symbols of each day."""
    rows = adapter.sql(
        "select timestamp, symbol, rsi, rank() over (partition by timestamp order by rsi desc) as place "
        "from rsi(14) where rsi is not null qualify place <= 2 order by timestamp, place"
    ).df()
    wide = adapter.sql("select timestamp, symbol, rsi from rsi(14) where rsi is not null").df()
    places = wide.groupby("timestamp")["rsi"].rank(ascending=False, method="min")
    expected = wide[places <= 2].assign(place=places).sort_values(["timestamp", "place"])
    assert rows["place"].to_list() == expected["place"].astype(int).to_list()
    assert sorted(rows["rsi"]) == sorted(expected["rsi"])
