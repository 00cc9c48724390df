"""Read one folder for its listing, in two steps; both run in worker threads, because folders may be large.

*Names first* (`scan_folder`): a listing is sorted, so all names must be known before its first line. They are kept as
single strings while they are sorted, which the garbage collector need not look at, and then packed into slices of
octets: 30 bytes or so for each entry, so that the rest of a long listing may wait for a slow peer.

*Then sizes and times* (`read_slice`), slice by slice, just before they are sent. Each slice opens the folder anew and
closes it: no descriptor waits for a peer, and a thread that was abandoned with a hanging network disk owns all it has.
"""

from __future__ import annotations

import heapq
import os
import stat
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar, final

from ktrio.handlers._tree import Kind, Opened, PathError, Tree, kind_of
from ktrio.handlers.listing import Entry, sort_key
from ktrio.http.target import is_plain_name

SLICE: Final = 500
"""Entries in a slice: some 4 ms of work and 100 KiB of page, well above the 30 microseconds of a hop to a thread."""

# Names that are read and sorted; those beyond are only counted. A million are 150 MB, for the seconds it takes.
MOST_NAMES: Final = 1_000_000

# Seconds of work between two pauses, and of a pause: no turn of the loop should wait for us longer than a millisecond.
# The pause is longer than a thread takes to wake up (50 microseconds, measured); it makes a long listing slower by a
# quarter.
_STRETCH: Final = 0.001
_PAUSE: Final = 0.0002

# Names sorted in one go, about half a millisecond.
_RUN: Final = 1000

# How a name was found, in a packed slice: itself, or behind a symbolic link, which is judged anew when it is shown.
_FILE: Final = "f"
_FOLDER: Final = "d"
_LINKED_FILE: Final = "F"
_LINKED_FOLDER: Final = "D"

_T = TypeVar("_T")


@final
@dataclass(slots=True, kw_only=True)
class FolderNames:
    """The names to list of one folder, in order.

    `slices` are taken from the left, by whoever shows them; `left_out` is how many more names there are; `identity` is
    that of the folder itself (device, inode).
    """

    identity: tuple[int, int]
    slices: deque[bytes]
    left_out: int


def may_be_listed(name: str, *, dotfiles: bool = False) -> bool:
    """Would a link to `name` reach it? Asked of every name before it is shown.

    `dotfiles`: are they served and listed? If not, ``/.well-known/`` is for machines that know the way.
    """
    return (dotfiles or not name.startswith(".")) and is_plain_name(name)


def paced(items: Iterable[_T]) -> Iterator[_T]:
    """The same items, with a pause after each millisecond of work on them; only for worker threads.

    A thread that computes gives way only every 5 ms (`sys.getswitchinterval`), so each turn of the event loop beside
    it would take that long. A real pause gives way at once; `sleep(0)` does not, it takes the lock right back.
    """
    since = time.perf_counter()
    for item in items:
        yield item
        if time.perf_counter() - since > _STRETCH:
            time.sleep(_PAUSE)
            since = time.perf_counter()


def scan_folder(
    tree: Tree, names: tuple[str, ...], *, dotfiles: bool = False, most_entries: int, most_names: int = MOST_NAMES
) -> FolderNames:
    """What is listed of the folder at `names`: no fifo or device, no link that is not followed or leads nowhere.

    And no dotfile, unless `dotfiles`.

    Raises:
      PathError: it is gone, no folder any more, or may not be read.
    """
    folder = tree.open(names, Kind.FOLDER)
    try:
        if folder.kind is not Kind.FOLDER:
            raise PathError(404)
        records: list[str] = []
        beyond = 0
        with os.scandir(folder.descriptor) as scan:
            for each in paced(scan):
                name = _name_of(each)
                if not may_be_listed(name, dotfiles=dotfiles):
                    continue
                if len(records) >= most_names:
                    beyond += 1
                elif found := _how_found(tree, (*names, name), each):
                    records.append(f"{sort_key(name, is_folder=found in 'dD')}\0{name}\0{found}")
        count = len(records)
        slices = deque(_packed(paced(islice(_in_order(records), most_entries))))
        return FolderNames(identity=identity_of(folder), slices=slices, left_out=beyond + max(0, count - most_entries))
    finally:
        folder.close()


