# SPDX-License-Identifier: GPL-3.0-or-later
"""The report of the playbook drift."""

from __future__ import annotations

from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_report import storage_drift_report


def test_counts_by_class_and_node():
    drift = [{"class": "missing"}, {"class": "extra"}, {"class": "missing"}]
    report = storage_drift_report(
        {"c": {"cause": "no\nroute"}, "b": {"drift": []}, "a": {"drift": drift}, "d": {"drift": drift[:1]}}
    )
    assert report["counts"] == {"extra": 1, "missing": 3}
    assert {name: node["counts"] for name, node in report["nodes"].items()} == {
        "a": {"extra": 1, "missing": 2},
        "b": {},
        "d": {"missing": 1},
    }
    assert (report["clean"], report["compared"], report["not_compared"]) == (False, 3, {"c": "no\nroute"})
    assert report["summary"] == [
        "3 of 4 nodes compared: 1 extra, 3 missing",
        "a: 1 extra, 2 missing",
        "d: 1 missing",
        "c: not compared: no route",
    ]


def test_a_report_is_clean_only_if_all_were_compared():
    assert storage_drift_report({"a": {"drift": []}})["clean"]
    assert storage_drift_report({"a": {"drift": []}})["summary"] == ["1 of 1 nodes compared: nothing differs"]
    assert not storage_drift_report({"a": {"drift": []}, "b": {"cause": "x"}})["clean"]
