# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Hugepages: what is there, what to write, and writing it. Private to the collection.

``observe`` reads once, ``make_plan`` is pure, ``carry_out`` executes its steps. Pages of a node are compared without
surplus pages, because the kernel counts these in ``nr_hugepages`` and yet does not count them when it is written.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import NamedTuple, Optional

from .._errors import Refusal
from .._sizes import divide_up, format_size, parse_size
from . import _boot
from ._host import Host, HostError, Step, file_steps

_NODES = "/sys/devices/system/node"
_GLOBAL = "/sys/kernel/mm/hugepages"
_RECORDS = "/run/diskengine"
_UNITS = "/etc/systemd/system"
_ATTEMPTS = 3
_PER_NODE_ARGUMENTS = (5, 16)  # the first kernel that knows hugepages=<node>:<count>


@dataclass(frozen=True)
class Wanted:
    """The options of the module. ``count`` of pages."""

    state: str = "present"
    page_size: str = "default"
    count: Optional[int] = None
    size: Optional[str] = None
    nodes: Optional[list] = None
    add: bool = False
    persist: Optional[str] = None
    mount: Optional[str] = None
    mount_user: Optional[str] = None
    drop_caches: bool = False


class Pool(NamedTuple):
    """The pages of one size on one NUMA node. Memory in bytes."""

    node: int
    directory: str
    total: int
    free: int
    surplus: int
    memory_total: int
    memory_free: int
    record: Optional[str]  # "<base> <ours>": how many pages others held, and how many this module added to them

    @property
    def persistent(self) -> int:
        """Pages that were asked for."""
        return self.total - self.surplus

    @property
    def used(self) -> int:
        """Pages that somebody works with."""
        return self.total - self.free

    @property
    def ours(self) -> int:
        """Pages that this module added."""
        return self._recorded()[1]

    @property
    def others(self) -> int:
        """Pages that are not ours. Where there are fewer than we left, somebody wrote over them: as many as before."""
        base, ours = self._recorded()
        return self.persistent - ours if self.persistent >= base + ours else base if ours else self.persistent

    def _recorded(self) -> tuple:
        words = (self.record or "").split()
        return (int(words[0]), int(words[1])) if len(words) == 2 and all(word.isdigit() for word in words) else (0, 0)


class Facts(NamedTuple):
    """What the host has."""

    page_size: int
    pools: tuple
    reserved: int
    release: tuple
    boot: _boot.Loader
    files: dict  # text of each file that may be ours, by path
    link: str  # where the unit's link leads
    mounts: dict  # hugetlbfs only: mount point to options
    mount_user: Optional[int]  # ID of the user that the mount is for
    mount_unit_link: str
    programs: frozenset
    systemd: bool
    live: bool


class Plan(NamedTuple):
    """Steps in order; those at or after ``persist_from`` are for the next boot. ``counts``: wanted pages by node."""

    steps: list
    counts: dict
    before: dict
    after: dict
    notes: list
    page_size: int
    drop_caches: bool


class Names(NamedTuple):
    """The files for one page size."""

    kib: int

    @property
    def unit(self) -> str:
        """The systemd unit."""
        return f"{_UNITS}/diskengine-hugepages-{self.kib}kB.service"

    @property
    def link(self) -> str:
        """The link that enables the unit."""
        return f"{_UNITS}/sysinit.target.wants/diskengine-hugepages-{self.kib}kB.service"

    def record(self, node: int) -> str:
        """What we added on a node, until the next boot."""
        return f"{_RECORDS}/hugepages-{self.kib}kB-node{node}"

    def directory(self, node: int) -> str:
        """The kernel's files of a node."""
        return f"{_NODES}/node{node}/hugepages/hugepages-{self.kib}kB"


# --- reading ---


def page_sizes(host: Host) -> list:
    """Return the sizes of pages that the kernel has, in KiB."""
    found = [re.fullmatch(r"hugepages-(\d+)kB", name) for name in host.names(_GLOBAL)]
    return sorted(int(match.group(1)) for match in found if match)


