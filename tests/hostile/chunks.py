"""Chunked bodies that two servers would cut differently, or that take more than they give."""

from __future__ import annotations

from typing import Final

from tests.hostile.attack import NEXT, SMUGGLED, Attack, AttackClass, chunked
from tests.hostile.framing import END, GARDEN, T_REQS

FUNKY: Final = "Weikop, *Funky Chunks* (2025)"
GRENFELDT: Final = "Grenfeldt, *gunicorn 20.1.0* (2021)"


def _size(name: str, source: str, line: bytes, *, data: bytes = b"abcde\r\n") -> Attack:
    return Attack(name, source, chunked(line + b"\r\n" + data + END + SMUGGLED))


SIZES: Final = AttackClass(
    "Chunk sizes",
    "",
    (
        _size("0x before it", "CVE-2022-24761; CVE-2022-24801", b"0x5"),
        _size("a plus sign", "CVE-2022-24761", b"+5"),
        _size("a minus sign", GARDEN, b"-5"),
        _size("an underscore", "uhttpd #3", b"0_5"),
        _size("a space before it", GARDEN, b" 5"),
        _size("a space behind it", "CVE-2022-24761; RFC 9112 section 7.1.1", b"5 "),
        _size("a space before an extension", "RFC 9112 section 7.1.1", b"5 ;x=y"),
        _size("a tab behind it", GARDEN, b"5\t"),
        _size("empty", GARDEN, b""),
        _size("an extension without a size", GARDEN, b";x"),
        _size("no hexadecimal number", "RFC 9112 section 7.1", b"g"),
        _size("digits that are no ASCII", GARDEN, b"\xd9\xa5"),
        _size("a NUL behind it", GARDEN, b"5\x00"),
        _size("more digits than 64 bits have", "CVE-2002-0392; CVE-2013-2028", b"10000000000000005"),
        _size("sixteen F", "CVE-2013-2028", b"ffffffffffffffff"),
        _size("the sign bit of 64", "CVE-2013-2028", b"8000000000000005"),
        _size("300 noughts before it", T_REQS, b"0" * 300 + b"5"),
        _size("a comma and another", T_REQS, b"5,5"),
        _size("a comment in brackets", T_REQS, b"5(x)"),
        _size("a chunk longer than it said", "CVE-2025-43859; RFC 9112 section 7.1", b"5", data=b"abcdef\r\n"),
        _size("a chunk shorter than it said", "CVE-2025-43859", b"5", data=b"abc\r\n"),
        _size("two bytes, not CRLF, behind a chunk", "CVE-2025-43859", b"5", data=b"abcdeXX"),
        _size("nothing behind a chunk", FUNKY, b"5", data=b"abcde"),
        Attack(
            "upper and lower case, leading noughts",
            "RFC 9112 section 7.1",
            chunked(b"00A\r\n" + b"x" * 10 + b"\r\n00a\r\n" + b"x" * 10 + b"\r\n000\r\n\r\n" + NEXT),
            (200, 200),
            closes=False,
        ),
    ),
)


def _body(name: str, source: str, body: bytes) -> Attack:
    return Attack(name, source, chunked(body + SMUGGLED))


