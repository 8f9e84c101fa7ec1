# SPDX-License-Identifier: GPL-3.0-or-later
"""What every state module has to do: predict, do just that, and have nothing to do then; refuse without a call."""

from __future__ import annotations

import json
from collections import Counter

from .ansible import play, run_playbook


def canonical(call):
    return json.dumps([call["method"], call["params"]], sort_keys=True)


def tasks_of(name, module, options):
    call = {f"excloud.diskengine.{module}": options, "diff": True}
    return [
        {"name": f"{name}: check", "check_mode": True, **call},
        {"name": f"{name}: run", **call},
        {"name": f"{name}: again", "check_mode": True, **call},
    ]


def three_steps(target, *steps):
    """Do the three steps for each of (name, module, options, methods that are called); returns the results of the runs.

    All of it is one playbook; each task is one connection.
    """
    target.recorder.clear()
    tasks = [task for name, module, options, _methods in steps for task in tasks_of(name, module, options)]
    defaults = {"group/excloud.diskengine.spdk": {"socket": target.socket}}
    done = run_playbook(play(*tasks, module_defaults=defaults))
    assert done.rc == 0, done.output
    connections = list(dict.fromkeys(call["connection"] for call in target.recorder.requests))
    assert len(connections) == len(tasks)
    runs = []
    for number, (name, _module, _options, methods) in enumerate(steps):
        check, run, again = (done.result(f"{name}: {step}") for step in ("check", "run", "again"))
        sent = [
            Counter(canonical(call) for call in target.recorder.mutations if call["connection"] == connection)
            for connection in connections[3 * number : 3 * number + 3]
        ]
        assert (check["changed"], run["changed"], again["changed"]) == (True, True, False), name
        called = [call for call in check["actions"] if call["method"] != "file"]
        assert sent == [Counter(), Counter(map(canonical, called)), Counter()], name
        assert Counter(call["method"] for call in check["actions"]) == Counter(methods), name
        assert check["diff"] == run["diff"] != [], name
        assert again["diff"] == again["actions"] == [], name
        assert len(check["results"]) == len(run["results"]) == len(again["results"])
        for predicted, did, found in zip(check["results"], run["results"], again["results"]):
            assert predicted["before"] == did["before"], name
            assert predicted["after"] == did["after"] == found["after"] == found["before"], name
            assert predicted["actions"] == did["actions"], name
            assert not found["actions"] and not found["changed"], name
        runs.append(run)
    return runs


def refusals(target, *cases):
    """Try (module, options); returns the messages. Nothing is sent for any."""
    target.recorder.clear()
    tasks = [
        {
            "name": str(number),
            f"excloud.diskengine.{module}": {"socket": target.socket, **options},
            "ignore_errors": True,
        }
        for number, (module, options) in enumerate(cases)
    ]
    done = run_playbook(play(*tasks))
    assert [event["event"] for event in done.events] == ["ignored"] * len(cases)
    assert target.recorder.mutations == []
    assert "Traceback" not in done.output
    return [event["result"]["msg"] for event in done.events]
