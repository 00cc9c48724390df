"""Where does this request end? Every way known of having two servers answer that differently, but for chunks."""

from __future__ import annotations

from typing import Final

from tests.hostile.attack import NEXT, SMUGGLED, Attack, AttackClass, post, request

END: Final = b"0\r\n\r\n"
CL: Final = b"Content-Length: 5"
TE: Final = b"Transfer-Encoding: chunked"

KETTLE_2019: Final = "Kettle, *HTTP Desync Attacks* (2019)"
KETTLE_2022: Final = "Kettle, *Browser-Powered Desync Attacks* (2022)"
KETTLE_2025: Final = "Kettle, *HTTP/1.1 Must Die* (2025)"
WATCHFIRE: Final = "Linhart et al., *HTTP Request Smuggling* (2005)"
GARDEN: Final = "Kallus et al., *The HTTP Garden* (2024)"
T_REQS: Final = "Jabiyev et al., *T-Reqs* (CCS 2021)"

LENGTH_AND_CODING: Final = AttackClass(
    "Content-Length beside Transfer-Encoding",
    "One server goes by the length, the other by the chunks.",
    (
        Attack("CL.TE", f"{KETTLE_2019}; CVE-2005-2088", post(CL, TE, body=END + SMUGGLED)),
        Attack("TE.CL", KETTLE_2019, post(TE, b"Content-Length: 4", body=b"24\r\n" + SMUGGLED + b"\r\n" + END)),
        Attack("equal ends", "RFC 9112 section 6.3", post(CL, TE, body=END)),
        Attack("both, the length 0", KETTLE_2022, post(b"Content-Length: 0", TE, body=SMUGGLED)),
        Attack("both, the length no number", GARDEN, post(b"Content-Length: x", TE, body=END + SMUGGLED)),
        Attack("both, the coding unknown", T_REQS, post(CL, b"Transfer-Encoding: x", body=END + SMUGGLED)),
        Attack("both, the coding empty", GARDEN, post(CL, b"Transfer-Encoding:", body=END + SMUGGLED)),
        Attack(
            "both, in other letters", KETTLE_2019, post(b"content-LENGTH: 5", b"tRANSFER-eNCODING: cHUNKED", body=END)
        ),
        Attack(
            "both, on HTTP/1.0",
            "RFC 9112 section 6.1",
            request(CL, TE, line=b"POST / HTTP/1.0", body=END + SMUGGLED),
        ),
    ),
)


def _coding(name: str, source: str, *fields: bytes, status: int = 400) -> Attack:
    return Attack(name, source, post(*fields, body=END + SMUGGLED), (status,))


