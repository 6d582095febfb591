"""``batch.reply``: answers leave from the address that was asked, and count as the batch does."""

from __future__ import annotations

import errno
import os
import socket
import threading
from typing import Any

import numpy
import pytest
from conftest import Pair
from sending import bound, received

import ringmsg
from ringmsg import Meta, Sender


def answers_of(clients: list[socket.socket]) -> list[tuple[bytes, Any]]:
    return [client.recvfrom(9) for client in clients]


@pytest.mark.parametrize(
    ("family", "wildcard", "asked"),
    [
        (socket.AF_INET, "0.0.0.0", ["127.0.0.1", "127.0.0.5", "127.3.2.1"]),
        (socket.AF_INET6, "::", ["::1", "::ffff:127.0.0.1", "::ffff:127.0.0.5"]),
    ],
)
def test_answers_leave_from_the_address_that_was_asked(family: int, wildcard: str, asked: list[str]) -> None:
    """Over IPv4, IPv6, and IPv4 on an IPv6 socket. Clients are connected: they get nothing from
    another address."""
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        sock.bind((wildcard, 0))
        port = sock.getsockname()[1]
        clients = []
        for host in asked:
            client = socket.socket(family, socket.SOCK_DGRAM)
            client.settimeout(5)
            client.connect((host, port))
            clients.append(client)
        with ringmsg.Receiver(sock, metadata=Meta.SOURCE | Meta.DESTINATION) as rx:
            for round_number in range(3):
                for number, client in enumerate(clients):
                    client.send(b"%d" % number)
                left = len(clients)
                while left:
                    batch = rx.reap(5)
                    left -= batch.reply(b"re " + bytes(datagram.payload) for datagram in batch)
                    assert batch.reply_errors == {}
                for number, client in enumerate(clients):
                    data, source = client.recvfrom(9)
                    assert (data, source[0]) == (b"re %d" % number, asked[number])
        for client in clients:
            client.close()


def test_none_skips_and_errors_count_as_the_batch_does(pair: Pair) -> None:
    """Answers to one peer leave as one train, in order; views of the batch itself can be answers."""
    pair.sender.settimeout(5)
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*(b"%d" % number for number in range(6)))
        batch = rx.reap(5)
        assert len(batch) == 6
        answers: list[Any] = [d.payload if at % 2 else None for at, d in enumerate(batch)]
        assert batch.reply(answers) == 3
        assert received(pair.sender, 3) == [b"1", b"3", b"5"]
        answers[3] = b"x" * 70000
        assert batch.reply(answers) == 2
        assert {at: error.errno for at, error in batch.reply_errors.items()} == {3: errno.EMSGSIZE}
        assert received(pair.sender, 2) == [b"1", b"5"]
        assert batch.reply([None] * 6) == 0


@pytest.mark.parametrize("skipped", [0, 1])
def test_arrays_as_answers(pair: Pair, skipped: int) -> None:
    """numpy's arrays are payloads like any other, whatever is in them: of one zero, of several
    elements, of two dimensions, with gaps, empty."""
    answers = [
        numpy.zeros(1, "u1"),
        numpy.arange(3, dtype="u1"),
        numpy.array([[1, 2], [3, 4]], "u1"),
        numpy.arange(6, dtype="u1")[::2],
        numpy.zeros(0),
    ]
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(*[b"?"] * (5 + skipped))
        batch = rx.reap(5)
        assert batch.reply(answers + [None] * skipped) == 5
        assert received(pair.sender, 5) == [answer.tobytes() for answer in answers]


def test_what_reply_refuses(pair: Pair) -> None:
    """Wrong numbers of answers, wrong answers, released batches, receivers that know too little: each
    with a sentence, and nothing is sent."""
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"1", b"2")
        batch = rx.reap(5)
        with pytest.raises(ValueError, match="1 payloads for 2 datagrams; None skips one"):
            batch.reply([b"x"])
        with pytest.raises(TypeError, match="message 1: the payload must be a bytes-like object, not str"):
            batch.reply([None, "text"])
        batch.release()
        with pytest.raises(ValueError, match="the batch was released"):
            batch.reply([b"", b""])
    with ringmsg.Receiver(pair.receiver, metadata=Meta(0)) as rx:
        pair.send(b"1")
        with pytest.raises(ValueError, match="made without metadata"):
            rx.reap(5).reply([b"x"])
    with bound(host="0.0.0.0") as anywhere, ringmsg.Receiver(anywhere) as rx:
        with bound() as client:
            client.sendto(b"x", ("127.0.0.1", anywhere.getsockname()[1]))
            with pytest.raises(ValueError, match="metadata=... | Meta.DESTINATION"):
                rx.reap(5).reply([b"x"])
    with ringmsg.Ring() as ring, Sender(pair.receiver) as sender:
        pool = ring.pool(pair.receiver, buffers=8)
        ring.recvmsg_once(pool, pair.receiver)
        pair.send(b"1")
        batch = ring.reap(5)
        with pytest.raises(ValueError, match="use ringmsg.Sender.sock..reply.batch, payloads."):
            batch.reply([b"x"])
        assert sender.reply(batch, [b"x"]) == 1
        assert pair.sender.recv(9) == b"x"


def test_kept_batches_are_answered_by_other_threads(pair: Pair) -> None:
    """One after the other, through the receiver's one sender; none is refused as busy."""
    pair.sender.settimeout(5)
    with ringmsg.Receiver(pair.receiver, buffers=256) as rx:
        threads = []
        for number in range(40):
            pair.send(b"%d" % number)
            batch = rx.reap(5).keep()
            thread = threading.Thread(target=lambda kept=batch: [kept.reply([b"yes"]), kept.release()])
            threads.append(thread)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert received(pair.sender, 40) == [b"yes"] * 40


def test_a_receiver_closes_its_sender(pair: Pair) -> None:
    """No descriptor is left, and a batch that was kept says what has happened."""
    before = len(os.listdir("/proc/self/fd"))
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.send(b"x")
        batch = rx.reap(5).keep()
        assert batch.reply([b"y"]) == 1
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ValueError, match="the batch was released"):
        batch.reply([b"y"])


def test_errors_are_not_answered(pair: Pair) -> None:
    """A record that is an error has no source: its answer is EADDRNOTAVAIL, the others leave."""
    with bound() as gone:
        nowhere = gone.getsockname()
    pair.receiver.connect(nowhere)
    with ringmsg.Receiver(pair.receiver) as rx:
        pair.receiver.send(b"refused")
        batch = rx.reap(5)
        assert [datagram.error for datagram in batch] == [errno.ECONNREFUSED]
        assert batch.reply([b"x"]) == 0
        assert batch.reply_errors[0].errno == errno.EADDRNOTAVAIL


def test_a_train_is_answered_datagram_by_datagram(pair: Pair) -> None:
    """GRO, split: each has its answer, and the answers are a train again."""
    pair.sender.settimeout(5)
    with ringmsg.Receiver(pair.receiver) as rx:
        rx.reap(0)
        pair.send_train(b"aabbcc", 2)
        batch = rx.reap(5)
        assert batch.payloads() == [b"aa", b"bb", b"cc"]
        assert batch.reply(bytes(d.payload).upper() for d in batch) == 3
        stats = rx._core.sender.stats if rx._core.sender else None
        assert stats and stats.trains == 1
    assert received(pair.sender, 3) == [b"AA", b"BB", b"CC"]
