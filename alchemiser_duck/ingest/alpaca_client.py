"""AlpacaClient: single pages of Alpaca's market data.

alpaca-py's paging keeps a whole answer in memory, sleeps without a rate limit, has no time-out and follows a repeated
token for ever. So its client is asked for single pages: each is rate-limited and retried on its own.
"""

import functools
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock, local
from typing import TYPE_CHECKING, Any

import stamina

from alchemiser_duck.errors import AlpacaError, AlpacaRefused, AlpacaUnavailable
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    from alpaca.data.historical.stock import StockHistoricalDataClient

_ANSWER_KEYS = {"bars", "quotes", "corporate_actions"}
"""An answer has one of them."""


class RetryableAnswer(AlpacaError):
    """An answer that another attempt may mend."""


class BadRequest(AlpacaError):
    """HTTP 400: the request itself is wrong, usually one of its symbols."""


class AlpacaClient:
    """Pages of Alpaca's data API. Safe to share between threads."""

    def __init__(
        self, settings: Settings, attempts: int, first_wait_seconds: float, read_timeout_seconds: float
    ) -> None:
        from pyrate_limiter import Duration, Limiter, Rate

        self._address = settings.alpaca_data_url
        self._keys = settings.alpaca_keys()
        self._attempts = attempts
        self._first_wait = first_wait_seconds
        self._timeout = (3.05, read_timeout_seconds)
        self.limiter = Limiter(Rate(settings.requests_per_minute, Duration.MINUTE))
        self._of_thread = local()
        self._lock = Lock()
        self.requests = 0
        """sent so far, retries included"""

    def pages(self, path: str, query: dict[str, Any], api_version: str = "v2") -> Iterator[dict[str, Any]]:
        """Yield every page of an answer.

        Raises:
            AlpacaRefused, AlpacaUnavailable, BadRequest: Alpaca does not answer as it should.
        """
        query, seen = dict(query), set[str]()
        while True:
            answer = self.page(path, query, api_version)
            yield answer
            token = answer.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise AlpacaUnavailable("Alpaca repeats a page token: the answer would never end")
            seen.add(token)
            query["page_token"] = token

    def page(self, path: str, query: dict[str, Any], api_version: str = "v2") -> dict[str, Any]:
        """Fetch one page, retried where another attempt may help.

        Raises:
            AlpacaRefused, AlpacaUnavailable, BadRequest: Alpaca does not answer as it should.
        """
        try:
            for attempt in stamina.retry_context(
                on=RetryableAnswer,
                attempts=self._attempts,
                timeout=None,
                wait_initial=self._first_wait,
                wait_max=30,
                wait_jitter=1,
            ):
                with attempt:
                    self.limiter.try_acquire("alpaca")
                    with self._lock:
                        self.requests += 1
                    with _translated(self._address):
                        answer = self._client().get(path, query, api_version=api_version)
                    if not isinstance(answer, dict) or not (_ANSWER_KEYS & answer.keys()):
                        raise RetryableAnswer(f"Alpaca's answer is not one: {str(answer)[:100]!r}")
                    return answer
        except RetryableAnswer as problem:
            raise AlpacaUnavailable(f"{problem} (after {self._attempts} attempts)") from problem
        raise AssertionError("unreachable")

    def _client(self) -> "StockHistoricalDataClient":
        """Return this thread's client: requests' sessions may not be shared."""
        if not hasattr(self._of_thread, "client"):
            from alpaca.data.historical.stock import StockHistoricalDataClient

            key_id, secret = self._keys
            client = StockHistoricalDataClient(key_id, secret, raw_data=True, url_override=self._address)
            client._retry = 0  # stamina retries
            client._session.request = functools.partial(client._session.request, timeout=self._timeout)  # type: ignore[method-assign]
            self._of_thread.client = client
        return self._of_thread.client  # type: ignore[no-any-return]


@contextmanager
def _translated(address: str) -> Iterator[None]:
    """Raise the errors of alpaca-py and requests as ours."""
    import requests
    from alpaca.common.exceptions import APIError

    try:
        yield
    except APIError as problem:
        status = problem.status_code or 0
        text = _plain(str(problem))
        if status == 400:
            raise BadRequest(f"Alpaca rejects the request (HTTP 400): {text}") from problem
        if status == 401:
            raise AlpacaRefused(
                f"Alpaca rejects the keys at {address} (HTTP 401): check APCA_API_KEY_ID and APCA_API_SECRET_KEY"
            ) from problem
        if status == 403:
            raise AlpacaRefused(
                f"Alpaca's subscription does not cover this request (HTTP 403): {text}; on the free plan set "
                "ALPACA_SIP_DELAY_MINUTES=15, or ALPACA_DATA_FEED=iex"
            ) from problem
        raise RetryableAnswer(f"Alpaca answers HTTP {status}: {text}") from problem
    except requests.exceptions.RequestException as problem:
        raise RetryableAnswer(f"Alpaca cannot be reached at {address}: {type(problem).__name__}") from problem
    except (ValueError, TypeError, AttributeError) as problem:
        raise RetryableAnswer(f"Alpaca's answer cannot be read: {type(problem).__name__}: {problem}") from problem


def _plain(body: str) -> str:
    """Put an error's message on one line of 200 characters."""
    with suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())[:200] or "(no text)"