def observe(host: Host, wanted: Wanted) -> Facts:
    """Read what the host has for one page size. Raises Refusal when there is no such size."""
    sizes = page_sizes(host)
    if not sizes:
        raise Refusal(f"this kernel has no hugepages: {_GLOBAL} is empty or missing (CONFIG_HUGETLBFS)")
    meminfo = _meminfo(host.read("/proc/meminfo"))
    if wanted.page_size == "default":
        kib = meminfo.get("Hugepagesize", 0) // 1024 or sizes[0]
    else:
        kib = divide_up(parse_size(wanted.page_size, "page_size"), 1024)
    if kib not in sizes:
        known = ", ".join(format_size(size * 1024) for size in sizes)
        raise Refusal(f"page_size {wanted.page_size} is not one that this machine has ({known})")
    names = Names(kib)
    files = {names.unit: host.content(names.unit)}
    mount_link = ""
    if wanted.mount:
        files[mount_unit(wanted.mount)] = host.content(mount_unit(wanted.mount))
        mount_link = host.link(_mount_link(wanted.mount))
    programs = ("systemctl", "mount", "umount", "mkdir")
    return Facts(
        page_size=kib * 1024,
        pools=tuple(_pools(host, names, meminfo)),
        reserved=host.number(f"{_GLOBAL}/hugepages-{kib}kB/resv_hugepages"),
        release=tuple(int(part) for part in re.findall(r"\d+", host.read("/proc/sys/kernel/osrelease") or "")[:2]),
        boot=_boot.observe(host, f"hugepages-{kib}kB"),
        files=files,
        link=host.link(names.link),
        mounts=_hugetlbfs(host.read("/proc/self/mountinfo") or ""),
        mount_user=host.user_id(wanted.mount_user) if wanted.mount_user else None,
        mount_unit_link=mount_link,
        programs=frozenset(name for name in programs if host.program(name)),
        systemd=host.exists("/run/systemd/system") and host.program("systemctl"),
        live=host.live,
    )


def _pools(host: Host, names: Names, meminfo: dict) -> list:
    nodes = [int(name[4:]) for name in host.names(_NODES) if re.fullmatch(r"node\d+", name)]
    nodes = [node for node in nodes if host.exists(names.directory(node))]
    places = {node: names.directory(node) for node in sorted(nodes)} or {0: f"{_GLOBAL}/hugepages-{names.kib}kB"}
    pools = []
    for node, directory in places.items():
        memory = _meminfo(host.read(f"{_NODES}/node{node}/meminfo")) if nodes else meminfo
        total = memory.get("MemTotal", 0)
        if len(places) == 1:
            total = max(total, meminfo.get("MemTotal", 0))  # a node may show only what is initialised of its memory
        if not total and len(places) > 1:
            continue  # a node of processors only
        pools.append(
            Pool(
                node=node,
                directory=directory,
                total=host.number(f"{directory}/nr_hugepages"),
                free=host.number(f"{directory}/free_hugepages"),
                surplus=host.number(f"{directory}/surplus_hugepages"),
                memory_total=total,
                memory_free=memory.get("MemFree", 0),
                record=host.read(names.record(node)),
            )
        )
    return pools


def _meminfo(text: Optional[str]) -> dict:
    found = re.findall(r"^(?:Node \d+ )?(\w+):\s+(\d+) kB$", text or "", re.MULTILINE)
    return {name: int(number) * 1024 for name, number in found}


def _hugetlbfs(text: str) -> dict:
    mounts = {}
    for line in text.splitlines():
        first, _dash, last = line.partition(" - ")
        fields, kind = first.split(), last.split()
        if len(fields) > 4 and len(kind) > 2 and kind[0] == "hugetlbfs":
            mounts[fields[4]] = kind[2]
    return mounts


# --- planning ---


