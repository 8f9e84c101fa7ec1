# SPDX-License-Identifier: GPL-3.0-or-later
"""make bench: what a run costs on a storage node and on a compute node, beside what people do today.

Prints tables and judges nothing. Read docs/benchmarks.md for what the rows mean.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / ".build" / "tree")]

import clients  # noqa: E402
import fleets  # noqa: E402
import inside  # noqa: E402
import scene as scenes  # noqa: E402
from ansible.release import __version__ as ansible_version  # noqa: E402
from measure import Row, extrapolated, largest_child, machine, print_rows, print_table, seconds, timed  # noqa: E402
from support.targets import is_real, rpc  # noqa: E402

FEW = 20
FLEET_VOLUMES = 50


class Bench:
    """The samples by label, and what the tables share."""

    def __init__(self, stage, options):
        self.stage = stage
        self.options = options
        self.samples = defaultdict(list)
        self.no_op = None

    def row(self, label, note=""):
        """The row of what was sampled under that label."""
        return Row(label, self.samples[label], note)

    def sample(self, label, work, *arguments):
        """Run something and keep its sample under a label."""
        print(f"  ... {label}", file=sys.stderr, flush=True)
        self.samples[label].append(timed(work, *arguments))
        return self.samples[label][-1].value

    @contextmanager
    def empty_node(self, volumes):
        """A scene with nothing provisioned, and the calls that provision it, sorted by volume."""
        with self.stage.scene(volumes) as scene:
            common, calls = inside.planned_calls(scene.socket, scene.desired())
            for call in common:
                rpc(scene.socket, *call)
            yield scene, calls

    def from_empty(self, volumes):
        """Table 1."""
        for _number in range(self.options.repeat):
            with self.stage.scene(volumes) as scene:
                self.sample("converge.yml", scene.converge)
            with self.stage.scene(volumes) as scene:
                scene.write_arguments()
                self.sample("one task spdk_node", scene.module_task)
            with self.stage.scene(volumes) as scene:
                scene.write_arguments()
                self.sample("module process, no Ansible", scene.module_process)
            with self.stage.scene(volumes) as scene:
                self.sample("the module's work, in this process", inside.work, scene.socket, scene.desired())
            with self.empty_node(volumes) as (scene, calls):
                self.sample("raw floor: the same calls, 64 in flight", clients.pipelined, scene.socket, calls)
            with self.empty_node(volumes) as (scene, calls):
                self.sample("the same calls, arrays of 64", clients.batched, scene.socket, calls)
                self.sample("reading and recording in the database", scene.read_and_record)
                self.sample("no-op tasks", scene.play, self.no_op)
                self.sample("no task", scene.play, scenes.storage_play([]))
        with self.empty_node(volumes) as (scene, calls):
            self.sample("sequential, reading before each call", clients.checked_first, scene.socket, calls)
        with self.empty_node(FEW) as (scene, calls):
            self.sample("one process per call", clients.one_process_each, scene.socket, calls)
        with self.empty_node(FEW) as (scene, calls):
            self.sample("one task per object", scene.play, loop_play(calls))
        count = sum(map(len, calls)) // FEW
        nothing = Row("", [timed(lambda: None)])
        print_rows(
            f"1. From empty: {volumes} volumes, {count} calls each",
            [
                self.row("converge.yml"),
                self.row("no-op tasks", f"Ansible's own start: {describe_tasks(self.no_op)}"),
                self.row("one task spdk_node"),
                self.row("module process, no Ansible"),
                self.row("the module's work, in this process", "read, plan, apply"),
                self.row("raw floor: the same calls, 64 in flight", "no Ansible, no plan"),
                self.row("the same calls, arrays of 64", "one array at a time"),
                self.row("reading and recording in the database", "in this process"),
                self.row("sequential, reading before each call", "one connection"),
                extrapolated(
                    "one task per object",
                    self.row("one task per object"),
                    self.row("no task"),
                    FEW,
                    volumes,
                    "volumes, spdk_lvol and spdk_subsystem in loops",
                ),
                extrapolated(
                    "one process per call", self.row("one process per call"), nothing, FEW, volumes, "volumes"
                ),
            ],
        )
        floor = self.row("raw floor: the same calls, 64 in flight").wall
        whole, start = self.row("converge.yml").wall, self.row("no-op tasks").wall
        print(
            f"\nWanted for converge.yml: 1.5 times the raw floor plus the no-op tasks, {seconds(1.5 * floor + start)}. "
            f"It is {(whole - start) / floor:.2f} times the floor plus those."
        )

    def nothing_to_do(self, volumes):
        """Table 2, the reads, and what the tasks carry."""
        with self.stage.scene(volumes) as scene:
            scene.converge()
            recorded = scene.converge(record=True)
            scene.write_arguments()
            self.samples.clear()
            for _number in range(self.options.repeat):
                self.sample("converge.yml", scene.converge)
                self.sample("no-op tasks", scene.play, self.no_op)
                self.sample("one task spdk_node", scene.module_task)
                self.sample("module process, no Ansible", scene.module_process)
                self.sample("the module's work, in this process", inside.work, scene.socket, scene.desired())
                for how in ("batch", "pipelined", "sequential"):
                    self.sample(f"reading everything, {how}", clients.read_all, scene.socket, inside.GETTERS, how)
        print_rows(
            f"2. Nothing to do: {volumes} volumes",
            [
                self.row("converge.yml"),
                self.row("no-op tasks", "Ansible's own start"),
                self.row("one task spdk_node"),
                self.row("module process, no Ansible"),
                self.row("the module's work, in this process", "read, plan"),
                *(self.row(f"reading everything, {how}") for how in ("batch", "pipelined", "sequential")),
            ],
        )
        beyond = self.row("converge.yml").wall - self.row("no-op tasks").wall
        print(f"\nconverge.yml less the no-op tasks is {seconds(beyond)} (wanted: less than 2 s).")
        print_tasks(recorded.events, volumes)

    def by_size(self, sizes):
        """Table 3."""
        lines, fixed = [], None
        for volumes in sizes:
            self.samples.clear()
            with self.stage.scene(volumes) as scene:
                filling = timed(scene.converge)
                for _number in range(self.options.repeat):
                    self.sample(f"converge.yml, {volumes} volumes", scene.converge)
                    self.sample("no-op tasks", scene.play, self.no_op)
            run, start = self.row(f"converge.yml, {volumes} volumes"), self.row("no-op tasks")
            beyond = [run.wall - start.wall, run.cpu - start.cpu]
            fixed = fixed or beyond
            more = [1000 * (value - once) / volumes for value, once in zip(beyond, fixed)]
            lines.append(
                [
                    str(volumes),
                    seconds(filling.wall),
                    seconds(run.wall),
                    seconds(run.cpu),
                    seconds(start.wall),
                    seconds(beyond[0]),
                    *([f"{value:.2f} ms" for value in more] if volumes > sizes[0] else ["", ""]),
                    "",
                ]
            )
        print_table(
            f"3. Nothing to do, by the number of volumes (best of {self.options.repeat}; per volume: what is more than "
            f"for {sizes[0]}, divided)",
            ["volumes", "from empty", "converge.yml", "CPU", "no-op tasks", "beyond them", "per volume", "CPU", ""],
            lines,
        )

    def compute(self, sizes):
        """Table 4."""
        lines = []
        for mappings in sizes:
            with fleets.opened_nodes(self.stage, mappings) as nodes:
                site = timed(nodes.play, "site")
                if nodes.attached() != mappings:
                    raise RuntimeError(f"{nodes.attached()} of {mappings} mappings are ATTACHED")
                document = nodes.document()
                nothing = timed(nodes.work, document)
                recovery = None
                if is_real():  # the simulator has all three in one process
                    nodes.restart()
                    recovery = timed(nodes.work, document)
                nodes.wish("DETACHING", *nodes.estate.mappings)
                detach = timed(nodes.work, nodes.document())
                attach = timed(nodes.work, document)
            steps = [seconds(step.wall) if step else "" for step in (site, attach, nothing, recovery, detach)]
            lines.append([str(mappings), *steps, f"{1000 * attach.wall / mappings:.1f} ms", seconds(attach.cpu), ""])
        print_table(
            "4. Mappings on a compute node: site.yml from ASSIGNED to ATTACHED, then the module's work in this process "
            "(one run each)",
            ["mappings", "site.yml", "attach", "nothing to do", "after a restart", "detach", "attach each", "CPU", ""],
            lines,
        )
        with fleets.opened_nodes(self.stage, sizes[-1]) as nodes:
            calls = inside.all_calls(nodes.compute.socket, nodes.document())
            whole = timed(clients.checked_first, nodes.compute.socket, [calls])
        with fleets.opened_nodes(self.stage, FEW) as nodes:
            few = inside.all_calls(nodes.compute.socket, nodes.document())
            part = timed(clients.one_process_each, nodes.compute.socket, [few])
        nothing = Row("", [timed(lambda: None)])
        print_rows(
            f"The same by scripts: {sizes[-1]} mappings, {len(calls)} calls",
            [
                Row("sequential, reading before each call", [whole], "one connection"),
                extrapolated("one process per call", Row("", [part]), nothing, FEW, sizes[-1], "mappings"),
            ],
        )

    def fleet(self, sizes):
        """Table 5."""
        lines = []
        for nodes in sizes:
            with fleets.opened_nodes(self.stage, nodes * FLEET_VOLUMES // 2, storage=nodes) as fleet:
                fleet.play("converge")  # what was made is recorded; the free space of a disk only by the run after
                with self.stage.statements(fleet.conn) as statements:
                    run = timed(fleet.play, "converge")
            lines.append(
                [
                    str(nodes),
                    seconds(run.wall),
                    seconds(run.cpu),
                    f"{1000 * run.cpu / nodes:.0f} ms",
                    f"{largest_child():.0f} MiB",
                    str(len(statements)),
                    "",
                ]
            )
        print_table(
            f"5. Nothing to do on many storage nodes, {FLEET_VOLUMES} volumes on each (converge.yml, one run each)",
            ["nodes", "wall", "CPU", "CPU per node", "memory", "statements", ""],
            lines,
        )


def loop_play(calls):
    """What people write: a loop over the lvols, then one over the subsystems. ``calls`` are sorted by volume."""
    lvols, subsystems = [], []
    for volume in calls:
        sent = dict(volume)
        create, listen = sent["bdev_lvol_create"], sent["nvmf_subsystem_add_listener"]
        lvols.append(
            {
                "name": create["lvol_name"],
                "lvstore": create["uuid"],
                "size": f"{create['size_in_mib']}MiB",
                "thin": create["thin_provision"],
            }
        )
        subsystems.append(
            {
                "nqn": listen["nqn"],
                "listeners": [listen["listen_address"]],
                "hosts": [sent["nvmf_subsystem_add_host"]["host"]],
                "namespaces": [{"bdev": f"{create['uuid']}/{create['lvol_name']}", "nsid": 1}],
            }
        )
    return scenes.storage_play([loop_task("spdk_lvol", lvols), loop_task("spdk_subsystem", subsystems)])


def loop_task(module, items):
    """One task that loops over the items."""
    options = {key: f"{{{{ item.{key} }}}}" for key in items[0]}
    return {
        "name": module,
        f"excloud.diskengine.{module}": {"socket": "{{ storage_node_socket }}", **options},
        "loop": items,
        "loop_control": {"label": "{{ item.name | default(item.nqn) }}"},
    }


def describe_tasks(plays):
    """How many tasks of which sort a playbook of no-ops has."""
    names = [("skipped" if "when" in task else task["name"].lower()) for play in plays for task in play["tasks"]]
    return ", ".join(f"{names.count(name)} {name}" for name in ("module", "action", "skipped"))


def print_tasks(events, volumes):
    """What each task of a run carried."""
    lines = []
    for event in events:
        result = dict(event["result"])
        arguments = result.pop("invocation", {}).get("module_args", {})
        sort = "module" if scenes.is_module(event["action"]) else "action"
        lines.append(
            [
                event["task"].rpartition(" : ")[2][:60],
                "skipped" if event["event"] == "skipped" else sort,
                kilobytes(arguments) if sort == "module" else "",
                kilobytes(result),
                "",
            ]
        )
    print_table(
        f"What the tasks of such a run carry: {volumes} volumes, kilobytes as JSON",
        ["task", "sort", "arguments", "result", ""],
        lines,
    )


def kilobytes(value):
    """The size of a value as JSON."""
    return f"{len(scenes.json.dumps(value)) / 1000:.1f}"


def parsed(arguments=None):
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--volumes", type=int, default=1000, help="volumes in tables 1 and 2 (default %(default)s)")
    parser.add_argument("--large", type=int, default=10000, help="the most volumes in table 3 (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each (default %(default)s)")
    parser.add_argument("--tables", default="12345", help="which tables (default %(default)s)")
    parser.add_argument("--mappings", type=int, default=300, help="the most mappings in table 4 (default %(default)s)")
    parser.add_argument("--nodes", type=int, default=200, help="the most nodes in table 5 (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="100 and 1,000 volumes, one run of each")
    options = parser.parse_args(arguments)
    if options.quick:
        options.volumes, options.large, options.mappings, options.nodes, options.repeat = 100, 1000, 30, 10, 1
    return options


def main():
    """Measure and print."""
    options = parsed()
    with scenes.opened_stage() as stage:
        bench = Bench(stage, options)
        with stage.scene(1) as scene:
            version = rpc(scene.socket, "spdk_get_version")["version"]
            scene.converge()
            bench.no_op = scenes.no_op_play(scene.converge(record=True).events)
        program = version if is_real() else f"the simulator as {version}"
        print(f"Target: {program}; ansible-core {ansible_version}; {machine()}")
        if "1" in options.tables:
            bench.from_empty(options.volumes)
        if "2" in options.tables:
            bench.nothing_to_do(options.volumes)
        if "3" in options.tables:
            bench.by_size([1, *(size for size in (100, 1000) if size < options.large), options.large])
        if "4" in options.tables:
            bench.compute([size for size in (10, 30, 100) if size < options.mappings] + [options.mappings])
        if "5" in options.tables:
            bench.fleet([size for size in (2, 20) if size < options.nodes] + [options.nodes])
        print(f"\nAt the end: {machine()}")


if __name__ == "__main__":
    main()
