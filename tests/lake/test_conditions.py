"""A store that ignores the conditions of a PUT is found out before it loses anything."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from command_line import run
from conftest import MORNING
from s3_proxy import S3Proxy
from vendor_histories import DAYS, serve

from alchemiser_duck import DataRefreshService, Settings
from alchemiser_duck.errors import UnsafeStore
from alchemiser_duck.lake.object_store import S3Objects
from alchemiser_duck.sandbox import AlpacaServer, Sandbox


@pytest.fixture(params=["If-None-Match", "If-Match"])
def forgetful(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """An S3 that keeps one of the two conditions; its address, and the condition that it ignores."""
    objects: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self, status: int, body: bytes = b"", etag: str | None = None) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if etag:
                self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(body)

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_kept = request.param == "If-Match" and self.headers.get("If-None-Match") and self.path in objects
            is_kept = is_kept or (request.param == "If-None-Match" and self.headers.get("If-Match"))
            if is_kept:
                self.answer(412, b"<Error><Code>PreconditionFailed</Code></Error>")
                return
            objects[self.path] = body
            self.answer(200, etag=f'"{hashlib.md5(body).hexdigest()}"')  # noqa: S324 (what S3 does)

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if "list-type" not in address.query:
                self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
                return
            prefix = parse_qs(address.query)["prefix"][0]
            told = f"<Name>{address.path[1:]}</Name><Prefix>{prefix}</Prefix><KeyCount>0</KeyCount>"
            told += "<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>"
            self.answer(200, f"<ListBucketResult>{told}</ListBucketResult>".encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", request.param
    server.shutdown()
    server.server_close()


def test_a_new_lake_is_refused_there(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, forgetful: tuple[str, str]
) -> None:
    """Before Alpaca is asked for anything."""
    url, condition = forgetful
    settings = make_settings(AWS_ENDPOINT_URL_S3=url)
    with pytest.raises(UnsafeStore, match=f"ignores {condition}.*ALCHEMISER_SINGLE_WRITER=1"):
        DataRefreshService(settings).overnight(["AAPL"], DAYS[0], now=MORNING)
    assert alpaca.requests == []


def test_one_writer_may_promise_to_be_alone(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, forgetful: tuple[str, str]
) -> None:
    serve(alpaca, "AAPL", [50.0] * len(DAYS))
    settings = make_settings(AWS_ENDPOINT_URL_S3=forgetful[0], ALCHEMISER_SINGLE_WRITER="1")
    DataRefreshService(settings).overnight(["AAPL"], DAYS[0], now=MORNING)
    assert alpaca.requests


def test_a_sound_store_is_asked_once_per_lake(
    make_settings: Callable[..., Settings], alpaca: AlpacaServer, proxy: S3Proxy
) -> None:
    serve(alpaca, "AAPL", [50.0] * len(DAYS))
    settings = make_settings(AWS_ENDPOINT_URL_S3=proxy.url)
    for asked in (3, 0):
        proxy.clear()
        assert DataRefreshService(settings).overnight(["AAPL"], DAYS[0], now=MORNING).status == "ok"
        assert sum("conditions.json" in exchange.path for exchange in proxy.exchanges) == asked
    S3Objects(settings).require_conditions()  # as often as somebody likes


def test_the_command_probes_and_shows_no_secret(box: Sandbox, settings: Settings, forgetful: tuple[str, str]) -> None:
    variables = box.environment | {"MARKET_DATA_BUCKET": settings.market_data_bucket}
    sound = run(variables, "settings", "--probe")
    assert sound.returncode == 0
    assert "keeps the conditions" in sound.stderr
    assert variables["APCA_API_SECRET_KEY"] not in sound.stdout
    assert "APCA_API_SECRET_KEY" in sound.stdout
    unsound = run(variables | {"AWS_ENDPOINT_URL_S3": forgetful[0]}, "settings", "--probe")
    assert unsound.returncode == 2
    assert f"ignores {forgetful[1]}" in unsound.stderr
