# Copyright (c) 2026, The excloud.diskengine developers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the connection to SPDK and of the objects in it; each object is described once, for all modules."""

from __future__ import annotations

from textwrap import indent

_STATE = """
state:
  description: Whether the object should be there.
  type: str
  choices: [present, absent]
  default: present
"""

_TRANSPORT = (
    ("trtype", "Transport type, V(TCP) or V(RDMA) in any case."),
    """
max_queue_depth: {type: int, description: [Largest number of outstanding I/O for a queue pair.]}
max_io_qpairs_per_ctrlr: {type: int, description: [Largest number of I/O queue pairs of a controller.]}
in_capsule_data_size: {type: int, description: [Largest in-capsule data size in bytes.]}
max_io_size: {type: int, description: [Largest I/O in bytes.]}
max_aq_depth: {type: int, description: [Largest number of outstanding admin commands of a controller.]}
io_unit_size:
  description: I/O unit in bytes. Has no effect from SPDK v26.05 on and is not sent there.
  type: int
num_shared_buffers:
  description: Number of pooled data buffers. Has no effect from SPDK v26.05 on and is not sent there.
  type: int
buf_cache_size:
  description: Buffers reserved for each poll group. Has no effect from SPDK v26.05 on and is not sent there.
  type: int
iobuf_small_cache_size: {type: int, description: [Small buffers cached for each poll group, SPDK v26.05 or newer.]}
iobuf_large_cache_size: {type: int, description: [Large buffers cached for each poll group, SPDK v26.05 or newer.]}
zcopy: {type: bool, description: [Use zero-copy where the bdev can.]}
abort_timeout_sec: {type: int, description: [Seconds to wait for an abort.]}
acceptor_poll_rate: {type: int, description: [Microseconds between looks for new connections; not comparable later.]}
ack_timeout: {type: int, description: [ACK timeout as the transport defines it.]}
disable_command_passthru: {type: bool, description: [Refuse commands that are not known, SPDK v24.09 or newer.]}
kas: {type: int, description: [Keep-alive granularity in units of 100 ms, SPDK v25.05 or newer.]}
min_kato: {type: int, description: [Shortest keep-alive timeout in milliseconds, SPDK v25.05 or newer.]}
c2h_success: {type: bool, description: [TCP only. Combine the last data unit with the completion.]}
dif_insert_or_strip: {type: bool, description: [Insert and strip protection information.]}
sock_priority: {type: int, description: [TCP only. Priority of the sockets.]}
num_cqe: {type: int, description: [RDMA only. Number of completion queue entries.]}
max_srq_depth: {type: int, description: [RDMA only. Depth of a shared receive queue.]}
no_srq: {type: bool, description: [RDMA only. Use no shared receive queue.]}
no_wr_batching: {type: bool, description: [RDMA only. Do not batch work requests.]}
data_wr_pool_size: {type: int, description: [RDMA only. Data work requests for each poll group.]}
""",
)

_KEY = (
    ("name", "Name of the key in the keyring, 1 to 255 characters of letters, digits and C(. _ @ + -)."),
    """
path:
  description:
    - Absolute path of the file on the node that holds the key. Needed to add it.
    - SPDK takes it only if it belongs to the user that the target runs as and nobody else can use it.
  type: str
""",
)

_SECRET = """
key:
  description:
    - The key itself, in the form C(DHHC-1:00:...:) or C(NVMeTLSkey-1:01:...:). The file is replaced when it holds
      another one, with mode V(0600) and the user of the target as owner. Without it the file has to be there.
    - The file is what is compared. The key is never shown.
  type: str
"""

