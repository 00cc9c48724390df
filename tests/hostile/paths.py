"""Paths that are to lead out of the root, or past what hides a file: every spelling that has worked somewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class PathAttack:
    """A request target, what the files handler answers to it, and who used it."""

    target: str
    source: str
    status: int

    @property
    def name(self) -> str:
        """For people."""
        return f"`{self.target}`"

    @property
    def answer(self) -> str:
        """For people."""
        return str(self.status)


@dataclass(frozen=True)
class PathClass:
    """Paths of one kind."""

    title: str
    about: str
    attacks: tuple[PathAttack, ...]


def _paths(source: str, status: int, *targets: str) -> tuple[PathAttack, ...]:
    return tuple(PathAttack(target, source, status) for target in targets)


APACHE: Final = "CVE-2021-41773"
APACHE_TWICE: Final = "CVE-2021-42013"
TSAI: Final = "Tsai, *Breaking Parser Logic* (2018)"
UNICODE: Final = "CVE-2000-0884; CVE-2008-2938"
TOMCAT: Final = "CVE-2007-0450"

DOTS: Final = PathClass(
    "Dot segments",
    "Clients resolve them (RFC 3986 section 5.2.4): what still has one is refused, in any spelling.",
    (
        *_paths("CVE-2017-14849", 400, "/../secret.txt", "/sub/../../secret.txt", "/../../../../etc/passwd"),
        *_paths("RFC 3986 section 5.2.4", 400, "/./a.txt", "/sub/..", "/sub/.", "/sub/../a.txt"),
        *_paths(APACHE, 400, "/.%2e/secret.txt", "/%2e%2e/secret.txt", "/%2E./secret.txt", "/sub/.%2e/.%2e/secret.txt"),
        *_paths("RFC 3986 section 5.2.4", 400, "/..?x", "/..;/../secret.txt", "http://x/../secret.txt"),
        *_paths("CVE-2024-23334", 400, "//../secret.txt", "///..//..//secret.txt"),
    ),
)
ENCODINGS: Final = PathClass(
    "Encoded twice, or otherwise",
    "A path is decoded exactly once, as bytes; what is still encoded then is a name like any other.",
    (
        *_paths(APACHE_TWICE, 404, "/%25%32%65%25%32%65/secret.txt", "/%252e%252e/secret.txt"),
        *_paths(APACHE_TWICE, 400, "/%%32%65%%32%65/secret.txt"),
        *_paths("CVE-2001-0333", 404, "/..%255csecret.txt", "/..%252fsecret.txt"),
        *_paths(UNICODE, 404, "/%c0%ae%c0%ae/secret.txt", "/..%c0%afsecret.txt", "/%e0%80%ae%e0%80%ae/secret.txt"),
        *_paths(UNICODE, 404, "/%25uff0e%25uff0e/secret.txt", "/%ef%bc%8e%ef%bc%8e/secret.txt"),
        *_paths("IIS's %u escapes", 400, "/%u002e%u002e/secret.txt", "/..%u2215secret.txt"),
        *_paths("RFC 3986 section 2.1", 400, "/%", "/%2", "/%zz", "/a.txt%", "/%-1"),
        *_paths("HTML's entities", 404, "/&%2346;&%2346;/secret.txt"),
        *_paths("CVE-2001-0333", 404, "/%2561.txt"),
        *_paths("RFC 3629 section 3", 404, "/%ff", "/%ed%a0%80", "/%f4%90%80%80"),
    ),
)
SEPARATORS: Final = PathClass(
    "Other separators",
    "",
    (
        *_paths("CVE-2021-42013; CVE-2007-0450", 400, "/sub%2fb.txt", "/..%2fsecret.txt", "/%2e%2e%2fsecret.txt"),
        *_paths(TOMCAT, 400, "/..\\secret.txt", "/..%5csecret.txt", "/sub\\b.txt", "/sub%5cb.txt", "\\a.txt"),
        *_paths(TSAI, 404, "/..;/secret.txt", "/sub;x/b.txt", "/sub/..;x=y/secret.txt", "/a.txt;.html"),
        *_paths("Windows 95", 404, "/...", "/.../secret.txt"),
        *_paths("Windows 95", 301, "/....//secret.txt"),
        *_paths(TSAI, 404, "/sub../secret.txt", "/served-not/secret.txt"),
        *_paths("CVE-2021-28861", 301, "//etc/passwd", "///etc/passwd", "//example.com/%5e"),
        *_paths("Windows paths", 404, "/C:/secret.txt", "/C%3a/secret.txt", "/con", "/nul.txt", "/a.txt.", "/A~1.TXT"),
        *_paths("CVE-1999-0278", 404, "/a.txt::$DATA", "/a.txt:x"),
        *_paths("shells", 404, "/~root/secret.txt", "/$HOME/secret.txt", "/%60id%60", "/*.txt"),
    ),
)
ENDS: Final = PathClass(
    "Ends that one layer sees and another does not",
    "",
    (
        *_paths("Phrack 55-7, *poison NULL byte*", 400, "/a.txt%00", "/a.txt%00.html", "/%00", "/..%00/secret.txt"),
        *_paths("CVE-2013-4547", 404, "/a.txt%20", "/%20a.txt"),
        *_paths("CVE-2013-4547", 400, "/a.txt%20%00.html"),
        *_paths("HackTricks", 404, "/a.txt%0a", "/a.txt%0d%0aX-Injected:%20y", "/a.txt%09", "/%0a/a.txt"),
        *_paths("HackTricks", 404, "/a.txt/", "/a.txt/x", "/a.txt%3f", "/a.txt%23"),
        *_paths("RFC 9112 section 3.2", 400, "/a.txt#x"),
        *_paths("NAME_MAX, PATH_MAX", 404, "/" + "a" * 300, "/" + "a/" * 3000),
    ),
)
HIDDEN: Final = PathClass(
    "What is there and is nobody's business",
    "All static servers measured hand these out, or hang on some.",
    (
        *_paths("peers: seven of seven hand them out", 404, "/.env", "/.git/config", "/sub/.git/config", "/%2eenv"),
        *_paths("RFC 8615 section 3", 404, "/.well-known/.secret", "/sub/.well-known/acme"),
        *_paths("CVE-2024-23334; peers: four of eleven follow", 404, "/out", "/out-absolute", "/out-chain"),
        *_paths(
            "CVE-2024-23334", 404, "/out-dir/", "/out-dir/secret.txt", "/out-root/etc/passwd", "/sub/up/secret.txt"
        ),
        *_paths("peers: four of eleven hang", 404, "/fifo"),
        *_paths("devices", 404, "/device"),
        *_paths("ELOOP", 404, "/loop", "/dangling"),
    ),
)

CLASSES: Final = (DOTS, ENCODINGS, SEPARATORS, ENDS, HIDDEN)
