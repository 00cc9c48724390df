"""RFC 9110 section 12: what the client would rather have."""

from __future__ import annotations

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS, TEXT
from tests.server.harness import get


async def coding(ask, *values: str, target: str = "/page.html") -> str | None:
    """The coding that these Accept-Encoding fields get: page.html has a .br and a .gz beside it."""
    answer = await ask(get(target, *(f"Accept-Encoding: {each}" for each in values)))
    assert answer.status == 200
    return answer.headers.get("content-encoding")


@clause("9110", "12.4.1", "A preference that is not stated leaves the choice to the server: here, as it is")
async def test_without_a_wish_it_comes_as_it_is(ask):
    assert await coding(ask) is None


@clause("9110", "12.4.1", "A server may disregard a wish it cannot meet, and send what there is")
async def test_wish_that_cannot_be_met_is_disregarded(ask):
    answer = await ask(get("/a.txt", "Accept-Encoding: identity;q=0, *;q=0"))
    assert (answer.status, answer.body) == (200, LETTERS)


@clause("9110", "12.4.2", "The coding with the higher weight is preferred")
async def test_higher_weight_wins(ask):
    assert await coding(ask, "br;q=0.5, gzip;q=0.8") == "gzip"
    assert await coding(ask, "br;q=0.8, gzip;q=0.5") == "br"


@clause("9110", "12.4.2", "A weight has up to three decimals, and they count")
async def test_third_decimal_counts(ask):
    assert await coding(ask, "br;q=0.501, gzip;q=0.502") == "gzip"


@clause("9110", "12.4.2", "A coding without a weight has the weight 1")
async def test_no_weight_is_one(ask):
    assert await coding(ask, "br;q=0.999, gzip") == "gzip"


@clause("9110", "12.4.2", "A weight of 0 means: not acceptable")
async def test_weight_of_zero_refuses(ask):
    assert await coding(ask, "br;q=0, gzip;q=0.001") == "gzip"
    assert await coding(ask, "br;q=0.000, gzip;q=0") is None


@clause("9110", "12.4.3", "* stands for what is not named")
async def test_star_stands_for_what_is_not_named(ask):
    assert await coding(ask, "gzip;q=0, *") == "br"


@clause("9110", "12.5.1", "A type that Accept does not name may be sent as if there were no Accept")
async def test_accept_that_does_not_fit_is_disregarded(ask):
    assert (await ask(get("/a.txt", "Accept: image/png"))).body == LETTERS


@clause("9110", "12.5.2", "Accept-Charset is deprecated and may be ignored")
async def test_accept_charset_is_ignored(ask):
    assert (await ask(get("/a.txt", "Accept-Charset: koi8-r"))).headers.get("content-type").endswith("utf-8")


@clause("9110", "12.5.3", "Only codings that are acceptable are sent")
async def test_coding_that_is_not_acceptable_is_not_sent(ask):
    assert await coding(ask, "deflate, compress") is None


@clause("9110", "12.5.3", "identity is acceptable unless it is excluded")
async def test_identity_is_acceptable_when_not_named(ask):
    answer = await ask(get("/picture.png", "Accept-Encoding: gzip"))
    assert "content-encoding" not in answer.headers


@clause("9110", "12.5.3", "An empty Accept-Encoding asks for no coding")
async def test_empty_wish_gets_no_coding(ask):
    assert await coding(ask, "") is None


@clause("9110", "12.5.3", "identity may be preferred to a coding by its weight")
async def test_identity_may_be_preferred(ask):
    assert await coding(ask, "identity, br;q=0.5") is None


@clause("9110", "12.5.3", "Wishes over several lines are one list")
async def test_wishes_over_several_lines(ask):
    assert await coding(ask, "br;q=0", "gzip") == "gzip"


@clause("9110", "12.5.3", "Codings that the server does not know are passed over, the others count")
async def test_unknown_codings_are_passed_over(ask):
    assert await coding(ask, "x-odd, dcb;q=0.9, gzip;q=0.1") == "gzip"


@clause("9110", "12.5.4", "Accept-Language may be disregarded where there is one language only")
async def test_accept_language_is_disregarded(ask):
    assert (await ask(get("/a.txt", "Accept-Language: da, *;q=0"))).body == LETTERS


@clause("9110", "12.5.5", "Vary should name what the choice of a representation depended on")
async def test_vary_names_accept_encoding(ask):
    answer = await ask(get("/page.html", "Accept-Encoding: br"))
    assert answer.headers.tokens("vary") == ["accept-encoding"]


@clause("9110", "12.5.5", "Vary goes with the plain representation too, for another request would get another")
async def test_vary_goes_with_the_plain_one(ask):
    answer = await ask(get("/page.html"))
    assert (answer.body, answer.headers.tokens("vary")) == (TEXT, ["accept-encoding"])


@clause("9110", "12.5.5", "What is not negotiated needs no Vary")
async def test_no_vary_without_a_choice(ask):
    assert "vary" not in (await ask(get("/picture.png"))).headers
