# SPDX-License-Identifier: GPL-3.0-or-later
"""The page of the drift report in Chromium: what a person sees, clicks and types."""

from __future__ import annotations

import time

import pytest
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_formats import as_page
from ansible_collections.excloud.diskengine.plugins.plugin_utils.drift_report import drift_report
from support.browser import CHROMIUM, browser
from support.paper import paper_estate

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="there is no Chromium: apt-get install chromium, as root")
EVIL = "</script><script>document.title='run'</script><img src=http://127.0.0.1:9/x onerror=document.title='run'>"


def differs(kind, name, name_of_class="missing", risk="safe", repair=(), cause="it is not there"):
    entry = {"class": name_of_class, "kind": kind, "object": name, "cause": cause, "risk": risk}
    return {**entry, "repair": list(repair), "found": None, "wanted": None}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A Browser that shows the report of an estate of 1,000 volumes, on which a little differs."""
    estate = paper_estate(volumes=1000, storage=10, compute=5, disks=4)
    estate["storage-1"]["lvols"][2]["state"] = "RESIZING"
    estate["compute-2"]["mappings"][0]["vm"] = EVIL
    lost = estate["storage-1"]["lvols"][0]
    found = {name: {"drift": []} for name in estate}
    found["storage-1"]["drift"] = [differs("subsystem", lost["nqn"], repair=["create the subsystem", "listen"])]
    found["storage-2"]["drift"] = [differs("lvol", f"lvs-200/{EVIL}", "extra", "manual", cause=EVIL)]
    found["compute-1"]["drift"] = [
        differs("raid", "raid_1", "different", cause="it is online and has one leg"),
        differs("vhost", "vhost6", repair=["serve bdev raid_6 to a virtual machine"]),
    ]
    found["compute-5"] = {"cause": f"no route {EVIL}"}
    path = tmp_path_factory.mktemp("page") / "drift.html"
    report = drift_report(found, estate, "2026-11-27T10:00:00+00:00")
    path.write_text(as_page(report), encoding="utf-8")
    with browser() as opened:
        start = time.monotonic()
        opened.open(path.as_uri())
        opened.seconds = time.monotonic() - start
        opened.address = path.as_uri()
        yield opened


@pytest.fixture(autouse=True)
def anew(page):
    page.call("Page.navigate", url="about:blank")
    page.open(page.address)


def test_it_opens_at_a_thousand_volumes_and_loads_nothing(page):
    assert page.seconds < 20  # a second or two on a machine that has nothing else to do
    assert page.text("#verdict") == "4 differences, 1 node not compared"
    assert page.text("#shown") == "1000 of 1000 volumes"
    assert page.text("[data-state=broken] b") == "3" and page.text("[data-state=changing] b") == "2"
    assert page.count("#picture .row") < 100
    assert page.text("#group-broken .row .volume").split() == ["✕", "data-1", "#1", "·", "10", "GiB"]
    assert {url for url in page.requests if not url.startswith("about:")} == {page.address}


def test_names_from_the_database_are_text(page):
    page.select("#node", "compute-2")
    page.click("#picture h3 button", "as wanted")
    page.click("#find")
    page.type(EVIL[:20])
    page.until("document.querySelectorAll('#picture .row').length === 1")
    assert EVIL in page.text("#picture .row .lanes > :last-child")
    page.click("#tab-table")
    page.click("#reset")
    assert EVIL in page.text("#table tbody") and EVIL in page.text("#lines")
    assert page.run("document.title") == "Drift of the estate" and page.count("img") == 0
    assert not page.faults and {url for url in page.requests if not url.startswith("about:")} == {page.address}


def test_filters(page):
    page.select("#node", "storage-3")
    assert page.text("#shown") == "200 of 1000 volumes"
    page.select("#node", "")
    page.select("#volume", "6")
    assert page.text("#shown") == "1 of 1000 volumes" and page.count("#picture .row") == 1
    assert "missing vhost on compute-1: it is not there" in page.text("#picture .problems")
    page.click("#reset")
    page.click("[data-state=changing]")
    assert page.text("#shown") == "1 of 1000 volumes"
    page.click("#reset")
    page.click("[data-node=compute-5]")
    assert page.text("#shown") == "200 of 1000 volumes"
    page.key("/")
    page.type("data-77")
    page.until("document.getElementById('shown').innerText.startsWith('2 of')")
    page.open(page.run("location.href"))  # the address keeps what was chosen
    page.until("document.getElementById('shown').innerText.startsWith('2 of')")


def test_an_object_and_its_chain(page):
    page.click("#group-broken .chip.broken")
    details = page.text("#details")
    assert "create the subsystem" in details and "Risk of the repair: safe" in details and "it is not there" in details
    kinds = page.run("[...document.querySelectorAll('#details .steps li > span')].map(each => each.innerText)")
    assert kinds == ["node", "disk", "lvstore", "lvol", "export", "path", "mirror", "vhost", "vm"]
    assert page.count("#group-broken .row:nth-child(2) .chip.chain") == 9  # and not those of the other leg
    assert page.count("#group-broken .row:nth-child(3) .chip.chain") == 0
    page.click("#details .chip", "raid_1")
    assert "it is online and has one leg" in page.text("#details")
    page.key("Escape")
    assert page.count("#details") == 0 and page.count(".chain") == 0


def test_the_list_of_differences(page):
    page.click("#tab-table")
    rows = "[...document.querySelectorAll('#table tbody tr')].map(each => each.cells[1].innerText)"
    assert page.run(rows) == ["compute-1", "storage-1", "storage-2", "compute-1"]
    page.click("#table th button", "Node")
    assert page.run(rows) == ["compute-1", "compute-1", "storage-1", "storage-2"]
    page.key("Enter")  # the head of the column has the focus still
    assert page.run(rows) == ["storage-2", "storage-1", "compute-1", "compute-1"]
    assert page.run("document.querySelector('#table [aria-sort=descending]').innerText") == "Node"
    page.select("#volume", "1")
    assert page.run(rows) == ["storage-1", "compute-1"]
    page.click("#table .link", "subsystem")
    assert "create the subsystem" in page.text("#details")


def test_it_is_usable_by_keys_alone(page):
    page.run("document.querySelector('#group-broken .volume').focus()")
    page.key("ArrowRight")
    page.key("ArrowRight")
    page.key("Enter")
    page.until("!document.getElementById('details').hidden")
    assert page.text("#details h2") == "disk S00101"
    page.key("Escape")
    page.key("ArrowDown")
    assert page.run("document.activeElement.dataset.id") == "volume:6"
    named = "each => each.innerText || each.ariaLabel || each.labels?.length"
    assert page.run(f"[...document.querySelectorAll('button, input, select')].every({named})")


def test_healthy_volumes_come_when_they_are_asked_for(page):
    assert page.count("#group-ok .row") == 0
    page.click("#picture h3 button", "Volumes as wanted")
    first = page.count("#group-ok .row")
    assert 0 < first < 200
    page.run("window.scrollTo(0, document.body.scrollHeight)")
    page.until(f"document.querySelectorAll('#group-ok .row').length > {first}")
