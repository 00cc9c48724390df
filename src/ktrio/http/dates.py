"""HTTP dates: one form written, three forms read (RFC 9110 section 5.6.7).

Own tables of names, because `strftime` follows the process's locale and HTTP does not.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_LONG_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS: Final = {name: number for number, name in enumerate(_MONTHS, start=1)}

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

# The years an HTTP date can say have four digits: seconds since the epoch of the first and the last such second.
_EARLIEST: Final = -62_135_596_800
_LATEST: Final = 253_402_300_799

_DAY: Final = "(?:" + "|".join(_DAYS) + ")"
_LONG_DAY: Final = "(?:" + "|".join(_LONG_DAYS) + ")"
_MONTH: Final = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME: Final = r"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"

_FORMS: Final = (
    # IMF-fixdate, the only one a sender may generate: Sun, 06 Nov 1994 08:49:37 GMT
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),
    # obsolete RFC 850 format: Sunday, 06-Nov-94 08:49:37 GMT
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),
    # obsolete ANSI C asctime: Sun Nov  6 08:49:37 1994
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),
)


def format_http_date(timestamp: float) -> str:
    """`timestamp` (seconds since the epoch) as an IMF-fixdate, fractions dropped downwards.

    A time that four-digit years cannot say, such as a file's corrupt mtime, is clamped to the nearest that they can.

    Raises:
      ValueError: not a number.
    """
    if math.isnan(timestamp):
        raise ValueError("a date cannot be made of nan")
    return _format_seconds(math.floor(min(max(timestamp, _EARLIEST), _LATEST)))


@lru_cache(maxsize=1024)  # of files that are asked for again and again
def _format_seconds(seconds: int) -> str:
    at = _EPOCH + timedelta(seconds=seconds)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04}"
        f" {at.hour:02}:{at.minute:02}:{at.second:02} GMT"
    )


def parse_http_date(text: str) -> int | None:
    """`text`, in any of the three forms, as seconds since the epoch; `None` if it is no date.

    The day's name must be one and need not be the right one: nobody sends it wrong but by accident. A leap second is
    the first second of the next minute.
    """
    for form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            break
    else:
        return None
    year = match["year"]
    try:
        midnight = datetime(_full_year(year), _MONTH_NUMBERS[match["month"]], int(match["day"]), tzinfo=UTC)
    except ValueError:  # the 31st of February
        return None
    seconds = int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])
    return (midnight - _EPOCH).days * 86_400 + seconds


def _full_year(digits: str) -> int:
    """The year meant by two or four digits.

    A two-digit year that would lie more than 50 years ahead means the past (RFC 9110 section 5.6.7). A fixed pivot,
    POSIX's 1969 to 2068, keeps to that from 2018 on without asking a clock.
    """
    year = int(digits)
    if len(digits) == 4:
        return year
    return year + (2000 if year < 69 else 1900)
