"""What a client would rather have: ``Accept-Encoding`` and its weights (RFC 9110 sections 12.4.2 and 12.5.3)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

IDENTITY: Final = "identity"

# codings [ weight ], and weight = OWS ";" OWS "q=" qvalue; whatever does not look like that is passed over alone.
_MEMBER: Final = re.compile(
    r"[ \t]*([-!#$%&'*+.^_`|~0-9A-Za-z]+)[ \t]*(?:;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?"
)
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
