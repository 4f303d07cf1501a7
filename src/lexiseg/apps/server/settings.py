"""What a server allows, and how it says no."""

from dataclasses import dataclass, field, fields

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Settings:
    """Limits and the key of a server.

    Attributes:
        queue: so many requests wait beside the one that runs; the next is refused with 429.
        timeout: seconds from a request's arrival to its answer, 504 after that.
        upload_timeout: seconds within which a body must have arrived, 408 after that.
        max_body: bytes of a request, 413 beyond.
        max_labels: labels in a request.
        max_names: labels, synonyms and names of the background in a request, together.
        max_expressions: expressions in a request.
        max_batch: waiting pictures with equal labels that run together.
        api_key: what a client must show; None lets everyone in.
    """

    queue: int = 32
    timeout: float = 60.0
    upload_timeout: float = 20.0
    max_body: int = 20 * MEGABYTE
    max_labels: int = 256
    max_names: int = 1024
    max_expressions: int = 64
    max_batch: int = 4
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for limit in fields(self):
            if limit.name != "api_key" and not getattr(self, limit.name) > 0:
                raise ValueError(
                    f"{limit.name} {getattr(self, limit.name)!r} came; it must be above 0"
                )
        if self.api_key is not None and len(self.api_key) < 16:
            raise ValueError(
                f"the API key has {len(self.api_key)} characters; give at least 16, such as those "
                "of `openssl rand -hex 32`"
            )


class Refusal(Exception):  # noqa: N818  a refusal is an answer, not a failure of ours
    """A request that gets no result: the status, and what its body says.

    Attributes:
        status: HTTP's.
        code: one word for programs.
        message: a sentence for people, without paths or inner workings.
        headers: what else the answer carries.
    """

    def __init__(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}
