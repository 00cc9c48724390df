"""Read one folder into records for its listing; runs in a worker thread, because folders may be large."""

from __future__ import annotations

import heapq
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import itemgetter
from typing import Final, NamedTuple, TypeVar, final

from ktrio.handlers._tree import Kind, PathError, Tree, kind_of
from ktrio.handlers.listing import Entry, sort_key
from ktrio.http.target import is_plain_name

# Entries one page shows. Caddy's listing has the same limit; a page of this size is 2 MB and takes a phone a
# second. Names beyond it are read and sorted (cheap) but not asked for size and time.
MAX_ENTRIES: Final = 10_000

# Seconds of work between two pauses, and of a pause: no turn of the loop should wait for us longer than a millisecond.
# The pause is longer than a thread takes to wake up (50 microseconds, measured); it makes a long listing slower by a
# quarter.
_STRETCH: Final = 0.001
_PAUSE: Final = 0.0002

# Names sorted in one go, about half a millisecond.
_RUN: Final = 1000

_T = TypeVar("_T")


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class FolderContents:
    """What a listing shows: sorted `entries`, and how many more were `left_out`."""

    entries: list[Entry]
    left_out: int


class _Candidate(NamedTuple):
    """A name that is served; `status` is known already where finding that out needed it."""

    name: str
    is_folder: bool
    entry: os.DirEntry[str]
    status: os.stat_result | None


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


def read_folder(
    tree: Tree, names: tuple[str, ...], *, dotfiles: bool = False, max_entries: int = MAX_ENTRIES
) -> FolderContents:
    """List what is served of the folder at `names`: no fifo or device, no link that is not followed or leads nowhere.

    And no dotfile, unless `dotfiles`. Opens and verifies the folder itself, so nothing is lost if the thread is
    abandoned.

    Raises:
      PathError: it is gone, no folder any more, or may not be read.
    """
    folder = tree.open(names, Kind.FOLDER)
    try:
        if folder.kind is not Kind.FOLDER:
            raise PathError(404)
        with os.scandir(folder.descriptor) as scan:
            found = [
                candidate
                for each in paced(scan)
                if may_be_listed(name := _name_of(each), dotfiles=dotfiles)
                and (candidate := _candidate_of(tree, (*names, name), each)) is not None
            ]
        shown = islice(_sorted(found), max_entries)
        entries = [entry for candidate in paced(shown) if (entry := _entry_of(candidate)) is not None]
        return FolderContents(entries=entries, left_out=max(0, len(found) - max_entries))
    finally:
        folder.close()


def _sorted(found: list[_Candidate]) -> Iterator[_Candidate]:
    """`found` in the order of the listing.

    Sorted in runs that are merged as far as they are wanted: one `sort` of a million names would hold the interpreter
    lock, and with it the server, for seconds.
    """
    runs = [
        sorted(((sort_key(each.name, is_folder=each.is_folder), each) for each in paced(run)), key=itemgetter(0))
        for start in range(0, len(found), _RUN)
        if (run := found[start : start + _RUN])
    ]
    return (each for _, each in heapq.merge(*runs, key=itemgetter(0)))


def _name_of(each: os.DirEntry[str]) -> str:
    # The octets on the disk, read as UTF-8 whatever the locale: that is how `Tree` writes them.
    return os.fsencode(each.name).decode("utf-8", "surrogateescape")


def _candidate_of(tree: Tree, names: tuple[str, ...], each: os.DirEntry[str]) -> _Candidate | None:
    """What `each`, at `names`, is served as; None if it is not, or vanished while we looked."""
    try:
        if each.is_symlink():
            # Judged exactly as a request for it will be; its size and time come from the thing judged, so a
            # link swapped meanwhile tells nothing about what lies outside.
            found = tree.open(names, None)
            return _Candidate(names[-1], found.kind is Kind.FOLDER, each, found.status)
        if each.is_dir(follow_symlinks=False):
            return _Candidate(names[-1], True, each, None)
        if each.is_file(follow_symlinks=False):
            return _Candidate(names[-1], False, each, None)
    except (OSError, PathError):
        return None
    return None


def _entry_of(candidate: _Candidate) -> Entry | None:
    """The record to show, or None if the candidate vanished, or became something else, since it was found."""
    status = candidate.status
    if status is None:
        try:
            status = candidate.entry.stat(follow_symlinks=False)
        except OSError:
            return None
    is_folder = candidate.is_folder
    if kind_of(status.st_mode) is not (Kind.FOLDER if is_folder else Kind.FILE):
        return None
    return Entry(name=candidate.name, is_folder=is_folder, size=status.st_size, changed=status.st_mtime)