ENDS: Final = AttackClass(
    "Line ends in chunked bodies",
    "The names in capitals are those of *Funky Chunks*: which end of line one server sees and the other passes over.",
    (
        _body("a bare LF behind a size", "CVE-2025-22871", b"5\nabcde\r\n" + END),
        _body("TERM.EXT: a bare LF within an extension", f"{FUNKY}; CVE-2025-55315", b"2;\nxx\r\n10\r\n" + END),
        _body("EXT.TERM: a bare CR within an extension", FUNKY, b"2;\rxx\r\n10\r\n" + END),
        _body(
            "an LF within an extension", f"{GRENFELDT}; CVE-2021-22960; CVE-2024-52304", b"5;a\nb\r\nabcde\r\n" + END
        ),
        _body("TERM.SPILL: a bare LF behind the data", FUNKY, b"5\r\nabcde\n2e\r\n" + END),
        _body("SPILL.TERM: a bare CR behind the data", FUNKY, b"5\r\nabcde\r2e\r\n" + END),
        _body("ONE.TWO: one byte for the CRLF", FUNKY, b"5\r\nabcde\n0\r\n\r\n"),
        _body("a CR CR LF behind a size", GARDEN, b"5\r\r\nabcde\r\n" + END),
        _body("a CR CR LF behind the data", GARDEN, b"5\r\nabcde\r\r\n" + END),
        _body("an LF CR behind a size", GARDEN, b"5\n\rabcde\r\n" + END),
        _body("a bare LF behind the last size", GARDEN, b"5\r\nabcde\r\n0\n\r\n"),
        _body("a bare LF for the last line", GARDEN, b"5\r\nabcde\r\n0\r\n\n"),
        _body("a bare CR for the last line", GARDEN, b"5\r\nabcde\r\n0\r\n\rX"),
    ),
)

EXTENSIONS: Final = AttackClass(
    "Chunk extensions and trailers",
    "",
    (
        Attack(
            "extensions are passed over",
            "RFC 9112 section 7.1.1",
            chunked(b'5;a;b=c;d="e f"\r\nabcde\r\n0;x\r\n\r\n' + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "a quote that is not closed does not hide the line's end",
            FUNKY,
            chunked(b'5;a="\r\nabcde\r\n0;"\r\n\r\n' + NEXT),
            (200, 200),
            closes=False,
        ),
        _body("an extension of 300 bytes", "CVE-2023-39326", b"5;" + b"a" * 300 + b"\r\nabcde\r\n" + END),
        _body(
            "5 KB of extensions on chunks of a byte",
            "CVE-2023-39326",
            (b"1;" + b"a" * 200 + b"\r\nx\r\n") * 26 + END,
        ),
        _body("20 000 chunks of a byte", "CVE-2023-39326", b"1\r\nx\r\n" * 20_000 + END),
        _body("a control byte in an extension", GARDEN, b"5;a\x01\r\nabcde\r\n" + END),
        Attack(
            "trailers become no fields",
            "CVE-2023-46589; RFC 9110 section 6.5.1",
            chunked(b"0\r\nContent-Length: 37\r\nHost: y\r\nCookie: z\r\n\r\n" + NEXT),
            (200, 200),
            closes=False,
        ),
        Attack(
            "a Transfer-Encoding among the trailers",
            "CVE-2023-46589",
            chunked(b"0\r\nTransfer-Encoding: x\r\n\r\n" + SMUGGLED),
            (501,),
        ),
        Attack(
            "a request line in the trailers",
            "CVE-2025-53643; CVE-2025-58068",
            chunked(b"0\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"),
        ),
        Attack(
            "a trailer folded over two lines", "RFC 9112 section 5.2", chunked(b"0\r\nA: b\r\n c\r\n\r\n" + SMUGGLED)
        ),
        Attack("a space before the colon of a trailer", GARDEN, chunked(b"0\r\nA : b\r\n\r\n" + SMUGGLED)),
        Attack("a trailer that ends with a bare LF", GARDEN, chunked(b"0\r\nA: b\n\r\n" + SMUGGLED)),
        Attack(
            "101 trailers", "RFC 6585 section 5", chunked(b"0\r\n" + b"A: b\r\n" * 101 + b"\r\n" + SMUGGLED), (431,)
        ),
        Attack(
            "trailers of 40 KB",
            "RFC 6585 section 5",
            chunked(b"0\r\n" + (b"A: " + b"b" * 900 + b"\r\n") * 44 + b"\r\n" + SMUGGLED),
            (431,),
        ),
        Attack(
            "one trailer of 40 KB", "RFC 6585 section 5", chunked(b"0\r\nA: " + b"b" * 40_000 + b"\r\n\r\n"), (431,)
        ),
    ),
)

CLASSES: Final = (SIZES, ENDS, EXTENSIONS)
