"""RFC 9110 section 13: preconditions."""

from __future__ import annotations

import pytest

from tests.rfc.clauses import clause
from tests.rfc.conftest import LETTERS
from tests.server.harness import get

THEN = "Sun, 09 Sep 2001 01:46:40 GMT"  # when all of the site was changed
BEFORE = "Sun, 09 Sep 2001 01:46:39 GMT"
AFTER = "Sun, 09 Sep 2001 01:46:41 GMT"
PART = "Range: bytes=0-1"


@pytest.fixture
async def etag(ask):
    """That of /a.txt."""
    return (await ask(get("/a.txt"))).headers.get("etag")


async def status(ask, *fields: str, method: str = "GET", target: str = "/a.txt") -> int:
    return (await ask(get(target, *fields, method=method))).status


@clause("9110", "13.1.1", "If-Match: * holds for whatever exists")
async def test_if_match_star_holds(ask):
    assert await status(ask, "If-Match: *") == 200


@clause("9110", "13.1.1", "If-Match holds if one of its tags is the current one")
async def test_if_match_holds_with_one_of_its_tags(ask, etag):
    assert await status(ask, f'If-Match: "other", {etag}, "more"') == 200


@clause("9110", "13.1.1", "If-Match that does not hold: the method must not be performed, 412")
async def test_if_match_that_fails_is_412(ask):
    answer = await ask(get("/a.txt", 'If-Match: "other"'))
    assert answer.status == 412
    assert LETTERS not in answer.body


@clause("9110", "13.1.1", "If-Match must compare strongly")
async def test_if_match_compares_strongly(ask, etag):
    assert await status(ask, f"If-Match: W/{etag}") == 412


@clause("9110", "13.1.2", "If-None-Match: * fails for whatever exists")
async def test_if_none_match_star_fails(ask):
    assert await status(ask, "If-None-Match: *") == 304


@clause("9110", "13.1.2", "If-None-Match holds if none of its tags is the current one")
async def test_if_none_match_holds_without_the_tag(ask):
    assert await status(ask, 'If-None-Match: "a", W/"b"') == 200


@clause("9110", "13.1.2", "If-None-Match that fails is 304 for GET and HEAD")
async def test_if_none_match_that_fails_is_304(ask, etag):
    assert await status(ask, f"If-None-Match: {etag}") == 304
    assert await status(ask, f"If-None-Match: {etag}", method="HEAD") == 304


@clause("9110", "13.1.2", "If-None-Match must compare weakly")
async def test_if_none_match_compares_weakly(ask, etag):
    assert await status(ask, f'If-None-Match: "x", W/{etag}') == 304


@clause("9110", "13.1.3", "If-Modified-Since with the date of Last-Modified, or a later one: 304")
async def test_not_modified_since_is_304(ask):
    assert await status(ask, f"If-Modified-Since: {THEN}") == 304
    assert await status(ask, f"If-Modified-Since: {AFTER}") == 304


@clause("9110", "13.1.3", "If-Modified-Since with an earlier date: the whole answer")
async def test_modified_since_is_sent(ask):
    assert await status(ask, f"If-Modified-Since: {BEFORE}") == 200


@clause("9110", "13.1.3", "If-Modified-Since must be ignored beside If-None-Match")
async def test_if_modified_since_is_ignored_beside_tags(ask):
    assert await status(ask, f"If-Modified-Since: {AFTER}", 'If-None-Match: "other"') == 200


@clause("9110", "13.1.3", "If-Modified-Since must be ignored if it is no valid date")
async def test_if_modified_since_that_is_no_date_is_ignored(ask):
    for value in ("yesterday", "2030-01-01T00:00:00Z", f"{AFTER} ", "1e99", f"{AFTER}; length=26"):
        assert await status(ask, f"If-Modified-Since: {value}") == (304 if value == f"{AFTER} " else 200)


@clause("9110", "13.1.3", "If-Modified-Since must be ignored if there are two dates")
async def test_if_modified_since_of_two_dates_is_ignored(ask):
    assert await status(ask, f"If-Modified-Since: {AFTER}", f"If-Modified-Since: {AFTER}") == 200
    assert await status(ask, f"If-Modified-Since: {AFTER}, {AFTER}") == 200


@clause("9110", "13.1.3", "If-Modified-Since must be ignored unless the method is GET or HEAD")
async def test_if_modified_since_is_ignored_with_other_methods(ask):
    assert await status(ask, f"If-Modified-Since: {AFTER}", method="OPTIONS") == 204


@clause("9110", "13.1.4", "If-Unmodified-Since with the date of Last-Modified, or a later one, holds")
async def test_if_unmodified_since_holds(ask):
    assert await status(ask, f"If-Unmodified-Since: {THEN}") == 200
    assert await status(ask, f"If-Unmodified-Since: {AFTER}") == 200


@clause("9110", "13.1.4", "If-Unmodified-Since with an earlier date fails: 412")
async def test_if_unmodified_since_fails(ask):
    assert await status(ask, f"If-Unmodified-Since: {BEFORE}") == 412


