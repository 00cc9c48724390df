"""RFC 9110 section 14: parts of a representation."""

from __future__ import annotations

import re

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

LONG = bytes(range(256)) * 40


async def part(ask, value: str, target: str = "/a.txt"):
    """Status and content of the answer to this Range."""
    answer = await ask(get(target, f"Range: {value}"))
    return answer.status, answer.body


def parts_of(answer):
    """The parts of a multipart/byteranges body, strictly (RFC 2046 section 5.1): Content-Range, type and content."""
    boundary = answer.headers.get("content-type").partition("; boundary=")[2].encode()
    first, *rest = answer.body.split(b"--" + boundary)
    assert first == b""
    assert rest[-1] == b"--\r\n"
    found = []
    for each in rest[:-1]:
        match = re.fullmatch(rb"\r\nContent-Type: ([^\r]*)\r\nContent-Range: ([^\r]*)\r\n\r\n(.*)\r\n", each, re.DOTALL)
        found.append((match[2].decode(), match[1].decode(), match[3]))
    return found


@clause("9110", "14.1", "Range units are case-insensitive")
async def test_unit_in_any_case(ask):
    assert await part(ask, "BYTES=0-1") == (206, b"ab")


@clause("9110", "14.1.1", "A range whose last position is before its first is invalid, and so is the field")
async def test_range_backwards_is_ignored(ask):
    assert await part(ask, "bytes=5-4") == (200, LETTERS)
    assert await part(ask, "bytes=0-1,5-4") == (200, LETTERS)


@clause("9110", "14.1.1", "A field that does not follow the grammar is invalid and is ignored")
async def test_malformed_range_is_ignored(ask):
    for value in (
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1;x",
        "bytes 0-1",
        "0-1",
        "bytes=0 - 1",
        "bytes=+0-1",
    ):
        assert await part(ask, value) == (200, LETTERS)


@clause("9110", "14.1.1", "Positions may be larger than a recipient's integers")
async def test_huge_positions_do_no_harm(ask):
    assert (await part(ask, "bytes=0-9223372036854775808"))[0] == 206
    assert await part(ask, "bytes=0-" + "9" * 100) == (200, LETTERS)


@clause("9110", "14.1.2", "Both ends of a range are part of it")
async def test_both_ends_are_included(ask):
    assert await part(ask, "bytes=0-0") == (206, b"a")
    assert await part(ask, "bytes=1-3") == (206, b"bcd")


@clause("9110", "14.1.2", "Without a last position the range goes to the end")
async def test_open_range_goes_to_the_end(ask):
    assert await part(ask, "bytes=23-") == (206, b"xyz")


@clause("9110", "14.1.2", "A last position beyond the end means the end")
async def test_end_beyond_the_end_is_the_end(ask):
    assert await part(ask, "bytes=24-999") == (206, b"yz")


@clause("9110", "14.1.2", "A suffix range means the last bytes")
async def test_suffix_is_the_last_bytes(ask):
    assert await part(ask, "bytes=-3") == (206, b"xyz")


@clause("9110", "14.1.2", "A suffix longer than the representation means all of it")
async def test_suffix_longer_than_all_is_all(ask):
    assert await part(ask, "bytes=-27") == (206, LETTERS)


@clause("9110", "14.1.2", "A first position behind the end cannot be satisfied")
async def test_range_behind_the_end_is_416(ask):
    assert (await part(ask, "bytes=26-"))[0] == 416
    assert await part(ask, "bytes=25-") == (206, b"z")


@clause("9110", "14.1.2", "A suffix of no bytes cannot be satisfied")
async def test_suffix_of_nothing_is_416(ask):
    assert (await part(ask, "bytes=-0"))[0] == 416


@clause("9110", "14.1.2", "A set of ranges is satisfiable if one of them is")
async def test_one_satisfiable_range_is_enough(ask):
    assert await part(ask, "bytes=90-99, 0-1, -0") == (206, b"ab")


@clause("9110", "14.1.2", "Of an empty representation no position can be satisfied")
async def test_nothing_of_an_empty_file_can_be_satisfied(ask):
    assert (await part(ask, "bytes=0-", "/empty.bin"))[0] == 416


