"""Files that change while `sendfile` sends them over a real socket: their own bytes, all of them or a reset."""

from __future__ import annotations

import pytest

from ktrio import files
from tests.hostile.changing import BROKEN, FIRST, OUTCOMES, SECOND, WHOLE
from tests.server.harness import Ended, get, settle

MIB = 1 << 20
SIZE = 8 * MIB


@pytest.mark.parametrize("change", OUTCOMES)
async def test_file_that_changes_under_way_is_its_own_or_ends_in_a_reset(start_http, connect, tmp_path, caplog, change):
    """RFC 9112 section 8; the descriptor stays that of the file which was opened."""
    victim = tmp_path / "served" / "sub" / "file.bin"
    victim.parent.mkdir(parents=True)
    (tmp_path / "outside" / "sub").mkdir(parents=True)
    (tmp_path / "outside" / "sub" / "file.bin").write_bytes(b"S" * SIZE)
    victim.write_bytes(FIRST * SIZE)
    (tmp_path / "served" / "fine.txt").write_text("fine")
    server = await start_http(files(tmp_path / "served"))
    client = await connect(server, receive_buffer=4096)
    await client.send(get("/sub/file.bin"))
    assert (await client.read_head())["content-length"] == str(SIZE)
    await settle()
    change(victim)
    if OUTCOMES[change] is BROKEN:
        with pytest.raises(Ended) as seen:
            await client.read(SIZE)
        assert seen.value.how == "reset"
        assert set(seen.value.data) <= set(FIRST)
        (record,) = caplog.records
        assert "/sub/file.bin" in record.getMessage()
    else:
        assert set(await client.read(SIZE)) <= set(FIRST if OUTCOMES[change] is WHOLE else FIRST + SECOND)
        assert caplog.records == []
    assert (await (await connect(server)).ask(get("/fine.txt"))).body == b"fine"
