"""AlpacaClient: single pages of Alpaca's market data.

alpaca-py's paging keeps a whole answer in memory, sleeps without a rate limit, has no time-out and follows a repeated
token for ever. So its client is asked for single pages: each is rate-limited and retried on its own.
"""

import functools
import json
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from threading import Lock, local
from typing import TYPE_CHECKING, Any, TypeGuard

import stamina

from alchemiser_duck.errors import AlpacaError, AlpacaRefused, AlpacaUnavailable
from alchemiser_duck.settings import Settings

if TYPE_CHECKING:
    import requests
    from alpaca.data.historical.stock import StockHistoricalDataClient

_ANSWER_KEYS = {"bars", "quotes", "corporate_actions"}
"""An answer has one of them."""

LONGEST_PAUSE_SECONDS = 120.0
"""Alpaca counts requests by the minute: a header that names a later time is not believed."""

LONGEST_ANSWER_SECONDS = 300.0
"""Pages of a batch take a second or two each at the plan's limit of requests; a Lambda ends after 900."""

LARGEST_BODY = 64 * 1024 * 1024
"""Bytes of one page, unpacked: 10,000 bars take 1.5 MB."""

LONGEST_BODY_SECONDS = 120.0
"""A body that drips keeps within every time-out of a single read."""

READ_AT_ONCE = 1024 * 1024
"""Bytes; fewer come as soon as they are there."""

OF_BARS = "on the free plan set ALPACA_SIP_DELAY_MINUTES=15, or ALPACA_DATA_FEED=iex for a lake of its own"
OF_QUOTES = "on the free plan set ALPACA_QUOTE_FEED=iex"


class RetryableAnswer(AlpacaError):
    """An answer that another attempt may mend."""

    pause_seconds: float | None = None
    """how long to wait before that, where the answer says it"""


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
        """Yield every page of an answer, within LONGEST_ANSWER_SECONDS.

        Raises:
            AlpacaRefused, AlpacaUnavailable, BadRequest: Alpaca does not answer as it should.
        """
        query, seen, begun = dict(query), set[str](), time.monotonic()
        while True:
            answer = self.page(path, query, api_version)
            yield answer
            token = answer.get("next_page_token")
            if not token:
                return
            if token in seen:
                raise AlpacaUnavailable("Alpaca repeats a page token: the answer would never end")
            if time.monotonic() - begun > LONGEST_ANSWER_SECONDS:
                raise AlpacaUnavailable(f"Alpaca's answer has no end after {LONGEST_ANSWER_SECONDS:.0f} seconds")
            seen.add(token)
            query["page_token"] = token

    def page(self, path: str, query: dict[str, Any], api_version: str = "v2", advice: str = OF_BARS) -> dict[str, Any]:
        """Fetch one page, retried where another attempt may help, and after the pause that Alpaca asks for.

        Args:
            advice: what to do where the subscription does not cover the request.

        Raises:
            AlpacaRefused, AlpacaUnavailable, BadRequest: Alpaca does not answer as it should.
        """
        try:
            for attempt in stamina.retry_context(
                on=_wait_before_retry,
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
                    with _translated(self._address, advice):
                        answer = self._client().get(path, query, api_version=api_version)
                    if not _is_answer(answer):
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
            client._session.request = functools.partial(_bounded, client._session.request, self._timeout)  # type: ignore[method-assign]
            self._of_thread.client = client
        return self._of_thread.client  # type: ignore[no-any-return]


def _bounded(
    request: "Callable[..., requests.Response]", timeout: tuple[float, float], *args: Any, **options: Any
) -> "requests.Response":
    """Send a request and read its body, which has to end in time and to fit in memory."""
    from urllib3.exceptions import HTTPError

    begun, body = time.monotonic(), bytearray()
    response = request(*args, **options, timeout=timeout, stream=True)
    try:
        with response:
            while part := response.raw.read1(READ_AT_ONCE, decode_content=True):
                body += part
                if len(body) > LARGEST_BODY:
                    raise RetryableAnswer(f"Alpaca's answer is larger than {LARGEST_BODY:,} bytes")
                if time.monotonic() - begun > LONGEST_BODY_SECONDS:
                    raise RetryableAnswer(f"Alpaca's answer has no end after {LONGEST_BODY_SECONDS:.0f} seconds")
    except (HTTPError, OSError) as problem:
        raise RetryableAnswer(f"Alpaca's answer breaks off: {type(problem).__name__}") from problem
    response._content, response._content_consumed = bytes(body), True  # type: ignore[attr-defined]
    return response


def _is_answer(answer: object) -> TypeGuard[dict[str, Any]]:
    """Tell whether an answer has the shape of one; its rows are looked at one by one."""
    if not isinstance(answer, dict) or not (_ANSWER_KEYS & answer.keys()):
        return False
    values = (answer.get(name) for name in _ANSWER_KEYS)
    return all(value is None or isinstance(value, dict) for value in values) and isinstance(
        answer.get("next_page_token"), str | None
    )


def _wait_before_retry(problem: Exception) -> bool | float:
    """Return the seconds that the answer names, else whether another attempt may help."""
    if not isinstance(problem, RetryableAnswer):
        return False
    return True if problem.pause_seconds is None else problem.pause_seconds


@contextmanager
def _translated(address: str, advice: str) -> Iterator[None]:
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
                f"Alpaca's subscription does not cover this request (HTTP 403): {text}; {advice}"
            ) from problem
        retryable = RetryableAnswer(f"Alpaca answers HTTP {status}: {text}")
        if status in (429, 503) and problem.response is not None:
            retryable.pause_seconds = named_pause(problem.response.headers, time.time())
        raise retryable from problem
    except requests.exceptions.RequestException as problem:
        raise RetryableAnswer(f"Alpaca cannot be reached at {address}: {type(problem).__name__}") from problem
    except (ValueError, TypeError, AttributeError, RecursionError) as problem:
        raise RetryableAnswer(f"Alpaca's answer cannot be read: {type(problem).__name__}: {problem}") from problem


def named_pause(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds until the time that an answer names; None where it names none.

    Args:
        headers: Retry-After in seconds or as a date, or X-RateLimit-Reset in UNIX seconds.
        now: UNIX seconds.
    """
    after, reset = headers.get("Retry-After", ""), headers.get("X-RateLimit-Reset", "")
    with suppress(ValueError, OverflowError):
        if after:
            seconds = float(after) if after.strip().isdigit() else parsedate_to_datetime(after).timestamp() - now
        else:
            seconds = float(reset) - now
        if math.isfinite(seconds):
            # the second that is named is not over when it begins
            return min(max(seconds, 0.0) + 0.1, LONGEST_PAUSE_SECONDS)
    return None


def _plain(body: str) -> str:
    """Put an error's message on one line of 200 characters."""
    with suppress(ValueError, KeyError, TypeError):
        body = str(json.loads(body)["message"])
    return " ".join(re.sub(r"<[^>]+>", " ", body).split())[:200] or "(no text)"
