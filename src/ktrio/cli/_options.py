"""The options that `serve` and `echo` share, and how they become settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click
from click.core import ParameterSource

from ktrio import __version__
from ktrio.cli._values import HostName, Seconds, Whole
from ktrio.config import (
    FORMAT_NAMES,
    STDERR,
    Address,
    CommandSettings,
    FdAddress,
    FolderOptions,
    Limits,
    QueueOptions,
    ServerOptions,
    SiteOptions,
    TcpAddress,
    Timeouts,
    UnixAddress,
)

Command = TypeVar("Command", bound="Callable[..., Any]")
Values = dict[str, Any]  # what click hands to a command, by parameter name

_COUNT: Final = Whole(1, 1_000_000)


version_option = click.version_option(__version__, "-V", "--version", message="ktrio %(version)s")


def usable_cpus() -> int:
    """The CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _seconds(name: str, default: float, text: str) -> Callable[[Command], Command]:
    return click.option(name, type=Seconds(), default=default, metavar="S", show_default=True, help=text)


def address_options(default_port: int) -> Callable[[Command], Command]:
    """Where to listen."""

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--fd", type=Whole(0, 1_048_575), multiple=True, metavar="N",
                         help="Listen on an inherited descriptor (may be repeated)."),
            click.option("--unix", multiple=True, metavar="PATH", help="Listen on a unix socket (may be repeated)."),
            click.option("--port", type=Whole(0, 65_535), default=default_port, metavar="N",
                         show_default=True, help="TCP port; 0 takes a free one and prints it."),
            click.option("--host", multiple=True, metavar="HOST", show_default="127.0.0.1",
                         help="Name or address to listen on; '' for all (may be repeated)."),
        ):  # fmt: skip
            command = option(command)
        return command

    return decorate


def queue_options(command: Command) -> Command:
    """The workqueue."""
    for option in (
        click.option("--bound/--unbound", default=False,
                     help="Begin a request only while those begun on its CPU wait, or at once (the default)."),
        click.option("--max-active", type=Whole(0, 65_536), default=256, metavar="N", show_default=True,
                     help="Requests at work at once, per simulated CPU; idle and slow peers do not count."),
        click.option("--capacity", type=_COUNT, default=512, metavar="N", show_default=True,
                     help="Work items each pool runs at once."),
        click.option("--cpus", type=Whole(1, 1024), metavar="N", show_default="usable CPUs",
                     help="Simulated CPUs: pools of workers that connections are dealt to."),
    ):  # fmt: skip
        command = option(command)
    return command


def server_options(command: Command) -> Command:
    """Connections, shutdown, and what is said about it."""
    for option in (
        click.option("--quiet", "-q", is_flag=True, help="Say nothing but errors."),
        click.option("--print-timeouts", is_flag=True, help="Print every deadline there is, and exit."),
        click.option("--error-log", metavar="PATH",
                     help="Write errors to this file, not to standard error; SIGUSR1 opens it anew."),
        click.option("--monitor", metavar="PATH",
                     help="Unix socket by which 'ktrio top PATH' watches the workqueues."),
        click.option("--trace", metavar="FILE",
                     help="Write what the workqueue does to FILE, for chrome://tracing or ui.perfetto.dev."),
        click.option("--backlog", type=Whole(1, 65_535), default=1024, metavar="N", show_default=True,
                     help="Clients the kernel lets wait to be accepted."),
        click.option("--max-connections", type=_COUNT, metavar="N", show_default="3/4 of the open-file limit",
                     help="Connections open at once; then the longest-idle one makes room."),
        click.option("--max-errors", type=Whole(0, 1_000_000), default=100, metavar="N", show_default=True,
                     help="Unexpected errors in a row, within 10 s, that end the server; 0: never."),
        click.option("--grace", type=Seconds(zero=True), default=8.0, metavar="S",
                     show_default=True, help="Time that requests in progress have after the first Ctrl-C."),
    ):  # fmt: skip
        command = option(command)
    return command