@clause("9110", "13.1.4", "If-Unmodified-Since must be ignored beside If-Match")
async def test_if_unmodified_since_is_ignored_beside_tags(ask, etag):
    assert await status(ask, f"If-Unmodified-Since: {BEFORE}", f"If-Match: {etag}") == 200


@clause("9110", "13.1.4", "If-Unmodified-Since must be ignored if it is no valid date")
async def test_if_unmodified_since_that_is_no_date_is_ignored(ask):
    assert await status(ask, "If-Unmodified-Since: long ago") == 200


@clause("9110", "13.1.5", "If-Range with the current tag: the part is sent")
async def test_if_range_with_the_tag_sends_the_part(ask, etag):
    answer = await ask(get("/a.txt", PART, f"If-Range: {etag}"))
    assert (answer.status, answer.body) == (206, b"ab")


@clause("9110", "13.1.5", "If-Range with another tag: Range is ignored, all is sent")
async def test_if_range_with_another_tag_sends_all(ask):
    answer = await ask(get("/a.txt", PART, 'If-Range: "other"'))
    assert (answer.status, answer.body) == (200, LETTERS)


@clause("9110", "13.1.5", "If-Range must compare tags strongly")
async def test_if_range_compares_strongly(ask, etag):
    assert await status(ask, PART, f"If-Range: W/{etag}") == 200


@clause("9110", "13.1.5", "If-Range with exactly the date of Last-Modified: the part is sent")
async def test_if_range_with_the_date_sends_the_part(ask):
    assert await status(ask, PART, f"If-Range: {THEN}") == 206


@clause("9110", "13.1.5", "If-Range with a date must match exactly: a later one will not do")
async def test_if_range_with_another_date_sends_all(ask):
    assert await status(ask, PART, f"If-Range: {AFTER}") == 200
    assert await status(ask, PART, f"If-Range: {BEFORE}") == 200


@clause("9110", "13.1.5", "If-Range without Range must be ignored")
async def test_if_range_alone_is_ignored(ask):
    assert await status(ask, 'If-Range: "other"') == 200


@clause("9110", "13.1.5", "An If-Range that is neither tag nor date does not hold")
async def test_if_range_that_is_nothing_sends_all(ask, etag):
    for value in (etag.strip('"'), "*", f"{etag}, {etag}", ""):
        assert await status(ask, PART, f"If-Range: {value}") == 200


@clause("9110", "13.2.1", "Preconditions must be ignored if the answer without them would be an error")
async def test_preconditions_do_not_turn_an_error_into_another(ask):
    assert await status(ask, 'If-Match: "x"', target="/missing") == 404
    assert await status(ask, "If-None-Match: *", target="/missing") == 404


@clause("9110", "13.2.1", "Preconditions must be ignored if the answer without them would be a redirect")
async def test_preconditions_do_not_hold_up_a_redirect(ask):
    assert await status(ask, 'If-Match: "x"', target="/sub") == 301


@clause("9110", "13.2.1", "Preconditions must be ignored with methods that select no representation")
async def test_preconditions_mean_nothing_to_options(ask):
    assert await status(ask, 'If-Match: "x"', method="OPTIONS") == 204


@clause("9110", "13.2.2", "If-Match comes first: failed, nothing else is asked")
async def test_if_match_comes_before_if_none_match(ask):
    assert await status(ask, 'If-Match: "x"', "If-None-Match: *") == 412


@clause("9110", "13.2.2", "If-Unmodified-Since comes second, where there is no If-Match")
async def test_if_unmodified_since_comes_before_if_none_match(ask):
    assert await status(ask, f"If-Unmodified-Since: {BEFORE}", "If-None-Match: *") == 412


@clause("9110", "13.2.2", "If-None-Match is asked after an If-Match that holds")
async def test_if_none_match_comes_after_if_match(ask, etag):
    assert await status(ask, f"If-Match: {etag}", f"If-None-Match: {etag}") == 304


@clause("9110", "13.2.2", "If-Modified-Since is asked after an If-Unmodified-Since that holds")
async def test_if_modified_since_comes_after_if_unmodified_since(ask):
    assert await status(ask, f"If-Unmodified-Since: {THEN}", f"If-Modified-Since: {THEN}") == 304


@clause("9110", "13.2.2", "Range is looked at only when the preconditions hold: 304 rather than 206")
async def test_not_modified_comes_before_range(ask, etag):
    assert await status(ask, PART, f"If-None-Match: {etag}", f"If-Range: {etag}") == 304


@clause("9110", "13.2.2", "Range is looked at only when the preconditions hold: 412 rather than 416")
async def test_failed_precondition_comes_before_unsatisfiable_range(ask):
    assert await status(ask, "Range: bytes=99-", 'If-Match: "x"') == 412


@clause("9110", "13.2.2", "If-Range is asked last: preconditions that hold leave the part to it")
async def test_if_range_comes_last(ask, etag):
    assert await status(ask, PART, f"If-Match: {etag}", f"If-Range: {etag}") == 206
    assert await status(ask, PART, f"If-Match: {etag}", 'If-Range: "x"') == 200
