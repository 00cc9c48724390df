"""The border to the file system: names in, verified descriptors out, and nothing outside the root, ever.

A check of a *name* says nothing about what a later `open` of that name finds: a symlink can be swapped in
between. So what is judged is never a name but the thing itself:

* `open_by_handle` (Linux with /proc): the name is resolved exactly once, by ``open(O_PATH)``, which runs no
  driver, waits for no fifo and needs no permission to read. The handle tells what it is (`fstat`) and where
  it lies (``/proc/self/fd/N``); only if both are good is *the handle* reopened for reading. There is no
  window to race.
* `open_by_name` (elsewhere): ask what the name is, open it without waiting, then find out where the name
  leads now and demand that the very inode in hand lies there. To win, an attacker must swap a directory
  between two adjacent calls, three times in a row.

Rejected: `realpath` before `open` alone (one swap wins); walking down with ``O_NOFOLLOW`` and `dir_fd` (two
calls per segment, and links inside the root must be followed by hand: only `_links.open_by_owner` needs that);
openat2 with RESOLVE_BENEATH (not in the standard library, and it refuses absolute links that stay inside).

Names are bytes here, as in the kernel: the octets of the URL are the octets on the disk, whatever the locale.
"""

from __future__ import annotations

import enum
import errno
import os
import stat
from collections.abc import Callable
from typing import Final, TypeAlias, final

# O_NONBLOCK: a fifo that takes a file's place in the last moment must not make us wait for its writer.
# O_NOCTTY: nor may a terminal become ours.
READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
READ_FOLDER: Final = READ | os.O_DIRECTORY
# macOS has no O_PATH; 0 is never used there because `handles_work` says no first.
_HANDLE: Final[int] = getattr(os, "O_PATH", 0) | os.O_CLOEXEC

# What an operating system error means to the peer; what is not here is our fault and becomes a 500 with a log
# record.
_STATUS_OF_ERRNO: Final = {
    errno.ENOENT: 404,
    errno.ENOTDIR: 404,
    errno.ENAMETOOLONG: 404,
    errno.ELOOP: 404,
    errno.EINVAL: 404,  # no link any more, a moment after it was one
    errno.ESTALE: 404,  # the file server forgot the file
    errno.ENXIO: 404,  # a socket or a device without a driver, swapped in
    errno.EACCES: 403,
    errno.EPERM: 403,
    errno.EMFILE: 503,
    errno.ENFILE: 503,
}


class RootError(ValueError):
    """The folder to serve is missing, no folder, or not readable: one line, naming it. Raised by `files`."""


