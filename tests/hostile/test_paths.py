"""Every spelling of a way out, against the whole server and a folder with secrets beside it and in it."""

from __future__ import annotations

import pytest

from ktrio import files
from ktrio.testing import serve_in_memory
from tests.handlers.conftest import plant
from tests.hostile.paths import CLASSES


@pytest.mark.parametrize("attacks", [pytest.param(each.attacks, id=each.title) for each in CLASSES])
async def test_paths_get_their_answers_and_tell_no_secret(mock_clock, caplog, tmp_path, attacks):
    """RFC 9110 section 17.3: nothing outside the root, nothing hidden, whatever it is called."""
    wrong = {}
    async with serve_in_memory(files(plant(tmp_path))) as memory:
        for attack in attacks:
            response = await memory.request("GET", attack.target)
            said = str(response.headers).encode() + response.body
            if response.status != attack.status or b"SECRET" in said or b"HIDDEN" in said or b"root:" in said:
                wrong[attack.target] = response
        assert (await memory.request("GET", "/a.txt")).body == b"inside"
    assert wrong == {}
    assert caplog.records == []


async def test_a_redirect_names_no_other_host_and_no_other_line(mock_clock, tmp_path):
    """Open redirects and response splitting: CVE-2021-28861, CVE-2016-4975."""
    served = plant(tmp_path)
    (served / "a\r\nX-Injected: y").mkdir()
    (served / "example.com").mkdir()
    async with serve_in_memory(files(served)) as memory:
        for target, location in {
            "//example.com": "/example.com",
            "//sub//example.com/..": None,
            "/a%0d%0aX-Injected:%20y": "./a%0D%0AX-Injected%3A%20y/",
            "/sub?%0d%0aX:y": "./sub/?%0d%0aX:y",
            "http://evil.example//sub": "/sub",
        }.items():
            response = await memory.request("GET", target)
            assert response.headers.get("location") == location, target
            assert "x-injected" not in response.headers
