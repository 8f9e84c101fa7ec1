# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the playbook drift: the document, and what it becomes for people."""

from __future__ import annotations

import json

import pytest
from ansible_collections.excloud.diskengine.plugins.module_utils._naming import controller_of
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_formats import (
    as_json,
    as_markdown,
    as_page,
)
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_report import drift_report
from hypothesis import given
from hypothesis import strategies as st
from support.paper import paper_estate

NOW = "2026-11-27T10:00:00+00:00"
RISKS = ("safe", "disruptive", "destructive", "manual")
CLASSES = ("missing", "different", "extra", "stale", "counter", "blocked")


def differs(kind, name, name_of_class="missing", risk="safe", **changes):
    entry = {"class": name_of_class, "kind": kind, "object": name, "cause": "it is not there", "risk": risk}
    return {**entry, "found": None, "wanted": None, "repair": [], **changes}


def report(estate, **drift):
    """The report of a run over all nodes, with what differs by the node's name; a cause instead is text."""
    found = {name: drift.get(name.replace("-", "_"), []) for name in estate}
    found = {name: {"cause": each} if isinstance(each, str) else {"drift": each} for name, each in found.items()}
    return drift_report(found, estate, NOW)


def states(document):
    return {each["id"]: each["state"] for each in document["objects"]}


def chain(document, name):
    """The kinds of all that an object stands on, through all legs."""
    on = {each["id"]: each["on"] for each in document["objects"]}
    found, todo = set(), [name]
    while todo:
        each = todo.pop()
        found.add(each.partition(":")[0])
        todo += on[each]
    return found


def test_an_estate_that_is_as_wanted():
    document = report(paper_estate(volumes=4))
    assert document["clean"] and not document["differences"]
    assert document["summary"] == ["3 of 3 nodes compared: nothing differs"]
    assert set(states(document).values()) == {"ok"}
    assert chain(document, "vm:1") == {"vm", "vhost", "mirror", "path", "export", "lvol", "lvstore", "disk", "node"}
    (volume, *_rest) = document["volumes"]
    assert (volume["id"], volume["name"], volume["state"], len(volume["objects"])) == (1, "data-1", "ok", 9)


def test_counts_by_class_and_node():
    estate = paper_estate()
    document = report(
        estate,
        storage_1=[differs("subsystem", "nqn.x", "extra", "manual"), differs("lvol", "lvs-101/1")],
        compute_1="no\nroute",
    )
    assert document["counts"] == {"extra": 1, "missing": 1}
    assert document["nodes"]["storage-1"] == {"kind": "storage", "compared": True, "counts": {"extra": 1, "missing": 1}}
    assert (document["clean"], document["compared"], document["not_compared"]) == (False, 2, {"compute-1": "no route"})
    assert document["summary"] == [
        "2 of 3 nodes compared: 1 extra, 1 missing",
        "storage-1: 1 extra, 1 missing",
        "compute-1: not compared: no route",
    ]
    assert [each["class"] for each in document["differences"]] == ["missing", "extra"]  # the worst first
    assert not report(estate, compute_1="gone")["clean"]


LEG = paper_estate()["storage-1"]["lvols"][0]
CONTROLLER = controller_of(LEG["nqn"])
LISTENER = "TCP 10.0.0.1:4420"


