"""A server that checks SigV4 signatures: the right secret works everywhere, a wrong one is a clear error without it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from conftest import bar_rows, bar_table

from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck.errors import StorageRefused
from alchemiser_duck.lake import credentials

KEY, SECRET = "signature-key", "signature-secret"
DAYS = [date(2025, 1, 2), date(2025, 1, 3)]


@pytest.fixture
def signing_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """`rclone serve s3` with one bucket, market; the environment holds the right credentials."""
    (tmp_path / "market").mkdir()
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = chosen.getsockname()[1]
    program = Path(sys.executable).parent / "rclone"
    arguments = ["serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{KEY},{SECRET}"]
    process = subprocess.Popen(
        [program, *arguments, str(tmp_path)],
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            assert process.poll() is None, "rclone ended"
            time.sleep(0.05)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    credentials.forget()
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait()
    credentials.forget()


def settings_for(url: str) -> Settings:
    return Settings.from_environment(MARKET_DATA_BUCKET="market/lake", AWS_ENDPOINT_URL_S3=url, AWS_REGION="us-east-1")


def test_signed_writes_and_reads_work(signing_server: str) -> None:
    settings = settings_for(signing_server)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS)))
    assert MarketDataStore(settings).read_bars().num_rows == 2
    assert len(CachedMarketDataAdapter(settings).get_bars("AAPL", "MAX")) == 2


def test_the_shell_signs_too(signing_server: str) -> None:
    store = MarketDataStore(settings_for(signing_server))
    store.write_bars(bar_table(bar_rows("AAPL", DAYS)))
    store.actions.merge([], DAYS[-1], everything=True)
    ended = subprocess.run(
        [
            Path(sys.executable).parent / "duckdb",
            "-csv",
            "-init",
            "sql/init.sql",
            "-c",
            "select count(*) as n from bars",
        ],
        env=os.environ | {"MARKET_DATA_BUCKET": "market/lake", "AWS_ENDPOINT_URL_S3": signing_server},
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        check=False,
    )
    assert ended.stdout.splitlines()[-1] == "2", ended.stderr


def test_a_wrong_secret_is_a_clear_error_on_both_sides(signing_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(signing_server)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-secret")
    credentials.forget()
    attempts = [
        lambda: MarketDataStore(settings).write_bars(bar_table(bar_rows("MSFT", DAYS))),
        lambda: CachedMarketDataAdapter(settings).get_bars("AAPL", "MAX"),
        lambda: CachedMarketDataAdapter(settings).sql("from bars"),
    ]
    for attempt in attempts:
        with pytest.raises(StorageRefused, match="AWS_SECRET_ACCESS_KEY") as caught:
            attempt()
        assert "not-the-secret" not in str(caught.value)


def test_renewed_credentials_are_used_by_the_same_adapter(signing_server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_for(signing_server)
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS)))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "expired")
    credentials.forget()
    adapter = CachedMarketDataAdapter(settings)
    with pytest.raises(StorageRefused):
        adapter.get_bars("AAPL", "MAX")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    credentials.forget()
    assert len(adapter.get_bars("AAPL", "MAX")) == 2


def test_no_credentials_at_all_say_what_to_export(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    credentials.forget()
    settings = settings_for("http://127.0.0.1:1")
    for attempt in (
        lambda: MarketDataStore(settings).partitions(),
        lambda: CachedMarketDataAdapter(settings).sql("from bars"),
    ):
        with pytest.raises(StorageRefused, match="export AWS_ACCESS_KEY_ID"):
            attempt()
    credentials.forget()