def identity_of(folder: Opened) -> tuple[int, int]:
    """What tells this folder from another that takes its place."""
    return folder.status.st_dev, folder.status.st_ino


def _name_of(each: os.DirEntry[str]) -> str:
    # The octets on the disk, read as UTF-8 whatever the locale: that is how `Tree` writes them.
    return os.fsencode(each.name).decode("utf-8", "surrogateescape")


def _how_found(tree: Tree, names: tuple[str, ...], each: os.DirEntry[str]) -> str:
    """What `each`, at `names`, is served as; empty if it is not, or vanished while we looked."""
    try:
        if each.is_symlink():
            # Judged exactly as a request for it will be.
            return _LINKED_FOLDER if tree.open(names, None).kind is Kind.FOLDER else _LINKED_FILE
        if each.is_dir(follow_symlinks=False):
            return _FOLDER
        if each.is_file(follow_symlinks=False):
            return _FILE
    except (OSError, PathError):
        return ""
    return ""


def _in_order(records: list[str]) -> Iterator[str]:
    """`records`, which are used up, in the order of the listing.

    Sorted in runs that are merged as far as they are wanted: one `sort` of a million names would hold the interpreter
    lock, and with it the server, for seconds. So would letting go of a million at once.
    """
    runs: list[list[str]] = []
    for _ in paced(range(0, len(records), _RUN)):
        run = records[-_RUN:]
        del records[-_RUN:]
        run.sort(reverse=True)
        runs.append(run)
    return heapq.merge(*map(_used_up, runs))


def _used_up(run: list[str]) -> Iterator[str]:
    while run:
        yield run.pop()


def _packed(records: Iterator[str]) -> Iterator[bytes]:
    """Slices of names, each with how it was found before it, NUL between them."""
    for first in records:
        some = [first, *islice(records, SLICE - 1)]
        yield b"\0".join(map(_pack, some))


def _pack(record: str) -> bytes:
    _key, name, found = record.split("\0")
    return (found + name).encode("utf-8", "surrogateescape")


def count_names(packed: bytes) -> int:
    """How many names a slice holds."""
    return packed.count(b"\0") + 1


def read_slice(tree: Tree, names: tuple[str, ...], identity: tuple[int, int], packed: bytes) -> list[Entry] | None:
    """The records to show of one slice; `None`: the folder at `names` is not there any more, or is another one.

    What has vanished meanwhile, or became something else, is left out; what may not be looked at has no size.

    Raises:
      PathError: the folder cannot be looked at now, though it may be there.
    """
    try:
        folder = tree.open(names, Kind.FOLDER)
    except PathError as error:
        if error.status == 404:
            return None
        raise
    try:
        if folder.kind is not Kind.FOLDER or identity_of(folder) != identity:
            return None
        found = (_entry_of(tree, names, folder, each) for each in packed.split(b"\0"))
        return [entry for entry in paced(found) if entry is not None]
    finally:
        folder.close()


def _entry_of(tree: Tree, names: tuple[str, ...], folder: Opened, packed: bytes) -> Entry | None:
    """The record to show of one name, or None if it vanished, or became something else, since it was found."""
    octets = packed[1:]
    name, found = octets.decode("utf-8", "surrogateescape"), chr(packed[0])
    is_folder = found in "dD"
    try:
        # Size and time of a link come from what is judged, so that one swapped meanwhile tells nothing about what lies
        # outside.
        status = (
            os.stat(octets, dir_fd=folder.descriptor, follow_symlinks=False)
            if found in "fd"
            else tree.open((*names, name), None).status
        )
    except (FileNotFoundError, PathError):
        return None
    except OSError:
        return Entry(name=name, is_folder=is_folder, size=None, changed=None)
    if kind_of(status.st_mode) is not (Kind.FOLDER if is_folder else Kind.FILE):
        return None
    size = status.st_size if stat.S_ISREG(status.st_mode) else None
    return Entry(name=name, is_folder=is_folder, size=size, changed=status.st_mtime)
