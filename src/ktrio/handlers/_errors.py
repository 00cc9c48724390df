"""What the peer reads when the answer is no: small pages, made from a status and a sentence, pure."""

from __future__ import annotations

from html import escape
from typing import Final

from ktrio.handlers._page import NOTE_POLICY, NOTE_STYLE, begin_page, end_page
from ktrio.http.headers import Headers
from ktrio.http.messages import Response
from ktrio.http.status import reason_phrase

GIVEN_OUT: Final = ("GET", "HEAD")
"""The methods that a file is the answer to."""

ALLOWED: Final = (*GIVEN_OUT, "OPTIONS")
"""Those that work."""

_SENTENCES: Final = {
    403: "This is here, but the server has no permission to read it.",
    404: "There is nothing at this address.",
    405: "Files are only given out here: GET and HEAD work.",
    412: "This has changed, or is not what the request takes it for.",
    416: "No part of what was asked for lies within this file.",
    501: "This server does not know that method.",
    503: "The server has too many files open. Try again in a moment.",
}


def error_page(status: int, sentence: str = "") -> Response:
    """The page for `status`, with `sentence` (text) or the usual one for it; 405 names what is allowed.

    RFC 9110 section 15.5: an explanation should come with the error. Section 15.5.6: a 405 must carry Allow.
    """
    phrase = reason_phrase(status)
    page = (
        f"{begin_page(f'{status} {phrase}', NOTE_STYLE)}<main>\n<b>{status}</b>\n<h1>{escape(phrase)}</h1>\n"
        f"<p>{escape(sentence or _SENTENCES.get(status, phrase))}</p>\n"
        f'<p><a href="/">Home</a></p>\n</main>\n{end_page()}'
    )
    response = Response(status, page_headers("text/html; charset=utf-8", NOTE_POLICY), page.encode())
    if status == 405:
        response.headers.add("allow", ", ".join(ALLOWED))
    if status == 503:
        response.headers.add("retry-after", "1")
    return response


def page_headers(media_type: str, policy: str) -> Headers:
    """Those of what ktrio writes itself: not sniffed, not shown again without asking, and allowed only its `policy`."""
    return Headers(
        [
            ("content-type", media_type),
            ("cache-control", "no-cache"),
            ("content-security-policy", policy),
            ("x-content-type-options", "nosniff"),
        ]
    )
