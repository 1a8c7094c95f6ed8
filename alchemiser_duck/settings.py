"""Settings: everything the environment says, validated once, frozen, with secrets masked."""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from alchemiser_duck.errors import SettingsError

Feed = Literal["sip", "iex", "otc", "boats"]

_EXAMPLES = {
    "MARKET_DATA_BUCKET": "my-bucket/market",
    "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9000",
    "APCA_API_DATA_URL": "https://data.alpaca.markets",
    "ALPACA_DATA_FEED": "sip",
    "ALPACA_QUOTE_FEED": "iex",
    "ALPACA_SIP_DELAY_MINUTES": "15",
    "ALPACA_REQUESTS_PER_MINUTE": "200",
    "ALCHEMISER_CLOSURES": "2025-01-09",
    "ALCHEMISER_SYMBOLS": "AAPL,MSFT,BRK.B",
    "ALCHEMISER_SQL_DIR": "./indicators",
    "ALCHEMISER_THREADS": "16",
    "ALCHEMISER_MEMORY_LIMIT": "2GB",
    "ALCHEMISER_TEMP_LIMIT": "20GB",
    "ALCHEMISER_TIMEOUT": "300",
    "MARKET_DATA_URL_STYLE": "path",
}

_SIZE = r"^\d+(\.\d+)?\s?([KMGT]i?)?B$"


def _variable(*names: str, default: Any = None) -> Any:
    return Field(default=default, validation_alias=AliasChoices(*names))


