# SPDX-License-Identifier: GPL-3.0-or-later
"""The one table of what the simulator does not do.

A method name: the method answers -32601 "Method not found" and is absent from rpc_get_methods. A (scenario, line) of
tests/conformance/transcripts: that recorded answer is not reproduced.
"""

from __future__ import annotations

NOT_SIMULATED: dict[str | tuple[str, int], str] = {}


def _methods(reason: str, names: str) -> None:
    NOT_SIMULATED.update(dict.fromkeys(names.split(), reason))


def _answer(scenario: str, line: int, reason: str) -> None:
    NOT_SIMULATED[scenario, line] = reason


_methods(
    "tracing of the running program",
    "trace_get_info trace_clear trace_get_tpoint_group_mask trace_disable_tpoint_group trace_enable_tpoint_group "
    "trace_clear_tpoint_mask trace_set_tpoint_mask",
)
_methods(
    "threads and memory of the running program",
    "thread_set_cpumask thread_get_io_channels thread_get_pollers thread_get_stats framework_get_reactors "
    "framework_monitor_context_switch framework_get_governor env_dpdk_get_mem_stats iobuf_get_stats accel_get_stats "
    "framework_enable_cpumask_locks framework_disable_cpumask_locks scheduler_set_options log_enable_timestamps "
    "log_get_flags spdk_kill_instance",
)
_methods(
    "needs I/O, of which there is none",
    "bdev_get_histogram_borders bdev_get_histogram bdev_enable_histogram bdev_nvme_get_path_iostat "
    "bdev_nvme_get_transport_statistics bdev_nvme_add_error_injection "
    "bdev_nvme_remove_error_injection bdev_nvme_apply_firmware accel_error_inject_error",
)
_methods(
    "kind of device that no node uses",
    "fsdev_get_opts fsdev_aio_delete fsdev_aio_create vmd_rescan vmd_remove_device vmd_enable "
    "framework_get_pci_devices bdev_virtio_attach_controller bdev_virtio_scsi_get_devices "
    "bdev_virtio_detach_controller "
    "bdev_virtio_blk_set_hotplug bdev_ftl_set_property bdev_ftl_get_properties bdev_ftl_get_stats bdev_ftl_unmap "
    "bdev_ftl_delete bdev_ftl_create bdev_zone_block_delete bdev_zone_block_create bdev_delay_delete "
    "bdev_delay_create bdev_delay_update_latency bdev_split_delete bdev_split_create bdev_error_resume_pending "
    "bdev_error_inject_error bdev_error_delete bdev_error_create bdev_passthru_delete bdev_passthru_create "
    "bdev_nvme_cuse_unregister bdev_nvme_cuse_register bdev_opal_new_user bdev_opal_set_lock_state bdev_opal_delete "
    "bdev_opal_get_info bdev_opal_create bdev_nvme_opal_revert bdev_nvme_opal_init bdev_null_resize "
    "virtio_blk_create_transport scsi_get_devices ae4dma_scan_accel_module "
    "ioat_scan_accel_module keyring_linux_set_options",
)
_methods(
    "acceleration modules beyond their sizes",
    "accel_set_driver accel_crypto_key_destroy accel_crypto_keys_get accel_crypto_key_create accel_get_module_info "
    "accel_get_opc_assignments",
)
_methods(
    "discovery by the initiator and mDNS",
    "nvmf_stop_mdns_prr nvmf_publish_mdns_prr bdev_nvme_get_mdns_discovery_info bdev_nvme_stop_mdns_discovery "
    "bdev_nvme_start_mdns_discovery bdev_nvme_get_discovery_info bdev_nvme_stop_discovery bdev_nvme_start_discovery",
)
_methods("a second NVMe-oF target in one process", "nvmf_get_targets nvmf_delete_target nvmf_create_target")
_methods(
    "iSCSI, except for the options in the saved configuration",
    "iscsi_get_histogram iscsi_enable_histogram iscsi_get_auth_groups iscsi_auth_group_remove_secret "
    "iscsi_auth_group_add_secret iscsi_delete_auth_group iscsi_create_auth_group iscsi_set_discovery_auth "
    "iscsi_get_options iscsi_target_node_request_logout iscsi_target_node_set_redirect iscsi_target_node_set_auth "
    "iscsi_target_node_add_lun iscsi_get_stats iscsi_get_connections iscsi_portal_group_set_auth "
    "iscsi_start_portal_group iscsi_delete_portal_group iscsi_create_portal_group iscsi_get_portal_groups "
    "iscsi_delete_target_node iscsi_target_node_remove_pg_ig_maps iscsi_target_node_add_pg_ig_maps "
    "iscsi_create_target_node iscsi_get_target_nodes iscsi_delete_initiator_group "
    "iscsi_initiator_group_remove_initiators iscsi_initiator_group_add_initiators iscsi_create_initiator_group "
    "iscsi_get_initiator_groups",
)
