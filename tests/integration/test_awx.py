# SPDX-License-Identifier: GPL-3.0-or-later
"""The site's repository of examples/awx: what sets AWX up, jobs run as AWX does, and the execution environment."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import ansible_runner
import yaml
from support.ansible import LOCAL, ROOT, run_playbook
from support.awx import HIDDEN, running_awx

EXAMPLE = ROOT / "examples" / "awx"


def laid_out(directory, fleet):
    """A private data directory as AWX lays it out: the project, the inventory as it was read, and the environment."""
    shutil.copytree(EXAMPLE, directory / "project")
    shutil.rmtree(directory / "project/group_vars")
    own = {name: {"socket": target.socket} for name, target in fleet.targets.items()}
    for name in ("storage-1", "storage-2"):
        own[name] |= {"drives": False, "bind": False}
    hosts = {
        name: {f"{name.partition('-')[0]}_node_{key}": value for key, value in options.items()}
        for name, options in own.items()
    }
    groups = {
        kind: {"hosts": {name: variables for name, variables in hosts.items() if name.startswith(kind)}}
        for kind in ("storage", "compute")
    }
    (directory / "inventory").mkdir()
    (directory / "inventory/hosts.json").write_text(json.dumps({"all": {"children": groups, "vars": LOCAL}}))
    environment = {
        "DISKENGINE_DSN": fleet.dsn,
        "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".build/tree"),
        "ANSIBLE_HOME": str(directory / "home"),
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": str(ROOT / "tests/support/quicker"),
    }
    (directory / "env").mkdir()
    (directory / "env/envvars").write_text(json.dumps(environment))


def job(directory, fleet, playbook, cmdline=""):
    """Run a job as AWX does, in a directory of its own; returns its status and its events, read from the artifacts."""
    laid_out(directory, fleet)
    done = ansible_runner.run(
        private_data_dir=str(directory), playbook=playbook, ident="1", cmdline=cmdline, quiet=True
    )
    files = (directory / "artifacts/1/job_events").glob("*.json")
    return done, [json.loads(path.read_text()) for path in files]


def changed(events):
    return sum(event["event_data"].get("res", {}).get("changed", False) for event in events if "ok" in event["event"])


def test_jobs_of_awx(make_fleet, tmp_path):
    """A preview sends nothing and tells what a run does; the second run changes nothing; drift finds nothing."""
    fleet = make_fleet()
    fleet.clear()
    preview, foretold = job(tmp_path / "1", fleet, "site.yml", "--check --diff")
    assert preview.rc == 0 and not fleet.sent(), preview.stdout.read()
    assert any(event["event_data"].get("res", {}).get("diff") for event in foretold)
    assert job(tmp_path / "2", fleet, "site.yml")[0].rc == 0
    assert fleet.states() == ["ATTACHED"] * 2
    again, events = job(tmp_path / "3", fleet, "site.yml")
    assert again.rc == 0 and changed(foretold) and not changed(events)
    drift, events = job(tmp_path / "4", fleet, "drift.yml", "--check -e drift_fail=true")
    assert drift.rc == 0 and drift.status == "successful", drift.stdout.read()
    diagnose, events = job(tmp_path / "5", fleet, "diagnose.yml", f"-e diagnose_volume={fleet.estate.volumes[0]}")
    (failure,) = [event["event_data"]["res"]["msg"] for event in events if event["event"] == "runner_on_failed"]
    assert diagnose.status == "failed" and "no VM is connected" in failure


def test_awx_is_set_up():
    """By the variables that the documentation shows; then a change of one is all that check mode tells of."""
    (shown,) = re.findall(r"^```yaml\n(# awx-vars.yml.*?)^```", (ROOT / "docs/awx.md").read_text(), re.M | re.S)
    variables = yaml.safe_load(shown) | {
        f"vault_{name}": f"secret {name}"
        for name in ("convergence_password", "ssh_key", "project_key", "mail_password")
    }
    with running_awx({path.name for path in EXAMPLE.glob("*.yml")}) as awx:
        made = run_playbook(EXAMPLE / "awx.yml", extra_vars=variables, env=awx.environment)
        assert made.rc == 0, made.output
        templates = awx.named("job_templates")
        told = [awx.associated[each["id"], "notification_templates_error"] for each in templates.values()]
        assert told == [[awx.named("notification_templates")["diskengine storage on call"]["id"]]] * 4
        assert {name: each["playbook"] for name, each in templates.items()} == {
            "diskengine converge": "site.yml",
            "diskengine preview": "site.yml",
            "diskengine drift": "drift.yml",
            "diskengine diagnose": "diagnose.yml",
        }
        assert awx.surveys[templates["diskengine diagnose"]["id"]]["spec"][0]["variable"] == "diagnose_volume"
        (source,) = awx.named("inventory_sources").values()
        assert (EXAMPLE / source["source_path"]).exists()
        credentials = awx.named("credentials")
        (project,) = awx.named("projects").values()
        assert project["credential"] == credentials["diskengine project"]["id"]
        assert credentials["diskengine database"]["inputs"] == {"dsn": variables["awx_dsn"], "password": HIDDEN}
        awx.writes.clear()
        changed = {**variables, "awx_converge_every": 15}
        preview = run_playbook(EXAMPLE / "awx.yml", extra_vars=changed, env=awx.environment, check=True)
        assert preview.rc == 0 and not awx.writes, preview.output
        assert preview.changed == {"localhost": 1}
        assert [each["changed"] for each in preview.result("Make the schedules")["results"]] == [True, False]
        assert "WARNING" not in made.output + preview.output


def test_the_execution_environment(tmp_path):
    """What ansible-builder makes of the definition, with what the collection says it needs."""
    shutil.copytree(EXAMPLE, tmp_path / "site")
    builder = str(Path(sys.executable).with_name("ansible-builder"))
    done = subprocess.run(
        [builder, "create", "--output-filename=Containerfile", "-f", "execution-environment.yml"],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    context = tmp_path / "site/context"
    wanted = yaml.safe_load((EXAMPLE / "collections/requirements.yml").read_text())
    assert yaml.safe_load((context / "_build/requirements.yml").read_text()) == wanted
    recipe = (context / "Containerfile").read_text()
    definition = yaml.safe_load((EXAMPLE / "execution-environment.yml").read_text())
    assert definition["images"]["base_image"]["name"] in recipe
    assert "ansible-galaxy collection install" in recipe and "ansible-core" in recipe
    needs = subprocess.run(
        [builder, "introspect", str(ROOT / ".build/tree")], capture_output=True, text=True, check=True
    )
    assert "psycopg" in needs.stdout
