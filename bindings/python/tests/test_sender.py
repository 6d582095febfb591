"""``Sender`` and ``batch.reply``: what arrives, what is reported, and who may do what when."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from conftest import Pair, eventually

import ringmsg
from ringmsg import Message, Meta, Sender

FAMILIES = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


def bound(family: int = socket.AF_INET, host: str = "127.0.0.1") -> socket.socket:
    """A bound socket whose recv has a timeout."""
    made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((host, 0))
    made.settimeout(5)
    return made


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with bound() as made:
        yield made


@pytest.fixture
def peers() -> Iterator[list[socket.socket]]:
    made = [bound() for _ in range(4)]
    yield made
    for peer in made:
        peer.close()


def received(peer: socket.socket, count: int) -> list[bytes]:
    """That many datagrams, and none behind them."""
    got = [peer.recv(65536) for _ in range(count)]
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)
    peer.settimeout(5)
    return got


@pytest.fixture
def narrow() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connected pair that is full after a few messages."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    with left, right:
        right.settimeout(5)
        yield left, right


# --- what arrives ----------------------------------------------------------------------------


@pytest.mark.parametrize(("family", "host"), FAMILIES)
def test_pairs_arrive_in_order_with_one_call(family: int, host: str) -> None:
    """Four peers, interleaved: each gets its messages in order; they leave as trains."""
    with bound(family, host) as sock:
        peers = [bound(family, host) for _ in range(4)]
        pairs = [(b"%03d" % number, peers[number % 4].getsockname()) for number in range(64)]
        with Sender(sock) as sender:
            assert sender.send(pairs) == 64
            assert sender.errors == {} and sender.pending == 0
            stats = sender.stats
        assert (stats.messages, stats.datagrams, stats.payload_bytes, stats.calls) == (64, 64, 192, 1)
        assert (stats.trains, stats.grouped, stats.errors) == (4, 64, 0)
        for number, peer in enumerate(peers):
            assert received(peer, 16) == [b"%03d" % at for at in range(number, 64, 4)]
            peer.close()


def test_every_kind_of_payload(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Buffers of every kind, also of elements of several bytes, and with gaps; and none at all."""
    to = peers[0].getsockname()
    wide = numpy.arange(4, dtype="<u4")
    payloads: list[Any] = [
        b"bytes",
        bytearray(b"array"),
        memoryview(b"abcdef")[::2],
        wide,
        b"",
        wide.tobytes(),
    ]
    with Sender(sock) as sender:
        assert sender.send((payload, to) for payload in payloads) == len(payloads)
    assert received(peers[0], 6) == [b"bytes", b"array", b"ace", wide.tobytes(), b"", wide.tobytes()]


