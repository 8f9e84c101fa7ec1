# SPDX-License-Identifier: GPL-3.0-or-later
"""Replays the wire-level recording (scenario 16) against the server over a real socket."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compare import SUMMARY, Mapping, differences
from sim_process import Client, Sim

SCENARIO = "16-wire-level"
ENTRIES = list(
    enumerate(
        map(json.loads, (Path(__file__).parent / f"transcripts/{SCENARIO}.jsonl").read_text("utf-8").splitlines()), 1
    )
)
RAW = [(line, entry) for line, entry in ENTRIES if "raw_request" in entry]
VERSION = '{"jsonrpc": "2.0", "id": %d, "method": "spdk_get_version"}'


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sim]:
    with Sim(tmp_path_factory.mktemp("wire")) as running:
        yield running


def ones(count: int) -> str:
    """A request of bdev_get_bdevs with that many numbers."""
    head = '{"jsonrpc":"2.0","id":1,"method":"bdev_get_bdevs","params":{"names":['
    return head + ",".join(["1"] * count) + "]}}"


def padded(size: int) -> str:
    """A request of bdev_get_bdevs of that many bytes."""
    head, tail = '{"jsonrpc":"2.0","id":1,"method":"bdev_get_bdevs","params":{"name":"', '"}}'
    return head + "x" * (size - len(head) - len(tail)) + tail


ABBREVIATED = {
    48: ones(8170),
    49: ones(8200),
    50: padded(261191),
    51: padded(262215),
    52: padded(262145),
    67: "[" + ", ".join(VERSION % n for n in range(500)) + "]",
    68: "[" + ", ".join(VERSION % 1 for _number in range(600)),
    69: "[" + ", ".join(VERSION % n for n in range(1100)) + "]",
}


def raw_bytes(line: int, entry: dict[str, Any]) -> bytes:
    """The bytes that were sent; long ones are abbreviated in the recording and built again here."""
    text = entry["raw_request"]
    found = re.search(r"\.\.\.\(([0-9]+) bytes\)$", text)
    if found:
        full = ABBREVIATED[line]
        assert full.startswith(text[: found.start()]) and len(full) == int(found[1])
        text = full
    return text.encode("latin-1" if "invalid UTF-8" in entry["note"] else "utf-8")


def a_few_polls(sim: Sim) -> None:
    """Let the server poll every connection at least twice."""
    other = sim.client()
    for _number in range(3):
        other.result("spdk_get_version")
    other.close()


def send_as_recorded(sim: Sim, client: Client, data: bytes, note: str) -> None:
    """In one piece, or as the note says."""
    if "two parts" in note:
        client.send(data[:20])
        a_few_polls(sim)
        client.send(data[20:])
    elif "byte by byte" in note:
        for at in range(len(data)):
            client.send(data[at : at + 1])
    else:
        client.send(data)
    if "shutdown" in note:
        client.sock.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize(("line", "entry"), RAW, ids=[f"{line}-{entry['note'][:40]}" for line, entry in RAW])
def test_raw_request(sim: Sim, line: int, entry: dict[str, Any]) -> None:
    client = sim.client()
    send_as_recorded(sim, client, raw_bytes(line, entry), entry["note"])
    answers = [client.answer() for _response in entry["responses"]]
    assert not differences(entry["responses"], answers, Mapping())
    if entry["server_closed"]:
        with pytest.raises(EOFError):
            client.answer()
    elif entry["connection_still_usable"]:
        assert client.call("spdk_get_version")["result"]["fields"]["major"] == 26
    else:
        a_few_polls(sim)
        client.sock.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.sock.recv(1)
    client.close()


def groups() -> list[list[dict[str, Any]]]:
    """The recorded lines that were written together."""
    out: list[list[dict[str, Any]]] = []
    for _line, entry in ENTRIES:
        if "sent" in entry:
            if entry["sent"] == 0:
                out.append([])
            out[-1].append(entry)
    return out


def test_order_of_answers_to_one_write(sim: Sim) -> None:
    client = sim.client()
    client.result("bdev_malloc_create", {"name": "orphan", "num_blocks": 1024, "block_size": 512})
    mapping = Mapping()
    compared = 0
    for group in groups():
        requests = [(entry["request"]["method"], entry["request"].get("params")) for entry in group]
        arrived = client.all_at_once(requests)
        assert [position for position, _answer in arrived] == [
            entry["sent"] for entry in sorted(group, key=lambda entry: entry["arrived"])
        ]
        for position, answer in arrived:
            recorded = {key: value for key, value in group[position]["response"].items() if key in ("result", "error")}
            ours = {key: value for key, value in answer.items() if key in ("result", "error")}
            assert not differences(recorded, ours, mapping)
            compared += 1
    SUMMARY.append(f"{SCENARIO}: {len(RAW)} raw requests and {compared} answers compared")
    client.result("bdev_malloc_delete", {"name": "orphan"})


def test_request_of_a_client_that_left_is_executed(sim: Sim) -> None:
    client = sim.client()
    client.send(client.request("bdev_malloc_create", {"name": "left", "num_blocks": 1024, "block_size": 512}))
    client.close()
    other = sim.client()
    assert other.result("bdev_get_bdevs", {"name": "left"})[0]["name"] == "left"
    other.result("bdev_malloc_delete", {"name": "left"})


def test_connections_beyond_64_wait(tmp_path: Path) -> None:
    with Sim(tmp_path) as sim:
        clients = [sim.client() for _number in range(70)]
        for client in clients:
            client.send(client.request("spdk_get_version"))
        for client in clients[:64]:
            assert client.answer()["id"] == 1
        for client in clients[64:]:
            client.sock.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.sock.recv(1)
            client.sock.setblocking(True)
        for client in clients[:10]:
            client.close()
        for client in clients[64:]:
            assert client.answer()["id"] == 1


def test_socket_guard(tmp_path: Path) -> None:
    lock = tmp_path / "s.lock"
    with Sim(tmp_path) as sim:
        second = Sim(tmp_path)
        with pytest.raises(AssertionError, match="in use. Specify another"):
            second.start()
        assert second.process.wait() == 234
        assert sim.client().result("spdk_get_version")
        assert lock.stat().st_mode & 0o777 == 0o600
        sim.kill()
        assert sim.socket.exists() and lock.exists()
        with pytest.raises(ConnectionRefusedError):
            sim.client()
        sim.start()
        assert sim.client().result("spdk_get_version")
        sim.process.terminate()
        assert sim.wait()[0] == 0
        assert not sim.socket.exists() and not lock.exists()