_CONTROLLER = (
    (
        "name",
        "Name of the controller, 1 to 63 characters. Its bdevs are called C(<name>n<namespace>). That of a subsystem "
        "follows from its NQN without it and is always the same.",
    ),
    """
trtype:
  description: V(PCIe) for a local drive, V(TCP) or V(RDMA) for a subsystem of another node.
  type: str
  choices: [PCIe, TCP, RDMA]
  default: PCIe
traddr:
  description: PCI address of the drive, such as V(0000:07:00.0). Needed to attach it.
  type: str
subnqn:
  description: NQN of the subsystem. A subsystem has one controller, whatever its name.
  type: str
hostnqn:
  description:
    - NQN that the target connects as. SPDK takes one of its own without it, another one after each start.
    - A controller that is attached with another one is a refusal, because SPDK cannot change it.
  type: str
paths:
  description:
    - Addresses of the subsystem. Needed to attach it; without it the paths of one that is attached are not managed.
    - Paths that are missing are added, whether the others work or not. Those that nobody wants are removed afterwards,
      as long as a wanted one works.
  type: list
  elements: dict
  suboptions:
    traddr:
      description: IP address of the storage node.
      type: str
      required: true
    trsvcid:
      description: Port.
      type: str
      default: "4420"
    adrfam:
      description: V(IPv4) or V(IPv6); follows from the address without it.
      type: str
    hostaddr:
      description: Local IP address to connect from. It does not make another path of the same address.
      type: str
source_addresses:
  description:
    - Local IPv4 addresses to connect from over RDMA. RDMA over IPv4 needs them, or C(hostaddr) for each path.
    - Each path takes the one that is most like its own address, of those whose interface is there, is up and has a
      link. Without such an interface nothing is sent, and the message says which check failed.
  type: list
  elements: str
multipath_policy:
  description:
    - How the bdevs spread I/O over their paths. SPDK takes V(active_passive) without it, and one that is attached keeps
      its own.
    - It is set by the attach from SPDK v26.05 on, by a call of its own before, and changed in place where the release
      still has that call.
  type: str
  choices: [active_passive, active_active]
multipath_selector:
  description: How V(active_active) chooses a path. SPDK takes V(round_robin) without it.
  type: str
  choices: [round_robin, queue_depth]
reconnect_delay_sec:
  description: Seconds between attempts to connect a lost path again.
  type: int
  default: 1
ctrlr_loss_timeout_sec:
  description:
    - Seconds after which a lost path is given up. The next run adds it again. V(-1) is never; with V(0) no attempt is
      made, and the other two have to be V(0) too.
    - This and the next six cannot be changed in place. A path with other times or digests is reported and left alone,
      one with other keys is a refusal.
  type: int
  default: 10
fast_io_fail_timeout_sec:
  description: Seconds after which I/O to a lost path fails. V(0) is never.
  type: int
  default: 0
hdgst:
  description: TCP only. Protect headers by a digest.
  type: bool
ddgst:
  description: TCP only. Protect data by a digest.
  type: bool
psk:
  description: TCP only. Name of the key for TLS in the target's keyring.
  type: str
dhchap_key:
  description: Name of the key for DH-HMAC-CHAP in the target's keyring.
  type: str
dhchap_ctrlr_key:
  description: Name of the key by which the subsystem has to prove itself, in the target's keyring.
  type: str
purge:
  description: With V(paths), paths that nobody wants are removed even when none of the wanted ones works.
  type: list
  elements: str
  choices: [paths]
  default: []
""",
)

_LVSTORE = (
    ("name", "Name of the lvstore, 1 to 63 characters without a slash."),
    """
bdev:
  description: The bdev that holds it, by name, alias or UUID. Needed to create it.
  type: str
cluster_size:
  description: Size of a cluster, for example V(4MiB), which is what SPDK takes without it. Never changed later.
  type: str
clear_method:
  description: How the bdev is cleared at creation. SPDK takes V(unmap) without it.
  type: str
  choices: [none, unmap, write_zeroes]
max_lvols:
  description:
    - How many lvols and snapshots the lvstore should be able to hold.
    - Each needs at least one metadata page, and SPDK's default gives one for each cluster, thin or not. The ratio of
      metadata pages is chosen from this at creation and never changed later.
  type: int
import_existing:
  description: Take the lvstore that is on the bdev already, whatever its name. The result names it.
  type: bool
  default: false
force:
  description:
    - Serial number of the local drive whose content may be given up. Before an lvstore is created on a local drive the
      drive is read, and a partition table, a file system or any other mark on it is a refusal without this.
    - It does not allow to overwrite an lvstore that is loaded, or a bdev that is used.
  type: str
""",
)

