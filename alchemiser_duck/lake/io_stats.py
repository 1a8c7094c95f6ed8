"""What went over the wire to S3 and back."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Traffic:
    """HTTP requests and body bytes both ways."""

    requests: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __add__(self, more: "Traffic") -> "Traffic":
        return Traffic(
            self.requests + more.requests,
            self.bytes_sent + more.bytes_sent,
            self.bytes_received + more.bytes_received,
        )

    def __sub__(self, earlier: "Traffic") -> "Traffic":
        return Traffic(
            self.requests - earlier.requests,
            self.bytes_sent - earlier.bytes_sent,
            self.bytes_received - earlier.bytes_received,
        )


@dataclass(frozen=True, slots=True)
class QueryStats:
    """What a query took: S3 requests, bytes of the objects and ranges received, seconds."""

    requests: int
    bytes_received: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.requests} S3 requests, {self.bytes_received:,} bytes, {self.seconds:.3f} s"
