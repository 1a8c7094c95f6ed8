"""A stand-in for Alpaca's market data API on loopback: bars, corporate actions, latest quotes, and faults on request.

It answers what the real one was seen to answer, mistakes included: a row budget over all symbols in alphabetical order,
opaque tokens, an empty page after a full last one, unknown symbols left out, one malformed symbol failing the request,
an HTML page for a wrong key, 403 for recent SIP data, a token bucket of requests, the unfinished bar of today.
"""

import base64
import json
import re
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, Literal, cast
from urllib.parse import parse_qs, urlsplit

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox.real_data import MarketData, WireRow, timestamp

KEY_ID = "SANDBOX-KEY-ID"
SECRET_KEY = "sandbox-secret-key"  # noqa: S105 (protects nothing)

_UNAUTHORIZED = (
    "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n"
    "<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass
class Fault:
    """Something that goes wrong with the next `times` requests that match.

    status: answer with this HTTP status · hang: keep silent for `seconds`, then answer · reset: break the connection ·
    truncate: promise a whole body and send half · empty: 200 without a body · html: 200 with a web page
    """

    kind: Literal["status", "hang", "reset", "truncate", "empty", "html"]
    times: int = 1
    status: int = 500
    seconds: float = 60
    symbol: str | None = None
    """only requests that name this symbol"""


class _Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class AlpacaServer:
    """The stand-in. Its attributes are its scenario; change them while it runs."""

    def __init__(self, data: MarketData, clock: Callable[[], datetime] = calendar.utc_now) -> None:
        self.data = data
        self.clock = clock
        self.free_plan = True
        """recent SIP data is refused, and what is visible lags 15 minutes"""
        self.requests_per_minute = 200
        self.rate_headers = False
        """send X-RateLimit headers, as the specification says and the real server does not"""
        self.page_rows: int | None = None
        """send at most this many rows a page, whatever the limit"""
        self.repeat_token = False
        """never end: answer every page with the same token"""
        self.ignore_end = False
        """send bars up to now whatever `end` says, today's half-formed one included"""
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, dict[str, str]]] = []
        """path and query of every request so far"""
        self._lock = Lock()
        self._tokens = 200.0
        self._refilled = time.monotonic()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        assert self._server is not None, "not started"  # noqa: S101
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen on a port that the kernel gives."""
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="alpaca-stand-in", daemon=True).start()

    def stop(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def restate(self, symbol: str, session: date, **values: float) -> None:
        """Change a bar that was served before, as the vendor does after a correction; values by wire key."""
        self.data.bars[symbol][session] = self.data.bars[symbol][session] | values

    def take_fault(self, query: dict[str, str]) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.symbol is None or fault.symbol in query.get("symbols", "").split(","):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def take_token(self) -> int:
        """One request of the plan's budget; how many are left, below zero: none."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(200.0, self._tokens + (now - self._refilled) * self.requests_per_minute / 60)
            self._refilled = now
            if self._tokens < 1:
                return -1
            self._tokens -= 1
            return int(self._tokens)

    def answer(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """The body of a 200.

        Raises:
            _Refusal: another status.
        """
        match path.strip("/").split("/"):
            case ["v2", "stocks", "bars"]:
                return self._bars(query)
            case ["v2", "stocks", "quotes", "latest"]:
                return self._quotes(query)
            case ["v1" | "v1beta1", "corporate-actions"]:
                return self._corporate_actions(query)
            case _:
                raise _Refusal(404, "not found")

    def _bars(self, query: dict[str, str]) -> dict[str, Any]:
        symbols = _symbols(query)
        if not re.fullmatch(r"[1-9]\d*(Min|T|Hour|H|Day|D|Week|W|Month|M)", query.get("timeframe", "")):
            raise _Refusal(400, f"invalid timeframe: {query.get('timeframe', '')}")
        now = self.clock()
        visible = now - timedelta(minutes=15) if self.free_plan else now
        start = _moment(
            query, "start", datetime.combine(calendar.new_york_date(now), datetime.min.time(), calendar.NEW_YORK)
        )
        end = _moment(query, "end", visible)
        feed = query.get("feed", "sip")
        if feed not in ("sip", "iex", "otc", "boats"):
            raise _Refusal(400, f"invalid feed: {feed}")
        if self.free_plan and feed == "sip" and end > visible:
            raise _Refusal(403, "subscription does not permit querying recent SIP data")
        if end < start:
            raise _Refusal(400, "end should not be before start")
        if self.ignore_end:
            end = now
        limit = _limit(query, default=1000, most=10_000)
        found = []
        if query["timeframe"] in ("1Day", "1D"):
            for symbol in symbols:
                adjusted = self._adjusted(symbol, query.get("adjustment", "raw"), visible)
                found += [(symbol, row) for row in adjusted if start <= datetime.fromisoformat(row["t"]) <= end]
        if query.get("sort") == "desc":
            found.sort(key=lambda item: item[1]["t"], reverse=True)
            found.sort(key=lambda item: item[0])
        page, token = self._page(found, limit, query.get("page_token"), lambda item: f"{item[0]}|D|{item[1]['t']}")
        bars: dict[str, list[WireRow]] = {}
        for symbol, row in page:
            bars.setdefault(symbol, []).append(row)
        return {"bars": bars, "next_page_token": token}

    def _visible_bars(self, symbol: str, visible: datetime) -> list[WireRow]:
        """The bars as the feed shows them: today's half-formed, its volume growing until the extended close."""
        today = calendar.new_york_date(visible)
        bars = self.data.bars.get(symbol, {})
        rows = [bars[session] for session in sorted(bars) if session < today]
        if calendar.is_session(today) and bars and visible >= calendar.session_open(today):
            opens, closes = calendar.session_open(today), calendar.session_close(today)
            flat = rows[-1]["c"] if rows else 1.0
            whole = bars.get(today) or {"o": flat, "h": flat, "l": flat, "c": flat, "v": 10_000, "n": 50, "vw": flat}
            if visible < closes:
                rows.append(_half_formed(whole, today, (visible - opens) / (closes - opens)))
            elif today in bars:
                extended = visible.astimezone(calendar.NEW_YORK).time() < calendar.EXTENDED_CLOSE
                rows.append(whole | ({"v": int(whole["v"] * 0.97), "n": int(whole["n"] * 0.97)} if extended else {}))
        return rows

    def _adjusted(self, symbol: str, adjustment: str, visible: datetime) -> list[WireRow]:
        """Bars adjusted as Alpaca does it: two decimals, half up, on bars before the ex-date only."""
        wanted = set(adjustment.split(","))
        if not wanted <= {"raw", "split", "dividend", "spin-off", "all"}:
            raise _Refusal(400, f"invalid adjustment: {adjustment}")
        rows = self._visible_bars(symbol, visible)
        actions = self.data.actions
        if wanted & {"split", "all"}:
            for split in (s for kind in ("forward_splits", "reverse_splits") for s in actions.get(kind, ())):
                if split["symbol"] == symbol:
                    ratio = split["old_rate"] / split["new_rate"]
                    rows = _scaled(rows, split["ex_date"], ratio, 1 / ratio)
        if wanted & {"dividend", "all"}:
            for dividend in actions.get("cash_dividends", ()):
                ex_bar = next(
                    (r for r in self._visible_bars(symbol, visible) if r["t"][:10] >= dividend["ex_date"]), None
                )
                if dividend["symbol"] == symbol and ex_bar:
                    rows = _scaled(rows, dividend["ex_date"], ex_bar["c"] / (ex_bar["c"] + dividend["rate"]), 1)
        return rows

    def _corporate_actions(self, query: dict[str, str]) -> dict[str, Any]:
        limit = _limit(query, default=100, most=1000)
        today = calendar.new_york_date(self.clock()).isoformat()
        first, last = query.get("start", today)[:10], query.get("end", today)[:10]
        types = {kind + "s" for kind in _listed(query, "types")}
        symbols, cusips = _listed(query, "symbols"), _listed(query, "cusips")
        ids = _listed(query, "ids")
        found = []
        for kind, rows in self.data.actions.items():
            for row in rows:
                names = {value for key, value in row.items() if key.endswith("symbol")}
                numbers = {value for key, value in row.items() if key.endswith("cusip")}
                if ids:
                    chosen = row.get("id") in ids
                else:
                    chosen = (
                        first <= row["process_date"] <= last
                        and (not types or kind in types)
                        and (not symbols or bool(names & symbols))
                        and (not cusips or bool(numbers & cusips))
                    )
                if chosen:
                    found.append((kind, row))
        found.sort(
            key=lambda item: (item[1]["process_date"], item[1].get("id", "")), reverse=query.get("sort") == "desc"
        )
        page, token = self._page(
            found, limit, query.get("page_token"), lambda item: f"{item[1]['process_date']}|{item[1].get('id', '')}"
        )
        actions: dict[str, list[WireRow]] = {}
        for kind, row in page:
            actions.setdefault(kind, []).append(row)
        return {"corporate_actions": actions, "next_page_token": token}

    def _quotes(self, query: dict[str, str]) -> dict[str, Any]:
        """A bid and an ask one cent around the newest close; there is no record of real ones."""
        now = self.clock()
        quotes = {}
        for symbol in _symbols(query):
            if rows := self._visible_bars(symbol, now):
                close = rows[-1]["c"]
                quotes[symbol] = {
                    "t": now.astimezone(UTC).isoformat().replace("+00:00", "Z"),
                    "bp": round(close - 0.01, 4),
                    "bs": 2,
                    "bx": "V",
                    "ap": round(close + 0.01, 4),
                    "as": 3,
                    "ax": "V",
                    "c": ["R"],
                    "z": "C",
                }
        return {"quotes": quotes}

    def _page(
        self, found: list[Any], limit: int, token: str | None, cursor: Callable[[Any], str]
    ) -> tuple[list[Any], str | None]:
        """One page and the token of the next; a full page always has one, even where nothing follows."""
        begin = 0
        if token:
            try:
                after = base64.b64decode(token, validate=True).decode()
                begin = next(i for i, item in enumerate(found) if cursor(item) == after) + 1
            except (ValueError, StopIteration):
                raise _Refusal(400, "invalid page token") from None
        rows = min(limit, self.page_rows or limit)
        page = found[begin : begin + rows]
        if self.repeat_token and found:
            return page, base64.b64encode(cursor(found[0]).encode()).decode()
        return page, base64.b64encode(cursor(page[-1]).encode()).decode() if len(page) == rows else None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: AlpacaServer

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(address.query, keep_blank_values=True).items()}
        self.api.requests.append((address.path, query))
        fault = self.api.take_fault(query)
        if fault and self._misbehave(fault):
            return
        left = self.api.take_token()
        try:
            if (self.headers.get("APCA-API-KEY-ID"), self.headers.get("APCA-API-SECRET-KEY")) != (KEY_ID, SECRET_KEY):
                self._send(401, _UNAUTHORIZED, "text/html")
                return
            if left < 0:
                raise _Refusal(429, "too many requests.")
            body = json.dumps(self.api.answer(address.path, query))
        except _Refusal as refusal:
            self._send(refusal.status, json.dumps({"message": refusal.message}), left=left)
            return
        self._send(200, body, truncated=fault is not None and fault.kind == "truncate", left=left)

    def _misbehave(self, fault: Fault) -> bool:
        """Whether the request is over with this."""
        match fault.kind:
            case "status":
                self._send(fault.status, json.dumps({"message": f"fault {fault.status}"}))
            case "hang":
                time.sleep(fault.seconds)
                return False
            case "reset":
                # linger zero: the peer gets RST, not an orderly end
                cast("socket.socket", self.connection).setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                self.connection.close()
                self.close_connection = True
            case "truncate":
                return False
            case "empty":
                self._send(200, "")
            case "html":
                self._send(200, "<html><body>maintenance</body></html>", "text/html")
        return True

    def _send(
        self,
        status: int,
        text: str,
        kind: str = "application/json",
        *,
        truncated: bool = False,
        left: int | None = None,
    ) -> None:
        body = text.encode()
        with suppress(ConnectionError):  # a client that gave up
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            if self.api.rate_headers and left is not None:
                self.send_header("X-RateLimit-Limit", str(self.api.requests_per_minute))
                self.send_header("X-RateLimit-Remaining", str(max(left, 0)))
                self.send_header("X-RateLimit-Reset", str(int(time.time()) + 1))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if truncated else body)
            self.close_connection = self.close_connection or truncated

    def handle(self) -> None:
        with suppress(ConnectionError, OSError):  # a reset connection, ours or the client's
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        """Silence: requests are in `AlpacaServer.requests`."""


