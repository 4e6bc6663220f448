"""Where the endpoint listens, and how much it takes on."""

from __future__ import annotations

from dataclasses import dataclass, field

from labkit.errors import LabkitError, require_count, require_number, set_checked

LIMITS = ("batch_size", "batch_tokens", "queue", "max_prompt", "max_tokens", "max_body", "timeout")
LOOPBACK = ("127.0.0.1", "localhost")


@dataclass(frozen=True)
class Serving:
    """Settings of an endpoint.

    Attributes:
        host: the address to listen at. Only this computer reaches the default; any other needs an ``api_key``.
        port: 0 takes a free one.
        api_key: what clients must send as ``Authorization: Bearer …``; None lets everybody in.
        batch_size: the most requests that are answered together.
        batch_tokens: the most tokens of a batch, prompts and replies, with padding: they bound its memory.
        queue: the most requests that wait; one more gets 503.
        max_prompt: the most tokens of a prompt.
        max_tokens: the most new tokens of a reply.
        max_body: the most bytes of a request.
        timeout: seconds after which a request is given up: 503 if it still waited, else 504.
    """

    host: str = LOOPBACK[0]
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    batch_size: int = 16
    batch_tokens: int = 16_384
    queue: int = 64
    max_prompt: int = 1024
    max_tokens: int = 256
    max_body: int = 262_144
    timeout: float = 100.0

    def __post_init__(self) -> None:
        for name in LIMITS[:-1]:
            set_checked(self, **{name: require_count(name, getattr(self, name))})
        set_checked(
            self,
            port=require_count("port", self.port, low=0, high=65_535),
            timeout=require_number("timeout", self.timeout, above=0, remedy="Try 100 seconds."),
        )
        if not isinstance(self.host, str) or not self.host:
            raise LabkitError(f"host is an address, not {self.host!r}.", f"Try {LOOPBACK[0]!r}.")
        if self.api_key is not None and not _fits_header(self.api_key):
            raise LabkitError(
                "The API key is empty, or has spaces or characters that no HTTP header can carry.",
                "Give a text of letters and digits that is hard to guess, or None.",
            )
        if self.host not in LOOPBACK and self.api_key is None:
            raise LabkitError(
                f"At {self.host}, other computers could use the model, and no API key is set.",
                "Set the environment variable LABKIT_API_KEY, or listen at 127.0.0.1.",
            )


def _fits_header(key: object) -> bool:
    return isinstance(key, str) and key != "" and all("!" <= character <= "~" for character in key)
