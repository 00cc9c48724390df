"""What holds for a whole site, whatever handler answers: redirects, header fields, caching, other origins.

Handlers around a handler, made once: where nothing is asked for, the handler itself is what requests go to.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final, NamedTuple, final

from ktrio.handlers._patterns import compile_pattern, path_to_match
from ktrio.handlers.cors import cross_origin
from ktrio.handlers.options import SecurityHeaders, SiteOptions
from ktrio.handlers.rules import Redirect, Rules, read_rules
from ktrio.http.messages import Handler, Request, Response

IMMUTABLE: Final = "public, max-age=31536000, immutable"
"""A year, and no question before that (RFC 8246): for names that change with their content."""

# One suffix of what bundlers write; before it eight or more of a hash: hexadecimal, or eight of base64url as Vite does.
_HASHED: Final = re.compile(
    r".*[.\-_](?:(?P<hex>[0-9a-f]{8,64})|(?P<base64>[0-9A-Za-z_-]{8}))"
    r"(?:\.min|\.chunk|\.bundle|\.module)?\.(?:css|js|mjs|map|json|wasm|svg|png|jpe?g|gif|webp|avif|ico|"
    r"woff2?|ttf|otf|eot|mp4|webm|mp3|ogg)"
)


def is_hashed(name: str) -> bool:
    """Is there a hash of the content in this file's name? Then its content never changes.

    Only if it cannot well be anything else: a hash has a digit and a letter, and in base64url capitals too, so that
    neither ``report-20240101.js`` nor ``my-Calendar.js`` is one. One that is not recognised is only asked about again.
    """
    match = _HASHED.fullmatch(name)
    if match is None:
        return False
    if match["hex"]:
        return _has_digit_and_letter(match["hex"])
    text = match["base64"]
    return _has_digit_and_letter(text) and text != text.lower() and text != text.upper()


def _has_digit_and_letter(text: str) -> bool:
    return any(each.isdigit() for each in text) and any(each.isalpha() for each in text)


def security_fields(level: SecurityHeaders, *, is_shared: bool) -> tuple[tuple[str, str], ...]:
    """What every answer gets at this level, besides what handlers say; ``""`` takes a field away.

    ``basic`` is nosniff, which the handlers say themselves: it harms no file with the right type. What else there is
    can break a page that is framed, opens windows or links to others, so it is for whoever asks (``strict``).
    `is_shared`: may other origins read it? Then they may embed it too.
    """
    if level == "basic":
        return ()
    if level == "off":
        return (("x-content-type-options", ""),)
    return (
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "SAMEORIGIN"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "cross-origin" if is_shared else "same-origin"),
    )


class _Dress(NamedTuple):
    """What answers at one path are given."""

    fields: tuple[tuple[str, str], ...]
    cache_control: str | None


class _CompiledRedirect(NamedTuple):
    order: int
    pattern: re.Pattern[str]
    redirect: Redirect


@final
class _Redirects:
    """Finds the first redirect that matches; paths without a wildcard are looked up, so there may be many.

    Legend: I set once.
    """

    __slots__ = ("_exact", "_patterns")

    def __init__(self, redirects: Sequence[Redirect]) -> None:
        compiled = [
            _CompiledRedirect(order, compile_pattern(each.pattern), each) for order, each in enumerate(redirects)
        ]
        exact = [
            each for each in compiled if each.redirect.pattern.startswith("/") and "*" not in each.redirect.pattern
        ]
        # The first of several for the same path is the last written into the table.
        self._exact = {_exact_key(each.redirect.pattern): each for each in reversed(exact)}  # I
        self._patterns = [each for each in compiled if each not in exact]  # I

    def respond(self, request: Request, path: str) -> Response | None:
        """The redirect of the first rule for `path`; None: there is none, or it would lead to itself."""
        exact = self._exact.get(path.rstrip("/") or "/")
        for each in self._patterns:
            if exact is not None and exact.order < each.order:
                break
            if match := each.pattern.fullmatch(path):
                return _redirected(request, path, each.redirect, match)
        if exact is not None and (match := exact.pattern.fullmatch(path)):
            return _redirected(request, path, exact.redirect, match)
        return None


def _exact_key(pattern: str) -> str:
    return "/" + "/".join(segment for segment in pattern.split("/") if segment)


def _redirected(request: Request, path: str, redirect: Redirect, match: re.Match[str]) -> Response | None:
    location = redirect.location(match, request.query)
    if location.startswith("/") and path_to_match(re.split("[?#]", location)[0]) == path:
        return None
    return Response.redirect(location, redirect.status)


@final
class _Ruled:
    """The handler that `site` makes if there are rules. Legend: I set once."""

    __slots__ = ("_cache_rules", "_dress_of", "_everywhere", "_fields_rules", "_handler", "_immutable", "_redirects")

    def __init__(
        self, handler: Handler, rules: Rules, everywhere: tuple[tuple[str, str], ...], *, immutable: bool
    ) -> None:
        self._handler = handler  # I
        self._redirects = _Redirects(rules.redirects)  # I
        self._fields_rules = [(compile_pattern(each.pattern), each.fields) for each in rules.headers]  # I
        self._cache_rules = [(compile_pattern(each.pattern), each.control) for each in reversed(rules.caches)]  # I
        self._everywhere = everywhere  # I
        self._immutable = immutable  # I
        self._dress_of = lru_cache(maxsize=1024)(self._find_dress)  # I; what it remembers S

    # No checkpoint of its own: it hands the request on.
    async def __call__(self, request: Request) -> Response:
        path = path_to_match(request.path)
        if path is None:
            return dressed(await self._handler(request), _Dress(self._everywhere, None))
        moved = self._redirects.respond(request, path) if request.method in ("GET", "HEAD") else None
        return dressed(moved or await self._handler(request), self._dress_of(path))

    def _find_dress(self, path: str) -> _Dress:
        fields = dict(self._everywhere)
        for pattern, more in self._fields_rules:
            if pattern.fullmatch(path):
                fields.update(more)
        control = next((control for pattern, control in self._cache_rules if pattern.fullmatch(path)), None)
        if control is None and self._immutable and is_hashed(path.rpartition("/")[2]):
            control = IMMUTABLE
        return _Dress(tuple(fields.items()), control)

    def __repr__(self) -> str:
        return f"<rules {self._handler!r}>"


def dressed(response: Response, dress: _Dress) -> Response:
    """`response` with what rules give it; changed, not copied: it is nobody else's.

    A file is known by its entity tag, and one that has a ``Cache-Control`` already has a reason for it.
    """
    headers = response.headers
    for name, value in dress.fields:
        headers.remove(name)
        if value:
            headers.add(name, value)
    if dress.cache_control is not None and "etag" in headers and "cache-control" not in headers:
        headers.add("cache-control", dress.cache_control)
    return response


def site(handler: Handler, options: SiteOptions) -> Handler:
    """`handler` within `options`; `handler` itself if they ask for nothing.

    Raises:
      RulesError: the rules cannot be read, or one cannot be.
    """
    rules = _rules_in(options)
    everywhere = security_fields(options.security_headers, is_shared=bool(options.cors))
    if rules != Rules() or everywhere or options.immutable:
        handler = _Ruled(handler, rules, everywhere, immutable=options.immutable)
    return cross_origin(handler, options.cors)


def _rules_in(options: SiteOptions) -> Rules:
    if options.rules is None:
        return Rules()
    if isinstance(options.rules, Rules):
        return options.rules
    return read_rules(options.rules)
