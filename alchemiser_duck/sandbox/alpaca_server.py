"""AlpacaServer: a stand-in for Alpaca's market data API on loopback.

It answers as the real one was seen to answer, mistakes included: a row budget over all symbols in alphabetical order,
opaque tokens, an empty page after a full last one, unknown symbols left out, one malformed symbol failing the request,
an HTML page for a wrong key, 403 for recent SIP data, a token bucket of requests, the unfinished bar of today.
"""

import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Literal, cast
from urllib.parse import parse_qs, urlsplit

from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.sandbox.answers import Scenario
from alchemiser_duck.sandbox.queries import Query, Refusal
from alchemiser_duck.sandbox.real_data import MarketData

KEY_ID = "SANDBOX-KEY-ID"
SECRET_KEY = "sandbox-secret-key"  # noqa: S105 (protects nothing)

_UNAUTHORIZED = (
    "<html>\r\n<head><title>401 Authorization Required</title></head>\r\n<body>\r\n"
    "<center><h1>401 Authorization Required</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)


@dataclass
class Fault:
    """A fault in the next `times` requests that match.

    status: answer with this HTTP status · hang: keep silent for `seconds`, then answer · reset: break the connection ·
    truncate: promise a whole body and send half · empty: 200 without a body · html: 200 with a web page
    """

    kind: Literal["status", "hang", "reset", "truncate", "empty", "html"]
    times: int = 1
    status: int = 500
    seconds: float = 60
    symbol: str | None = None
    """only requests that name this symbol"""
    headers: dict[str, str] = field(default_factory=dict)
    """sent with the status"""


class AlpacaServer(Scenario):
    """Serves a scenario over HTTP; change its attributes while it runs."""

    def __init__(self, data: MarketData, clock: Callable[[], datetime] = calendar.utc_now) -> None:
        super().__init__(data, clock)
        self.requests_per_minute = 200
        self.rate_headers = False
        """send X-RateLimit headers, as the specification says and the real server does not"""
        self.faults: list[Fault] = []
        self.requests: list[tuple[str, Query]] = []
        """path and query of every request so far"""
        self._lock = Lock()
        self._tokens = 200.0
        self._refilled = time.monotonic()
        self._server: ThreadingHTTPServer | None = None

    @property
    def url(self) -> str:
        """Return the address to ask."""
        assert self._server is not None, "not started"  # noqa: S101
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def start(self) -> None:
        """Listen on a port that the kernel gives."""
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        Thread(target=self._server.serve_forever, name="alpaca-stand-in", daemon=True).start()

    def stop(self) -> None:
        """Stop listening."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()

    def restate(self, symbol: str, session: date, **values: float) -> None:
        """Correct a bar that was served before; values by wire key."""
        self.data.bars[symbol][session] = self.data.bars[symbol][session] | values

    def take_fault(self, query: Query) -> Fault | None:
        """Return the fault that is due for this request, if any."""
        with self._lock:
            for fault in self.faults:
                if fault.symbol is None or fault.symbol in query.get("symbols", "").split(","):
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault
        return None

    def take_token(self) -> int:
        """Spend one request of the budget; returns the rest, or -1."""
        with self._lock:
            now = time.monotonic()
            self._tokens = min(200.0, self._tokens + (now - self._refilled) * self.requests_per_minute / 60)
            self._refilled = now
            if self._tokens < 1:
                return -1
            self._tokens -= 1
            return int(self._tokens)


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
                raise Refusal(429, "too many requests.")
            body = json.dumps(self.api.answer(address.path, query))
        except Refusal as refusal:
            self._send(refusal.status, json.dumps({"message": refusal.message}), left=left)
            return
        self._send(200, body, truncated=fault is not None and fault.kind == "truncate", left=left)

    def _misbehave(self, fault: Fault) -> bool:
        """Return whether the request ends with this fault."""
        match fault.kind:
            case "status":
                self._send(fault.status, json.dumps({"message": f"fault {fault.status}"}), headers=fault.headers)
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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        body = text.encode()
        with suppress(ConnectionError):  # a client that gave up
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
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
        """Stay silent: requests are in `AlpacaServer.requests`."""