@final
class PathError(Exception):
    """A path that is not served, with the status that tells the peer; never leaves this package."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Kind(enum.Enum):
    """The two things that are served."""

    FILE = enum.auto()
    FOLDER = enum.auto()


@final
class Opened:
    """What was found inside the root; it holds a descriptor only if it is of the kind that was wanted.

    `status` is the `os.stat_result` of the very thing opened.
    """

    __slots__ = ("_descriptor", "kind", "status")

    def __init__(self, kind: Kind, status: os.stat_result, descriptor: int | None = None) -> None:
        self.kind = kind
        self.status = status
        self._descriptor = descriptor

    @property
    def descriptor(self) -> int:
        """The open descriptor.

        Raises:
          ValueError: there is none: the other kind was wanted, or it is closed.
        """
        if self._descriptor is None:
            raise ValueError(f"{self!r} has no descriptor")
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor once; again is no error, and never hits somebody else's reused number."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __repr__(self) -> str:
        state = "closed" if self._descriptor is None else f"descriptor={self._descriptor}"
        return f"<Opened {self.kind.name} {state}>"


Opener: TypeAlias = Callable[[bytes, bytes, "Kind | None"], Opened]


def kind_of(mode: int) -> Kind | None:
    """What an inode of this `st_mode` is served as; None is not served: fifo, socket, device."""
    if stat.S_ISREG(mode):
        return Kind.FILE
    return Kind.FOLDER if stat.S_ISDIR(mode) else None


def is_inside(path: bytes, root: bytes) -> bool:
    """Does the absolute `path`, free of links, lie in `root` or is it `root` itself?

    Asked of each opened thing, with what the kernel says about it.
    """
    return path == root or path.startswith(root.rstrip(b"/") + b"/")


def is_plain(segment: bytes) -> bool:
    """Can this stand between two slashes and name an entry of the folder before it, and nothing else?"""
    return segment not in (b"", b".", b"..") and b"/" not in segment and b"\0" not in segment


def status_of(error: OSError) -> int | None:
    """The HTTP status that tells the peer of this error; None: it is not about the path, let it through."""
    return None if error.errno is None else _STATUS_OF_ERRNO.get(error.errno)


def _demand(kind: Kind | None) -> Kind:
    if kind is None:
        raise PathError(404)
    return kind


def open_by_handle(root: bytes, path: bytes, wanted: Kind | None) -> Opened:
    """Look at `path` through an ``O_PATH`` handle, and reopen that handle if it is what is `wanted`.

    Raises:
      PathError: it lies outside the root, or is neither file nor folder.
      OSError: the system says no.
    """
    handle = os.open(path, _HANDLE)
    try:
        status = os.fstat(handle)
        kind = _demand(kind_of(status.st_mode))
        itself = b"/proc/self/fd/%d" % handle
        if not is_inside(os.readlink(itself), root):
            raise PathError(404)
        if kind is not wanted:
            return Opened(kind, status)
        return Opened(kind, status, os.open(itself, READ if kind is Kind.FILE else READ_FOLDER))
    finally:
        os.close(handle)


def open_by_name(root: bytes, path: bytes, wanted: Kind | None) -> Opened:
    """Open `path` if it is what is `wanted`, then demand that this inode is found inside the root.

    Raises:
      PathError: it lies outside the root, is neither file nor folder, or changed while we looked.
      OSError: the system says no.
    """
    before = os.stat(path)
    kind = _demand(kind_of(before.st_mode))
    if kind is not wanted:
        if not is_inside(os.path.realpath(path, strict=True), root):
            raise PathError(404)
        return Opened(kind, before)
    descriptor = os.open(path, READ if kind is Kind.FILE else READ_FOLDER)
    try:
        status = os.fstat(descriptor)
        place = os.path.realpath(path, strict=True)
        if (
            kind_of(status.st_mode) is not kind
            or not is_inside(place, root)
            or not os.path.samestat(os.lstat(place), status)
        ):
            raise PathError(404)
        return Opened(kind, status, descriptor)
    except BaseException:
        os.close(descriptor)
        raise


def handles_work(root: bytes) -> bool:
    """Can this system say where an open handle lies? Asked once, of the root, when a `Tree` is made."""
    if not hasattr(os, "O_PATH"):
        return False
    try:
        handle = os.open(root, _HANDLE)
        try:
            return os.readlink(b"/proc/self/fd/%d" % handle) == root
        finally:
            os.close(handle)
    except OSError:  # no /proc, or not ours to read: the other way does without
        return False


def resolve_root(root: str | os.PathLike[str]) -> bytes:
    """The absolute path of the folder `root`, free of links.

    Raises:
      RootError: there is no such folder, or it cannot be entered.
    """
    shown = os.fspath(root)
    try:
        real = os.path.realpath(os.fsencode(shown), strict=True)
        is_folder = stat.S_ISDIR(os.stat(real).st_mode)
    except FileNotFoundError:
        raise RootError(f"cannot serve {shown!r}: there is no such folder") from None
    except NotADirectoryError:
        raise RootError(f"cannot serve {shown!r}: it is not a folder") from None
    except OSError as error:
        raise RootError(f"cannot serve {shown!r}: {error.strerror}") from error
    except ValueError as error:
        raise RootError(f"cannot serve {shown!r}: this cannot be a path") from error
    if not is_folder:
        raise RootError(f"cannot serve {shown!r}: it is not a folder")
    if not os.access(real, os.R_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise RootError(f"cannot serve {shown!r}: no permission to read it")
    return real


@final
class Tree:
    """The files and folders below one root; holds no descriptor, so it needs no closing.

    The root is resolved here and once: later changes of the working directory, or of a link on the way to the
    root, do not move what is served.

    Raises:
      RootError: `root` is no folder that can be served.
    """

    __slots__ = ("_opener", "root")  # both I: set once

    def __init__(self, root: str | os.PathLike[str], *, opener: Opener | None = None) -> None:
        self.root: bytes = resolve_root(root)
        self._opener: Opener = opener or (open_by_handle if handles_work(self.root) else open_by_name)

    def open(self, names: tuple[str, ...], wanted: Kind | None) -> Opened:
        """Find what lies at `names` (decoded path segments) below the root; open it if it is `wanted`.

        Blocks for as long as the file system does: about 8 microseconds on a local disk, which is less than a
        hop to a worker thread takes.

        Raises:
          PathError: with the status for the peer.
          OSError: an error that is not about the path, like EIO.
        """
        try:
            segments = [name.encode("utf-8", "surrogateescape") for name in names]
        except UnicodeEncodeError:  # a lone surrogate that stands for no octet
            raise PathError(404) from None
        # `http.target` has refused all of these; a second lock costs a microsecond.
        if not all(map(is_plain, segments)):
            raise PathError(404)
        path = b"/".join((self.root.rstrip(b"/"), *segments)) or b"/"
        try:
            return self._opener(self.root, path, wanted)
        except OSError as error:
            status = status_of(error)
            if status is None:
                raise
            raise PathError(status) from error

    def __repr__(self) -> str:
        return f"<Tree {os.fsdecode(self.root)!r}>"
