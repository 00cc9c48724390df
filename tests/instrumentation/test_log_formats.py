"""Lines of the access log, read back as the documentation of those who defined them says.

Apache: https://httpd.apache.org/docs/2.4/logs.html#accesslog and mod_log_config, "Custom Log Formats".
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ktrio.instrumentation import log_formats
from ktrio.instrumentation.log_formats import (
    FORMAT_NAMES,
    combined_line,
    common_line,
    format_of,
    json_line,
    short_line,
    split_peer,
)
from tests.instrumentation.logging_parts import WHEN, details

# From the text of Apache's documentation, field by field.
COMMON = (
    r"(?P<host>\S+) (?P<identity>\S+) (?P<user>\S+)"
    r" \[(?P<time>\d{2}/[A-Z][a-z]{2}/\d{4}:\d{2}:\d{2}:\d{2} [+-]\d{4})\]"
    r' "(?P<request>(?:[^"\\]|\\.)*)" (?P<status>\d{3}|-) (?P<bytes>\d+|-)'
)
COMBINED = COMMON + r' "(?P<referer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"'

PRINTABLE = re.compile(r"[\x20-\x7e]*")


def unescape(text: str) -> str:
    r"""What Apache says of its escapes: ``\xhh`` is a raw byte; a quote and a backslash follow a backslash."""
    return re.sub(r"\\(?:x([0-9a-f]{2})|(.))", lambda m: chr(int(m[1], 16)) if m[1] else m[2], text)


@pytest.fixture
def in_denver(monkeypatch):
    monkeypatch.setenv("TZ", "MST7")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def uncached(line_of, told):
    """The zone has changed under the cache of seconds: another second, the same to the documentation."""
    log_formats._apache_time.cache_clear()
    try:
        return line_of(told)
    finally:
        log_formats._apache_time.cache_clear()


def test_common_line_is_the_one_of_apaches_documentation(in_denver):
    assert (
        uncached(common_line, details())
        == '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
    )


def test_combined_line_is_the_one_of_apaches_documentation(in_denver):
    assert uncached(combined_line, details()) == (
        '127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /apache_pb.gif HTTP/1.0" 200 2326'
        ' "http://www.example.com/start.html" "Mozilla/4.08 [en] (Win98; I ;Nav)"'
    )


@pytest.mark.parametrize(("zone", "offset"), [("UTC0", "+0000"), ("XYZ-5:45", "+0545"), ("XYZ3:30", "-0330")])
def test_time_has_the_offset_of_its_zone(monkeypatch, zone, offset):
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        found = re.fullmatch(COMMON, uncached(common_line, details()))
        when = datetime.strptime(found["time"], "%d/%b/%Y:%H:%M:%S %z")
        assert (when.timestamp(), found["time"][-5:]) == (int(WHEN), offset)
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_there_was_not_is_a_dash():
    told = details(status=0, bytes_sent=0, referer=None, user_agent=None, method="", target="", version="")
    assert re.sub(r"\[.*\]", "[]", combined_line(told)) == '127.0.0.1 - - [] "-" - - "-" "-"'


def test_field_that_was_sent_empty_is_empty():
    """Apache's, too: a dash is for what is not there."""
    assert combined_line(details(referer="", user_agent="")).endswith(' 2326 "" ""')


@pytest.mark.parametrize(
    ("peer", "host", "port"),
    [
        ("127.0.0.1:5", "127.0.0.1", 5),
        ("[::1]:5", "::1", 5),
        ("[fe80::1%eth0]:5", "fe80::1%eth0", 5),
        ("unix", "unix", None),
        ("unix:/run/a b:7", "unix:/run/a b:7", None),
        ("MemoryStream", "MemoryStream", None),
        ("::1", "::1", None),
        ("", "", None),
    ],
)
def test_peer_is_split_where_it_has_a_port(peer, host, port):
    if peer == "::1":  # no name that is printed: without brackets nobody can tell
        assert split_peer(peer) == (":", 1)
    else:
        assert split_peer(peer) == (host, port)


@pytest.mark.parametrize(("peer", "host"), [("unix:/run/a b", r"unix:/run/a\x20b"), ("", "-"), ("é", r"\xe9")])
def test_host_is_one_word(peer, host):
    assert common_line(details(peer=peer)).split(" ")[0] == host


def test_quotes_and_backslashes_break_no_field_of_those_who_know_no_escapes():
    line = combined_line(details(user_agent='a" 200 5 "b\\'))
    assert line.endswith(r'"a\x22 200 5 \x22b\x5c"')


def test_short_line_says_how_long_it_took_and_why_it_ended():
    line = short_line(details(reason="client-gone", status=0))
    assert re.sub(r"\[.*\]", "[]", line) == (
        '127.0.0.1:50438 [] "GET /apache_pb.gif HTTP/1.0" - 2326 12.3ms (client-gone)'
    )