@pytest.mark.parametrize(
    "node, entry, about, state",
    [
        ("storage_1", differs("disk", "S00101 at 0000:01:00.0"), ["disk:101", "lvstore:101"], "broken"),
        ("storage_1", differs("disk", "S00101", "counter"), ["lvstore:101"], "differs"),
        ("storage_1", differs("lvol", f"lvs-101/{LEG['id']}"), ["lvol:1"], "broken"),
        ("storage_1", differs("lvol", "None/1", "blocked", "manual"), ["lvol:1"], "broken"),
        ("storage_1", differs("subsystem", LEG["nqn"], "different"), ["export:1"], "differs"),
        ("storage_1", differs("subsystem", LEG["nqn"], "different", "manual"), ["export:1"], "broken"),
        ("storage_1", differs("transport", "TCP", "different"), ["node:storage-1"], "differs"),
        ("compute_1", differs("controller", CONTROLLER), [f"path:compute-1:1:{LISTENER}"], "broken"),
        (
            "compute_1",
            differs("path", f"{CONTROLLER} {LISTENER}", "different", "manual"),
            [f"path:compute-1:1:{LISTENER}"],
            "broken",
        ),
        ("compute_1", differs("raid", "raid_1", "different"), ["mirror:compute-1:1"], "differs"),
        ("compute_1", differs("qos", "raid_1", "different"), ["mirror:compute-1:1"], "differs"),
        ("compute_1", differs("volume", "1", "blocked", "manual"), ["mirror:compute-1:1"], "broken"),
        ("compute_1", differs("vhost", "vhost1"), ["vhost:1"], "broken"),
        ("storage_2", differs("lvol", "lvs-200/999", "extra", "manual"), ["lvol:storage-2:lvs-200/999"], "differs"),
        ("compute_1", differs("raid", "raid_9", "extra", "manual"), ["mirror:compute-1:raid_9"], "differs"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else None,
)
def test_a_difference_is_at_the_objects_that_it_is_about(node, entry, about, state):
    document = report(paper_estate(), **{node: [entry]})
    (difference,) = document["differences"]
    assert difference["objects"] == about
    by_id = {each["id"]: each for each in document["objects"]}
    assert {(by_id[name]["state"], tuple(by_id[name]["differences"])) for name in about} == {(state, (0,))}
    fated = {"vhost:1", "vm:1"} if state == "broken" and about[0].startswith(("vhost", "mirror")) else set()
    assert {name for name, now in states(document).items() if now != "ok"} == set(about) | fated


def test_what_is_being_made_or_was_not_compared():
    estate = paper_estate()
    estate["storage-1"]["lvols"][0]["state"] = "RESIZING"
    estate["storage-2"]["disks"][0]["state"] = "FAULTY"
    estate["compute-1"]["mappings"][1]["state"] = "DETACHING"
    estate["compute-1"]["mappings"][2]["state"] = "DETACHED"
    estate["storage-1"]["disks"].append(
        {**estate["storage-1"]["disks"][0], "id": 7, "serial": "new", "state": "NEW", "lvstore_name": None}
    )
    document = report(estate)
    now = states(document)
    changing = {name for name, state in now.items() if state == "changing"}
    assert changing >= {"lvol:1", "export:1", "disk:7", "vhost:2", "vm:2", "mirror:compute-1:2"}
    assert not changing & {"mirror:compute-1:1", "vm:1", "lvol:2"}
    assert now["disk:200"] == "broken" and document["clean"]
    assert "vm:3" not in now and "lvol:5" in now
    seen = states(report(estate, storage_1="down"))
    assert {state for name, state in seen.items() if name in ("lvol:1", "disk:7", "node:storage-1")} == {"unknown"}


def test_a_run_over_some_nodes_shows_their_volumes_to_the_end():
    estate = paper_estate(volumes=8, storage=4, compute=2)
    document = drift_report({"compute-2": {"drift": []}}, estate, NOW)
    assert document["clean"] and document["left_out"] == [name for name in sorted(estate) if name != "compute-2"]
    assert [each["id"] for each in document["volumes"]] == [2, 4, 6, 8]
    assert {each["node"] for each in document["objects"]} == {"compute-2", "storage-3", "storage-4"}
    assert {each["state"] for each in document["objects"] if each["node"] != "compute-2"} == {"unknown"}
    assert document["summary"][1].startswith("not part of this run: compute-1, storage-1")


def test_without_rows_there_is_no_picture_and_still_a_report():
    document = drift_report({"a": {"drift": [differs("lvol", "lvs/1")]}, "b": {"cause": "x"}}, {}, NOW)
    assert document["counts"] == {"missing": 1} and document["nodes"]["a"]["kind"] is None
    assert [each["id"] for each in document["objects"]] == ["lvol:a:lvs/1"]


names = st.one_of(st.text(max_size=30), st.sampled_from(["lvs-101/1", "raid_1", "vhost1", "S00101", LEG["nqn"]]))
kinds = st.sampled_from("disk lvol snapshot subsystem transport key controller path raid qos".split())


@given(st.lists(st.builds(differs, kinds, names, st.sampled_from(CLASSES), st.sampled_from(RISKS), cause=st.text())))
def test_every_difference_has_its_objects_and_they_know_it(drift):
    document = report(paper_estate(volumes=2), storage_1=drift, compute_1=drift)
    by_id = {each["id"]: each for each in document["objects"]}
    assert len(by_id) == len(document["objects"]) and len(document["differences"]) == 2 * len(drift)
    for number, each in enumerate(document["differences"]):
        assert each["objects"]
        assert all(number in by_id[name]["differences"] for name in each["objects"])
    for each in document["objects"]:
        assert set(each["on"]) <= set(by_id)
        assert not each["differences"] or each["state"] in ("broken", "differs")
    assert sum(document["states"].values()) == len(document["objects"])
    assert json.loads(as_json(document)) == document
    rows = [line for line in as_markdown(document).splitlines() if line.startswith("| ") and "---" not in line]
    assert {line.replace("\\|", "").count("|") for line in rows} <= {4, 7}


def test_markdown_shows_the_worst_and_stays_short():
    drift = [differs("lvol", f"lvs-101/{number}|<b>", "extra", "manual") for number in range(900, 930)]
    text = as_markdown(report(paper_estate(), storage_1=drift, storage_2=[differs("subsystem", "nqn", cause="a\nb")]))
    lines = text.splitlines()
    assert lines[0] == "# Drift: 3 of 3 nodes compared: 30 extra, 1 missing"
    assert "| storage-2 | storage | 1 missing |" in lines
    shown = [line for line in lines if line.startswith("| storage") and line.count("|") > 5]
    assert len(shown) == 20 and shown[0] == "| storage-2 | subsystem nqn | missing | a b | safe |  |"
    assert "lvs-101/900\\|\\<b\\>" in shown[1]
    assert lines[-1] == "11 more differences are in the report as JSON or HTML."


def test_the_page_holds_the_document_and_no_markup_of_its_names():
    evil = "</script><!--<script>@REPORT@"
    document = report(paper_estate(), storage_1=[differs("lvol", f"lvs/{evil}", "extra", "manual")], storage_2=evil)
    page = as_page(document)
    assert page.count("</script>") == 2 and "<!--" not in page
    assert page.count("&lt;/script&gt;") == 1  # in the summary for browsers without scripts
    start = page.index('type="application/json">') + len('type="application/json">')
    assert json.loads(page[start : page.index("</script>")]) == document
    assert "src=" not in page and "href=" not in page and "url(" not in page
