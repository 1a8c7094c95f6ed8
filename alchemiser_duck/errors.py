"""Everything that alchemiser-duck raises on purpose.

AlchemiserDuckError
├── SettingsError              a variable is missing or malformed
├── UsageError                 the call itself cannot be answered
│   ├── UnknownSymbol          no bar of this symbol is stored
│   ├── UnknownIndicator       no such indicator
│   ├── UnsupportedTimeframe   a timeframe that the lake does not hold
│   ├── BadPeriod              a period that is not <n>Y, <n>M, <n>W, <n>D or MAX
│   ├── BadParameter           an argument out of range or of the wrong type
│   │   └── CryptoPair         not a stock symbol
│   ├── MalformedFile          a file that symbols are read from is not what it should be
│   ├── NotReadOnly            SQL that is not a single SELECT-like statement
│   └── NothingToRefresh       no symbol was named and none is stored
├── QueryFailed                DuckDB refused or could not run a statement
├── EmptyLake                  nothing is stored under the prefix yet
├── MissingActions             bars are stored, and nothing about corporate actions
├── StaleData                  bars are older than the caller can accept
├── SuspectPrices              a corporate action that is likely to be wrong touches the prices
├── StorageError               S3
│   ├── StorageUnavailable     S3 cannot be reached or does not answer properly
│   ├── StorageRefused         S3 rejects the credentials, or the bucket does not exist
│   ├── UnsafeStore            the store ignores the conditions of a PUT
│   ├── WriteConflict          other writers kept replacing a partition
│   └── CorruptPartition       a stored object is not a partition of ours
├── FeedMismatch               bars of one feed were about to be mixed with another's
└── AlpacaError                the market data API
    ├── AlpacaUnavailable      Alpaca cannot be reached or does not answer properly
    ├── AlpacaRefused          Alpaca rejects the keys or the subscription
    ├── BarNotComplete         today's bar cannot be complete yet
    └── NoQuote                Alpaca has no usable quote

A message says what happened, where, and what to type next. No message holds a secret.
"""

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import ClassVar


class ExitCode(IntEnum):
    """A command's exit status."""

    OK = 0
    QUERY_FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    BAD_DATA = 4
    INTERRUPTED = 130


class AlchemiserDuckError(Exception):
    """Base class of every error raised on purpose."""

    exit_code: ClassVar[ExitCode] = ExitCode.QUERY_FAILED


class SettingsError(AlchemiserDuckError):
    """A variable is missing or malformed."""

    exit_code = ExitCode.USAGE


class UsageError(AlchemiserDuckError):
    """The call itself cannot be answered."""

    exit_code = ExitCode.USAGE


class UnknownSymbol(UsageError):
    """No bar of these symbols is stored."""

    def __init__(self, message: str, symbols: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.symbols = symbols


class UnknownIndicator(UsageError):
    """No indicator of this name exists."""


class UnsupportedTimeframe(UsageError):
    """The lake does not hold bars of this timeframe."""


class BadPeriod(UsageError):
    """A period that is not <n>Y, <n>M, <n>W, <n>D or MAX."""


class BadParameter(UsageError):
    """An argument is out of range or of the wrong type."""


class CryptoPair(BadParameter):
    """A crypto pair where a stock is expected: the lake holds stocks."""


class MalformedFile(UsageError):
    """A file of symbols is malformed; the message begins with file:line:column."""


class NotReadOnly(UsageError):
    """SQL that is not a single SELECT-like statement."""


class NothingToRefresh(UsageError):
    """No symbol was named and none is stored."""


class QueryFailed(AlchemiserDuckError):
    """DuckDB refused or could not run a statement."""


class EmptyLake(AlchemiserDuckError):
    """Nothing is stored under the prefix yet."""


class MissingActions(AlchemiserDuckError):
    """The lake has bars and says nothing about corporate actions: no price can be adjusted."""


class StaleData(AlchemiserDuckError):
    """Bars are older than the caller can accept."""

    exit_code = ExitCode.BAD_DATA


class StorageError(AlchemiserDuckError):
    """S3 did not do what was asked."""

    exit_code = ExitCode.UNREACHABLE


class StorageUnavailable(StorageError):
    """S3 cannot be reached or answers badly; a retry may help."""


class StorageRefused(StorageError):
    """S3 rejects the credentials, or the bucket does not exist."""

    exit_code = ExitCode.USAGE


class UnsafeStore(StorageError):
    """The store ignores the conditions of a PUT, so that two writers would lose each other's updates."""

    exit_code = ExitCode.USAGE


class WriteConflict(StorageError):
    """Other writers kept replacing a partition; running again completes the job."""


class CorruptPartition(StorageError):
    """A stored object is no partition of ours; it stays untouched."""

    exit_code = ExitCode.BAD_DATA


class FeedMismatch(AlchemiserDuckError):
    """Bars of one feed were about to be mixed with another's."""

    exit_code = ExitCode.USAGE


class SuspectPrices(AlchemiserDuckError):
    """A corporate action that is likely to be wrong touches the prices that are asked for."""

    exit_code = ExitCode.BAD_DATA


class AlpacaError(AlchemiserDuckError):
    """The market data API did not do what was asked."""

    exit_code = ExitCode.UNREACHABLE


class AlpacaUnavailable(AlpacaError):
    """Alpaca cannot be reached or answers badly; a retry may help."""


class AlpacaRefused(AlpacaError):
    """Alpaca rejects the keys or the subscription."""

    exit_code = ExitCode.USAGE


class BarNotComplete(AlpacaError):
    """Today's bar cannot be complete before the time in the message."""


class NoQuote(AlpacaError):
    """Alpaca has no usable quote of the symbol."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean X?` for the nearest name, or nothing."""
    originals = {other.upper(): other for other in sorted(known)}
    near = difflib.get_close_matches(name.upper(), originals, n=1, cutoff=0.6)
    return f"; did you mean {originals[near[0]]}?" if near else ""
