"""Fixtures of the commands' tests: start a program, serve a folder. Every program ends with its test."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Protocol

import pytest

from tests.cli.processes import Program
from tests.cli.warm_start import WarmStart

MIB = 1 << 20


class Start(Protocol):
    """Starts ``ktrio`` with these arguments; keywords as for `Program`."""

    def __call__(self, *arguments: str | os.PathLike[str], **options: object) -> Program: ...


def starting() -> Iterator[Start]:
    with ExitStack() as stack:

        def start(*arguments: str | os.PathLike[str], **options: object) -> Program:
            program = Program(*arguments, **options)
            stack.callback(program.close)
            return program

        yield start


@pytest.fixture
def start() -> Iterator[Start]:
    """Programs that end, by their pid, with the test; what they said is shown when it fails."""
    yield from starting()


@pytest.fixture(scope="module")
def start_shared() -> Iterator[Start]:
    """Programs for all the tests of a module, which leave them as they found them: a start takes 0.3 s."""
    yield from starting()


@pytest.fixture(scope="session")
def warm_start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmStart]:
    """Short runs of a command, without the time of a start."""
    with closing(WarmStart(tmp_path_factory.mktemp("warm"))) as warm_start:
        yield warm_start


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many open files as the machine allows, for tests with thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def need_descriptors(count: int) -> None:
    """Skip, visibly, where so many cannot be had."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        pytest.skip(f"needs {count} open files, and RLIMIT_NOFILE is {soft}")


def make_folder(folder: Path) -> Path:
    """A folder to serve: one small file, and a big one of holes that no socket buffer swallows."""
    folder.mkdir()
    (folder / "small.txt").write_bytes(b"hello, world\n")
    make_sparse(folder / "big.bin", 64 * MIB)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to serve that the test may change."""
    return make_folder(tmp_path / "folder")


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, for the servers of a module."""
    return make_folder(tmp_path_factory.mktemp("shared") / "folder")


@pytest.fixture
def serve(start: Start, folder: Path) -> Callable[..., Program]:
    """``ktrio serve`` for that folder on a free port, with more options if given."""

    def serve(*options: str | os.PathLike[str], **keywords: object) -> Program:
        return start("serve", folder, "--port", "0", *options, **keywords)

    return serve


@pytest.fixture
def echo(start: Start) -> Callable[..., Program]:
    """``ktrio echo`` on a free port, with more options if given."""

    def echo(*options: str, **keywords: object) -> Program:
        return start("echo", "--port", "0", *options, **keywords)

    return echo


def make_sparse(path: Path, size: int) -> None:
    """A file of holes: it has a size but takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