_DISK = (
    ("serial", "Serial number of the drive, which is what makes it this disk."),
    """
bdf:
  description: PCI address where the drive was seen last. One that is attached is found by its serial number.
  type: str
  %s
lvstore:
  description: Name of the lvstore to create. One that is on the drive is taken whatever its name.
  type: str
lvstore_uuid:
  description: UUID of the lvstore that has to be on the drive. Without it, the one that is there is taken.
  type: str
create:
  description: Create an lvstore if the drive is blank. Never done where C(lvstore_uuid) says that there was one.
  type: bool
  default: false
max_lvols:
  description: How many lvols and snapshots an lvstore that is created should be able to hold.
  type: int
clear_method:
  description: How the drive is cleared when an lvstore is created. SPDK takes V(unmap) without it.
  type: str
  choices: [none, unmap, write_zeroes]
force:
  description: Serial number of the drive, to give up what is on it when an lvstore is created.
  type: str
""",
)

_LVOL = (
    ("name", "Name of the lvol within its lvstore, 1 to 63 characters without a slash."),
    """
lvstore:
  description: The lvstore, by UUID or name.
  type: str
  %s
size:
  description:
    - Size such as V(100GiB) or a number of bytes. C(K M G T P) with or without C(iB) are powers of 1024, C(KB) to
      C(PB) powers of 1000. It is rounded B(up) to whole clusters, and the result says so.
    - An existing lvol that is smaller grows to it. Needed to create it.
  type: str
thin:
  description: Whether clusters are allocated only when written. Thick without it. Cannot be changed in place.
  type: bool
clear_method:
  description: How clusters are cleared. SPDK chooses without it.
  type: str
  choices: [default, none, unmap, write_zeroes]
allow_shrink:
  description:
    - Let an lvol that is larger than the size shrink, which gives up what is beyond.
    - Never done while something uses the lvol, because SPDK frees the clusters and yet reports an error.
  type: bool
  default: false
growth:
  description:
    - How an lvol that is there grows. SPDK does not clear the clusters that it takes, and hosts see the new size at
      once.
    - With V(zeroed) nobody ever reads old data in the new bytes. Free clusters are cleared first, in steps of 1 GiB, by
      an lvol C(diskengine_zero_<name>) that takes them and is deleted with C(clear_method=write_zeroes), and then the
      lvol grows by them. Hosts stay connected. A run that was cut off is gone on with where the size of the lvol is.
    - That is possible for a thick lvol in an lvstore that has no thin lvol, as one is that had snapshots or is a
      clone, because a write to a thin lvol takes a free cluster at any time. Otherwise it is refused.
    - V(plain) is right where all free clusters of the lvstore are known to be zero, or where nobody uses the lvol yet.
  type: str
  choices: [zeroed, plain]
  default: zeroed
zero_limit:
  description: How much of an lvol a run zeroes with C(growth=zeroed) at most. The next run goes on.
  type: str
  default: 64GiB
clone_of:
  description:
    - Snapshot in the same lvstore that the lvol is made as a clone of. It then has the snapshot's size, or grows to
      C(size).
    - An lvol that is there has to be a clone of it, or independent if that is wanted too.
  type: str
independent:
  description:
    - Make an lvol that is a clone of a snapshot, which every lvol is of its latest one, independent of all snapshots.
    - V(inflate) allocates all clusters of an lvol, which is thick then, whether it was a clone or just thin.
      V(decouple) copies what its snapshots hold.
  type: str
  choices: [inflate, decouple]
uuid:
  description: UUID that an lvol of that name has to have. Another one that has taken the name is left alone.
  type: str
""",
)

_SNAPSHOT = (
    ("name", "Name of the snapshot within its lvstore, 1 to 63 characters without a slash."),
    """
lvstore:
  description: The lvstore, by UUID or name.
  type: str
  %s
lvol:
  description: Name of the lvol to take the snapshot of. Needed to create it; the lvol is a clone of the snapshot then.
  type: str
uuid:
  description: UUID that a snapshot of that name has to have. Another one that has taken the name is left alone.
  type: str
""",
)

