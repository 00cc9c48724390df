"""The errors and their statuses: RFC 9110 section 15."""

import pytest

from ktrio.http import errors
from ktrio.http.errors import (
    HttpError,
    MethodNotAllowed,
    ResponseError,
    ServiceUnavailable,
)
from ktrio.http.status import reason_phrase

STATUSES = {
    "BadRequest": 400,
    "NotFound": 404,
    "RequestTimeout": 408,
    "BodyTooLarge": 413,
    "TargetTooLong": 414,
    "ExpectationFailed": 417,
    "MisdirectedRequest": 421,
    "HeadTooLarge": 431,
    "InternalError": 500,
    "NotImplementedMethod": 501,
    "ServiceUnavailable": 503,
    "VersionNotSupported": 505,
}


@pytest.mark.parametrize(("name", "status"), STATUSES.items())
def test_error_carries_its_status_and_message(name, status):
    error = getattr(errors, name)("A sentence.")
    assert isinstance(error, HttpError)
    assert (error.status, error.message, str(error), error.fields) == (status, "A sentence.", "A sentence.", ())


def test_every_error_is_in_the_table():
    assert {kind.__name__ for kind in HttpError.__subclasses__()} == {*STATUSES, "MethodNotAllowed"}


def test_the_abstract_base_raised_itself_is_refused():
    with pytest.raises(TypeError, match="abstract"):
        raise HttpError("no status")


def test_method_not_allowed_names_what_is_allowed():
    # RFC 9110 section 15.5.6: "The origin server MUST generate an Allow header field in a 405 response".
    error = MethodNotAllowed("Not here.", allow=("GET", "HEAD"))
    assert (error.status, error.fields) == (405, (("allow", "GET, HEAD"),))


def test_service_unavailable_with_a_time_says_when_to_retry():
    assert ServiceUnavailable("Full.", retry_after=2).fields == (("retry-after", "2"),)


def test_response_error_is_the_handlers_so_no_answer():
    assert not issubclass(ResponseError, HttpError)


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (404, "Not Found"),
        (413, "Content Too Large"),
        (299, "Success"),
        (599, "Server Error"),
        (999, "Unknown"),
    ],
)
def test_reason_phrase_of_a_status(status, phrase):
    assert reason_phrase(status) == phrase