def _symbols(query: dict[str, str]) -> list[str]:
    """The symbols asked for, in the order they are served; one malformed symbol fails the request."""
    named = query.get("symbols", "")
    if not named:
        raise _Refusal(400, "symbols is required")
    for symbol in named.split(","):
        if not re.fullmatch(r"[A-Za-z./]+", symbol):
            raise _Refusal(400, f"invalid symbol: {symbol}")
    return sorted(set(named.split(",")))


def _listed(query: dict[str, str], name: str) -> set[str]:
    return {part for part in query.get(name, "").split(",") if part}


def _limit(query: dict[str, str], default: int, most: int) -> int:
    text = query.get("limit", str(default))
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise _Refusal(400, f"invalid limit: {text}")
    return int(text)


def _moment(query: dict[str, str], name: str, default: datetime) -> datetime:
    text = query.get(name)
    if text is None:
        return default
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _Refusal(
            400,
            f"Invalid format for parameter {name}: error parsing '{text}' as RFC3339 or 2006-01-02 time: "
            f'parsing time "{text}" as "2006-01-02": cannot parse "{text}" as "2006"',
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _half_formed(whole: WireRow, session: date, part: float) -> WireRow:
    """Today's bar while its session runs: opened, moved halfway, part of the volume."""
    so_far = round((whole["o"] + whole["c"]) / 2, 2)
    return {
        "t": timestamp(session),
        "o": whole["o"],
        "h": max(whole["o"], so_far),
        "l": min(whole["o"], so_far),
        "c": so_far,
        "v": int(whole["v"] * part) + 1,
        "n": int(whole["n"] * part) + 1,
        "vw": so_far,
    }


def _scaled(rows: list[WireRow], ex_date: str, price: float, volume: float) -> list[WireRow]:
    def rounded(value: float) -> float:
        return float(Decimal(repr(value * price)).quantize(Decimal("0.01"), ROUND_HALF_UP))

    return [
        row | {key: rounded(row[key]) for key in ("o", "h", "l", "c", "vw")} | {"v": round(row["v"] * volume)}
        if row["t"][:10] < ex_date
        else row
        for row in rows
    ]