def test_payloads_alone_go_to_the_connected_peer(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Also such as could be taken for pairs: of two bytes."""
    sock.connect(peers[0].getsockname())
    with Sender(sock) as sender:
        assert sender.send([b"ab", b"cd"]) == 2
        assert sender.send([b"", bytearray(b"efg"), (b"pair", None)]) == 3
        assert sender.send([]) == 0
        assert sender.send([(b"elsewhere", peers[1].getsockname())]) == 1
    assert received(peers[0], 5) == [b"ab", b"cd", b"", b"efg", b"pair"]
    assert received(peers[1], 1) == [b"elsewhere"]


def test_addresses_as_socket_takes_them() -> None:
    """The wildcard, IPv4 on an IPv6 socket, scopes."""
    with bound(socket.AF_INET6, "::") as sock, bound() as four, bound(socket.AF_INET6, "::1") as six:
        with Sender(sock) as sender:
            mapped = ("::ffff:127.0.0.1", four.getsockname()[1])
            assert sender.send(
                [(b"mapped", mapped), (b"six", six.getsockname()), (b"two", six.getsockname()[:2])]
            )
        assert received(four, 1) == [b"mapped"]
        assert received(six, 2) == [b"six", b"two"]
    with bound() as sock, bound(host="0.0.0.0") as any_address, Sender(sock) as sender:
        assert sender.send([(b"self", ("", any_address.getsockname()[1]))]) == 1
        assert received(any_address, 1) == [b"self"]


def test_messages_say_how_they_leave(sock: socket.socket) -> None:
    """ECN, traffic class, hop limit, source address and segment size, each seen by the receiver."""
    wanted = Meta.SOURCE | Meta.TRAFFIC_CLASS | Meta.HOP_LIMIT | Meta.SEGMENT_SIZE
    with bound(host="0.0.0.0") as anywhere, bound() as there:
        with ringmsg.Receiver(there, metadata=wanted) as rx, Sender(anywhere) as sender:
            to = there.getsockname()
            messages = [
                Message(b"plain", to),
                Message(b"ecn", to, ecn=1),
                Message(b"class", to, traffic_class=0xB8, ecn=2),
                Message(b"hops", to, hop_limit=7),
                Message(b"source", to, source="127.0.0.9"),
                Message(b"source", to, source=("127.0.0.9", 0)),
                (b"pair", to),
                Message(b"abcdefgh", to, segment_size=3),
            ]
            assert sender.send(messages) == 8
            got: list[tuple[Any, ...]] = []
            while len(got) < 10:
                got += [(bytes(d.payload), d.source[0], d.traffic_class, d.hop_limit) for d in rx.reap(5)]
    host = "127.0.0.1"
    assert got == [
        (b"plain", host, 0, 64),
        (b"ecn", host, 1, 64),
        (b"class", host, 0xBA, 64),
        (b"hops", host, 0, 7),
        (b"source", "127.0.0.9", 0, 64),
        (b"source", "127.0.0.9", 0, 64),
        (b"pair", host, 0, 64),
        *((part, host, 0, 64) for part in (b"abc", b"def", b"gh")),
    ]


def test_columns_in_one_buffer(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A numpy array, a row for each message; lengths and offsets; one address or one each. The
    buffer can be resized afterwards: nothing holds it."""
    rows = numpy.zeros(4, dtype=[("number", "<u4"), ("value", "<f8")])
    rows["number"] = range(4)
    addresses = [peer.getsockname() for peer in peers]
    with Sender(sock) as sender:
        assert sender.send_columns(rows, rows.itemsize, addresses) == 4
        for peer, row in zip(peers, rows):
            assert received(peer, 1) == [row.tobytes()]
        data = bytearray(b"aabbbc")
        assert sender.send_columns(data, [2, 3, 1], addresses[0]) == 3
        data += b"resized"
        assert received(peers[0], 3) == [b"aa", b"bbb", b"c"]
        assert sender.send_columns(b"abcdef", [2, 2], addresses[1], offsets=[4, 0]) == 2
        assert received(peers[1], 2) == [b"ef", b"ab"]
        assert sender.send_columns(b"ab", [1, 2], addresses[1]) == 1, "beyond the end"
        assert sender.errors[1].errno == errno.EFAULT
        sock.connect(addresses[2])
        assert sender.send_columns(b"xyxy", 2) == 2
        assert received(peers[2], 2) == [b"xy", b"xy"]


def test_more_peers_than_a_table_has(sock: socket.socket) -> None:
    """The table of paths is emptied and filled again; nobody gets another's message."""
    with bound() as there, Sender(sock) as sender:
        host, port = there.getsockname()
        sock.connect((host, port))
        others = [(f"127.1.{number >> 8}.{number & 255}", 9) for number in range(5000)]
        sender.send([(b"", other) for other in others])
        for number in range(3):
            sender.send([(b"", other) for other in others[:4000]])
            assert sender.send([(b"%d" % number, (host, port))]) == 1
            assert received(there, 1) == [b"%d" % number]


# --- what is reported ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("messages", "sentence"),
    [
        ([(b"x", ("127.0.0.1", 9)), b"y" * 2, 5], "message 2: expected .payload, address. or a Message"),
        ([("text", ("127.0.0.1", 9))], "message 0: the payload must be a bytes-like object, not str"),
        ([(b"x", ["127.0.0.1", 9])], "message 0: an address must be .host, port. or None"),
        ([(b"x", "127.0.0.1")], "message 0: an address must be"),
        ([(b"x", ("127.0.0.1", 9, 0, 0))], "message 0: an address must be"),
        ([(b"x", ("127.0.0.1", "9"))], "message 0: a port must be 0 to 65535, not '9'"),
        ([(b"x", ("127.0.0.1", 70000))], "message 0: a port must be 0 to 65535, not 70000"),
        ([(b"x", ("localhost", 9))], "message 0: 'localhost' is not numeric: resolve names first"),
        ([(b"x", ("::1", 9))], "message 0: ::1: this socket's family takes an IPv4 address"),
        ([(b"x", (b"127.0.0.1", 9))], "message 0: a host must be a str"),
        ([Message(b"x", ("127.0.0.1", 9), ecn=4)], "message 0: ecn must be 0 to 3, not 4"),
        ([Message(b"x", ("127.0.0.1", 9), hop_limit=256)], "message 0: .*hop_limit have 8"),
        ([Message(b"x", ("127.0.0.1", 9), segment_size=-1)], "message 0: segment_size .* 32 bits"),
    ],
)
def test_wrong_messages_get_a_sentence(sock: socket.socket, messages: list[Any], sentence: str) -> None:
    """Before anything is sent."""
    with Sender(sock) as sender:
        with pytest.raises((TypeError, ValueError), match=sentence):
            sender.send(messages)
        assert sender.stats.calls == 0


