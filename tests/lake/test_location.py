"""Writers and readers go to the same S3, wherever environment and AWS profile say that it is."""

import datetime as dt
import ipaddress
import itertools
import os
import ssl
import sys
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import botocore.session
import pytest
from command_line import run
from conftest import MORNING, bar_rows, bar_table, new_bucket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from s3_proxy import S3Proxy

import alchemiser_duck
from alchemiser_duck import CachedMarketDataAdapter, MarketDataStore, Settings
from alchemiser_duck import exchange_calendar as calendar
from alchemiser_duck.errors import StorageRefused, StorageUnavailable
from alchemiser_duck.lake import credentials, location
from alchemiser_duck.lake.location import S3Location, locate, region_of, storage_error
from alchemiser_duck.query.connection import bundled_httpfs
from alchemiser_duck.sandbox import Sandbox

DAYS = calendar.sessions(date(2025, 5, 1), date(2025, 7, 15))
FULL = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE")
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")


class Profile:
    """An AWS profile in files of its own, and nothing about AWS in the environment."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        for name in (*FULL, *KEYS):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "config"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "credentials"))
        self.write("[default]")

    def write(self, config: str) -> None:
        (self._folder / "config").write_text(config)
        (self._folder / "credentials").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
        location.forget()
        credentials.forget()


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Profile]:
    yield Profile(tmp_path, monkeypatch)
    location.forget()
    credentials.forget()


def reads(settings: Settings) -> Iterator[int]:
    """The rows that each way of reading gives."""
    yield len(CachedMarketDataAdapter(settings, clock=lambda: MORNING).bars(["AAPL"]))
    if bundled_httpfs():
        yield len(CachedMarketDataAdapter(settings, local_copies=False, clock=lambda: MORNING).bars(["AAPL"]))
        yield alchemiser_duck.connect(settings).sql("select count(*) from bars").fetchall()[0][0]


@pytest.mark.parametrize(
    "config",
    [
        "[default]\nendpoint_url = {url}\nregion = us-east-1\n",
        "[default]\nservices = here\n[services here]\ns3 =\n  endpoint_url = {url}\n",
        "[default]\nendpoint_url = {url}/\ns3 =\n  addressing_style = path\n",
    ],
    ids=["of the profile", "of its services", "with a slash and a style"],
)
def test_an_endpoint_in_the_profile_alone_is_where_everybody_goes(
    box: Sandbox, profile: Profile, proxy: S3Proxy, config: str
) -> None:
    bucket = new_bucket(box)
    profile.write(config.format(url=proxy.url))
    settings = Settings.from_environment(MARKET_DATA_BUCKET=f"{bucket}/lake")
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS)))
    assert "PUT" in proxy.methods
    for rows in reads(settings):
        assert rows == len(DAYS)
        assert "GET" in proxy.methods
        proxy.clear()
    ended = run(os.environ | {"MARKET_DATA_BUCKET": f"{bucket}/lake"}, "bars", "AAPL", "-f", "csv")
    assert len(ended.stdout.splitlines()) == len(DAYS) + 1, ended.stderr


def test_the_environment_wins_over_the_profile(box: Sandbox, profile: Profile, monkeypatch: pytest.MonkeyPatch) -> None:
    profile.write("[default]\nendpoint_url = http://127.0.0.1:9\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", box.s3_url)
    monkeypatch.setenv("AWS_REGION", "us-west-2")
    where = locate(Settings.from_environment(MARKET_DATA_BUCKET="some"))
    assert (where.endpoint, where.region) == (box.s3_url, "us-west-2")


PROFILES = [
    "",
    "[default]\nregion = eu-central-1\n",
    "[default]\nendpoint_url = http://127.0.0.1:7\n",
    "[default]\nregion = eu-west-3\nservices = x\n[services x]\ns3 =\n  endpoint_url = https://s3.here:9\n",
    "[default]\ns3 =\n  addressing_style = path\nregion = eu-west-3\n",
    "[default]\nendpoint_url = http://127.0.0.1:7\nignore_configured_endpoint_urls = true\nregion = eu-west-3\n",
]
VARIABLES: list[dict[str, str]] = [
    {},
    {"AWS_ENDPOINT_URL": "http://127.0.0.1:5"},
    {"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:6", "AWS_ENDPOINT_URL": "http://127.0.0.1:5"},
    {"AWS_DEFAULT_REGION": "ap-south-1"},
]


@pytest.mark.parametrize(("config", "variables"), [*itertools.product(PROFILES, VARIABLES)])
def test_it_is_where_boto3_goes(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, config: str, variables: dict[str, str]
) -> None:
    if "ignore" in config and "AWS_ENDPOINT_URL" in variables:
        pytest.skip("boto3 then ignores the environment as well, which has the last word here")
    profile.write(config)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(location, "region_of", lambda bucket: None)
    where = locate(Settings.from_environment(MARKET_DATA_BUCKET="bucket/lake"))
    session = botocore.session.Session()
    client = session.create_client("s3", region_name=session.get_config_variable("region") or "us-east-1")
    assert where.region == client.meta.region_name
    amazon = client.meta.endpoint_url.endswith(".amazonaws.com")
    assert where.endpoint == (None if amazon else client.meta.endpoint_url)


def test_without_a_profile_botocore_is_not_asked(tmp_path: Path) -> None:
    code = (
        "import sys; from alchemiser_duck.lake.location import locate; from alchemiser_duck import Settings; "
        "print(locate(Settings.from_environment()).region, 'botocore' in sys.modules)"
    )
    variables = {"HOME": str(tmp_path), "MARKET_DATA_BUCKET": "b", "AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    shown = subprocess_output(code, variables)
    assert shown.split() == ["us-east-1", "False"]


def subprocess_output(code: str, variables: dict[str, str]) -> str:
    import subprocess

    path = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=path | variables, capture_output=True, text=True, check=True, timeout=60
    )
    return ended.stdout


@pytest.mark.parametrize("bucket", ["plain", "with.dots"])
@pytest.mark.parametrize("endpoint", [None, "http://127.0.0.1:9"])
@pytest.mark.parametrize("style", [None, "path", "vhost"])
def test_a_dotted_bucket_stands_in_the_path(
    profile: Profile, monkeypatch: pytest.MonkeyPatch, bucket: str, endpoint: str | None, style: str | None
) -> None:
    profile.write("")
    monkeypatch.setattr(location, "region_of", lambda bucket: None)
    values: dict[str, Any] = {"MARKET_DATA_BUCKET": bucket}
    values |= {"AWS_ENDPOINT_URL_S3": endpoint} if endpoint else {}
    values |= {"MARKET_DATA_URL_STYLE": style} if style else {}
    where = locate(Settings.from_environment(**values))
    assert where.by_host == (style == "vhost" or (style is None and endpoint is None and bucket == "plain"))


def certificate(folder: Path) -> tuple[Path, Path]:
    """An authority that nobody trusts yet; with it, a certificate for 127.0.0.1 and its key."""
    now = dt.datetime.now(dt.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("authority", "store")}
    names = {name: x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in keys}
    signed = {
        name: (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["authority"])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=name == "authority", path_length=None), critical=True)
            .sign(keys["authority"], hashes.SHA256())
            .public_bytes(serialization.Encoding.PEM)
        )
        for name, key in keys.items()
    }
    bundle, chain = folder / "authority.pem", folder / "store.pem"
    bundle.write_bytes(signed["authority"])
    plain = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    chain.write_bytes(signed["store"] + keys["store"].private_bytes(*plain))
    return bundle, chain


@pytest.mark.parametrize("said_by", ["environment", "profile"])
def test_a_store_with_certificates_of_its_own(
    box: Sandbox, profile: Profile, proxy: S3Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said_by: str
) -> None:
    bundle, chain = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain)
    proxy.secure(context)
    url = proxy.url.replace("http://", "https://")
    bucket = new_bucket(box)
    config = f"[default]\nregion = us-east-1\nendpoint_url = {url}\n"
    profile.write(config + (f"ca_bundle = {bundle}\n" if said_by == "profile" else ""))
    if said_by == "environment":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    settings = Settings.from_environment(MARKET_DATA_BUCKET=f"{bucket}/lake")
    MarketDataStore(settings).write_bars(bar_table(bar_rows("AAPL", DAYS)))
    assert list(reads(settings)) == [len(DAYS)] * (3 if bundled_httpfs() else 1)
    monkeypatch.delenv("AWS_CA_BUNDLE", raising=False)
    profile.write(config)
    with pytest.raises(StorageUnavailable, match="AWS_CA_BUNDLE"):
        MarketDataStore(settings).partitions()


@pytest.mark.parametrize("status", [200, 301, 403])
def test_a_bucket_says_its_region(status: int) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            assert self.path == "/some-bucket"
            self.send_response(status)
            self.send_header("x-amz-bucket-region", "eu-west-1")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert region_of("some-bucket", f"http://127.0.0.1:{server.server_address[1]}") == "eu-west-1"
    finally:
        server.shutdown()
        server.server_close()


def test_who_does_not_answer_has_no_region() -> None:
    assert region_of("some-bucket", "http://127.0.0.1:9") is None


def test_each_kind_of_refusal_says_what_to_type() -> None:
    where = S3Location("b", "lake/", None, "us-east-1", True, None)
    for status, code, told in (
        (404, "NoSuchBucket", "MARKET_DATA_BUCKET"),
        (400, "ExpiredToken", "aws sso login"),
        (403, "RequestTimeTooSkewed", "clock"),
        (301, "PermanentRedirect", "set AWS_REGION"),
        (400, "AuthorizationHeaderMalformed", "set AWS_REGION"),
        (403, "AccessDenied", "AccessDenied.*AWS_ACCESS_KEY_ID"),
        (403, "", "HTTP 403.*AWS_ACCESS_KEY_ID"),
    ):
        error = storage_error(where, status, code, "")
        assert isinstance(error, StorageRefused), code
        with pytest.raises(StorageRefused, match=told):
            raise error
    assert isinstance(storage_error(where, 503, "SlowDown", "slow down"), StorageUnavailable)


def test_an_endpoint_holds_no_password() -> None:
    with pytest.raises(alchemiser_duck.errors.SettingsError) as refused:
        Settings.from_environment(MARKET_DATA_BUCKET="b", AWS_ENDPOINT_URL_S3="https://me:s3cr3t@store.here")
    assert "AWS_ENDPOINT_URL_S3" in str(refused.value)
    assert "s3cr3t" not in str(refused.value)
