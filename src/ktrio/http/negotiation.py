"""What a client would rather have: ``Accept`` and ``Accept-Encoding``, and their weights (RFC 9110 section 12)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

IDENTITY: Final = "identity"

# codings [ weight ], and weight = OWS ";" OWS "q=" qvalue; whatever does not look like that is passed over alone.
_MEMBER: Final = re.compile(
    r"[ \t]*([-!#$%&'*+.^_`|~0-9A-Za-z]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
# media-range [ weight ] (section 12.5.1). Parameters of the type are passed over: what is offered here has none but its
# charset, and who asks for "application/json; charset=utf-8" means JSON.
_RANGE: Final = re.compile(
    r"[ \t]*([-!#$%&'*+.^_`|~0-9A-Za-z]+)/([-!#$%&'*+.^_`|~0-9A-Za-z]+)[ \t]*((?:;[^;]*)*)", re.ASCII
)
_WEIGHT: Final = re.compile(r";[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*(?:;|$)")
_ANY_WEIGHT: Final = re.compile(r";[ \t]*[qQ]=")
# RFC 9110 section 8.4.1: "x-gzip" and "x-compress" are the same codings as "gzip" and "compress".
_ALIASES: Final = {"x-gzip": "gzip", "x-compress": "compress"}
# More members than there are codings mean no good.
_MOST_MEMBERS: Final = 32


def weights_of(values: Sequence[str]) -> dict[str, int]:
    """The weight of each coding in some ``Accept-Encoding`` fields, in thousandths; ``*`` for those not named."""
    weights: dict[str, int] = {}
    for member in ",".join(values).split(",", _MOST_MEMBERS)[:_MOST_MEMBERS]:
        if match := _MEMBER.fullmatch(member):
            name = match[1].lower()
            weights[_ALIASES.get(name, name)] = round(float(match[2] or 1) * 1000)
    return weights


def acceptable_codings(values: Sequence[str], available: Sequence[str]) -> list[str]:
    """Those of the content codings `available` (best first) that the client would rather have than none, best first.

    `values` are its ``Accept-Encoding`` fields. Without any everything is acceptable (section 12.5.3), but nothing is
    wished for: then none. Among equals the order of `available` stands. A client that refuses ``identity`` too, and
    accepts nothing that there is, gets identity: a server may disregard its wish (section 12.4.1), and a page that can
    be read beats an error.
    """
    if not values:
        return []
    weights = weights_of(values)
    others = weights.get("*", 0)
    # Not named, identity is acceptable, but whoever names codings wants one of them.
    plain = weights.get(IDENTITY, 0)
    found = [(weights.get(name, others), name) for name in available]
    wanted = [(weight, name) for weight, name in found if weight and weight >= plain]
    return [name for _weight, name in sorted(wanted, key=lambda each: -each[0])]


def best_media_type(values: Sequence[str], available: Sequence[str]) -> str:
    """The one of the media types `available` (``type/subtype``, the server's favourite first) for that client.

    `values` are its ``Accept`` fields (RFC 9110 section 12.5.1). The most specific range decides on a type's weight.
    Among equals one that is named exactly beats one that a wildcard lets in, then the order of `available` stands: so
    ``application/json, */*`` is a wish for JSON. Whoever accepts none of them gets the first all the same (section
    12.4.1): a page that can be read beats an error.
    """
    ranges = _media_ranges(values)
    best, best_rank = available[0], (0, 0)
    for media_type in available:
        family = media_type.partition("/")[0]
        matching = ((ranges.get(each), at) for at, each in ((2, media_type), (1, f"{family}/*"), (0, "*/*")))
        rank = next(((weight, at) for weight, at in matching if weight is not None), (0, 0))
        if rank[0] and (rank[0], rank[1] == 2) > best_rank:
            best, best_rank = media_type, (rank[0], rank[1] == 2)
    return best


def accepts_by_name(values: Sequence[str], media_type: str) -> bool:
    """Do some ``Accept`` fields name this media type itself, and not with a weight of 0? A wildcard is no name."""
    return _media_ranges(values).get(media_type, 0) > 0


def _media_ranges(values: Sequence[str]) -> dict[str, int]:
    """The weight of each media range in some ``Accept`` fields, in thousandths; what is none is passed over."""
    weights: dict[str, int] = {}
    for member in ",".join(values).split(",", _MOST_MEMBERS)[:_MOST_MEMBERS]:
        match = _RANGE.fullmatch(member)
        if match is None:
            continue
        weight = _WEIGHT.search(match[3])
        if weight is None and _ANY_WEIGHT.search(match[3]):
            continue
        weights[f"{match[1]}/{match[2]}".lower()] = round(float(weight[1] if weight else 1) * 1000)
    return weights
