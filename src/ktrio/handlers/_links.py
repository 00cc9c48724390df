"""Which symbolic links are followed, as ways to open; chosen once, when a `Tree` is made.

* ``inside``: those that end inside the root. What `open_by_handle` and `open_by_name` do.
* ``owner``: of these, those whose target belongs to whom the link belongs to, as nginx's ``if_not_owner``: on a machine
  of several users nobody can publish another's files. Linux only.
* ``never``: none below the root. The root itself may be a link.
* ``all``: every one, out of the root too.

All of them judge the thing opened and no name, so none can be raced. ``never`` and ``all`` are ``inside`` with another
root: without a link on the way a thing lies at its own path, and everything lies in ``/``. ``owner`` has to see the
links themselves: it walks down from the root, one handle a segment, and each link is a handle too before it is asked
who owns it and where it leads.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import Final, final

from ktrio.handlers._tree import (
    READ,
    READ_FOLDER,
    Kind,
    Opened,
    Opener,
    PathError,
    RootError,
    Tree,
    handles_work,
    is_inside,
    kind_of,
    open_by_handle,
    open_by_name,
    resolve_root,
)
from ktrio.handlers.options import Links

# Links on one way, as in the kernel (MAXSYMLINKS).
_MOST_LINKS: Final = 40

_STEP: Final[int] = getattr(os, "O_PATH", 0) | os.O_CLOEXEC | os.O_NOFOLLOW


def tree_of(root: str | os.PathLike[str], links: Links) -> Tree:
    """The tree below `root` where these `links` are followed.

    Raises:
      RootError: `root` cannot be served, or `links` needs what this system has not.
    """
    real = resolve_root(root)
    has_handles = handles_work(real)
    if links == "inside":
        return Tree(root)
    if links == "owner":
        if not has_handles:
            raise RootError(
                f"cannot serve {os.fspath(root)!r} with links='owner': that needs Linux, with /proc mounted"
            )
        return Tree(root, opener=open_by_owner)
    opener = open_by_handle if has_handles else open_by_name
    return Tree(root, opener=_without_links(opener) if links == "never" else _with_all_links(opener))


def _without_links(opener: Opener) -> Opener:
    def open_without_links(_root: bytes, path: bytes, wanted: Kind | None) -> Opened:
        return opener(path, path, wanted)

    return open_without_links


def _with_all_links(opener: Opener) -> Opener:
    def open_with_all_links(_root: bytes, path: bytes, wanted: Kind | None) -> Opened:
        return opener(b"/", path, wanted)

    return open_with_all_links


def open_by_owner(root: bytes, path: bytes, wanted: Kind | None) -> Opened:
    """Walk to `path`, following only links whose target has their owner; open it if it is what is `wanted`.

    Raises:
      PathError: it lies outside the root, a link is another's, or it is neither file nor folder.
      OSError: the system says no.
    """
    walk = _Walk(root)
    try:
        walk.follow(path)
        status = os.fstat(walk.here)
        kind = kind_of(status.st_mode)
        itself = b"/proc/self/fd/%d" % walk.here
        # Asked although no step leaves the root: a folder on the way may have been moved out of it.
        if kind is None or not is_inside(os.readlink(itself), root):
            raise PathError(404)
        if kind is not wanted:
            return Opened(kind, status)
        return Opened(kind, status, os.open(itself, READ if kind is Kind.FILE else READ_FOLDER))
    finally:
        walk.close()


@final
class _Walk:
    """One way from the root, as handles; it never goes above the root.

    Legend: I set once · S changed only in one synchronous stretch. All handles are its own.
    """

    __slots__ = ("_handles", "_links", "_root")

    def __init__(self, root: bytes) -> None:
        self._root = root  # I
        self._handles = [os.open(root, _STEP)]  # S: from the root to where it is
        self._links = 0  # S: followed so far

    @property
    def here(self) -> int:
        """The handle of where it is."""
        return self._handles[-1]

    def follow(self, path: bytes) -> None:
        """Go along `path`: an absolute one from the root, another from where it is."""
        if path.startswith(b"/"):
            # By its text: another way to the root, over links above it, is not known to lead there.
            if not is_inside(path, self._root):
                raise PathError(404)
            self._back_to(1)
            path = path[len(self._root) :]
        for segment in path.split(b"/"):
            if segment == b"..":
                if len(self._handles) == 1:
                    raise PathError(404)
                self._back_to(len(self._handles) - 1)
            elif segment not in (b"", b"."):
                self._step(segment)

    def _step(self, segment: bytes) -> None:
        handle = os.open(segment, _STEP, dir_fd=self.here)
        try:
            status = os.fstat(handle)
            if not stat.S_ISLNK(status.st_mode):
                self._handles.append(handle)
                handle = -1
                return
            self._links += 1
            if self._links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
            target = os.readlink(b"", dir_fd=handle)  # of the handle itself
        finally:
            if handle >= 0:
                os.close(handle)
        self.follow(target)
        if os.fstat(self.here).st_uid != status.st_uid:
            raise PathError(404)

    def _back_to(self, count: int) -> None:
        while len(self._handles) > count:
            os.close(self._handles.pop())

    def close(self) -> None:
        """Close every handle."""
        self._back_to(0)
