"""What holds for the whole suite: which ktrio is under test, and how hypothesis behaves."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from zlib import crc32

import hypothesis
import pytest

import ktrio

# No deadline per example: on a busy machine it fails tests that are merely slow today. The blob lets a
# failure seen elsewhere be repeated here.
hypothesis.settings.register_profile("ktrio", deadline=None, print_blob=True)
# `make test`: enough to find what was just broken. The built wheel is tested with the other.
hypothesis.settings.register_profile("everyday", deadline=None, print_blob=True, max_examples=20)
hypothesis.settings.load_profile("ktrio")


def pytest_configure() -> None:
    """Refuse to test the checkout where the built wheel is meant (`make check-wheel`); let Ctrl-C be Ctrl-C."""
    # A shell without job control has its background jobs ignore SIGINT, and they hand that on to their children.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    place = Path(ktrio.__file__)
    if os.environ.get("KTRIO_INSTALLED") and "site-packages" not in place.parts:
        raise pytest.UsageError(f"the installed ktrio is to be tested, but {place} is what gets imported")


# The same test once more over a carrier, or with a sensor, that has little of its own; the others are in every run.
ONCE_MORE = re.compile(r"\[.*(lockstep-stream|socket-stream|tls|instrument)")

# What has nearly everything in common: `make test` takes one of each pair, by the test's name, so that both are seen.
PAIRS = [
    re.compile(rf"[\[-]({one}|{other})[\]-]")
    for one, other in (
        *(("unbound", "bound"), ("u", "b"), ("tcp", "unix"), ("epoll", "peek"), ("by handle", "by name")),
        *(("iterable", "writer"), ("sized", "chunked")),
    )
]


def is_the_other(name: str) -> bool:
    """Is this the one of a pair of tests that is not for every run?"""
    for pair in PAIRS:
        found = pair.search(name)
        if found is not None:
            one = pair.pattern.partition("(")[2].partition("|")[0]
            return (found[1] == one) == bool(crc32(name.partition("[")[0].encode()) & 1)
    return False


# Every moment, every flood, whole programs over and over: they take a third of the time, and CI has that.
LONG = re.compile(
    r"tests/(fuzz/|hostile/test_(changing|floods)|cli/test_(logs|top|top_monitor)\.py|benchmarks/test_queue_latency"
    r"|protocols/test_http1_files_changing|cli/test_usage\.py::test_(wrong_usage|print_timeouts)"
    r"|workqueue/test_ki\.py::test_an_interrupt_(at_any_line|while_a_block)"
    r"|http/test_conditional\.py::test_(any_etag_is_found|strong_match_is)"
    r"|workqueue/test_from_thread\.py::test_nothing_is_lost_while_a_loop_ends)"
)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as exhaustive what is a test once more, or takes long."""
    for item in items:
        if ONCE_MORE.search(item.name) or LONG.match(item.nodeid) or is_the_other(item.name):
            item.add_marker(pytest.mark.exhaustive)


def pytest_report_header() -> str:
    return f"ktrio: {Path(ktrio.__file__).parent}"
