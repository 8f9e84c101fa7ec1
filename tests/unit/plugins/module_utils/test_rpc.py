# SPDX-License-Identifier: GPL-3.0-or-later
"""The client on a real socket, against servers that deliver, delay, fail and vanish as no friendly server would."""

from __future__ import annotations

import errno
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._errors import (
    Refusal,
    RpcError,
    UnknownOutcome,
    Unreachable,
)
from ansible_collections.excloud.diskengine.plugins.module_utils._graph import read_graph
from ansible_collections.excloud.diskengine.plugins.module_utils._rpc import WINDOW, Call, Client, Framer
from ansible_collections.excloud.diskengine.tests.unit.plugins.module_utils.scripted import (
    HELLO,
    VERSION,
    Scripted,
    Session,
    error,
    result,
)
from hypothesis import given
from hypothesis import strategies as st

LONG = 30.0
SHORT = 1.0


@pytest.fixture(name="path")
def _path() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="rpc", dir="/tmp") as directory:
        yield f"{directory}/s"


def version(major: int, minor: int) -> dict:
    return {"version": "SPDK", "fields": {"major": major, "minor": minor, "patch": 0, "suffix": ""}}


@contextmanager
def connected(path: str, script, timeout: float = LONG, release: dict | None = None, methods: tuple = ()):
    """A client of a scripted server, and the server."""
    with Scripted(path, script, release or VERSION, list(methods)) as server:
        with Client(path, timeout) as client:
            yield client, server


def settle_all(client: Client) -> list:
    replies = []
    while not client.idle:
        replies += client.settle()
        if client.broken:
            client.withdraw()
    return replies


def numbered(count: int) -> list[Call]:
    return [Call("echo", {"n": number}, f"object {number}") for number in range(count)]


def assert_each_once(server: Scripted, count: int) -> None:
    """So many calls of echo, none of them twice."""
    times = {key: number for key, number in server.seen.items() if key[0] not in HELLO}
    assert set(times.values()) <= {1}
    assert len(times) == count


# --- delivery


def answers(session: Session, count: int) -> list:
    """Answers to the next requests: each echoes its number, with bytes that tear badly."""
    return [result(request, {"n": request["params"]["n"], "text": "ä€𝄞 }]{["}) for request in session.take(count)]


def merged(session: Session) -> None:
    session.send(*answers(session, 20))


def out_of_order(session: Session) -> None:
    session.send(*reversed(answers(session, 20)))


def without_newlines(session: Session) -> None:
    session.send(*answers(session, 20), end="")


def torn_to_bytes(session: Session) -> None:
    text = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers(session, 20))
    for byte in text.encode():
        session.connection.sendall(bytes([byte]))


def pretty_printed(session: Session) -> None:
    text = "".join(
        json.dumps(answer, indent=2, ensure_ascii=False) + "\n\n" for answer in answers(session, 20)
    ).encode()
    for at in range(0, len(text), 7):
        session.connection.sendall(text[at : at + 7])


def one_by_one_late(session: Session) -> None:
    """The first is answered last, each in a write of its own, cut across the border to the next."""
    text = "".join(json.dumps(answer) for answer in reversed(answers(session, 20)))
    for at in range(0, len(text), 61):
        session.connection.sendall(text[at : at + 61].encode())


@pytest.mark.parametrize(
    "script", [merged, out_of_order, without_newlines, torn_to_bytes, pretty_printed, one_by_one_late]
)
def test_each_call_gets_its_own_answer(path, script):
    with connected(path, script) as (client, server):
        client.submit(numbered(20))
        replies = settle_all(client)
        assert sorted(reply.result["n"] for reply in replies) == list(range(20))
        for reply in replies:
            assert reply.error is None
            assert reply.result == {"n": reply.call.params["n"], "text": "ä€𝄞 }]{["}
        assert_each_once(server, 20)


def test_replies_are_handed_on_as_they_come(path):
    def script(session: Session) -> None:
        first, second = session.take(2)
        session.send(result(second, "fast"))
        session.take(1)  # sent only after the client saw the fast one
        session.send(result(first, "slow"))

    with connected(path, script) as (client, _server):
        calls = [Call("slow"), Call("fast")]
        client.submit(calls)
        (reply,) = client.settle()
        assert reply.call is calls[1] and reply.result == "fast"
        client.submit([Call("third")])
        (reply,) = client.settle()
        assert reply.call is calls[0] and reply.result == "slow"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
documents = st.lists(st.lists(json_values, max_size=3) | st.dictionaries(st.text(max_size=4), json_values), max_size=6)


