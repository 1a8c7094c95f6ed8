"""A proxy in front of an S3 server: counts requests and bytes, and calls a hook before and after each exchange."""

import http.client
import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from types import TracebackType
from typing import ClassVar
from urllib.parse import urlsplit


@dataclass
class Exchange:
    method: str
    path: str
    status: int = 0
    sent: int = 0
    received: int = 0
    began: float = field(default_factory=time.time)


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class S3Proxy:
    """`with S3Proxy(upstream) as proxy:` then talk to `proxy.url`."""

    upstream: str
    exchanges: list[Exchange] = field(default_factory=list)
    before: Callable[[int, Exchange], None] | None = None
    """called with the exchange's index before it is forwarded"""
    after: Callable[[int, Exchange], bool] | None = None
    """called when the upstream has answered; True: swallow the answer and cut the connection"""
    truncate: Callable[[int, Exchange], bool] | None = None
    """called then too; True: promise the whole body and send half"""
    instead: "Callable[[int, Exchange], Answer | None] | None" = None
    """called before; an answer is given without asking the upstream"""
    send: Callable[[int, Exchange, bytes], bytes] | None = None
    """called before, with the body; returns what to forward"""
    answer: "Callable[[int, Exchange, Answer], Answer] | None" = None
    """called then too, with what the upstream has answered; returns what to answer instead"""

    knows_ranges: ClassVar[bool] = True
    """False: the whole object for a part of it, as HTTP allows"""

    def __post_init__(self) -> None:
        self._lock = Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def secure(self, context: ssl.SSLContext) -> None:
        """Speak TLS from now on."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    def __enter__(self) -> "S3Proxy":
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        self.exchanges.clear()

    @property
    def methods(self) -> list[str]:
        return [exchange.method for exchange in self.exchanges]

    def admit(self, exchange: Exchange) -> int:
        with self._lock:
            self.exchanges.append(exchange)
            return len(self.exchanges) - 1


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # of five, a burst of connections loses some, which come again a second later


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets: the second would wait 40 ms for an answer
    proxy: S3Proxy

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        exchange = Exchange(self.command, self.path, sent=len(body))
        index = self.proxy.admit(exchange)
        if self.proxy.before:
            self.proxy.before(index, exchange)
        if self.proxy.send:
            body = self.proxy.send(index, exchange, body)
        if self.proxy.instead and (given := self.proxy.instead(index, exchange)):
            self._answer(given)
            return
        upstream = http.client.HTTPConnection(urlsplit(self.proxy.upstream).netloc, timeout=60)
        left_out = ("connection", "expect", *(() if self.proxy.knows_ranges else ("range",)))
        headers = {key: value for key, value in self.headers.items() if key.lower() not in left_out}
        upstream.request(self.command, self.path, body or None, headers)
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        exchange.status, exchange.received = answer.status, len(content)
        if self.proxy.after and self.proxy.after(index, exchange):
            self.close_connection = True
            self.connection.close()
            return
        # rclone answers a range with 200, which polars does not take
        status = 206 if answer.getheader("Content-Range") else answer.status
        given = Answer(status, {key.lower(): value for key, value in answer.getheaders()}, content)
        if self.proxy.answer:
            given = self.proxy.answer(index, exchange, given)
            content = given.body
        if self.proxy.truncate and self.proxy.truncate(index, exchange):
            given = replace(
                given, headers=given.headers | {"content-length": str(len(content))}, body=content[: len(content) // 2]
            )
            self.close_connection = True
        self._answer(given)

    def _answer(self, given: Answer) -> None:
        length = given.headers.get("content-length", "0")
        if self.command != "HEAD" and not self.close_connection:
            length = str(len(given.body))
        with suppress(ConnectionError):
            self.send_response(given.status)
            for key, value in given.headers.items():
                if key not in ("transfer-encoding", "connection", "content-length", "date", "server"):
                    self.send_header(key, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            self.wfile.write(given.body)

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _forward  # noqa: N815 (http.server's names)

    def handle(self) -> None:
        with suppress(ConnectionError, OSError, ValueError):
            super().handle()

    def finish(self) -> None:
        with suppress(ConnectionError, OSError, ValueError):
            super().finish()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (http.server's name)
        pass
