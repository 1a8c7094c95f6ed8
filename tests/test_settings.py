"""Settings: everything validated once, every mistake named with an example, no secret shown."""

import pytest

from alchemiser_duck import Settings
from alchemiser_duck.errors import SettingsError


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"MARKET_DATA_BUCKET": "market"} | variables).items():
        monkeypatch.setenv(name, value)
    return Settings.from_environment()


@pytest.mark.parametrize(
    ("text", "bucket", "prefix", "url"),
    [
        ("market", "market", "", "s3://market"),
        ("market/daily", "market", "daily/", "s3://market/daily"),
        ("s3://market/a/b/", "market", "a/b/", "s3://market/a/b"),
    ],
)
def test_the_bucket_is_accepted_in_three_forms(
    monkeypatch: pytest.MonkeyPatch, text: str, bucket: str, prefix: str, url: str
) -> None:
    settings = load(monkeypatch, MARKET_DATA_BUCKET=text)
    assert (settings.bucket, settings.prefix, settings.lake_url) == (bucket, prefix, url)


def test_defaults_are_the_design_s(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.feed == "sip"
    assert settings.sip_delay_minutes == 15
    assert settings.requests_per_minute == 200
    assert settings.alpaca_data_url == "https://data.alpaca.markets"


def test_a_missing_bucket_is_named_with_an_example() -> None:
    with pytest.raises(SettingsError, match=r"^MARKET_DATA_BUCKET is not set; for example: export MARKET_DATA_BUCKET="):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MARKET_DATA_BUCKET", "https://market"),
        ("MARKET_DATA_BUCKET", "market/*"),
        ("MARKET_DATA_BUCKET", "market//x"),
        ("MARKET_DATA_BUCKET", "/"),
        ("AWS_ENDPOINT_URL_S3", "127.0.0.1:9000"),
        ("APCA_API_DATA_URL", "data.alpaca.markets"),
        ("ALPACA_DATA_FEED", "sipp"),
        ("ALPACA_SIP_DELAY_MINUTES", "-1"),
        ("ALPACA_SIP_DELAY_MINUTES", "soon"),
        ("ALPACA_REQUESTS_PER_MINUTE", "0"),
        ("ALCHEMISER_SQL_DIR", "/no/such/folder"),
        ("ALCHEMISER_THREADS", "0"),
        ("ALCHEMISER_MEMORY_LIMIT", "lots"),
    ],
)
def test_a_malformed_variable_is_named_with_an_example(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} .*export {name}="):
        load(monkeypatch, **{name: value})


def test_half_a_key_pair_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="APCA_API_SECRET_KEY is not set"):
        load(monkeypatch, APCA_API_KEY_ID="id")


def test_an_empty_variable_is_an_unset_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, AWS_ENDPOINT_URL_S3="", ALCHEMISER_SYMBOLS="").endpoint_url is None


def test_secrets_are_masked_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, APCA_API_KEY_ID="the-key-id", APCA_API_SECRET_KEY="the-secret-key")
    for text in (repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()):
        assert "the-secret-key" not in text
        assert "the-key-id" not in text
    assert settings.alpaca_keys() == ("the-key-id", "the-secret-key")
    with pytest.raises(SettingsError) as caught:
        load(monkeypatch, ALPACA_SIP_DELAY_MINUTES="x", APCA_API_SECRET_KEY="the-secret-key")
    assert "the-secret-key" not in str(caught.value)


def test_settings_are_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    with pytest.raises(Exception, match="frozen"):
        settings.feed = "iex"


def test_symbols_are_split_and_deduplicated(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch, ALCHEMISER_SYMBOLS="AAPL, MSFT BRK.B,AAPL").symbols == ("AAPL", "MSFT", "BRK.B")