def test_json_line_has_all_there_is_to_know():
    assert json.loads(json_line(details(close_reason="answered"))) == {
        "time": "2000-10-10T20:55:36.500Z",
        "remote_addr": "127.0.0.1",
        "remote_port": 50438,
        "request_id": "0af7651916cd43dd8448eb211c80319c",
        "method": "GET",
        "target": "/apache_pb.gif",
        "protocol": "HTTP/1.0",
        "status": 200,
        "bytes_sent": 2326,
        "first_byte": 0.01,
        "duration": 0.012346,
        "referer": "http://www.example.com/start.html",
        "user_agent": "Mozilla/4.08 [en] (Win98; I ;Nav)",
        "close_reason": "answered",
    }


def test_json_line_says_null_where_there_was_nothing():
    told = details(
        method="", target="", version="", status=0, bytes_sent=0, referer=None, user_agent=None, request_id="",
        first_byte=None, peer="unix",
    )  # fmt: skip
    found = json.loads(json_line(told))
    assert {name for name, value in found.items() if value is None} == {
        "remote_port", "request_id", "method", "target", "protocol", "status", "first_byte", "referer", "user_agent",
        "close_reason",
    }  # fmt: skip
    assert list(found) == list(json.loads(json_line(details())))


def test_json_time_is_utc():
    when = datetime.fromisoformat(json.loads(json_line(details(started=0.0415)))["time"])
    assert when == datetime(1970, 1, 1, 0, 0, 0, 41000, tzinfo=UTC)


def test_format_that_is_none_is_refused_by_name():
    with pytest.raises(ValueError, match=r"no log format 'nginx'.*combined"):
        format_of("nginx")


@pytest.mark.parametrize("name", ["common", "combined"])
def test_goaccess_takes_every_line_of_an_answer(name, tmp_path):
    """A reader of Apache's logs that knows nothing of ours."""
    if shutil.which("goaccess") is None:
        pytest.skip("no goaccess here")
    told = [
        details(target="/plain"),
        details(user_agent='a" 500 9 "x', referer="back\\", target="/quoted"),
        details(user_agent="\x1b[31m\r\n\xe9", target="/controls", peer="[::1]:7", status=404),
        details(user_agent="", referer="", bytes_sent=0, target="/empty", status=304),
    ]
    path, report = tmp_path / "access.log", tmp_path / "report.json"
    path.write_text("".join(f"{format_of(name)(each)}\n" for each in told))
    options = [f"--log-format={name.upper()}", "--no-global-config", "--no-progress", "-o", report]
    subprocess.run(["goaccess", path, *options], check=True, capture_output=True, timeout=20)
    found = json.loads(report.read_text())
    assert (found["general"]["valid_requests"], found["general"]["failed_requests"]) == (4, 0)
    assert {each["data"] for each in found["requests"]["data"]} == {"/plain", "/quoted", "/empty"}
    assert [each["data"] for each in found["not_found"]["data"]] == ["/controls"]


# -- Nothing a peer sends breaks a line: its bytes are Latin-1 characters here

SENT = st.one_of(st.none(), st.binary(max_size=300).map(lambda data: data.decode("latin-1")))
NAMES = st.one_of(st.just("127.0.0.1:5"), st.text(max_size=60))


@given(target=SENT, referer=SENT, user_agent=SENT, peer=NAMES)
def test_any_bytes_of_a_peer_come_back_from_a_combined_line_and_nothing_else_does(target, referer, user_agent, peer):
    target = target or "/"
    told = details(target=target, referer=referer, user_agent=user_agent, peer=peer)
    line = combined_line(told)
    assert PRINTABLE.fullmatch(line)
    found = re.fullmatch(COMBINED, line)
    assert found
    assert unescape(found["request"]) == f"GET {target} HTTP/1.0"
    assert unescape(found["referer"]) == ("-" if referer is None else referer)
    assert unescape(found["agent"]) == ("-" if user_agent is None else user_agent)
    assert (found["status"], found["bytes"]) == ("200", "2326")
    assert line.count('"') == 6


@given(target=SENT, referer=SENT, user_agent=SENT, request_id=SENT, peer=NAMES)
def test_any_bytes_of_a_peer_come_back_from_a_json_line(target, referer, user_agent, request_id, peer):
    told = details(target=target or "/", referer=referer, user_agent=user_agent, request_id=request_id or "", peer=peer)
    line = json_line(told)
    assert PRINTABLE.fullmatch(line)
    found = json.loads(line)
    assert (found["target"], found["referer"], found["user_agent"]) == (target or "/", referer, user_agent)
    assert found["request_id"] == (request_id or None)


@given(method=SENT, target=SENT, peer=st.text(max_size=60), name=st.sampled_from(FORMAT_NAMES))
def test_every_format_is_one_line_of_printable_ascii(method, target, peer, name):
    assert PRINTABLE.fullmatch(format_of(name)(details(method=method or "", target=target or "", peer=peer)))


def test_lone_surrogates_of_a_file_system_do_no_harm():
    assert PRINTABLE.fullmatch(combined_line(details(peer="unix:" + os.fsdecode(b"\xff"))))
