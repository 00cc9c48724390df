from __future__ import annotations

import os
import socket
from collections.abc import Callable
from functools import partial

import pytest

from ktrio.net import _delivery
from ktrio.net._delivery import DeliveryMeter, undelivered_bytes

Pair = tuple[socket.socket, socket.socket]


def fill(sock: socket.socket) -> int:
    sent = 0
    while True:
        try:
            sent += sock.send(bytes(65536))
        except BlockingIOError:
            return sent


def needs_answer(sock: socket.socket) -> None:
    if undelivered_bytes(sock) is None:
        pytest.skip("this kernel does not tell what it still holds")


def test_undelivered_bytes_falls_when_the_peer_reads(socket_pair: Callable[..., Pair]) -> None:
    ours, theirs = socket_pair(send_buffer=65536, receive_buffer=16384)
    needs_answer(ours)
    assert undelivered_bytes(ours) == 0
    fill(ours)
    full = undelivered_bytes(ours)
    assert full
    assert theirs.recv(1 << 20)
    now = undelivered_bytes(ours)
    assert now is not None
    assert now < full


def test_undelivered_bytes_of_a_closed_socket_or_of_no_socket_is_unknown(tcp_pair: Callable[..., Pair]) -> None:
    ours, _ = tcp_pair()
    ours.close()
    assert undelivered_bytes(ours) is None
    with open(os.devnull, "rb") as null:
        assert undelivered_bytes(null) is None  # type: ignore[arg-type]


def test_meter_counts_what_the_peer_takes_during_a_wait(socket_pair: Callable[..., Pair]) -> None:
    ours, theirs = socket_pair(send_buffer=65536, receive_buffer=16384)
    needs_answer(ours)
    meter = DeliveryMeter(partial(undelivered_bytes, ours))
    sent = fill(ours)
    assert meter.start(sent) == 0
    assert meter.moved() == 0
    while True:
        try:
            theirs.recv(4096)
        except BlockingIOError:
            break
    moved = meter.moved()
    assert moved > 0
    assert meter.moved() == 0
    # What moves between waits is not waited for.
    assert meter.start(sent) == 0
    assert meter.moved() == 0


def test_meter_counts_what_was_accepted_since_the_last_wait_where_the_kernel_does_not_tell(
    tcp_pair: Callable[..., Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_delivery, "_TIOCOUTQ", None)
    meter = DeliveryMeter(partial(undelivered_bytes, tcp_pair()[0]))
    assert meter.start(1000) == 1000
    assert meter.moved() == 0
    assert meter.start(1500) == 500
    assert meter.moved() == 0
