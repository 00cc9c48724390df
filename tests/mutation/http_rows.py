"""The mistakes in HTTP: what servers have got wrong of RFC 9110 and RFC 9112, each found by its clause in `tests/rfc`."""

# ruff: noqa: E501 - the text of rows stands as it does in the source

from __future__ import annotations

from tests.mutation.row import Edit, Row


def _row(name: str, mistake: str, chapter: str, *edits: Edit) -> Row:
    """`chapter` is the file of clauses that is expected to notice."""
    return Row(name, mistake, edits, tests=(f"tests/rfc/test_{chapter}.py",), area="http")


CONDITIONAL, RANGES, POLICY = "http/conditional.py", "http/ranges.py", "http/policy.py"
RESPONSES, HEAD = "http/responses.py", "http/request_head.py"

RESOURCES = (
    _row(
        "if-match-weakly",
        "If-Match compares weakly",
        "9110_13_conditional",
        Edit(
            CONDITIONAL,
            "        if not matches_strongly(",
            "        if not matches_weakly(",
        ),
    ),
    _row(
        "if-none-match-strongly",
        "If-None-Match compares strongly",
        "9110_13_conditional",
        Edit(CONDITIONAL, "        if not matches_weakly(", "        if not matches_strongly("),
    ),
    _row(
        "none-match-first",
        "If-None-Match is asked before If-Match",
        "9110_13_conditional",
        Edit(
            CONDITIONAL,
            '    if "if-match" in headers:\n',
            '    if matches_weakly(", ".join(headers.get_all("if-none-match")), etag):\n        return 304\n'
            '    if "if-match" in headers:\n',
        ),
    ),
    _row(
        "date-beside-tags",
        "If-Modified-Since counts beside an If-None-Match that holds",
        "9110_13_conditional",
        Edit(
            CONDITIONAL,
            "            return 200\n        return 304 if method",
            "            pass\n        else:\n            return 304 if method",
        ),
    ),
    _row(
        "unmodified-beside-match",
        "If-Unmodified-Since counts beside an If-Match that holds",
        "9110_13_conditional",
        Edit(CONDITIONAL, "    elif modified_since(", "    if modified_since("),
    ),
    _row(
        "if-range-later",
        "a later date in If-Range will do",
        "9110_13_conditional",
        Edit(
            CONDITIONAL,
            "parse_http_date(condition) == last_modified",
            "(parse_http_date(condition) or 0) >= last_modified",
        ),
    ),
    _row(
        "if-range-weak",
        "a weak tag in If-Range will do",
        "9110_13_conditional",
        Edit(
            CONDITIONAL,
            'and not etag.startswith("W/") and condition == etag',
            'and condition.removeprefix("W/") == etag.removeprefix("W/")',
        ),
    ),
    _row(
        "suffix-from-start",
        "the last n bytes are taken for the first n",
        "9110_14_ranges",
        Edit(RANGES, "ByteRange(max(0, size - last), size - 1)", "ByteRange(0, min(last, size) - 1)"),
    ),
    _row(
        "end-excluded",
        "the last position of a range is not part of it",
        "9110_14_ranges",
        Edit(RANGES, "min(last, size - 1)) if first < size", "min(last - 1, size - 1)) if first < size"),
    ),
    _row(
        "unsatisfied-without-length",
        "a 416 does not say how long the file is",
        "9110_14_ranges",
        Edit("handlers/_representation.py", '    page.headers.add("content-range", content_range(None, size))\n', ""),
    ),
    _row(
        "range-of-head",
        "Range counts for HEAD as well",
        "9110_14_ranges",
        Edit("handlers/_representation.py", ' if request.method == "GET" else []', ""),
    ),
    _row(
        "vary-when-coded",
        "Vary is left out of the plain answer",
        "9110_12_negotiation",
        Edit("handlers/_representation.py", "        if self.varies:\n", "        if self.varies and self.coding:\n"),
    ),
    _row(
        "weight-of-zero",
        "a coding with the weight 0 is acceptable",
        "9110_12_negotiation",
        Edit("http/negotiation.py", "if weight and weight >= plain]", "if weight >= plain]"),
    ),
    _row(
        "decoded-twice",
        "a path is percent-decoded twice",
        "9112_03_request_line",
        Edit(
            "http/target.py",
            'unquote_to_bytes(segment).decode("utf-8", "surrogateescape")',
            'unquote_to_bytes(unquote_to_bytes(segment)).decode("utf-8", "surrogateescape")',
        ),
    ),
)

MESSAGES = (
    _row(
        "head-with-body",
        "a HEAD is answered with the body",
        "9110_09_methods",
        Edit(RESPONSES, 'return method == "HEAD" or status in', "return status in"),
    ),
    _row(
        "host-missing",
        "a request without Host is answered",
        "9112_03_request_line",
        Edit(POLICY, "    if not hosts and not http_1_0:\n", "    if False:\n"),
    ),
    _row(
        "host-of-absolute-form",
        "Host counts although the target names another",
        "9112_03_request_line",
        Edit(HEAD, '        headers.set("host", authority)\n', "        pass\n"),
    ),
    _row(
        "both-framings",
        "Content-Length beside Transfer-Encoding is passed over",
        "9112_06_body",
        Edit(POLICY, "    if codings:\n        if lengths:\n", "    if codings:\n        if False:\n"),
    ),
    _row(
        "folded-lines",
        "a line that begins with white space is read as a field",
        "9112_05_fields",
        Edit(
            POLICY,
            're.compile(rb"%s++:%s*+" % (_TCHAR, _VALUE))',
            're.compile(rb"(?:%s++:|[ \\t])%s*+" % (_TCHAR, _VALUE))',
        ),
    ),
    _row(
        "space-before-colon",
        "white space between name and colon is passed over",
        "9112_05_fields",
        Edit(
            POLICY,
            're.compile(rb"%s++:%s*+" % (_TCHAR, _VALUE))',
            're.compile(rb"%s++[ \\t]*:%s*+" % (_TCHAR, _VALUE))',
        ),
    ),
    _row(
        "keep-alive-on-request",
        "an HTTP/1.1 connection persists only if the client asks for it",
        "9112_09_connections",
        Edit(HEAD, '(version != "1.0" or "keep-alive" in options)', '"keep-alive" in options'),
    ),
    _row(
        "old-clients-stay",
        "an HTTP/1.0 connection persists unasked",
        "9112_09_connections",
        Edit(HEAD, ' and (version != "1.0" or "keep-alive" in options)', ""),
    ),
    _row(
        "chunks-for-old-clients",
        "an HTTP/1.0 client is sent chunks",
        "9112_06_body",
        Edit(RESPONSES, 'Framing.UNTIL_CLOSE if version == "1.0" else Framing.CHUNKED', "Framing.CHUNKED"),
    ),
    _row(
        "continue-for-old-clients",
        "an HTTP/1.0 client is sent 100 Continue",
        "9110_10_context",
        Edit(POLICY, 'return bool(expectations) and version != "1.0"', "return bool(expectations)"),
    ),
)
