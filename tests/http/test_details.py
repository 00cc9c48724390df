"""What is told about a request."""

import pytest

from ktrio.http.details import RequestDetails, Tell


def test_details_tell_a_finished_request():
    told = []
    tell: Tell = told.append
    tell(
        RequestDetails(
            method="GET",
            target="/",
            version="1.1",
            status=200,
            peer="127.0.0.1:5",
            bytes_sent=13,
            duration=0.25,
            started=1e9,
        )
    )
    assert (told[0].status, told[0].reason, told[0].user_agent, told[0].referer) == (200, "", None, None)


def test_details_have_no_room_for_anything_else():
    details = RequestDetails(
        method="", target="", version="", status=0, peer="", bytes_sent=0, duration=0.0, started=0.0
    )
    with pytest.raises(AttributeError):
        details.other = 1