def make_plan(facts: Facts, wanted: Wanted) -> Plan:
    """Return what to do so that the host has what is wanted. Pure. Raises Refusal."""
    _check(wanted)
    names = Names(facts.page_size // 1024)
    shares = _shares(facts, wanted)
    counts = {node: _target(_pool(facts, node), share, wanted) for node, share in shares.items()}
    notes: list = []
    steps = _page_steps(facts, counts, shares, wanted, names)
    before, after = _counts_shown(facts, counts)
    for part, extra in ((_mount_steps, "mount"), (_persist_steps, "persist")):
        more, was, will = part(facts, shares, wanted, names, notes)
        steps += more
        if was is not None or will is not None:
            before[extra], after[extra] = was, will
    return Plan(steps, counts, before, after, notes, facts.page_size, wanted.drop_caches)


def _check(wanted: Wanted) -> None:
    amounts = [("", wanted.count, wanted.size)] if wanted.nodes is None or wanted.count or wanted.size else []
    amounts += [(f" of node {entry['node']}", entry.get("count"), entry.get("size")) for entry in wanted.nodes or ()]
    numbers = [entry["node"] for entry in wanted.nodes or ()]
    twice = sorted({number for number in numbers if numbers.count(number) > 1})
    if twice:
        raise Refusal(f"node {twice[0]} is named {numbers.count(twice[0])} times in nodes")
    if wanted.nodes is not None and not wanted.nodes:
        raise Refusal("nodes is an empty list; name nodes, or leave it out and give a count or a size for all of them")
    if wanted.state == "absent":
        if any(count is not None or size is not None for _of, count, size in amounts):
            raise Refusal("state absent takes no count or size: it gives up all pages, or with add those it had added")
        return
    for of_what, count, size in amounts:
        if count is None and size is None:
            raise Refusal(f"give a count or a size{of_what or ', or nodes'}")
        if count is not None and count < 1:
            raise Refusal(
                f"the count{of_what} is {count}, and no hugepages is never meant by accident: say state: absent to "
                f"give them up"
            )
    if wanted.add and wanted.persist == "kernel_args":
        raise Refusal(
            "add and persist: kernel_args exclude each other: after a boot nobody could tell the pages apart; use "
            "persist: unit"
        )


def _pool(facts: Facts, node: int) -> Pool:
    for pool in facts.pools:
        if pool.node == node:
            return pool
    known = ", ".join(str(pool.node) for pool in facts.pools)
    raise Refusal(f"there is no NUMA node {node} with memory and hugepages of this size (there is: {known})")


def _shares(facts: Facts, wanted: Wanted) -> dict:
    """Return pages by node as the options ask for them, before anything of others is added."""
    if wanted.nodes is not None:
        return {
            _pool(facts, entry["node"]).node: _pages(entry.get("count"), entry.get("size"), facts.page_size)
            for entry in wanted.nodes
        }
    total = _pages(wanted.count, wanted.size, facts.page_size)
    each, rest = divmod(total, len(facts.pools))
    return {pool.node: each + (index < rest) for index, pool in enumerate(facts.pools)}


def _pages(count: Optional[int], size: Optional[str], page_size: int) -> int:
    if size is not None:
        return divide_up(parse_size(size), page_size)
    return count or 0


def _target(pool: Pool, share: int, wanted: Wanted) -> int:
    if not wanted.add:
        return share
    return pool.others + share


def _page_steps(facts: Facts, counts: dict, shares: dict, wanted: Wanted, names: Names) -> list:
    pools = {pool.node: pool for pool in facts.pools}
    size = format_size(facts.page_size)
    for node, count in counts.items():
        pool = pools[node]
        if count < pool.persistent and count < pool.used:
            raise Refusal(
                f"node {node} has {pool.used} pages of {size} in use and {count} are wanted; pages in use are never "
                f"given up: stop who uses them (grep -l HugetlbPages /proc/*/status helps to find out), or ask for "
                f"{pool.used} or more"
            )
        if count > pool.persistent and count * facts.page_size > pool.memory_total > 0:
            raise Refusal(
                f"{count} pages of {size} are wanted on node {node}, which has {format_size(pool.memory_total)} of "
                f"memory in all, so at most {pool.memory_total // facts.page_size}; nothing was written"
            )
    keep = sum(pool.used for pool in facts.pools) + facts.reserved
    leaves = sum(counts.get(pool.node, pool.persistent) + pool.surplus for pool in facts.pools)
    if leaves < keep and any(count < pools[node].persistent for node, count in counts.items()):
        raise Refusal(
            f"{facts.reserved} pages of {size} are promised to processes beside those in use, so {keep} must stay and "
            f"{leaves} would; stop who holds them, or ask for more"
        )
    steps = []
    # First what is given up, then what is taken: a node may need the memory.
    for node in sorted(counts, key=lambda node: (counts[node] > pools[node].persistent, node)):
        pool, count = pools[node], counts[node]
        record = f"{pool.others} {shares[node]}\n" if wanted.add and shares[node] else None
        path = names.record(node)
        touched = count != pool.persistent
        if record and (touched or pool.ours != shares[node]):
            steps.append(Step("file", path, record, f"note how many pages on node {node} are ours"))
        if touched:
            what = f"set the pages of {size} on node {node} from {pool.persistent} to {count}"
            steps.append(Step("write", f"{pool.directory}/nr_hugepages", str(count), what))
        if record is None and pool.record is not None:
            steps.append(Step("remove", path, "", f"forget how many pages on node {node} were ours"))
    return steps


def _counts_shown(facts: Facts, counts: dict) -> tuple:
    before = {f"node{pool.node}": pool.persistent for pool in facts.pools}
    return before, {**before, **{f"node{node}": count for node, count in counts.items()}}


# --- planning: the mount ---


def mount_unit(path: str) -> str:
    """Return the file of the unit that mounts at ``path``; systemd wants it named after the path."""
    return f"{_UNITS}/{_unit_name(path)}"


def _unit_name(path: str) -> str:
    escaped = ""
    for index, character in enumerate(path.strip("/")):
        if character == "/":
            escaped += "-"
        elif character.isascii() and (character.isalnum() or character in ":_" or (character == "." and index)):
            escaped += character
        else:
            escaped += "".join(f"\\x{byte:02x}" for byte in character.encode())
    return f"{escaped}.mount"


def _mount_link(path: str) -> str:
    return f"{_UNITS}/local-fs.target.wants/{_unit_name(path)}"


def _mount_steps(facts: Facts, _shares: dict, wanted: Wanted, _names: Names, notes: list) -> tuple:
    path = wanted.mount
    if not path:
        return [], None, None
    if not path.startswith("/") or path.rstrip("/") != re.sub(r"/(\./|/)*", "/", path).rstrip("/") or ".." in path:
        raise Refusal(f"mount {path!r} is not a plain absolute path")
    if re.search(r"\s", path):
        raise Refusal(f"mount {path!r} holds a blank")
    path = path.rstrip("/")
    if not path:
        raise Refusal("mount '/' cannot be a mount point for hugepages")
    if wanted.mount_user and facts.mount_user is None:
        raise Refusal(f"mount_user: there is no user {wanted.mount_user} on this host")
    short = _short_size(facts.page_size)
    options = f"pagesize={short},mode=0770"
    if wanted.mount_user:
        options += f",uid={facts.mount_user}"
    unit, link = mount_unit(path), _mount_link(path)
    absent = wanted.state == "absent"
    mounted = facts.mounts.get(path)
    steps = []
    if facts.live:
        steps += _mount_now(path, options, mounted, absent, short, facts, notes)
    elif not absent:
        notes.append(f"{path} is not mounted now, because this is an image")
    text, target = facts.files[unit], facts.mount_unit_link
    if absent or wanted.persist == "none":
        text, target = None, ""
    elif wanted.persist is not None:
        text, target = _mount_text(path, options), f"../{_unit_name(path)}"
    steps += file_steps(facts.files, {unit: text})
    if target != facts.mount_unit_link:
        steps.append(
            Step("link", link, target, f"mount {path} at boot")
            if target
            else Step("remove", link, "", f"do not mount {path} at boot")
        )
    if len(steps) and steps[-1].kind != "command" and facts.systemd:
        steps.append(Step("command", "systemctl", "daemon-reload", "let systemd read its units"))
    before = {"path": path, "mounted": mounted is not None, "at_boot": bool(facts.mount_unit_link)}
    after = {"path": path, "mounted": mounted is not None, "at_boot": bool(target)}
    if facts.live:
        after["mounted"] = not absent
    return steps, before, after


def _mount_now(
    path: str, options: str, mounted: Optional[str], absent: bool, short: str, facts: Facts, notes: list
) -> list:
    if absent:
        if mounted is None:
            return []
        return [Step("command", "umount", shlex.quote(path), f"unmount {path}")]
    if mounted is not None:
        if f"pagesize={short}" not in mounted.split(","):
            raise Refusal(f"{path} is mounted with other pages ({mounted}); unmount it or choose another mount point")
        return []
    if "mount" not in facts.programs:
        raise Refusal("there is no mount program on this host")
    return [
        Step("command", "mkdir", f"-p {shlex.quote(path)}", f"make the directory {path}"),
        Step("command", "mount", f"-t hugetlbfs -o {options} none {shlex.quote(path)}", f"mount hugepages at {path}"),
    ]


def _mount_text(path: str, options: str) -> str:
    return (
        "# Written by excloud.diskengine.hugepages.\n"
        "[Unit]\n"
        "Description=Hugepages for SPDK\n"
        "DefaultDependencies=no\n"
        "Before=local-fs.target\n"
        "\n"
        "[Mount]\n"
        "What=none\n"
        f"Where={path}\n"
        "Type=hugetlbfs\n"
        f"Options={options}\n"
        "\n"
        "[Install]\n"
        "WantedBy=local-fs.target\n"
    )


def _short_size(page_size: int) -> str:
    """Return the size as the kernel takes and shows it: 2M, 1024M for 1 GiB, 64K."""
    kib = page_size // 1024
    return f"{kib // 1024}M" if kib >= 1024 else f"{kib}K"


# --- planning: the next boot ---


def _persist_steps(facts: Facts, shares: dict, wanted: Wanted, names: Names, notes: list) -> tuple:
    persist = wanted.persist
    absent = wanted.state == "absent"
    if absent and persist in ("unit", "kernel_args"):
        raise Refusal(f"state absent and persist: {persist} exclude each other: there is nothing to give at boot")
    was = _persisted(facts, names)
    if persist is None and absent and wanted.nodes is None:
        persist = "none"  # else the pages would be back after a boot
    if persist is None:
        if absent and was != "none":
            notes.append(f"what the next boot gives was left alone ({was}); persist: none takes it away")
        return [], None, None
    unit = _unit_text(facts, shares, wanted.add, names) if persist == "unit" else None
    arguments = _arguments(facts, shares, names) if persist == "kernel_args" else ""
    steps = file_steps(facts.files, {names.unit: unit})
    target = "../" + names.unit.rsplit("/", 1)[1] if unit else ""
    if target and facts.link != target:
        steps.append(Step("link", names.link, target, "enable the unit"))
    elif not target and facts.link:
        steps.insert(0, Step("remove", names.link, "", "disable the unit"))
    if steps and facts.systemd:
        steps.append(Step("command", "systemctl", "daemon-reload", "let systemd read its units"))
    more = _boot.steps_to(facts.boot, arguments, "hugepages", "use persist: unit")
    if more:
        notes.append("the kernel arguments of the next boot changed; the pages of this one were set as well")
    steps += more
    return steps, was, persist if (steps or was == persist) else was


def _persisted(facts: Facts, names: Names) -> str:
    ways = []
    if facts.files[names.unit] is not None:
        ways.append("unit")
    if facts.boot.is_ours:
        ways.append("kernel_args")
    return "+".join(ways) or "none"


def _unit_text(facts: Facts, shares: dict, add: bool, names: Names) -> str:
    lines = []
    for node, count in shares.items():
        if not count:
            continue
        path, record = f"{_pool(facts, node).directory}/nr_hugepages", names.record(node)
        if add:
            shell = (
                f"test -e {record} || {{ n=$$(cat {path}) && mkdir -p {_RECORDS} && echo $$n {count} > {record} && "
                f"w=$$((n + {count})) && {_until_there(path, '$$w')} }}"
            )
        else:
            shell = f"w={count}; {_until_there(path, '$$w')}"
        lines.append(f"ExecStart=/bin/sh -c '{shell}'")
    return (
        "# Written by excloud.diskengine.hugepages.\n"
        "[Unit]\n"
        f"Description=Hugepages of {format_size(facts.page_size)} for SPDK\n"
        "DefaultDependencies=no\n"
        "After=systemd-sysctl.service\n"
        "Before=sysinit.target shutdown.target\n"
        "Conflicts=shutdown.target\n"
        "\n"
        "[Service]\n"
        "Type=oneshot\n"
        "RemainAfterExit=yes\n" + "\n".join(lines) + "\n"
        "\n"
        "[Install]\n"
        "WantedBy=sysinit.target\n"
    )


def _until_there(path: str, number: str) -> str:
    """Return shell text that writes a number of pages, compacts memory if it got fewer, and fails if it still does."""
    return (
        f"for i in 1 2 3; do echo {number} > {path}; test $$(cat {path}) -ge {number} && break; "
        f"echo 1 > /proc/sys/vm/compact_memory; done; test $$(cat {path}) -ge {number};"
    )


def _arguments(facts: Facts, shares: dict, names: Names) -> str:
    kib = names.kib
    size = f"{kib // 1048576}G" if kib % 1048576 == 0 else f"{kib // 1024}M" if kib % 1024 == 0 else f"{kib}K"
    total = sum(shares.values())
    each, rest = divmod(total, len(facts.pools))
    spread = {pool.node: each + (index < rest) for index, pool in enumerate(facts.pools)}
    if shares == spread:
        return f"hugepagesz={size} hugepages={total}"
    if facts.release < _PER_NODE_ARGUMENTS:
        raise Refusal(
            f"kernel {'.'.join(map(str, facts.release))} takes no hugepages per node as arguments (5.16 and newer do); "
            f"use persist: unit, or the same number on each node"
        )
    return f"hugepagesz={size} hugepages=" + ",".join(f"{node}:{count}" for node, count in sorted(shares.items()))


# --- carrying out ---


def carry_out(host: Host, plan: Plan, facts: Facts) -> list:
    """Do the steps, check each number of pages, and return what had to be tried. Raises HostError when pages lack.

    When pages lack, every node gets back the number it had: a host without memory is worse than one without SPDK.
    """
    tried: list = []
    done: list = []
    try:
        for step in plan.steps:
            done.append(step)
            if step.kind == "write":
                tried += _set_pages(host, plan, facts, step)
            else:
                host.do(step)
    except HostError:
        if done and done[-1].kind == "write":
            _put_back(host, done, facts)
        raise
    return tried


def _set_pages(host: Host, plan: Plan, facts: Facts, step: Step) -> list:
    pool = next(pool for pool in facts.pools if step.path == f"{pool.directory}/nr_hugepages")
    wanted, tried = int(step.value), []
    for attempt in range(_ATTEMPTS):
        host.do(step)
        got = _persistent(host, pool)
        if got == wanted or (got > wanted and attempt):
            break
        if attempt + 1 < _ATTEMPTS and got < wanted:
            if plan.drop_caches:
                tried.append(Step("write", "/proc/sys/vm/drop_caches", "3", "give up caches"))
                host.do(tried[-1])
            tried.append(Step("write", "/proc/sys/vm/compact_memory", "1", "compact memory"))
            host.do(tried[-1])
    if got == wanted:
        return tried
    size = format_size(plan.page_size)
    if got > wanted:
        raise HostError(f"node {pool.node} keeps {got} pages of {size} though {wanted} were wanted: they are in use")
    memory = _meminfo(host.read(f"{_NODES}/node{pool.node}/meminfo")) or _meminfo(host.read("/proc/meminfo"))
    raise HostError(
        f"node {pool.node} gave {got} of the {wanted} pages of {size} that were wanted, even after memory was "
        f"compacted {_ATTEMPTS - 1} times; {memory.get('MemFree', 0) // 1048576} MiB were free there before the pages "
        f"were put back. Memory is short or fragmented: {'' if plan.drop_caches else 'say drop_caches: true, '}stop "
        f"what uses memory on this node, ask for less, or reserve the pages at boot (persist: kernel_args) and "
        f"restart the host"
    )


def _persistent(host: Host, pool: Pool) -> int:
    return host.number(f"{pool.directory}/nr_hugepages") - host.number(f"{pool.directory}/surplus_hugepages")


def _put_back(host: Host, done: list, facts: Facts) -> None:
    """Undo the numbers and the records of them, as far as that goes."""
    names = Names(facts.page_size // 1024)
    for step in reversed(done):
        for pool in facts.pools:
            undo = None
            if step.path == f"{pool.directory}/nr_hugepages":
                undo = step._replace(value=str(pool.persistent))
            elif step.path == names.record(pool.node):
                kind = "remove" if pool.record is None else "file"
                undo = Step(kind, step.path, f"{pool.record}\n", f"restore {step.path}")
            if undo is not None:
                try:
                    host.do(undo)
                except HostError:
                    continue


# --- the whole of it ---


def manage(host: Host, wanted: Wanted, check: bool) -> tuple:
    """Bring the host where it should be. Returns ``(result, whether it failed)``."""
    facts = observe(host, wanted)
    plan = make_plan(facts, wanted)
    result: dict = {
        "changed": bool(plan.steps),
        "page_size": facts.page_size,
        "before": plan.before,
        "after": plan.after,
        "writes": [step.describe() for step in plan.steps],
        "tried": [],
        "notes": plan.notes,
    }
    failed = False
    if not check and plan.steps:
        try:
            result["tried"] = [step.describe() for step in carry_out(host, plan, facts)]
        except HostError as error:
            failed = True
            result["msg"] = str(error)
            now = observe(host, wanted)
            result["after"] = make_after(now)
            before = (make_after(facts), facts.files, facts.boot)
            result["changed"] = (make_after(now), now.files, now.boot) != before
            facts = now
        else:
            facts = observe(host, wanted)
    result["pools"] = [
        {
            "node": pool.node,
            "wanted": plan.counts.get(pool.node),
            "total": pool.total,
            "free": pool.free,
            "surplus": pool.surplus,
            "memory_total": pool.memory_total,
            "memory_free": pool.memory_free,
        }
        for pool in facts.pools
    ]
    return result, failed


def make_after(facts: Facts) -> dict:
    """Return the numbers of pages as they are."""
    return _counts_shown(facts, {})[0]