def timeout_options(*, idle: float) -> Callable[[Command], Command]:
    """The deadlines of any protocol."""

    def decorate(command: Command) -> Command:
        command = _seconds("--write-timeout", 30.0, "Time a peer has to take what is sent, without progress.")(command)
        return _seconds("--idle-timeout", idle, "Time a connection may be silent between requests.")(command)

    return decorate


def http_options(command: Command) -> Command:
    """The deadlines and limits of HTTP."""
    for option in (
        click.option("--allowed-host", type=HostName(), multiple=True, metavar="NAME",
                     help="Answer requests for this host only, others by 421; *.NAME: below it (may be repeated)."),
        click.option("--max-requests-per-connection", type=_COUNT, default=10_000, metavar="N", show_default=True,
                     help="Then the connection is closed."),
        _seconds("--body-timeout", 30.0, "Time a request body may take, without progress."),
        _seconds("--head-timeout", 10.0, "Time a request head may take in all."),
    ):  # fmt: skip
        command = option(command)
    return command


def log_options(command: Command) -> Command:
    """The access log of HTTP."""
    for option in (
        click.option("--trust-request-id", is_flag=True,
                     help="Call a request what the client calls it (X-Request-Id); only behind a proxy."),
        click.option("--log-format", type=click.Choice(FORMAT_NAMES), show_default="combined; short on standard error",
                     help="How a line is written: as Apache's, as JSON, or short for people."),
        click.option("--no-access-log", is_flag=True, help="Write no such line, on a terminal either."),
        click.option("--access-log", is_flag=False, flag_value=STDERR, metavar="[PATH|-]",
                     show_default="standard error if that is a terminal",
                     help="Write a line per request to this file ('-': standard output; nothing: standard error). "
                          "SIGUSR1 opens it anew."),
    ):  # fmt: skip
        command = option(command)
    return command


def access_log_of(values: Values) -> str | None:
    """Where the access log goes: where it was asked for, or else to standard error if that is a terminal."""
    if values["no_access_log"]:
        return None
    where: str | None = values["access_log"]
    if where is None and not values["quiet"] and sys.stderr is not None and sys.stderr.isatty():
        return STDERR
    return where


def addresses_of(values: Values) -> tuple[Address, ...]:
    """Every address asked for; 127.0.0.1 if none was, or if only its port was."""
    others: list[Address] = [UnixAddress(path) for path in values["unix"]]
    others += [FdAddress(fd) for fd in values["fd"]]
    port_was_given = click.get_current_context().get_parameter_source("port") is not ParameterSource.DEFAULT
    hosts: tuple[str, ...] = values["host"] or (("127.0.0.1",) if port_was_given or not others else ())
    return (*(TcpAddress(host, values["port"]) for host in hosts), *others)


def settings_of(
    values: Values,
    *,
    folders: tuple[tuple[str, str], ...] = (),
    files: FolderOptions | None = None,
    site: SiteOptions | None = None,
    access_log: str | None = None,
) -> CommandSettings:
    """The settings that a command's options ask for."""
    timeouts = {
        phase: values[f"{phase}_timeout"] for phase in ("head", "idle", "body", "write") if f"{phase}_timeout" in values
    }
    requests = values.get("max_requests_per_connection")
    return CommandSettings(
        addresses=addresses_of(values),
        server=ServerOptions(
            max_connections=values["max_connections"],
            backlog=values["backlog"],
            grace=values["grace"],
            max_errors=values["max_errors"] or None,
        ),
        timeouts=Timeouts(**timeouts),
        # Files are served: any body on a GET is drained within the limit or closes the connection.
        limits=Limits(body_bytes=0) if requests is None else Limits(body_bytes=0, requests_per_connection=requests),
        queue=QueueOptions(
            cpus=values["cpus"] or usable_cpus(),
            capacity=values["capacity"],
            bound=values["bound"],
            max_active=values["max_active"],
        ),
        folders=folders,
        access_log=access_log,
        log_format=values.get("log_format"),
        error_log=values["error_log"],
        trust_request_id=values.get("trust_request_id", False),
        monitor=values["monitor"],
        trace=values["trace"],
        files=files or FolderOptions(),
        site=site or SiteOptions(),
        allowed_hosts=values.get("allowed_host", ()),
    )