CODINGS: Final = AttackClass(
    "Transfer-Encoding, disguised",
    "TE.TE: a field that one server takes for `chunked` and the other does not.",
    (
        _coding("a space before the colon", f"{KETTLE_2019}; CVE-2021-22959", b"Transfer-Encoding : chunked"),
        _coding("a tab before the colon", KETTLE_2019, b"Transfer-Encoding\t: chunked"),
        _coding("a vertical tab before the value", "CVE-2019-18277", b"Transfer-Encoding:\x0bchunked"),
        _coding("a form feed behind the value", GARDEN, b"Transfer-Encoding: chunked\x0c"),
        _coding("a NUL behind the value", GARDEN, b"Transfer-Encoding: chunked\x00"),
        _coding("a no-break space before the value", T_REQS, b"Transfer-Encoding: \xa0chunked", status=501),
        _coding("a line separator (NEL) before the value", T_REQS, b"Transfer-Encoding: \x85chunked", status=501),
        _coding("folded", f"{KETTLE_2019}; CVE-2022-32215", b"Transfer-Encoding:\r\n chunked"),
        _coding("folded behind another field", KETTLE_2019, b"X: y\r\n Transfer-Encoding: chunked"),
        _coding("behind a bare LF in a value", KETTLE_2019, b"X: y\nTransfer-Encoding: chunked"),
        _coding("behind a bare CR in a value", "CVE-2023-30589", b"X: y\rTransfer-Encoding: chunked"),
        _coding("in quotes", KETTLE_2019, b'Transfer-Encoding: "chunked"', status=501),
        _coding("with a parameter", T_REQS, b"Transfer-Encoding: chunked;q=1", status=501),
        _coding("with a weight of nought", T_REQS, b"Transfer-Encoding: chunked;q=0", status=501),
        _coding("cut short", KETTLE_2019, b"Transfer-Encoding: chunke", status=501),
        _coding("with an x before it", KETTLE_2019, b"Transfer-Encoding: xchunked", status=501),
        _coding("identity", WATCHFIRE, b"Transfer-Encoding: identity", status=501),
        _coding("identity, then chunked", "CVE-2024-6827", b"Transfer-Encoding: identity, chunked", status=501),
        _coding("chunked, then identity", "CVE-2019-16786; CVE-2024-1135", b"Transfer-Encoding: chunked, identity"),
        _coding("chunked, then gzip", "RFC 9112 section 6.3", b"Transfer-Encoding: chunked, gzip"),
        _coding("chunked twice in a list", "RFC 9112 section 7.1", b"Transfer-Encoding: chunked, chunked"),
        _coding("chunked twice in two fields", "CVE-2020-8287", TE, TE),
        _coding("another coding in a second field", "CVE-2020-8287", TE, b"Transfer-Encoding: x"),
        _coding("an empty second field", GARDEN, TE, b"Transfer-Encoding:"),
        _coding("an empty member before it", "CVE-2019-16786", b"Transfer-Encoding: ,chunked"),
        _coding("an empty member behind it", T_REQS, b"Transfer-Encoding: chunked,"),
        _coding("a space instead of a comma", T_REQS, b"Transfer-Encoding: gzip chunked", status=501),
        _coding(
            "gzip, which nobody undoes here", "RFC 9112 section 6.1", b"Transfer-Encoding: gzip, chunked", status=501
        ),
        Attack(
            "on HTTP/1.0",
            "RFC 9112 section 6.1; h11 accepts it",
            request(TE, line=b"POST / HTTP/1.0", body=END + SMUGGLED),
        ),
    ),
)


def _length(name: str, source: str, *values: bytes, body: bytes = b"abcde") -> Attack:
    return Attack(name, source, post(*(b"Content-Length:" + value for value in values), body=body + SMUGGLED))


