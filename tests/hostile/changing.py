"""Files that change while they are answered with, at any call of the system and while a slow reader takes them."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

# Every call through which our code sees a file.
ASKED: Final = ("open", "stat", "lstat", "fstat", "readlink", "pread", "preadv", "sendfile", "scandir")

# Letters tell whose bytes they are: the file's, those of its next version, of its neighbour, and of what lies outside.
FIRST, SECOND, NEIGHBOUR, OUTSIDE = b"a", b"b", b"N", b"S"


@dataclass(frozen=True)
class Scene:
    """A request, and the file that changes meanwhile; `size` is the file's."""

    target: str
    size: int
    fields: tuple[tuple[str, str], ...] = ()
    method: str = "GET"
    victim: str = ""

    @property
    def name(self) -> str:
        """The victim's path below the root."""
        return self.victim or self.target.lstrip("/")


GZIP: Final = (("accept-encoding", "gzip"),)

SCENES: Final = {
    "a small file": Scene("/sub/file.bin", 3000),
    "a large file": Scene("/sub/file.bin", 300_000),
    "HEAD": Scene("/sub/file.bin", 3000, method="HEAD"),
    "one part": Scene("/sub/file.bin", 3000, (("range", "bytes=100-2900"),)),
    "its end": Scene("/sub/file.bin", 3000, (("range", "bytes=-500"),)),
    "several parts": Scene("/sub/file.bin", 3000, (("range", "bytes=0-9,1000-1009,2500-2999"),)),
    "several large parts": Scene("/sub/file.bin", 300_000, (("range", "bytes=0-99999,200000-"),)),
    "compressed on the loop": Scene("/sub/file.txt", 3000, GZIP),
    "compressed in a thread": Scene("/sub/file.txt", 30_000, GZIP),
    "a sibling, its original changing": Scene("/sub/page.txt", 30_000, GZIP),
    "a sibling that changes": Scene("/sub/page.txt", 30_000, GZIP, victim="sub/page.txt.gz"),
    "an index": Scene("/sub/", 3000, victim="sub/index.html"),
    "a listing": Scene("/folder/", 3000, victim="folder/file.bin"),
}


def plant(root: Path, scene: Scene) -> Path:
    """The folder to serve, new, with the scene's file in it; the path of that."""
    served = root / "served"
    for place in (served, root / "outside"):
        shutil.rmtree(place, ignore_errors=True)
        (place / "sub").mkdir(parents=True)
        (place / "folder").mkdir()
    for name in ("file.bin", "file.txt", "page.txt", "index.html"):
        (root / "outside" / "sub" / name).write_bytes(OUTSIDE * scene.size)
    (served / "sub" / "neighbour.bin").write_bytes(NEIGHBOUR * scene.size)
    (served / "fine.txt").write_text("fine")
    victim = served / scene.name
    victim.write_bytes(FIRST * scene.size)
    if scene.target == "/sub/page.txt":
        (served / "sub" / "page.txt").write_bytes(FIRST * scene.size)
        (served / "sub" / "page.txt.gz").write_bytes(gzip.compress(FIRST * scene.size))
    return victim


# -- what may become of a file


def vanish(victim: Path) -> None:
    victim.unlink()


def be_replaced(victim: Path) -> None:
    """As a careful writer does it: by a rename."""
    content = SECOND * len(victim.read_bytes())
    new = victim.with_name(".new")
    new.write_bytes(gzip.compress(content) if victim.suffix == ".gz" else content)
    new.rename(victim)


def be_rewritten(victim: Path) -> None:
    """In place, in its length."""
    victim.write_bytes(SECOND * victim.stat().st_size)


def shrink(victim: Path) -> None:
    os.truncate(victim, victim.stat().st_size // 2)


def be_emptied(victim: Path) -> None:
    os.truncate(victim, 0)


def grow(victim: Path) -> None:
    with victim.open("ab") as file:
        file.write(SECOND * 5000)


def become_a_folder(victim: Path) -> None:
    victim.unlink()
    victim.mkdir()


def become_a_link_out(victim: Path) -> None:
    victim.unlink()
    victim.symlink_to("../../outside/sub/file.bin")


def become_a_link_to_nowhere(victim: Path) -> None:
    victim.unlink()
    victim.symlink_to("nowhere")


def become_a_fifo(victim: Path) -> None:
    victim.unlink()
    os.mkfifo(victim)


def lose_permission(victim: Path) -> None:
    victim.chmod(0)


def lose_its_folder(victim: Path) -> None:
    victim.parent.rename(victim.parent.with_name(".gone"))


def have_its_folder_swapped(victim: Path) -> None:
    lose_its_folder(victim)
    victim.parent.symlink_to("../outside/sub")


def fail_to_be_read(_victim: Path) -> None:
    """The disk is broken."""
    raise OSError(errno.EIO, os.strerror(errno.EIO))


# What becomes of a download that is under way.
WHOLE: Final = "all of it, as it was when it was opened"
MIXED: Final = "the length it had, its own bytes, those behind the change perhaps the new ones"
BROKEN: Final = "what is left of it, then a reset, and one line in the log"
OUTCOMES: Final = {
    vanish: WHOLE,
    be_replaced: WHOLE,
    be_rewritten: MIXED,
    grow: MIXED,
    shrink: BROKEN,
    be_emptied: BROKEN,
    become_a_folder: WHOLE,
    become_a_link_out: WHOLE,
    become_a_link_to_nowhere: WHOLE,
    become_a_fifo: WHOLE,
    lose_permission: WHOLE,
    lose_its_folder: WHOLE,
    have_its_folder_swapped: WHOLE,
}
CHANGES: Final = (*OUTCOMES, fail_to_be_read)


@contextmanager
def acting_before_call(at: int, act: Callable[[], None]):
    """Within the block, `act` is called right before the system is asked for the `at`-th time; gives all calls."""
    calls: list[str] = []
    really = {name: getattr(os, name) for name in ASKED if hasattr(os, name)}

    def intercept(name: str):
        def call(*args, **kwargs):
            calls.append(name)
            if len(calls) - 1 == at:
                with pytest.MonkeyPatch.context() as undone:
                    for each, function in really.items():
                        undone.setattr(os, each, function)
                    act()
            return really[name](*args, **kwargs)

        return call

    with pytest.MonkeyPatch.context() as patch:
        for name in really:
            patch.setattr(os, name, intercept(name))
        yield calls
