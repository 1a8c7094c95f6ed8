"""AWS credentials, from boto3's own chain: environment, profile, SSO, container, instance."""

import os
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from alchemiser_duck.errors import StorageRefused


@dataclass(frozen=True)
class Credentials:
    """One set of credentials as it is right now; temporary ones change, so ask again before each use."""

    key_id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(repr=False)


@cache
def _session() -> Any:
    import botocore.session  # boto3's chain without boto3's import time

    return botocore.session.Session()


def forget() -> None:
    """Look the chain up anew at the next call: after the environment has changed."""
    _session.cache_clear()


def current() -> Credentials:
    """The credentials of this moment; expiring ones are renewed by boto3's chain.

    Raises:
        StorageRefused: the chain is empty or cannot be read.
    """
    # what boto3's chain looks at first; botocore takes 0.1 s to begin with
    key_id, secret = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if key_id and secret:
        return Credentials(key_id, secret, os.environ.get("AWS_SESSION_TOKEN") or None)
    from botocore.exceptions import BotoCoreError

    try:
        found = _session().get_credentials()
        if found is not None:
            frozen = found.get_frozen_credentials()
            return Credentials(frozen.access_key, frozen.secret_key, frozen.token)
    except BotoCoreError as problem:
        raise StorageRefused(f"AWS credentials could not be read: {problem}") from problem
    raise StorageRefused("no AWS credentials found: export AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE")
