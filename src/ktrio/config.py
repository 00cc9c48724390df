"""Settings: one record per layer, each the layer's own, validated when it is made; nothing reads them but `serve`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, final

from ktrio.handlers.options import DOTFILES, LINKS, SECURITY_HEADERS, FolderOptions, SiteOptions
from ktrio.http.hosts import host_name
from ktrio.http.policy import Limits
from ktrio.instrumentation.log_formats import FORMAT_NAMES, LogFormatName
from ktrio.net.addresses import Address, FdAddress, TcpAddress, UnixAddress
from ktrio.net.deadlines import Timeouts
from ktrio.server.options import ServerOptions

__all__ = [
    "DOTFILES",
    "FORMAT_NAMES",
    "LINKS",
    "SECURITY_HEADERS",
    "Address",
    "CommandSettings",
    "FdAddress",
    "FolderOptions",
    "Limits",
    "LogFormatName",
    "QueueOptions",
    "ServerOptions",
    "SiteOptions",
    "TcpAddress",
    "Timeouts",
    "UnixAddress",
    "host_name",
]

STDOUT: Final = "-"
"""In place of a log's file: standard output."""
STDERR: Final = ""
"""In place of a log's file: standard error."""


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class QueueOptions:
    """The workqueue that connections run on, when a server makes its own.

    Raises:
      ValueError: `cpus` or `capacity` below 1, or `max_active` outside 0 to 65 536.
    """

    cpus: int = 1
    """Simulated CPUs, a pool of workers each; connections are dealt to them in turn."""
    capacity: int = 512
    """Items each pool runs unparked at once."""
    bound: bool = False
    """Run connections on a bound queue: on each CPU a new request begins only while those that have begun wait for
    something. False: every request begins at once, up to `max_active`."""
    max_active: int = 0
    """Requests at work at once on each simulated CPU; 0 means 256. Idle and slow peers do not count."""

    def __post_init__(self) -> None:
        if self.cpus < 1:
            raise ValueError(f"cpus must be at least 1, not {self.cpus}")
        if self.capacity < 1:
            raise ValueError(f"capacity must be at least 1, not {self.capacity}")
        if not 0 <= self.max_active <= 65_536:
            raise ValueError(f"max_active must be 0 (for 256) to 65536, not {self.max_active}")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class CommandSettings:
    """What a command that serves was asked for."""

    addresses: tuple[Address, ...]
    server: ServerOptions = field(default_factory=ServerOptions)
    timeouts: Timeouts = field(default_factory=Timeouts)
    limits: Limits = field(default_factory=Limits)
    queue: QueueOptions = field(default_factory=QueueOptions)
    folders: tuple[tuple[str, str], ...] = ()
    """What `ktrio serve` serves: the path, percent-encoded, and the folder below it; one at least."""
    monitor: str | None = None
    """The path of the unix socket that `ktrio top` connects to."""
    trace: str | None = None
    """The file that a trace of the workqueue is written to."""
    files: FolderOptions = field(default_factory=FolderOptions)
    """How it serves them."""
    site: SiteOptions = field(default_factory=SiteOptions)
    """What holds for all that it serves."""
    allowed_hosts: tuple[str, ...] = ()
    """The hosts that requests may be for; none: any."""
    access_log: str | None = None
    """The file of the access log; `STDOUT` or `STDERR`; None: there is no such log."""
    log_format: LogFormatName | None = None
    """How its lines are written; None: for people on standard error, as Apache's combined log elsewhere."""
    error_log: str | None = None
    """The file of the log of errors; None: standard error."""
    trust_request_id: bool = False
    """Is a client's ``X-Request-Id`` taken for the name of its request?"""