_RAID = (
    ("name", "Name of the RAID and of its bdev, 1 to 63 characters."),
    """
level:
  description: RAID level. Chosen at creation and never again.
  type: str
  choices: [raid1, raid0, concat, raid5f]
  default: raid1
base_bdevs:
  description:
    - Its legs, by name, alias or UUID. Needed to create it. All of them have to be there, unused and alike in block
      size and metadata, those of a mirror in size too. A RAID keeps the number of its legs for life.
    - An empty place of a mirror or a raid5f is filled by the leg that is wanted and not in it, and where there is none
      a leg that is not wanted is replaced. That is done one at a time, and only while all others are in sync.
    - SPDK does not compare the legs of a new mirror. They have to hold the same, as two new lvols do, or the legs of a
      mirror that was deleted in sync.
  type: list
  elements: str
superblock:
  description:
    - Keep on each leg what the RAID is, which takes 1 MiB. Without it nobody knows after an outage which leg is stale.
    - V(true) for mirrors without it, V(false) for other levels.
  type: bool
strip_size:
  description: Size of a strip, such as V(64KiB), a power of two. Needed for all levels but mirrors, which have none.
  type: str
source:
  description:
    - The leg of a mirror of two that holds the data, when a mirror has to be made of it and of a leg that does not.
      The other one is brought in sync then. Keep the option until that is done.
    - This is the way out for a mirror that waits for a leg which is gone for good. Only somebody who knows that the leg
      that is left is not stale can say so. Its old superblock is wiped, which needs SPDK v26.05 or newer.
  type: str
stale:
  description:
    - The leg of a mirror of two that does not hold the data, such as a new lvol that stands in for another one since
      the mirror was deleted. A mirror that has to be made is made of the other one then, and this is brought in sync.
    - Where there is a mirror, or the superblock of one, that is believed instead.
  type: list
  elements: str
""",
)

_COPY = (
    (
        "bdev",
        "The bdev that is written to, such as a new mirror, by name. Nothing else may use it, and a mirror has to be "
        "in sync. Limits and vhost controllers for it in the same task follow when the copy is complete.",
    ),
    """
source:
  description:
    - The bdev that is copied, a namespace of an attached subsystem, by name. Needed unless O(copies[].state=absent). It
      is detached when all that is to be copied from it is complete.
    - Where it holds the superblock of a mirror, as a snapshot of a leg does, the data behind it is copied.
  type: str
hostnqn:
  description: NQN of this node. For as long as the copy takes, the target exports both to it alone, on 127.0.0.1.
  type: str
offset:
  description: Bytes that earlier runs have copied, as RV(results[].copied_bytes) said.
  type: int
  default: 0
limit:
  description: How much one run copies at most, such as V(64GiB). V(0) is nothing.
  type: str
  default: 64GiB
port:
  description: TCP port of that export.
  type: str
  default: "4419"
""",
)

_QOS = (
    ("bdev", "The bdev, by name, alias or UUID."),
    """
rw_ios_per_sec:
  description: Reads and writes per second. SPDK rounds up to thousands, and the result says so. V(0) is no limit.
  type: int
rw_mbytes_per_sec:
  description: MiB per second that are read or written. V(0) is no limit.
  type: int
r_mbytes_per_sec:
  description: MiB per second that are read. V(0) is no limit.
  type: int
w_mbytes_per_sec:
  description: MiB per second that are written. V(0) is no limit.
  type: int
""",
)

_VHOST = (
    ("name", "Name of the controller and of its socket, 1 to 63 characters, the first of them a letter."),
    """
bdev:
  description: The bdev that it serves, by name, alias or UUID. Needed to create it.
  type: str
cpumask:
  description: Cores that serve it, in hexadecimal such as V(0x3). SPDK takes all of its own without it.
  type: str
readonly:
  description: Serve the bdev for reading only.
  type: bool
  default: false
allow_sessions:
  description:
    - Delete the controller although a client is connected. SPDK then answers only when the client is gone, so that the
      task fails when that takes longer than O(timeout).
  type: bool
  default: false
""",
)