@given(documents, st.sampled_from([None, 2]), st.sampled_from(["", "\n", " \r\n\t"]), st.booleans(), st.data())
def test_framer(values, indent, separator, ascii_only, data):
    """However a stream is cut, the same values come out, in order, and none stays behind."""
    text = "".join(json.dumps(value, indent=indent, ensure_ascii=ascii_only) + separator for value in values)
    stream = text.encode("utf-8", "surrogatepass")
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    framer = Framer()
    got = []
    for start, end in zip([0, *cuts], [*cuts, len(stream)]):
        if start < end:
            got += framer.feed(stream[start:end])
    assert len(got) == len(values)
    assert json.dumps(got) == json.dumps([json.loads(json.dumps(value)) for value in values])


def test_a_large_answer_in_pieces_is_quick(path):
    """10 MB as bdev_get_bdevs answers it: parsing it again for each piece would take minutes."""
    bdev = {"name": "x" * 36, "aliases": ["lvs0/1"], "driver_specific": {"lvol": {"clones": []}}}
    value = [dict(bdev, number=number) for number in range(10 * 1024 * 1024 // 110)]

    def script(session: Session) -> None:
        data = json.dumps(result(session.take()[0], value), separators=(",", ":")).encode() + b"\n"
        assert len(data) > 9_000_000
        for at in range(0, len(data), 16384):
            session.connection.sendall(data[at : at + 16384])

    with connected(path, script) as (client, _server):
        began = time.process_time()
        assert client.call("bdev_get_bdevs") == value
        assert time.process_time() - began < 10


# --- what goes out


def test_window(path):
    """64 calls are out at most, and as soon as one is answered the next leaves."""
    most = []

    def script(session: Session) -> None:
        out, done = [], 0
        while done < 200:
            while len(out) < min(WINDOW, 200 - done):
                out += session.take()
            while session.values:
                out += session.take()
            most.append(len(out))
            session.send(result(out.pop(0), None))
            done += 1

    with connected(path, script) as (client, server):
        client.submit(numbered(200))
        assert len(settle_all(client)) == 200
        assert_each_once(server, 200)
    assert WINDOW == 64
    assert max(most) == WINDOW


@pytest.mark.parametrize(("release", "batches"), [((24, 5), 0), ((26, 1), 0), ((26, 5), 1), ((26, 9), 1)], ids=str)
def test_getters_travel_as_a_batch_where_there_are_batches(path, release, batches):
    def script(session: Session) -> None:
        if batches:
            requests = session.take()[0]
            session.send([result(request, request["method"]) for request in reversed(requests)])
        else:
            requests = session.take(3)
            session.send(*[result(request, request["method"]) for request in reversed(requests)])

    with connected(path, script, release=version(*release)) as (client, server):
        assert client.read([Call("get_a"), Call("get_b"), Call("get_c")]) == ["get_a", "get_b", "get_c"]
        assert len(server.batches) == batches


def test_mutations_are_never_batched(path):
    def script(session: Session) -> None:
        session.send(*[result(request, True) for request in session.take(10)])
        session.send(*[result(request, True) for request in session.take(1)])

    with connected(path, script, release=version(26, 9)) as (client, server):
        client.submit(numbered(10))
        assert len(settle_all(client)) == 10
        assert client.call("one") is True
        assert not server.batches


def test_no_params_member_without_params(path):
    """Some methods refuse ``params: {}`` (contract section 1)."""
    requests = []

    def script(session: Session) -> None:
        requests.extend(session.take(3))
        session.send(*[result(request, None) for request in requests])

    with connected(path, script) as (client, _server):
        client.submit([Call("a"), Call("b", {}), Call("c", {"x": 0})])
        settle_all(client)
    assert ["params" in request for request in requests] == [False, False, True]
    assert all(request["jsonrpc"] == "2.0" for request in requests)


@pytest.mark.parametrize(("release", "limit"), [((26, 1), 32 << 10), ((26, 5), 256 << 10)])
def test_a_request_over_the_limit_is_not_sent(path, release, limit):
    def script(session: Session) -> None:
        session.send(result(session.take()[0], "fits"))

    with connected(path, script, release=version(*release)) as (client, server):
        frame = len(json.dumps({"jsonrpc": "2.0", "id": 3, "method": "m", "params": {"x": ""}}, separators=(",", ":")))
        with pytest.raises(Refusal, match=f"over the target's limit of {limit} bytes"):
            client.call("m", {"x": "y" * (limit - frame)})
        assert client.call("m", {"x": "y" * (limit - frame - 2)}) == "fits"
        assert server.count("m") == 1


# --- errors, silence and death


def test_an_error_keeps_what_the_target_said(path):
    def script(session: Session) -> None:
        first, second = session.take(2)
        session.send(error(first, -32603, "Unable to create subsystem nqn.x"), result(second, True))

    with connected(path, script) as (client, _server):
        client.submit([Call("nvmf_create_subsystem", {"nqn": "nqn.x"}, "subsystem nqn.x"), Call("other")])
        first, second = sorted(settle_all(client), key=lambda reply: reply.call.method != "nvmf_create_subsystem")
        assert isinstance(first.error, RpcError)
        assert (first.error.code, first.error.message) == (-32603, "Unable to create subsystem nqn.x")
        assert (first.error.method, first.error.subject) == ("nvmf_create_subsystem", "subsystem nqn.x")
        assert "nvmf_create_subsystem was answered with error -32603 (Unable" in str(first.error)
        assert second.result is True and not client.broken


def test_a_hung_call_is_the_only_unknown_one(path):
    def script(session: Session) -> None:
        requests = session.take(64)
        session.send(*[result(request, True) for request in requests if request["params"]["n"] not in (5, 60)])
        session.wait_for_close()

    with connected(path, script, SHORT) as (client, server):
        client.submit(numbered(64))
        replies = settle_all(client)
        client.submit(numbered(3))  # too late
        assert client.settle() == []
        assert len(client.withdraw()) == 3
        lost = [reply for reply in replies if reply.error]
        assert sorted(reply.call.params["n"] for reply in lost) == [5, 60]
        assert all(isinstance(reply.error, UnknownOutcome) for reply in lost)
        assert {reply.error.subject for reply in lost} == {"object 5", "object 60"}
        assert len(replies) == 64
        assert client.hung and "no answer within 1 s" in client.broken
        assert_each_once(server, 64)


def test_others_in_flight_are_still_answered_after_a_hang(path):
    """Call 0 is overdue first; call 1 went out later and its answer comes after the deadline of call 0."""
    seen_first_lost = []

    def script(session: Session) -> None:
        opening, _hung = session.take(2)
        time.sleep(SHORT / 2)  # so that the deadlines are apart
        session.send(result(opening, None))
        (late,) = session.take(1)
        while not seen_first_lost:
            time.sleep(0.001)
        session.send(result(late, "late"))
        session.wait_for_close()

    with connected(path, script, SHORT) as (client, server):
        client.submit([Call("opening"), Call("hung", None, "the hung one")])
        assert client.settle()[0].call.method == "opening"
        client.submit([Call("late")])
        (lost,) = client.settle()
        client.submit([Call("never")])
        seen_first_lost.append(True)
        assert isinstance(lost.error, UnknownOutcome) and lost.error.subject == "the hung one"
        (late,) = client.settle()
        assert late.result == "late" and late.error is None
        assert [call.method for call in client.withdraw()] == ["never"]
        assert client.idle
    assert server.count("never") == 0


def test_a_dropped_connection_loses_exactly_what_was_out(path):
    def script(session: Session) -> None:
        requests = session.take(64)
        session.send(*[result(request, True) for request in requests[::2]])

    with connected(path, script) as (client, server):
        client.submit(numbered(128))
        replies, withdrawn = [], []
        while not client.idle:
            replies += client.settle()
            if client.broken:
                withdrawn += client.withdraw()
        lost = {reply.call.params["n"] for reply in replies if isinstance(reply.error, UnknownOutcome)}
        fine = {reply.call.params["n"] for reply in replies if reply.error is None}
        never = {call.params["n"] for call in withdrawn}
        assert fine == set(range(0, 64, 2))
        assert lost >= set(range(1, 64, 2)) and lost.isdisjoint(fine)
        assert lost | fine | never == set(range(128)) and not never & (lost | fine)
        assert client.broken and not client.hung
        assert set(server.seen.values()) == {1}
        received = {json.loads(params)["n"] for method, params in server.seen if method == "echo"}
        assert received <= lost | fine, "what was withdrawn was never sent"


def test_after_a_break_nothing_can_be_called(path):
    with connected(path, lambda session: session.take(1)) as (client, server):
        with pytest.raises(UnknownOutcome, match="the target closed the connection"):
            client.call("first")
        with pytest.raises(Unreachable, match="the target closed the connection"):
            client.call("second")
    assert server.count("first") == 1 and server.count("second") == 0


def test_a_torn_answer_is_no_answer(path):
    def script(session: Session) -> None:
        session.connection.sendall(json.dumps(result(session.take()[0], True)).encode()[:-3])

    with connected(path, script) as (client, _server):
        with pytest.raises(UnknownOutcome, match="for object 1 is unknown"):
            client.call("m", None, "object 1")


@pytest.mark.parametrize("garbage", [b"3\n", b'"HTTP"\n', b"[1, 2]\n"])
def test_an_answer_that_is_not_json_rpc(path, garbage):
    def script(session: Session) -> None:
        session.take()
        session.connection.sendall(garbage)

    with connected(path, script) as (client, _server):
        with pytest.raises(UnknownOutcome, match="is not JSON-RPC"):
            client.call("m")


# --- sentences for what is not there


def unreachable(path: str, timeout: float = LONG) -> str:
    with pytest.raises(Unreachable) as caught:
        Client(path, timeout).close()
    message = str(caught.value)
    assert "\n" not in message and "Traceback" not in message and path in message
    return message


def test_no_socket(path):
    assert unreachable(path).startswith("there is no socket ")


def test_not_a_socket(path):
    Path(path).write_text("")
    assert "is not a socket; give the path of the target's JSON-RPC socket" in unreachable(path)
    assert "is not a socket" in unreachable(os.path.dirname(path))


def test_refused(path):
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(path)
    assert "nothing listens on" in unreachable(path)


def test_no_permission(path):
    os.chmod(os.path.dirname(path), 0o755)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.chmod(path, 0)
        if os.geteuid():
            message = unreachable(path)
        else:
            message = _as_nobody(lambda: unreachable(path))
    assert message.startswith("no permission to use") and "become: true" in message


def _as_nobody(function) -> str:
    """Run a function in a process without privileges; what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, function().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return text


def test_path_too_long():
    assert "is longer than the 107 bytes" in unreachable("/tmp/" + "x" * 103)
    assert "there is no socket" in unreachable("/tmp/" + "x" * 102)
    assert "is longer than" in unreachable("/tmp/" + "ä" * 52)


def test_path_through_a_file(path):
    Path(path).write_text("")
    assert f"cannot connect to {path}/s: {os.strerror(errno.ENOTDIR)}" in unreachable(f"{path}/s")


def test_silent_server(path):
    """65 connections are accepted by the kernel and never read (contract section 1)."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        message = unreachable(path, SHORT)
    assert "accepted the connection but gave no answer (no answer within 1 s)" in message
    assert "64 connections" in message


def test_full_backlog(path):
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as other:
        server.bind(path)
        server.listen(0)
        other.connect(path)
        assert "did not accept a connection in time" in unreachable(path, SHORT)


def test_server_that_hangs_up(path):
    with Scripted(path, lambda session: None, VERSION, []) as server:
        server._hello = {}  # a KeyError of the script closes the connection
        message = unreachable(path)
        server._thread.join(10)
        assert isinstance(server.problem, KeyError)
        server.problem = None
    assert "hung up before it answered (the target closed the connection)" in message


@pytest.mark.parametrize("number", [(24, 1), (23, 9), (22, 9)])
def test_old_release(path, number):
    with Scripted(path, Session.wait_for_close, version(*number), []):
        with pytest.raises(Unreachable, match=r"runs SPDK v2\d\.0\d; releases from v24.05 on are supported"):
            Client(path, LONG)


def test_oldest_release(path):
    with connected(path, Session.wait_for_close, release=version(24, 5)) as (client, _server):
        assert str(client.release) == "v24.05"


def test_a_target_that_waits_for_its_start(path):
    methods = ("framework_start_init", "bdev_set_options", "rpc_get_methods")
    with connected(path, Session.wait_for_close, methods=methods) as (client, _server):
        with pytest.raises(Unreachable, match="waits for framework_start_init"):
            read_graph(client)


@pytest.mark.parametrize(
    "theirs, shown", [("nvmf_get_subsystems", ["bdev", "nvmf"]), ("vhost_get_controllers", ["bdev"])]
)
def test_only_known_getters_are_sent(path, theirs, shown):
    """The program nvmf_tgt has no vhost, and the program vhost no NVMe-oF; each refuses to show what it has not."""

    def script(session: Session) -> None:
        for value in session.take():
            session.send([result(request, []) for request in value])

    methods = ("bdev_get_bdevs", "bdev_lvol_get_lvols", "framework_get_config", theirs)
    with connected(path, script, methods=methods) as (client, server):
        read_graph(client)
        sent = server.batches[0]
        assert {request["method"] for request in sent} == set(methods)
        assert [
            request["params"]["name"] for request in sent if "params" in request and "name" in request["params"]
        ] == shown
