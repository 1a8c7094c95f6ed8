"""The sandbox: S3 and a stand-in for Alpaca on loopback.

Its bars are real. It needs no account, no keys and no network.
It needs no account, no keys and no network.

    with sandbox() as box:
        service = DataRefreshService(box.settings())
        service.overnight(["AAPL", "IBM"])
"""

import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import SettingsError
from alchemiser_duck.lake import credentials
from alchemiser_duck.lake.object_store import S3Objects
from alchemiser_duck.sandbox import real_data
from alchemiser_duck.sandbox.alpaca_server import KEY_ID, SECRET_KEY, AlpacaServer, Fault
from alchemiser_duck.settings import Settings

__all__ = ["AlpacaServer", "Fault", "Sandbox", "sandbox"]

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM")


@dataclass(frozen=True)
class Sandbox:
    """Two running servers and their addresses."""

    alpaca: AlpacaServer
    s3_url: str
    bucket: str
    first_session: date
    last_session: date
    shifted: bool
    """True means that dates are shifted; prices never are"""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that point Python and the shell at the sandbox."""
        return {
            "MARKET_DATA_BUCKET": self.bucket,
            "AWS_ENDPOINT_URL_S3": self.s3_url,
            "AWS_ACCESS_KEY_ID": "sandbox",
            "AWS_SECRET_ACCESS_KEY": "sandbox",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "APCA_API_DATA_URL": self.alpaca.url,
            "APCA_API_KEY_ID": KEY_ID,
            "APCA_API_SECRET_KEY": SECRET_KEY,
            "ALPACA_DATA_FEED": "sip",
            "ALPACA_SIP_DELAY_MINUTES": "15" if self.alpaca.free_plan else "0",
            "ALCHEMISER_SYMBOLS": ",".join(SYMBOLS),
        }

    def settings(self, **overrides: Any) -> Settings:
        """Return settings for the sandbox; overrides by the variables' names."""
        return Settings.from_environment(**(self.environment | overrides))

    @property
    def notice(self) -> str:
        """Say which parts of the data are real."""
        span = f"{self.first_session} to {self.last_session}"
        if self.shifted:
            return f"prices and volumes are real (2000-03-01 to 2013-03-01), but dates are shifted: served as {span}"
        return f"prices, volumes and dates are real: {span}"


@contextmanager
def sandbox(*, now: datetime | None = None, original_dates: bool = False) -> Iterator[Sandbox]:
    """Start both servers with an empty bucket; stop them at the end.

    The kernel gives the ports. The AWS credentials of the process are the sandbox's meanwhile; everything else is
    passed on in `Sandbox.settings`.

    Args:
        now: the stand-in's time, standing still; default: the clock's.
        original_dates: serve the bars from 2000 to 2013 instead of moving the newest to the last complete session.

    Raises:
        SettingsError: moto is not installed.
    """
    storage = _storage()
    last = calendar.last_complete_session(now or calendar.utc_now(), timedelta())
    data = real_data.load(None if original_dates else last)
    sessions = [session for bars in data.bars.values() for session in bars]
    alpaca = AlpacaServer(data, (lambda: now) if now else calendar.utc_now)
    alpaca.start()
    storage.start()
    try:
        host, port = storage.get_host_and_port()
        box = Sandbox(
            alpaca=alpaca,
            s3_url=f"http://{host}:{port}",
            bucket=f"sandbox-{uuid.uuid4().hex[:8]}",  # moto's buckets are shared within a process
            first_session=min(sessions),
            last_session=max(sessions),
            shifted=not original_dates,
        )
        with _environment({name: value for name, value in box.environment.items() if name.startswith("AWS_")}):
            S3Objects(box.settings()).create_bucket()
            yield box
    finally:
        storage.stop()
        alpaca.stop()


def _storage() -> Any:
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as problem:
        raise SettingsError("the sandbox needs moto: pip install 'alchemiser-duck[sandbox]'") from problem
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    return ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in (*values, "AWS_SESSION_TOKEN", "AWS_PROFILE")}
    for name in before:
        os.environ.pop(name, None)
    os.environ.update(values)
    credentials.forget()
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        credentials.forget()