_SUBSYSTEM = (
    ("nqn", "NQN of the subsystem, for example V(nqn.2024-01.io.excloud:storage.node-1.7.42)."),
    """
serial_number:
  description: Serial number, at most 20 characters. Fixed at creation.
  type: str
model_number:
  description: Model number, at most 40 characters. Fixed at creation.
  type: str
max_namespaces:
  description: Largest number of namespaces. Fixed at creation.
  type: int
min_cntlid:
  description: Smallest controller ID. Fixed at creation.
  type: int
max_cntlid:
  description: Largest controller ID. Fixed at creation.
  type: int
ana_reporting:
  description: Report asymmetric namespace access. Set at creation; the target does not show it, so it is not compared.
  type: bool
allow_any_host:
  description: Let every host in. Without it only the hosts in the list can connect.
  type: bool
  default: false
listeners:
  description: Addresses to listen on. Without it listeners are not managed.
  type: list
  elements: dict
  suboptions:
    trtype:
      description: Transport type, V(TCP) or V(RDMA) in any case. The transport must exist.
      type: str
      default: TCP
    traddr:
      description: IP address of this node.
      type: str
      required: true
    trsvcid:
      description: Port.
      type: str
      default: "4420"
    adrfam:
      description: V(IPv4) or V(IPv6); follows from the address without it.
      type: str
    secure_channel:
      description:
        - Whether hosts have to use TLS, for which they need a C(psk). Not compared without it.
        - SPDK cannot change that. With C(purge) for listeners such a listener is removed and added again, after all
          that are new.
      type: bool
hosts:
  description: NQNs of the hosts that may connect. Without it hosts are not managed.
  type: list
  elements: str
host_keys:
  description:
    - Names of keys in the keyring that hosts authenticate with. Without it keys are not managed; with it each host in
      C(hosts) has the keys that are listed here for it, or none.
    - Other DH-HMAC-CHAP keys interrupt no host (before SPDK v24.09 they do), but a host that connects again needs the
      new ones. Another PSK shuts the host out for a moment.
  type: list
  elements: dict
  suboptions:
    host:
      description: NQN of the host, which has to be let in.
      type: str
      required: true
    dhchap_key:
      description: Key that the host authenticates with (DH-HMAC-CHAP).
      type: str
    dhchap_ctrlr_key:
      description: Key that the target authenticates with. Only together with C(dhchap_key).
      type: str
    psk:
      description: Key for TLS.
      type: str
namespaces:
  description:
    - What the hosts see. Without it namespaces are not managed.
    - With C(state=absent) the subsystem is deleted only if it shows nothing else.
  type: list
  elements: dict
  suboptions:
    bdev:
      description: The bdev, by name, alias, UUID, or as C(<lvstore UUID>/<lvol name>).
      type: str
      required: true
    nsid:
      description: Namespace ID. Without it the bdev keeps the one it has, or gets the lowest that is free.
      type: int
    bdev_uuid:
      description: UUID that the bdev must have. Another bdev that has taken its name is not exported.
      type: str
purge:
  description:
    - Parts of the subsystem whose entries are removed when they are not in the desired state.
    - Without it such entries are reported and left alone.
  type: list
  elements: str
  choices: [listeners, hosts, namespaces]
  default: []
""",
)


_DOCUMENT = """
desired:
  description:
    - The lists below as one JSON document, instead of them.
    - Ansible visits each value of a list of dictionaries several times, but a document once. With thousands of objects
      that is most of the time that a task takes.
  type: json
"""


def _options(kind: tuple, required: bool) -> str:
    (name, description), rest = kind
    flag = "required: true" if required and kind is not _CONTROLLER else ""
    head = f"{name}:\n  description: {description}\n  type: str\n  {flag}\n"
    return head + (rest % flag if "%s" in rest else rest) + ("" if kind in (_DISK, _QOS) else _STATE)


def _many(kind: tuple, plural: str, default: str = "") -> str:
    head = f"{plural}:\n  description: Objects to manage in one task, each with the options below.\n"
    return f"{head}  type: list\n  elements: dict\n  {default}\n  suboptions:\n" + indent(_options(kind, True), " " * 4)


def _one_or_many(kind: tuple, plural: str) -> str:
    return "options:\n" + indent(_options(kind, False) + _many(kind, plural), "  ")