LENGTHS: Final = AttackClass(
    "Content-Length, disguised",
    "CL.CL: a number that two servers read differently, or that one of them does not see.",
    (
        _length("two fields that differ", f"{WATCHFIRE}; RFC 9112 section 6.3", b" 5", b" 0"),
        _length("two equal fields", "RFC 9110 section 8.6", b" 5", b" 5"),
        _length("a list that differs", "CVE-2019-16792", b" 5, 0"),
        _length("a list of equals", "RFC 9110 section 8.6; h11 merges it", b" 5, 5"),
        _length("a list with an empty member", GARDEN, b" 5,"),
        _length("empty", "CVE-2023-40225", b""),
        _length("a plus sign", "CVE-2022-24801; CVE-2023-47627", b" +5"),
        _length("a minus sign", "CVE-2023-47627", b" -5"),
        _length("minus nought", GARDEN, b" -0"),
        _length("an underscore between digits", "CVE-2023-47627", b" 0_5"),
        _length("hexadecimal", T_REQS, b" 0x5"),
        _length("a space between digits", T_REQS, b" 0 5"),
        _length("a decimal point", T_REQS, b" 5.0"),
        _length("an exponent", T_REQS, b" 5e0"),
        _length("a word behind it", T_REQS, b" 5 bytes"),
        _length("quotes", T_REQS, b' "5"'),
        _length("a parameter", T_REQS, b" 5;x=y"),
        _length("digits that are no ASCII", "CVE-2023-47627", b" \xd9\xa5"),
        _length("a superscript digit in Latin-1", GARDEN, b" \xb9"),
        _length("more digits than 64 bits have", T_REQS, b" 18446744073709551621"),
        _length("4000 digits", T_REQS, b" " + b"1" * 4000),
        _length("a NUL behind it", GARDEN, b" 5\x00"),
        _length("a vertical tab before it", "CVE-2019-16789", b" \x0b5"),
        Attack("a space before the colon", "CVE-2021-22959", post(b"Content-Length : 5", body=b"abcde" + SMUGGLED)),
        Attack("a space before the name", "CVE-2024-27982", post(b"X: y", b" Content-Length: 5", body=SMUGGLED)),
        Attack("folded", "RFC 9112 section 5.2", post(b"Content-Length:\r\n 5", body=b"abcde" + SMUGGLED)),
        Attack(
            "leading noughts are one number",
            "RFC 9110 section 8.6",
            post(b"Content-Length: 0005", body=b"abcde" + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "an underscore for the hyphen is another field",
            "CGI's collapsing of names; *The HTTP Garden*",
            post(CL, b"Content_Length: 0", body=b"abcde" + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "a longer name that begins with it",
            "CVE-2021-40346",
            post(CL, b"Content-Length0" + b"a" * 255 + b": 0", body=b"abcde" + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "named in Connection, it still counts",
            "Davison, *Abusing hop-by-hop headers* (2019)",
            post(CL, b"Connection: content-length", body=b"abcde" + NEXT),
            (200, 200),
            closes=False,
        ),
    ),
)

BODIES: Final = AttackClass(
    "A body where none is expected, or none where one is",
    "CL.0, 0.CL and their kin: the answer comes early, and what follows it must not be read as a request.",
    (
        Attack(
            "CL.0: GET with a body that is a request",
            KETTLE_2022,
            request(b"Content-Length: %d" % len(SMUGGLED), body=SMUGGLED + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "HEAD with a body that is a request",
            KETTLE_2022,
            request(b"Content-Length: %d" % len(SMUGGLED), line=b"HEAD / HTTP/1.1", body=SMUGGLED + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "GET with a chunked body that is a request",
            KETTLE_2022,
            request(TE, body=b"%x\r\n" % len(SMUGGLED) + SMUGGLED + b"\r\n" + END + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "a body in HTTP/1.0 with keep-alive",
            KETTLE_2022,
            request(
                b"Content-Length: %d" % len(SMUGGLED),
                b"Connection: keep-alive",
                line=b"GET / HTTP/1.0",
                body=SMUGGLED + NEXT,
            ),
            (200, 200),
            closes=False,
        ),
        Attack(
            "POST without a length has no body",
            "RFC 9112 section 6.3",
            post(body=NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "Expect that is not 100-continue",
            KETTLE_2025,
            post(b"Content-Length: %d" % len(SMUGGLED), b"Expect: y 100-continue", body=SMUGGLED),
            (417,),
        ),
        Attack(
            "Expect twice, one of them unknown",
            KETTLE_2025,
            post(b"Content-Length: %d" % len(SMUGGLED), b"Expect: 100-continue", b"Expect: x", body=SMUGGLED),
            (417,),
        ),
        Attack(
            "Expect, the body already there",
            KETTLE_2025,
            post(b"Content-Length: %d" % len(SMUGGLED), b"Expect: 100-continue", body=SMUGGLED + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "an upgrade to h2c is not made",
            "Bishop Fox, *h2c smuggling* (2020)",
            request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk", body=NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "an upgrade to WebSocket is not made",
            "Egorov, *WebSocket smuggling* (2019)",
            request(b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13", body=NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "a request behind one that closes",
            "RFC 9112 section 9.6",
            request(b"Connection: close", body=SMUGGLED),
            (200,),
        ),
        Attack(
            "a request behind one that is refused",
            "CVE-2022-22720; CVE-2024-49768",
            request(b"Bad Name: x", body=SMUGGLED),
        ),
    ),
)

CLASSES: Final = (LENGTH_AND_CODING, CODINGS, LENGTHS, BODIES)
