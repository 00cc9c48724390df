"""Heads: their line ends, their request line, their fields."""

from __future__ import annotations

from typing import Final

from tests.hostile.attack import HOST, NEXT, SMUGGLED, Attack, AttackClass, request
from tests.hostile.framing import GARDEN, KETTLE_2019, T_REQS

HOST_OF_TROUBLES: Final = "Chen et al., *Host of Troubles* (CCS 2016)"


def _line(name: str, source: str, line: bytes, status: int = 400) -> Attack:
    return Attack(name, source, request(line=line, body=SMUGGLED), (status,))


def _field(name: str, source: str, *fields: bytes) -> Attack:
    return Attack(name, source, request(*fields, body=SMUGGLED))


LINE_ENDS: Final = AttackClass(
    "Line ends of a head",
    "A head has CRLF and nothing else; one empty line before it is passed over.",
    (
        Attack("bare LF everywhere", "CVE-2019-16785; h11 accepts it", b"GET / HTTP/1.1\nHost: x\n\n" + SMUGGLED),
        Attack("bare LF behind a field", "CVE-2022-32214", b"GET / HTTP/1.1\r\n" + HOST + b"A: b\nC: d\r\n\r\n"),
        Attack("bare LF as the blank line", GARDEN, b"GET / HTTP/1.1\r\n" + HOST + b"\n" + SMUGGLED),
        Attack("two LF at the end", GARDEN, b"GET / HTTP/1.1\r\nHost: x\n\n" + SMUGGLED),
        Attack("LF CR LF at the end", GARDEN, b"GET / HTTP/1.1\r\nHost: x\n\r\n" + SMUGGLED),
        Attack("CR LF LF at the end", GARDEN, b"GET / HTTP/1.1\r\nHost: x\r\n\n" + SMUGGLED),
        Attack("CR CR LF behind a field", GARDEN, b"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n" + SMUGGLED),
        Attack("CR for every line end", "CVE-2023-30589", b"GET / HTTP/1.1\rHost: x\r\r" + SMUGGLED),
        Attack("a CR in the request line", T_REQS, b"GET /\r HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED),
        Attack("an LF in the target", T_REQS, b"GET /a\nb HTTP/1.1\r\n" + HOST + b"\r\n" + SMUGGLED),
        Attack("two empty lines before the request", "RFC 9112 section 2.2", b"\r\n\r\n" + NEXT),
        Attack("an empty LF line before the request", GARDEN, b"\n" + NEXT),
        Attack("a CR before the request", GARDEN, b"\r" + NEXT),
        Attack("one empty line before the request", "RFC 9112 section 2.2", b"\r\n" + NEXT, (200,), closes=False),
        Attack(
            "an empty line between two requests",
            "RFC 9112 section 2.2",
            NEXT + b"\r\n" + NEXT,
            (200, 200),
            closes=False,
        ),
    ),
)

REQUEST_LINES: Final = AttackClass(
    "Request lines",
    "",
    (
        Attack("HTTP/0.9", "RFC 9112 appendix C.1", b"GET /\r\n"),
        Attack("HTTP/0.9 with what follows", T_REQS, b"GET /\r\n" + HOST + b"\r\n" + SMUGGLED),
        _line("a version of 0.9", "RFC 9110 section 15.6.6", b"GET / HTTP/0.9", 505),
        _line("HTTP/2.0", "RFC 9110 section 15.6.6; h11 accepts it", b"GET / HTTP/2.0", 505),
        Attack("the preface of HTTP/2", "RFC 9113 section 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", (505,)),
        _line("HTTP/1.10", "RFC 9112 section 2.3", b"GET / HTTP/1.10"),
        _line("HTTP/01.1", T_REQS, b"GET / HTTP/01.1"),
        _line("HTTP/1", T_REQS, b"GET / HTTP/1"),
        _line("HTTP/1,1", T_REQS, b"GET / HTTP/1,1"),
        _line("http in small letters", T_REQS, b"GET / http/1.1"),
        _line("another protocol", T_REQS, b"GET / ICE/1.1"),
        _line("a space in the version", T_REQS, b"GET / HTTP/ 1.1"),
        _line("digits that are no ASCII", GARDEN, b"GET / HTTP/\xd9\xa1.1"),
        Attack(
            "HTTP/1.9 is read as 1.1", "RFC 9110 section 2.5", request(line=b"GET / HTTP/1.9"), (200,), closes=False
        ),
        _line("two spaces behind the method", "RFC 9112 section 3", b"GET  / HTTP/1.1"),
        _line("two spaces before the version", "RFC 9112 section 3", b"GET /  HTTP/1.1"),
        _line("a space behind the version", "RFC 9112 section 3", b"GET / HTTP/1.1 "),
        _line("tabs for spaces", T_REQS, b"GET\t/\tHTTP/1.1"),
        _line("a vertical tab for a space", GARDEN, b"GET\x0b/ HTTP/1.1"),
        _line("a space in the target", "RFC 9112 section 3.2", b"GET /a b HTTP/1.1"),
        _line("a version within the target", KETTLE_2019, b"GET / HTTP/1.1 /x HTTP/1.1"),
        _line("no target", T_REQS, b"GET  HTTP/1.1"),
        _line("no method", T_REQS, b" / HTTP/1.1"),
        _line("a NUL in the method", GARDEN, b"GE\x00T / HTTP/1.1"),
        _line("a NUL in the target", GARDEN, b"GET /\x00 HTTP/1.1"),
        _line("a NUL in the version", GARDEN, b"GET / HTTP/1.1\x00"),
        _line("eight bits in the target", "RFC 9112 section 3.2", b"GET /\xc3\xa9 HTTP/1.1"),
        _line("a byte order mark before it", T_REQS, b"\xef\xbb\xbfGET / HTTP/1.1"),
        _line("a separator in the method", "RFC 9110 section 9.1", b"G@T / HTTP/1.1"),
        _line("a method in small letters", "RFC 9110 section 9.1", b"get / HTTP/1.1", 501),
        _line("an unknown method", "RFC 9110 section 15.6.2", b"BREW / HTTP/1.1", 501),
        _line("CONNECT", "RFC 9110 section 9.3.6", b"CONNECT x:443 HTTP/1.1", 501),
        _line("a method of 100 bytes", "RFC 9112 section 3", b"A" * 100 + b" / HTTP/1.1", 501),
        Attack("a response", T_REQS, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
        Attack("a TLS hello", "RFC 8446 section 5.1", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64)),
        Attack("SSH", "scanners", b"SSH-2.0-OpenSSH_9.6\r\n"),
        Attack("an SMB negotiation", "scanners", b"\x00\x00\x00\x85\xffSMBr\x00\x00\x00\x00"),
        Attack("PROXY protocol, version 1", "scanners", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + NEXT),
        Attack("PROXY protocol, version 2", "scanners", b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + NEXT),
    ),
)

FIELDS: Final = AttackClass(
    "Header fields",
    "",
    (
        _field("an empty name", "CVE-2023-25725", b": x"),
        _field("no colon", "RFC 9112 section 5", b"no colon"),
        _field("a space in a name", "RFC 9112 section 5.1", b"A B: x"),
        _field("a space before the colon", "RFC 9112 section 5.1", b"A : x"),
        _field("a space before the first field's name", "RFC 9112 section 2.2", b"A: x", b" B: y"),
        _field("a NUL in a name", GARDEN, b"A\x00: x"),
        _field("eight bits in a name", GARDEN, b"\xe9: x"),
        _field("a separator in a name", "RFC 9110 section 5.6.2", b"A(b): x"),
        _field("a NUL in a value", "RFC 9110 section 5.5", b"A: x\x00y"),
        _field("a control byte in a value", "RFC 9110 section 5.5; h11 accepts it", b"A: x\x01y"),
        _field("DEL in a value", "RFC 9110 section 5.5", b"A: x\x7fy"),
        _field("a CR in a value", "RFC 9110 section 5.5", b"A: x\ry"),
        _field("folded by a space", "RFC 9112 section 5.2; h11 accepts it", b"A: x\r\n y"),
        _field("folded by a tab", "RFC 9112 section 5.2", b"A: x\r\n\ty"),
        _field("folded to nothing", GARDEN, b"A: x\r\n "),
        Attack("the first line folded", "RFC 9112 section 2.2", b"GET / HTTP/1.1\r\n " + HOST + b"\r\n" + SMUGGLED),
        Attack("no Host", "RFC 9112 section 3.2", request(host=b"", body=SMUGGLED)),
        _field("two Host fields", f"{HOST_OF_TROUBLES}; RFC 9112 section 3.2", b"Host: y"),
        _field("two equal Host fields", HOST_OF_TROUBLES, b"Host: x"),
        Attack("Host before a space and a colon", HOST_OF_TROUBLES, request(host=b"Host : x\r\n", body=SMUGGLED)),
        Attack("Host folded", HOST_OF_TROUBLES, request(host=b"Host:\r\n x\r\n", body=SMUGGLED)),
        Attack("Host with a space in it", HOST_OF_TROUBLES, request(host=b"Host: x y\r\n", body=SMUGGLED)),
        Attack("Host as a list", HOST_OF_TROUBLES, request(host=b"Host: x,y z\r\n", body=SMUGGLED)),
        Attack("Host with a user", "RFC 9110 section 4.2.4", request(host=b"Host: u@x\r\n", body=SMUGGLED)),
        Attack("Host with a path", HOST_OF_TROUBLES, request(host=b"Host: x/y\r\n", body=SMUGGLED)),
        Attack("Host with a port that is none", HOST_OF_TROUBLES, request(host=b"Host: x:y\r\n", body=SMUGGLED)),
        Attack("Host in eight bits", HOST_OF_TROUBLES, request(host=b"Host: \xe9\r\n", body=SMUGGLED)),
        Attack(
            "another Host than the target's counts for nothing",
            f"{HOST_OF_TROUBLES}; RFC 9112 section 3.2.2",
            request(line=b"GET http://y/ HTTP/1.1", body=NEXT),
            (200, 200),
            closes=False,
        ),
        _line("a target without a slash", "RFC 9112 section 3.2", b"GET x HTTP/1.1"),
        _line("a target that is a host", "RFC 9112 section 3.2.3", b"GET x:80 HTTP/1.1"),
        _line("a target of another scheme", HOST_OF_TROUBLES, b"GET ftp://x/ HTTP/1.1"),
        _line("a file's URL", HOST_OF_TROUBLES, b"GET file:///etc/passwd HTTP/1.1"),
        _line("a target without a host", HOST_OF_TROUBLES, b"GET http:///x HTTP/1.1"),
        _line("a target with a user", "RFC 9110 section 4.2.4", b"GET http://u:p@x/ HTTP/1.1"),
        _line("a target with a fragment", "RFC 9112 section 3.2", b"GET /#x HTTP/1.1"),
        _line("an asterisk without OPTIONS", "RFC 9112 section 3.2.4", b"GET * HTTP/1.1"),
    ),
)

SIZES: Final = AttackClass(
    "Heads too large",
    "Refused as soon as the limit is passed, however much may follow.",
    (
        _line("a target of 9 KB", "RFC 9110 section 15.5.15", b"GET /" + b"a" * 9000 + b" HTTP/1.1", 414),
        Attack("a target that does not end", "CVE-2018-12121", b"GET /" + b"a" * 70_000, (414,)),
        Attack("101 fields", "RFC 6585 section 5; h11 accepts 3000", request(*[b"A: b"] * 101), (431,)),
        Attack("a field of 40 KB", "RFC 6585 section 5; h11 accepts it", request(b"A: " + b"b" * 40_000), (431,)),
        Attack(
            "a field that does not end", "CVE-2018-12121", b"GET / HTTP/1.1\r\n" + HOST + b"A: " + b"b" * 70_000, (431,)
        ),
        Attack("a name that does not end", "CVE-2018-12121", b"GET / HTTP/1.1\r\n" + HOST + b"b" * 70_000, (431,)),
        Attack("a method that does not end", T_REQS, b"A" * 70_000, (501,)),
        Attack("a version that does not end", T_REQS, b"GET / HTTP/1.1" + b"1" * 70_000),
        Attack("empty lines without end", T_REQS, b"\r\n" * 30_000),
    ),
)

CLASSES: Final = (LINE_ENDS, REQUEST_LINES, FIELDS, SIZES)