@clause("9110", "14.2", "Range must be ignored with methods it is not defined for, which is all but GET")
async def test_range_is_ignored_with_head(ask):
    answer = await ask(get("/a.txt", "Range: bytes=0-1", method="HEAD"))
    assert (answer.status, answer.headers.get("content-length"), "content-range" in answer.headers) == (
        200,
        "26",
        False,
    )


@clause("9110", "14.2", "A Range in a unit that is not understood must be ignored")
async def test_unknown_unit_is_ignored(ask):
    assert await part(ask, "lines=0-1") == (200, LETTERS)


@clause("9110", "14.2", "Ranges that may be an attack, many small ones, may be ignored or refused")
async def test_too_many_ranges_are_ignored(ask):
    value = "bytes=" + ",".join(f"{each * 150}-{each * 150}" for each in range(65))
    assert await part(ask, value, "/long.bin") == (200, LONG)


@clause("9110", "14.2", "Ranges that overlap many times over get no more bytes than the whole has")
async def test_overlaps_do_not_multiply(ask):
    status, body = await part(ask, "bytes=" + ",".join(["0-"] * 60), "/long.bin")
    assert (status, len(body)) == (206, len(LONG))


@clause("9110", "14.2", "Without If-Range, a Range that can be satisfied is answered by 206")
async def test_satisfiable_range_is_206(ask):
    assert (await part(ask, "bytes=5-9"))[0] == 206


@clause("9110", "14.2", "A Range of which nothing can be satisfied should get 416")
async def test_unsatisfiable_range_is_416(ask):
    assert (await part(ask, "bytes=100-200"))[0] == 416


@clause("9110", "14.3", "Accept-Ranges says that parts may be asked for")
async def test_accept_ranges_says_bytes(ask):
    assert (await ask(get("/a.txt"))).headers.get("accept-ranges") == "bytes"
    assert (await ask(get("/a.txt", method="HEAD"))).headers.get("accept-ranges") == "bytes"


@clause("9110", "14.4", "Content-Range of a part: first and last position, and the length of all")
async def test_content_range_of_a_part(ask):
    answer = await ask(get("/a.txt", "Range: bytes=-3"))
    assert answer.headers.get("content-range") == "bytes 23-25/26"


@clause("9110", "14.4", "Content-Range of a 416 says how long the representation is")
async def test_content_range_of_an_unsatisfied_request(ask):
    assert (await ask(get("/a.txt", "Range: bytes=26-"))).headers.get("content-range") == "bytes */26"


@clause("9110", "14.4", "Content-Range has no meaning with other statuses")
async def test_whole_has_no_content_range(ask):
    assert "content-range" not in (await ask(get("/a.txt"))).headers
    assert "content-range" not in (await ask(get("/a.txt", "Range: bytes=0-1", "If-None-Match: *"))).headers


@clause("9110", "14.5", "A server that takes no partial PUT must not take its content for the whole")
async def test_partial_put_changes_nothing(ask, folder):
    answer = await ask(get("/a.txt", "Content-Range: bytes 0-1/26", "Content-Length: 2", method="PUT") + b"XX")
    assert answer.status == 405
    assert (folder / "a.txt").read_bytes() == LETTERS


@clause("9110", "14.6", "Several parts come as multipart/byteranges, each with its Content-Range and type")
async def test_several_parts_are_a_multipart(ask):
    answer = await ask(get("/long.bin", "Range: bytes=0-1,1000-1003,-2"))
    assert answer.headers.get("content-type").startswith("multipart/byteranges; boundary=")
    assert parts_of(answer) == [
        ("bytes 0-1/10240", "application/octet-stream", LONG[:2]),
        ("bytes 1000-1003/10240", "application/octet-stream", LONG[1000:1004]),
        ("bytes 10238-10239/10240", "application/octet-stream", LONG[-2:]),
    ]


@clause("9110", "14.6", "The boundary of a multipart does not occur in its parts: two answers do not share it")
async def test_boundaries_cannot_be_foreseen(ask):
    types = {(await ask(get("/long.bin", "Range: bytes=0-1,900-"))).headers.get("content-type") for _ in range(2)}
    assert len(types) == 2