class ModuleDocFragment:
    """The connection, and for each kind of object its options as one object or as a list of them."""

    DOCUMENTATION = r"""
options:
  socket:
    description: Path of the target's JSON-RPC socket, its C(-r) option.
    type: path
    default: /var/tmp/spdk.sock
  timeout:
    description: Seconds that each call may take. After one took longer nothing more is sent to the target.
    type: float
    default: 60.0
requirements:
  - SPDK v24.05 or newer
  - Python 3.9 or newer on the node, nothing else
"""

    LOCK = r"""
options:
  lock_wait:
    description:
      - Seconds to wait for another module on the same target to end, before giving up.
      - They exclude each other by a lock on the file C(<socket>.client.lock), which ends with its holder.
    type: float
    default: 60.0
  lease:
    description:
      - Token of the run's lease of the node, as M(excloud.diskengine.node_lease) returns it.
      - The highest token that a target was ever called with is kept in the file of the lock. A call with a lower one
        comes from a run that was overtaken; it is refused and sends nothing.
      - Without it the call belongs to no run and only waits for others to end.
    type: int
"""

    HEALTH = r"""
options:
  thresholds:
    description:
      - From which values on a drive is no longer V(ok). A number that is never reached turns a threshold off.
      - What the drive itself warns of, and a spare capacity below its own threshold, counts without any of them.
    type: dict
    suboptions:
      temperature_warning:
        description: Degrees Celsius from which on the composite temperature is V(warning).
        type: int
        default: 70
      temperature_critical:
        description: Degrees Celsius from which on the composite temperature is V(critical).
        type: int
        default: 80
      used_warning:
        description: Percentage of the endurance, as the vendor estimates it, whose use is V(warning).
        type: int
        default: 80
      used_critical:
        description: Percentage of the endurance whose use is V(critical).
        type: int
        default: 100
      media_errors_warning:
        description: Number of unrecovered data integrity errors over the drive's life from which on it is V(warning).
        type: int
        default: 1
      media_errors_critical:
        description: Number of unrecovered data integrity errors from which on it is V(critical). Never without it.
        type: int
      unsafe_shutdowns_warning:
        description: Number of losses of power over the drive's life from which on it is V(warning). Never without it.
        type: int
      unsafe_shutdowns_critical:
        description: Number of losses of power from which on it is V(critical). Never without it.
        type: int
      spare_warning:
        description: Percentage of spare capacity below which the drive is V(warning).
        type: int
        default: 20
"""


# Set from outside, because ansible-test's yamllint reads nothing but literals inside the class.
for _fragment, _text in {
    "TRANSPORT": _one_or_many(_TRANSPORT, "transports"),
    "KEY": _one_or_many((_KEY[0], _KEY[1] + _SECRET), "keys"),
    "CONTROLLER": _one_or_many(_CONTROLLER, "controllers"),
    "DISK": _one_or_many(_DISK, "disks"),
    "LVSTORE": _one_or_many(_LVSTORE, "lvstores"),
    "LVOL": _one_or_many(_LVOL, "lvols"),
    "SNAPSHOT": _one_or_many(_SNAPSHOT, "snapshots"),
    "RAID": _one_or_many(_RAID, "raids"),
    "QOS": _one_or_many(_QOS, "qos"),
    "VHOST": _one_or_many(_VHOST, "vhosts"),
    "SUBSYSTEM": _one_or_many(_SUBSYSTEM, "subsystems"),
    "EVERYTHING": "options:\n"
    + indent(
        _DOCUMENT
        + _many(_TRANSPORT, "transports", "default: []")
        + _many(_KEY, "keys", "default: []")
        + _many(_CONTROLLER, "controllers", "default: []")
        + _many(_DISK, "disks", "default: []")
        + _many(_LVSTORE, "lvstores", "default: []")
        + _many(_LVOL, "lvols", "default: []")
        + _many(_SNAPSHOT, "snapshots", "default: []")
        + _many(_RAID, "raids", "default: []")
        + _many(_COPY, "copies", "default: []")
        + _many(_SUBSYSTEM, "subsystems", "default: []")
        + _many(_QOS, "qos", "default: []")
        + _many(_VHOST, "vhosts", "default: []"),
        "  ",
    ),
}.items():
    setattr(ModuleDocFragment, _fragment, _text)