def test_errors_by_index(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A message that is too long and one to a broadcast address; the others arrive."""
    to = peers[0].getsockname()
    with Sender(sock) as sender:
        sent = sender.send(
            [(b"a", to), (b"x" * 70000, to), (b"b", to), (b"", ("255.255.255.255", 9)), (b"c", to)]
        )
        assert sent == 3
        assert {at: (type(error), error.errno) for at, error in sender.errors.items()} == {
            1: (OSError, errno.EMSGSIZE),
            3: (PermissionError, errno.EACCES),
        }
        assert sender.stats.errors == 2
        assert sender.send([(b"d", to)]) == 1
        assert sender.errors == {}, "those of the last batch"
    assert received(peers[0], 4) == [b"a", b"b", b"c", b"d"]


def test_sockets_that_cannot(sock: socket.socket) -> None:
    """Streams, what is no socket, AF_UNIX addresses."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with left, right:
        with pytest.raises(OSError) as refused:
            Sender(left)
        assert refused.value.errno == errno.EOPNOTSUPP
    with pytest.raises(TypeError, match="expected a socket or its descriptor"):
        Sender(None)
    with pytest.raises(OSError):
        Sender(0xFFFF)
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right, Sender(left) as sender:
        with pytest.raises(ValueError, match="a path is for AF_INET and AF_INET6"):
            sender.send([(b"x", "/tmp/nowhere")])
        assert sender.send([b"connected"]) == 1
        assert right.recv(99) == b"connected"


def test_an_error_of_an_earlier_datagram_is_no_messages_own(
    sock: socket.socket, peers: list[socket.socket]
) -> None:
    """A refused datagram's ICMP error is counted, and takes no later message's place."""
    with bound() as gone:
        nowhere = gone.getsockname()
    sock.connect(nowhere)
    with Sender(sock) as sender:
        sender.send([b"refused"])
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
        sender.send([b"refused"])
        eventually(
            lambda: sender.send([(b"to another", peers[0].getsockname())]) and sender.stats.socket_errors
        )
        assert sender.errors == {}
        assert sender.stats.last_socket_error == errno.ECONNREFUSED


# --- full buffers ----------------------------------------------------------------------------


def test_resume_gives_again_what_found_no_room(narrow: tuple[socket.socket, socket.socket]) -> None:
    """No message twice, none lost, in order, though there is room for a few at a time."""
    left, right = narrow
    with Sender(left) as sender:
        sent = sender.send([b"%02d" % number for number in range(50)])
        assert 0 < sent < 50 and sender.pending == 50 - sent
        assert all(isinstance(error, BlockingIOError) for error in sender.errors.values())
        assert list(sender.errors) == list(range(sent, 50))
        assert sender.resume() == 0, "there is no room yet"
        got = []
        while sender.pending:
            got.append(right.recv(9))
            sent += sender.resume()
        assert sent == 50 and sender.errors == {}
        assert sender.resume() == 0, "all went"
        got += received(right, 50 - len(got))
    assert got == [b"%02d" % number for number in range(50)]


def test_waiting_for_room(narrow: tuple[socket.socket, socket.socket]) -> None:
    """``wait=True`` returns when all went; the GIL is free meanwhile."""
    left, right = narrow
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.extend(right.recv(9) for _ in range(50)))
    with Sender(left) as sender:
        reader.start()
        assert sender.send([b"%02d" % number for number in range(50)], wait=True) == 50
    reader.join()
    assert got == [b"%02d" % number for number in range(50)]


def test_a_signal_during_the_wait(narrow: tuple[socket.socket, socket.socket]) -> None:
    """A handler that returns lets the wait go on; one that raises (Ctrl-C) ends it, and ``errors``
    and ``resume()`` know how far it came."""
    left, right = narrow
    got: list[bytes] = []
    handled = []

    def handler(number: int, _: Any) -> None:
        handled.append(number)
        if len(handled) == 2:
            raise KeyboardInterrupt

    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        for count in (1, 2):
            while len(handled) < count:
                signal.pthread_kill(main, signal.SIGUSR1)
                time.sleep(0.01)

    before = signal.signal(signal.SIGUSR1, handler)
    thread = threading.Thread(target=interrupt)
    try:
        with Sender(left) as sender:
            with pytest.raises(KeyboardInterrupt):
                thread.start()
                sender.send([b"%02d" % number for number in range(50)], wait=True)
            thread.join()
            assert len(handled) == 2 and 0 < sender.pending < 50
            while sender.pending:
                got.append(right.recv(9))
                sender.resume()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
    got += received(right, 50 - len(got))
    assert got == [b"%02d" % number for number in range(50)]


