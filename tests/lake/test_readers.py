"""A call that is refused leaves nothing behind, and a forked process says what to do instead of hanging."""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import date

import pytest
from conftest import MORNING, bar_rows, bar_table

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import AlchemiserDuckError

DAYS = calendar.sessions(date(2024, 1, 3), date(2025, 7, 15))

REFUSED: dict[str, Callable[[CachedMarketDataAdapter], object]] = {
    "a column twice": lambda a: a.indicators_table({"sma": [{"n": 20}, {"n": 20}]}, ["AAPL"]),
    "a column twice, newest": lambda a: a.indicators_table({"sma": [{"n": 20}, {"n": 20}]}, ["AAPL"], latest=True),
    "explained": lambda a: a.explain({"sma": [{"n": 20}, {"n": 20}]}, ["AAPL"]),
    "no indicator": lambda a: a.indicators_table({}, ["AAPL"]),
    "an unknown indicator": lambda a: a.latest("smaa", ["AAPL"]),
    "an unknown parameter": lambda a: a.indicator("sma", ["AAPL"], window=3),
    "a parameter out of range": lambda a: a.indicator("sma", ["AAPL"], n=0),
    "a parameter out of range, newest": lambda a: a.latest("rsi", ["AAPL"], n=-1),
    "a parameter out of range, in a panel": lambda a: a.indicators_table({"sma": {"n": 0}, "rsi": {}}),
    "an unknown relation": lambda a: a.latest("sma", ["AAPL"], source="bar"),
    "an unknown symbol": lambda a: a.bars(["NOPE"]),
    "an unknown symbol among others": lambda a: a.latest("sma", ["AAPL", "NOPE"]),
    "an unknown symbol's bars": lambda a: a.get_bars("NOPE"),
    "a bad period": lambda a: a.get_bars("AAPL", "1 fortnight"),
    "a bad day": lambda a: a.bars(["AAPL"], start="soon"),
    "days the wrong way round": lambda a: a.indicator("sma", ["AAPL"], "2025-02-01", "2025-01-01"),
    "newest of a range": lambda a: a.indicators_table({"sma": {}}, start="2025-01-01", latest=True),
    "a symbol that is a number": lambda a: a.latest("sma", [5]),  # type: ignore[list-item]
    "SQL that is not": lambda a: a.sql("select ] from bars"),
    "SQL that fails while it runs": lambda a: a.sql("select error('no') from bars"),
    "SQL with an unknown column": lambda a: a.sql("select nothing from bars"),
    "SQL out of reach": lambda a: a.sql("from read_csv('/etc/passwd')"),
    "symbols to warm": lambda a: a.warm_cache(["NOPE"]),
}


@pytest.fixture
def small(settings: Settings) -> Settings:
    store = MarketDataStore(settings)
    store.write_bars(bar_table(bar_rows("AAPL", DAYS) + bar_rows("IBM", DAYS, 50.0)))
    store.actions.merge([], date(2025, 7, 15), everything=True)
    return settings


def test_no_refused_call_leaves_a_reader(small: Settings) -> None:
    adapter = CachedMarketDataAdapter(small, clock=lambda: MORNING)
    adapter.bars().fetchall()
    for name, call in REFUSED.items():
        with pytest.raises(AlchemiserDuckError):
            call(adapter)
        objects = adapter._session.mirror._objects.values()
        assert [cached.readers for cached in objects] == [0] * len(objects), name
    assert adapter.get_bars("AAPL", "1M")


def test_a_lost_local_copy_is_fetched_again(small: Settings) -> None:
    """A cleaned temporary folder costs a request, not the process."""
    adapter = CachedMarketDataAdapter(small, clock=lambda: MORNING)
    expected = adapter.bars(["AAPL"]).fetchall()
    for path in adapter._session.mirror.folder.rglob("*.parquet"):
        path.unlink()
    assert adapter.bars(["AAPL"], start="2024-01-01").fetchall() == expected


def test_a_damaged_local_copy_is_fetched_again(small: Settings) -> None:
    adapter = CachedMarketDataAdapter(small, clock=lambda: MORNING)
    expected = adapter.bars(["AAPL"]).fetchall()
    for path in adapter._session.mirror.folder.rglob("bars.parquet"):
        path.write_bytes(path.read_bytes()[:200])
    assert adapter.bars(["AAPL"], start="2024-01-01").fetchall() == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("anew", [False, True], ids=["the same adapter", "a new one"])
def test_a_fork_after_the_first_read_says_what_to_do(small: Settings, *, anew: bool) -> None:
    code = (
        "import os, sys\n"
        "from alchemiser_duck import CachedMarketDataAdapter\n"
        "from alchemiser_duck.errors import AlchemiserDuckError\n"
        "adapter = CachedMarketDataAdapter()\n"
        "adapter.get_bars('AAPL', '1M')\n"
        "if child := os.fork():\n"
        "    print(os.waitpid(child, 0)[1]); print(len(adapter.get_bars('AAPL', 'MAX')) > 0); sys.exit()\n"
        "try:\n"
        f"    {'CachedMarketDataAdapter()' if anew else 'adapter'}.get_bars('IBM', '1M')\n"
        "except AlchemiserDuckError as problem:\n"
        "    print(problem, flush=True)\n"
        "os._exit(0)\n"
    )
    environment = os.environ | {
        "MARKET_DATA_BUCKET": small.market_data_bucket,
        "AWS_ENDPOINT_URL_S3": str(small.endpoint_url),
    }
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    told, *rest = ended.stdout.splitlines()
    assert "does not survive a fork" in told
    assert "multiprocessing.get_context('spawn')" in told
    assert rest == ["0", "True"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_before_the_first_read_reads(small: Settings) -> None:
    code = (
        "import os\n"
        "from alchemiser_duck import CachedMarketDataAdapter\n"
        "adapter = CachedMarketDataAdapter()\n"
        "child = os.fork()\n"
        "print(len(adapter.get_bars('AAPL', 'MAX')), flush=True)\n"
        "child and os.waitpid(child, 0)\n"
        "os._exit(0)\n"
    )
    environment = os.environ | {
        "MARKET_DATA_BUCKET": small.market_data_bucket,
        "AWS_ENDPOINT_URL_S3": str(small.endpoint_url),
    }
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    assert ended.stdout.split() == [str(len(DAYS))] * 2
