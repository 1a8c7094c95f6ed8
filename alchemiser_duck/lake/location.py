"""Where the lake's S3 is: endpoint, region, style, certificates, resolved once for boto3, obstore and DuckDB alike.

An environment variable wins over the AWS profile, the profile over what AWS does by default, as in boto3. Where no
profile can say anything, botocore is not asked: it takes 0.1 s to begin with.
"""

import os
import re
import urllib.error
import urllib.request
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from alchemiser_duck.errors import AlchemiserDuckError, StorageRefused, StorageUnavailable
from alchemiser_duck.settings import Settings

DEFAULT_REGION = "us-east-1"
_AWS = "https://s3.amazonaws.com"
_OF_PROFILES = (
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    *("AWS_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "HOME", "USERPROFILE"),
)


@dataclass(frozen=True, slots=True)
class S3Location:
    """The address of one lake, the same for everybody who talks to it."""

    bucket: str
    prefix: str
    """inside the bucket: empty, or ending in a slash"""
    endpoint: str | None
    """address of an S3 other than Amazon's, without a trailing slash"""
    region: str
    by_host: bool
    """the bucket is named in the host name, not in the path"""
    ca_bundle: str | None
    """a file of certificates to trust instead of the system's"""

    def __str__(self) -> str:
        """Return the lake's address for messages."""
        lake = f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return f"{lake} at {self.endpoint}" if self.endpoint else lake

    @property
    def is_plain(self) -> bool:
        """Tell whether it is reached without TLS."""
        return (self.endpoint or "").startswith("http://")


def locate(settings: Settings) -> S3Location:
    """Resolve where a lake is: settings first, then the AWS profile, then what AWS does by default.

    Raises:
        StorageRefused: the AWS profile that is named cannot be read.
    """
    variables = tuple(os.environ.get(name) for name in _OF_PROFILES)
    return _located(
        settings.bucket, settings.prefix, settings.endpoint_url, settings.region, settings.url_style, variables
    )


def forget() -> None:
    """Resolve anew at the next call: after a profile has changed."""
    _located.cache_clear()


@cache
def _located(
    bucket: str, prefix: str, endpoint: str | None, region: str | None, style: str | None, _: tuple[str | None, ...]
) -> S3Location:
    profile = _profile()
    endpoint = endpoint or profile.get("endpoint_url")
    endpoint = endpoint.rstrip("/") if endpoint else None
    region = region or profile.get("region") or (None if endpoint else region_of(bucket)) or DEFAULT_REGION
    if style is None:
        dotted = "." in bucket  # a dotted bucket has no TLS certificate of its own
        asked = profile.get("addressing_style")
        style = {"path": "path", "virtual": "vhost"}.get(asked or "") or ("path" if endpoint or dotted else "vhost")
    ca_bundle = os.environ.get("AWS_CA_BUNDLE") or profile.get("ca_bundle") or None
    return S3Location(bucket, prefix, endpoint, region, style == "vhost", ca_bundle)


def _profile() -> dict[str, Any]:
    """Read what the AWS profile says about S3; empty where there is none."""
    named = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    file = Path(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config").expanduser()
    if not named and not file.is_file():
        return {}
    import botocore.session
    from botocore.configprovider import ConfiguredEndpointProvider
    from botocore.exceptions import BotoCoreError

    try:
        session = botocore.session.Session()
        scoped = session.get_scoped_config()
        endpoint = None
        if not session.get_config_variable("ignore_configured_endpoint_urls"):
            endpoint = ConfiguredEndpointProvider(session.full_config, scoped, "s3").provide()
        s3 = scoped.get("s3")
        return {
            "endpoint_url": endpoint,
            "region": session.get_config_variable("region"),
            "ca_bundle": session.get_config_variable("ca_bundle"),
            "addressing_style": s3.get("addressing_style") if isinstance(s3, dict) else None,
        }
    except BotoCoreError as problem:
        raise StorageRefused(f"the AWS profile cannot be read: {problem}; check AWS_PROFILE and {file}") from problem


def region_of(bucket: str, address: str = _AWS) -> str | None:
    """Ask S3 in which region a bucket is; None where it does not say. It needs no credentials."""
    request = urllib.request.Request(f"{address}/{bucket}", method="HEAD")  # noqa: S310 (https, or a test's own)
    try:
        with urllib.request.urlopen(request, timeout=3) as answer:  # noqa: S310
            headers = answer.headers
    except urllib.error.HTTPError as refused:  # 301 and 403 say it as well
        headers = refused.headers
    except OSError:
        return None
    region: str | None = headers.get("x-amz-bucket-region")
    return region


def storage_error(where: S3Location, status: int | None, code: str, detail: str) -> AlchemiserDuckError:
    """Say what a failed request means, and what to do: the one place for it.

    Args:
        status: of the answer; None where there was none.
        code: S3's own, as NoSuchBucket; empty where it is not known.
        detail: in the client's words, for what is none of these.
    """
    if code == "NoSuchBucket" or (status == 404 and not code):
        return StorageRefused(f"S3 knows no bucket {where.bucket!r} ({where}): check MARKET_DATA_BUCKET, or create it")
    if code in ("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"):
        return StorageRefused(f"the AWS credentials for {where} have expired: renew them, for example by aws sso login")
    if code == "RequestTimeTooSkewed":
        return StorageRefused(f"S3 refuses {where}: this machine's clock is wrong; set it, for example by timedatectl")
    if status in (301, 307) or code in (
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraint",
    ):
        return StorageRefused(f"{where} is in another region than {where.region}: set AWS_REGION to the bucket's")
    if status in (400, 401, 403):
        return StorageRefused(
            f"S3 refuses access to {where} ({code or f'HTTP {status}'}): check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION, and that they may list, read and, to refresh, "
            "write the bucket"
        )
    if "certificate" in detail.lower():
        return StorageUnavailable(
            f"the certificate of {where} is not trusted here: set AWS_CA_BUNDLE to a file with that of its authority"
        )
    return StorageUnavailable(f"S3 cannot be read: {where}: {detail.splitlines()[0] if detail else 'no answer'}")


def code_in(text: str) -> str:
    """Find S3's own code in the text of an answer; empty where there is none."""
    match = re.search(r"<Code>(\w+)</Code>", text)
    return match.group(1) if match else ""
