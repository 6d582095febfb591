"""Tests of the relay cells: that every relay forwards everything in both directions, and that the
harness notices what a relay does wrong. No test depends on speed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import measure
import relays
from cells import REGIME, ROW, ROWS

PROGRAMS = Path(__file__).resolve().parent.parent / "build/bench"


@pytest.mark.parametrize("regime", relays.TRAINS)
@pytest.mark.parametrize("name", [row.name for row in ROWS if row.family == "relay"])
def test_every_relay_forwards_everything(name: str, regime: str) -> None:
    """Both directions of 200 flows, with each datagram checked."""
    before = os.sched_getaffinity(0)
    for _ in range(5):
        result = measure.run_once(PROGRAMS, REGIME[regime], ROW[name], 0.01)
        # A busy machine drops what exceeds a backlog (net.core.netdev_max_backlog).
        if "did not come" not in result.get("error", ""):
            break
    if "not_supported" in result:
        pytest.skip(result["not_supported"])
    assert "error" not in result
    assert result["received"] == result["sent"] >= 2 * relays.FILL
    assert result["cpu_ns"] > 0
    assert os.sched_getaffinity(0) == before


@pytest.fixture
def between() -> Iterator[tuple[relays.Peers, socket.socket]]:
    """The peers, and a socket that is their relay for flow 0."""
    try:
        peers = relays.Peers(train=1)
    except PermissionError:
        pytest.skip("large socket buffers take CAP_NET_ADMIN")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as middle:
        middle.bind(("127.0.0.1", 0))
        middle.settimeout(5)
        peers.relay = middle.getsockname()
        yield peers, middle
    peers.close()


def changed(payloads: list[bytes]) -> list[bytes]:
    """The last byte differs."""
    return [payload[:-1] + bytes([payload[-1] ^ 1]) for payload in payloads]


@pytest.mark.parametrize(("fault", "said"), [
    (changed, "bytes"),
    (lambda payloads: [payloads[0][:-1], payloads[1]], "bytes"),
    (lambda payloads: payloads[::-1], "order"),
    (lambda payloads: payloads[:1] * 2, "order"),
    (lambda payloads: payloads[:1], "1 of 2 datagrams did not come"),
])
def test_a_relay_that_is_wrong_is_noticed(
    between: tuple[relays.Peers, socket.socket], monkeypatch: pytest.MonkeyPatch,
    fault: Callable[[list[bytes]], list[bytes]], said: str,
) -> None:
    """A changed byte, a cut datagram, another order, one twice, one lost."""
    peers, middle = between
    monkeypatch.setattr(relays, "SILENCE", 0.2)
    peers.send(0, relays.TO_SERVER, 1)
    peers.send(0, relays.TO_SERVER, 1)
    for payload in fault([middle.recv(2 * relays.SIZE) for _ in range(2)]):
        middle.sendto(payload, peers.far.getsockname())
    with pytest.raises(relays.Failed, match=said):
        peers.finish()


def test_an_answer_to_another_client_is_noticed(between: tuple[relays.Peers, socket.socket]) -> None:
    peers, middle = between
    peers.send(0, relays.TO_SERVER, 1)
    payload, client = middle.recvfrom(2 * relays.SIZE)
    middle.sendto(payload, peers.far.getsockname())
    peers.finish()
    peers.send(0, relays.TO_CLIENT, 1)
    middle.sendto(middle.recv(2 * relays.SIZE), ("127.1.0.1", client[1]))
    with pytest.raises(relays.Failed, match="another client"):
        peers.finish()


def test_flows_that_share_a_socket_are_noticed(between: tuple[relays.Peers, socket.socket]) -> None:
    peers, middle = between
    for flow in range(2):
        peers.send(flow, relays.TO_SERVER, 1)
        middle.sendto(middle.recv(2 * relays.SIZE), peers.far.getsockname())
    with pytest.raises(relays.Failed, match="share a socket"):
        peers.finish()