# --- threads, forks, the end -----------------------------------------------------------------


def test_another_thread_is_refused_while_one_is_inside(narrow: tuple[socket.socket, socket.socket]) -> None:
    """EBUSY with a sentence. close() does not wait: the call inside goes on, and closes."""
    left, right = narrow
    sender = Sender(left)
    sent: list[int] = []
    inside = threading.Thread(target=lambda: sent.append(sender.send([b"x"] * 50, wait=True)))
    inside.start()
    eventually(sender._lock.locked)
    with pytest.raises(OSError, match="another call is in progress on this sender") as busy:
        sender.send([b"y"])
    assert busy.value.errno == errno.EBUSY
    with pytest.raises(OSError, match="another call"):
        sender.resume()
    sender.close()
    assert sender.closed and inside.is_alive(), "the call goes on"
    assert [right.recv(9) for _ in range(50)] == [b"x"] * 50
    inside.join()
    assert sent == [50]
    with pytest.raises(OSError, match="the sender is closed"):
        _ = sender.stats


def test_closed_means_closed(sock: socket.socket) -> None:
    """Every call raises EBADF; a second close does nothing; the descriptor is given back."""
    before = len(os.listdir("/proc/self/fd"))
    sender = Sender(sock)
    assert len(os.listdir("/proc/self/fd")) == before + 1
    sender.close()
    sender.close()
    assert len(os.listdir("/proc/self/fd")) == before
    for call in (lambda: sender.send([]), sender.resume, lambda: sender.stats):
        with pytest.raises(OSError) as closed:
            call()
        assert closed.value.errno == errno.EBADF
    assert repr(sender) == "<ringmsg.Sender closed>"


def test_the_socket_may_be_closed_first(sock: socket.socket, peers: list[socket.socket]) -> None:
    """The sender has its own reference."""
    with Sender(sock) as sender:
        sock.close()
        assert sender.send([(b"still", peers[0].getsockname())]) == 1
    assert received(peers[0], 1) == [b"still"]


def test_a_forgotten_sender_warns(sock: socket.socket) -> None:
    """And gives its descriptor back."""
    before = len(os.listdir("/proc/self/fd"))
    sender = Sender(sock)
    with pytest.warns(ResourceWarning, match="unclosed <ringmsg.Sender>"):
        del sender
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_child_uses_its_copy(sock: socket.socket, peers: list[socket.socket]) -> None:
    """Also if another thread of the parent was inside when it forked."""
    with Sender(sock) as sender, sender._lock:
        child = os.fork()
        if child == 0:
            os._exit(0 if sender.send([(b"child", peers[0].getsockname())]) == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert received(peers[0], 1) == [b"child"]


def test_payloads_are_not_kept(sock: socket.socket, peers: list[socket.socket]) -> None:
    """What was sent is the caller's: no reference is left."""

    class Payload(bytearray):
        pass

    payload = Payload(b"x" * 100)
    gone = weakref.ref(payload)
    with Sender(sock) as sender:
        sender.send([(payload, peers[0].getsockname())])
        payload.clear()  # nothing exports it
        del payload
        assert gone() is None


def test_pacing_and_timestamps(sock: socket.socket, peers: list[socket.socket]) -> None:
    """A transmit time needs a clock; the id of a timestamp comes back through the error queue."""
    to = peers[0].getsockname()
    with Sender(sock) as sender:
        assert sender.send([Message(b"when?", to, transmit_time_ns=1)]) == 0
        assert sender.errors[0].errno == errno.EINVAL
    with Sender(sock, transmit_clock=time.CLOCK_MONOTONIC, timestamps=True, grouping=False) as sender:
        now = time.monotonic_ns()
        assert (
            sender.send([Message(b"now", to, transmit_time_ns=now, timestamp_id=77), Message(b"now", to)])
            == 2
        )
        assert sender.stats.trains == 0
        with ringmsg.Ring() as ring:
            pool = ring.pool(sock, buffers=8, payload_capacity=64)
            ring.recvmsg_once(pool, sock, msg_flags=socket.MSG_ERRQUEUE)
            (datagram,) = ring.reap(5)
            stamp = datagram.queued_error
            assert stamp is not None and stamp.origin == 4
            kernel = ringmsg.query_support().kernel_version
            assert stamp.data == (77 if kernel >= (6, 13, 0) else 0)
            assert datagram.timestamp_ns
    assert received(peers[0], 2) == [b"now", b"now"]


# --- batch.reply -----------------------------------------------------------------------------


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