class Settings(BaseSettings):
    """The environment of one lake. `Settings.from_environment()` reads it; keyword arguments are the variables' names.

    AWS credentials are not in here: they come from boto3's own chain when they are needed.
    """

    model_config = SettingsConfigDict(
        frozen=True, env_ignore_empty=True, extra="ignore", case_sensitive=True, hide_input_in_errors=True
    )

    market_data_bucket: str = Field(validation_alias="MARKET_DATA_BUCKET")
    """bucket, bucket/prefix or s3://bucket/prefix"""
    endpoint_url: str | None = _variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    """address of an S3 other than Amazon's"""
    region: str | None = _variable("AWS_REGION", "AWS_DEFAULT_REGION")
    url_style: Literal["path", "vhost"] | None = _variable("MARKET_DATA_URL_STYLE")
    """default: the AWS profile's, else path where an endpoint is set or the bucket has a dot, else vhost"""

    alpaca_key_id: SecretStr | None = _variable("APCA_API_KEY_ID")
    alpaca_secret_key: SecretStr | None = _variable("APCA_API_SECRET_KEY")
    alpaca_data_url: str = _variable("APCA_API_DATA_URL", default="https://data.alpaca.markets")
    feed: Feed = _variable("ALPACA_DATA_FEED", default="sip")
    quote_feed: Feed | None = _variable("ALPACA_QUOTE_FEED")
    """feed of the newest quotes; default: iex on a plan whose SIP data lags, else that of the bars"""
    sip_delay_minutes: int = Field(default=15, ge=0, le=24 * 60, validation_alias="ALPACA_SIP_DELAY_MINUTES")
    """minutes by which the plan's data lags: 15 on the free plan, 0 with real-time SIP"""
    requests_per_minute: int = Field(default=200, ge=1, le=100_000, validation_alias="ALPACA_REQUESTS_PER_MINUTE")

    closures: Annotated[tuple[date, ...], NoDecode] = _variable("ALCHEMISER_CLOSURES", default=())
    """days without a session that the exchange calendar does not know yet; `sessions` tells every reader of them"""
    single_writer: bool = Field(default=False, validation_alias="ALCHEMISER_SINGLE_WRITER")
    """promises that one process writes at a time, for a store that ignores the conditions of a PUT"""
    symbols: Annotated[tuple[str, ...], NoDecode] = _variable("ALCHEMISER_SYMBOLS", default=())
    """the universe: tickers separated by commas or white space"""
    strategies: Path | None = _variable("ALCHEMISER_STRATEGIES")
    sql_dir: Path | None = _variable("ALCHEMISER_SQL_DIR")
    """a folder of the user's own .sql files"""
    threads: int = Field(default=16, ge=1, le=1024, validation_alias="ALCHEMISER_THREADS")
    """DuckDB threads; each is one S3 request in flight"""
    memory_limit: str | None = Field(default=None, pattern=_SIZE, validation_alias="ALCHEMISER_MEMORY_LIMIT")
    """DuckDB's memory limit, e.g. 2GB; default: 80 % of the machine"""
    temp_limit: str = Field(default="20GB", pattern=_SIZE, validation_alias="ALCHEMISER_TEMP_LIMIT")
    """what DuckDB may spill to disk beyond it"""
    timeout_seconds: float = Field(default=300, gt=0, le=86_400, validation_alias="ALCHEMISER_TIMEOUT")
    """a query that takes longer is stopped"""

    @classmethod
    def from_environment(cls, **overrides: Any) -> Self:
        """The settings of the environment; overrides are given by the variables' names.

        Raises:
            SettingsError: a variable is missing or malformed; the message names it and shows an example.
        """
        try:
            return cls(**overrides)
        except ValidationError as problem:
            raise SettingsError("; ".join(_explain(error) for error in problem.errors())) from None

    @field_validator("market_data_bucket")
    @classmethod
    def _bucket_and_prefix(cls, value: str) -> str:
        path = value.strip().removeprefix("s3://").strip("/")
        parts = path.split("/")
        if not path or "://" in path or any(part in ("", ".", "..") for part in parts):
            raise ValueError("is not bucket, bucket/prefix or s3://bucket/prefix")
        if any(character in path for character in "*?[]{}\\'\"# \n\t"):
            raise ValueError("holds a character that has a meaning in globs or URLs")
        return path

    @field_validator("endpoint_url", "alpaca_data_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("does not start with http:// or https://")
        if value is not None and "@" in value.partition("://")[2].partition("/")[0]:
            raise ValueError("holds a user name or a password: keys have variables of their own")
        return value.rstrip("/") if value else value

    @field_validator("symbols", "closures", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        if isinstance(value, str):
            value = value.replace(",", " ").split()
        return tuple(dict.fromkeys(value))

    @field_validator("sql_dir")
    @classmethod
    def _folder(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"is not a folder: {value}")
        return value

    @model_validator(mode="after")
    def _keys_come_in_pairs(self) -> Self:
        if (self.alpaca_key_id is None) != (self.alpaca_secret_key is None):
            missing = "APCA_API_KEY_ID" if self.alpaca_key_id is None else "APCA_API_SECRET_KEY"
            raise ValueError(f"{missing} is not set although its counterpart is; export both")
        return self

    def as_rows(self) -> list[tuple[str, str]]:
        """Return each variable and its value as text; of secrets, whether they are set."""
        rows = []
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            listed = " ".join(map(str, value)) if isinstance(value, tuple) else value
            shown = "set" if isinstance(value, SecretStr) else "" if listed is None else str(listed)
            rows.append((_variable_of(field), shown))
        return rows

    @property
    def bucket(self) -> str:
        return self.market_data_bucket.partition("/")[0]

    @property
    def prefix(self) -> str:
        """The lake's prefix inside the bucket: empty, or ending in a slash."""
        inside = self.market_data_bucket.partition("/")[2]
        return inside + "/" if inside else ""

    @property
    def lake_url(self) -> str:
        """Where the lake is, e.g. s3://bucket/prefix, without a trailing slash."""
        return "s3://" + self.market_data_bucket

    @property
    def feed_of_quotes(self) -> Feed:
        """The feed that the newest quotes come from: SIP's are for plans without a delay."""
        return self.quote_feed or ("iex" if self.feed == "sip" and self.sip_delay_minutes else self.feed)

    def alpaca_keys(self) -> tuple[str, str]:
        """The key id and the secret key, in the clear.

        Raises:
            SettingsError: they are not set.
        """
        if self.alpaca_key_id is None or self.alpaca_secret_key is None:
            raise SettingsError(
                "APCA_API_KEY_ID and APCA_API_SECRET_KEY are not set: create a key pair in Alpaca's dashboard and "
                "export both, or type `alchemiser-duck sandbox` to try everything without an account"
            )
        return self.alpaca_key_id.get_secret_value(), self.alpaca_secret_key.get_secret_value()


def _variable_of(field: FieldInfo) -> str:
    alias = field.validation_alias
    return str(alias.choices[0] if isinstance(alias, AliasChoices) else alias)


def _explain(error: Any) -> str:
    """One pydantic error as: variable, what is wrong, an example. Never the value: it may be a secret."""
    name = str(error["loc"][0]) if error["loc"] else ""
    field = Settings.model_fields.get(name)
    name = _variable_of(field) if field else name
    wrong = "is not set" if error["type"] == "missing" else str(error["msg"]).removeprefix("Value error, ")
    example = f"; for example: export {name}={_EXAMPLES[name]}" if name in _EXAMPLES else ""
    return f"{name} {wrong}{example}".strip()
