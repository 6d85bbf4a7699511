"""What is served, and within which limits."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from appliedpapers.core.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

    from appliedpapers.core.bundle import BundleInfo
    from appliedpapers.core.model import Model
    from appliedpapers.core.schema import OutputSchema, TableSchema

_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_POSITIVE = (
    "max_body_mb",
    "max_rows",
    "max_concurrency",
    "max_jobs",
    "request_timeout_s",
    "workers",
    "threads",
    "watch_s",
)
_WILDCARDS = ("0.0.0.0", "::")


@dataclass(frozen=True)
class ServedModel:
    """One model behind the server.

    Attributes:
        name: Registered name, such as ``apps.frets``.
        version: Registered version.
        model: The fitted model.
        info: What its bundle says about it.
        summary: One line of what it does.
        example: Rows as a client would send them: for the warm-up, the page and the documentation.
    """

    name: str
    version: str
    model: Model
    info: BundleInfo
    summary: str = ""
    example: pa.Table | None = None

    @cached_property
    def contract(self) -> tuple[TableSchema, OutputSchema]:
        """What it takes and what it returns, which does not change while it is served."""
        return self.model.input_schema, self.model.output_schema

    @cached_property
    def joinable(self) -> bool:
        """Whether rows of different clients may share one table: each output row belongs to one input row."""
        takes, returns = self.contract
        return self.model.cost == "instant" and not takes.group_by and returns.rows == "per_row"


@dataclass(frozen=True)
class ServeSettings:
    """Where the server listens and what it refuses.

    Attributes:
        host: Address to listen on.
        port: Port to listen on; 0 takes a free one.
        max_body_mb: Largest request body, in MiB.
        max_rows: Most rows in one request.
        max_concurrency: Most requests in flight; more are answered 503.
        max_jobs: Most jobs that wait or run; more are answered 429.
        allowed_hosts: Names that the ``Host`` header may carry; ``"*"`` allows any. Loopback names and
            ``host`` itself are always allowed.
        token: Bearer token that every route except health asks for; None asks for none.
        file_folders: Folders that path cells of file columns may point into.
        state_folder: Where jobs are kept; None keeps them in a temporary folder.
        request_timeout_s: Longest wait for a body, and for an answer, in seconds.
        shutdown_grace_s: How long requests in flight may still run after SIGTERM, in seconds.
        device: Where the model computes.
        workers: Processes that share the socket, each with models of its own.
        threads: Threads of the numerical libraries in each worker; None leaves their choice.
        watch_s: Seconds between two looks at the aliases, to serve another version when one moves; None
            serves what it started with.
        access_log: File for one JSON line an answer; ``-`` is stderr.
        metrics_folder: Where workers tell each other what they counted.

    Raises:
        ConfigError: A value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 5001
    max_body_mb: float = 16.0
    max_rows: int = 100_000
    max_concurrency: int = 256
    max_jobs: int = 100
    allowed_hosts: tuple[str, ...] = ()
    # what is printed of the settings must not hold it
    token: str | None = field(default=None, repr=False)
    file_folders: tuple[Path, ...] = ()
    state_folder: Path | None = None
    request_timeout_s: float = 60.0
    shutdown_grace_s: float = 30.0
    device: str = "cpu"
    workers: int = 1
    threads: int | None = None
    watch_s: float | None = None
    access_log: Path | None = None
    metrics_folder: Path | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port {self.port} does not exist.", hint="Expected 0 to 65535.")
        for name in _POSITIVE:
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ConfigError(f"{name} is {value}.", hint="Expected a number greater than 0.")
        if self.token is not None and not self.token.strip():
            raise ConfigError("the token is empty.", hint="Give a token, or leave the option out.")
        for folder in self.file_folders:
            if not folder.is_dir():
                raise ConfigError(
                    f"{folder}: no such folder.", hint="Name folders that exist for file columns."
                )

    @property
    def max_body(self) -> int:
        """Largest request body in bytes."""
        return int(self.max_body_mb * 1024 * 1024)

    @property
    def hosts(self) -> frozenset[str] | None:
        """Names that the ``Host`` header may carry, in lower case; None allows any."""
        if "*" in self.allowed_hosts:
            return None
        own = () if self.host in _WILDCARDS else (_bracketed(self.host),)
        return frozenset(name.lower() for name in (*_LOOPBACK, *own, *map(_bracketed, self.allowed_hosts)))

    @property
    def exposed(self) -> bool:
        """Whether other machines can reach the server."""
        return self.host.lower() not in ("localhost", "127.0.0.1", "::1")


def _bracketed(host: str) -> str:
    try:
        return f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
    except ValueError:
        return host
