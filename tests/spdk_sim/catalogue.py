# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases, the methods of the real program in its order, and the one table of what is not simulated."""

from __future__ import annotations

from typing import Any

RELEASES = ("24.05", "24.09", "25.05", "25.09", "26.01", "26.05", "26.09")
RECORDED = (26, 9)
COMMIT = "3230130e6a"
BATCHES_SINCE = (26, 5)
"""JSON-RPC batches and the larger receive buffer (contract section 1)."""


def parse_release(text: str) -> tuple[int, int]:
    """(year, month) of a release; ValueError for one that is not in RELEASES."""
    if text not in RELEASES:
        raise ValueError(f"unknown release {text}, one of {', '.join(RELEASES)}")
    year, month = text.split(".")
    return int(year), int(month)


def version(release: tuple[int, int]) -> dict[str, Any]:
    """The answer of spdk_get_version. The recorded build is a pre-release with a commit."""
    fields: dict[str, Any] = {"major": release[0], "minor": release[1], "patch": 0, "suffix": ""}
    name = f"SPDK v{release[0]:02}.{release[1]:02}"
    if release == RECORDED:
        fields |= {"suffix": "-pre", "commit": COMMIT}
        name += f"-pre git sha1 {COMMIT}"
    return {"version": name, "fields": fields}


ORDER = (
    "spdk_get_version rpc_get_methods notify_get_notifications notify_get_types trace_get_info trace_clear "
    "trace_get_tpoint_group_mask trace_disable_tpoint_group trace_enable_tpoint_group trace_clear_tpoint_mask "
    "trace_set_tpoint_mask fsdev_set_opts fsdev_get_opts framework_get_pci_devices framework_get_config "
    "framework_get_subsystems vmd_rescan vmd_remove_device vmd_enable keyring_get_keys iobuf_get_stats "
    "iobuf_set_options sock_get_default_impl sock_set_default_impl sock_impl_set_options sock_impl_get_options "
    "accel_get_stats accel_set_options accel_set_driver accel_crypto_key_destroy accel_crypto_keys_get "
    "accel_crypto_key_create accel_assign_opc accel_get_module_info accel_get_opc_assignments "
    "bdev_get_histogram_borders bdev_get_histogram bdev_enable_histogram bdev_set_qos_limit "
    "bdev_set_qd_sampling_period bdev_get_bdevs bdev_reset_iostat bdev_get_iostat bdev_examine bdev_wait_for_examine "
    "bdev_set_options scsi_get_devices thread_set_cpumask scheduler_set_options framework_get_governor "
    "framework_get_scheduler framework_set_scheduler framework_get_reactors thread_get_io_channels thread_get_pollers "
    "thread_get_stats framework_monitor_context_switch spdk_kill_instance log_enable_timestamps log_get_flags "
    "log_clear_flag log_set_flag log_get_level log_set_level log_get_print_level log_set_print_level "
    "framework_enable_cpumask_locks framework_disable_cpumask_locks framework_wait_init framework_start_init "
    "virtio_blk_create_transport virtio_blk_get_transports vhost_controller_set_coalescing vhost_get_controllers "
    "vhost_delete_controller vhost_create_blk_controller vhost_scsi_controller_remove_target "
    "vhost_scsi_controller_add_target vhost_start_scsi_controller vhost_create_scsi_controller nbd_get_disks "
    "nbd_stop_disk nbd_start_disk env_dpdk_get_mem_stats nvmf_stop_mdns_prr nvmf_publish_mdns_prr "
    "nvmf_subsystem_get_listeners nvmf_subsystem_get_qpairs nvmf_subsystem_get_controllers nvmf_get_stats "
    "nvmf_get_transports nvmf_create_transport nvmf_get_targets nvmf_delete_target nvmf_create_target "
    "nvmf_subsystem_allow_any_host nvmf_subsystem_set_keys nvmf_subsystem_remove_host nvmf_subsystem_add_host "
    "nvmf_ns_remove_host nvmf_ns_add_host nvmf_subsystem_remove_ns nvmf_subsystem_set_ns_ana_group "
    "nvmf_subsystem_add_ns nvmf_subsystem_listener_set_ana_state nvmf_discovery_get_referrals "
    "nvmf_discovery_remove_referral nvmf_discovery_add_referral nvmf_subsystem_remove_listener "
    "nvmf_subsystem_add_listener nvmf_delete_subsystem nvmf_create_subsystem nvmf_get_subsystems nvmf_set_crdt "
    "nvmf_set_config nvmf_set_max_subsystems iscsi_get_histogram iscsi_enable_histogram iscsi_set_options "
    "iscsi_get_auth_groups iscsi_auth_group_remove_secret iscsi_auth_group_add_secret iscsi_delete_auth_group "
    "iscsi_create_auth_group iscsi_set_discovery_auth iscsi_get_options iscsi_target_node_request_logout "
    "iscsi_target_node_set_redirect iscsi_target_node_set_auth iscsi_target_node_add_lun iscsi_get_stats "
    "iscsi_get_connections iscsi_portal_group_set_auth iscsi_start_portal_group iscsi_delete_portal_group "
    "iscsi_create_portal_group iscsi_get_portal_groups iscsi_delete_target_node iscsi_target_node_remove_pg_ig_maps "
    "iscsi_target_node_add_pg_ig_maps iscsi_create_target_node iscsi_get_target_nodes iscsi_delete_initiator_group "
    "iscsi_initiator_group_remove_initiators iscsi_initiator_group_add_initiators iscsi_create_initiator_group "
    "iscsi_get_initiator_groups fsdev_aio_delete fsdev_aio_create keyring_linux_set_options keyring_file_remove_key "
    "keyring_file_add_key ae4dma_scan_accel_module ioat_scan_accel_module accel_error_inject_error "
    "bdev_virtio_attach_controller bdev_virtio_scsi_get_devices bdev_virtio_detach_controller "
    "bdev_virtio_blk_set_hotplug bdev_ftl_set_property bdev_ftl_get_properties bdev_ftl_get_stats bdev_ftl_unmap "
    "bdev_ftl_delete bdev_ftl_create bdev_aio_delete bdev_aio_rescan bdev_aio_create bdev_zone_block_delete "
    "bdev_zone_block_create bdev_delay_delete bdev_delay_create bdev_delay_update_latency bdev_split_delete "
    "bdev_split_create bdev_error_resume_pending bdev_error_inject_error bdev_error_delete bdev_error_create "
    "bdev_raid_set_options bdev_raid_remove_base_bdev bdev_raid_add_base_bdev bdev_raid_delete bdev_raid_create "
    "bdev_raid_get_bdevs bdev_lvol_set_parent_bdev bdev_lvol_set_parent bdev_lvol_check_shallow_copy "
    "bdev_lvol_start_shallow_copy bdev_lvol_grow_lvstore bdev_lvol_get_lvols bdev_lvol_get_lvstores bdev_lvol_delete "
    "bdev_lvol_set_read_only bdev_lvol_resize bdev_lvol_decouple_parent bdev_lvol_inflate bdev_lvol_rename "
    "bdev_lvol_clone_bdev bdev_lvol_clone bdev_lvol_snapshot bdev_lvol_create bdev_lvol_delete_lvstore "
    "bdev_lvol_rename_lvstore bdev_lvol_create_lvstore bdev_passthru_delete bdev_passthru_create "
    "bdev_nvme_cuse_unregister bdev_nvme_cuse_register bdev_opal_new_user bdev_opal_set_lock_state bdev_opal_delete "
    "bdev_opal_get_info bdev_opal_create bdev_nvme_opal_revert bdev_nvme_opal_init bdev_nvme_send_cmd "
    "bdev_nvme_set_keys bdev_nvme_get_path_iostat bdev_nvme_get_mdns_discovery_info bdev_nvme_stop_mdns_discovery "
    "bdev_nvme_start_mdns_discovery bdev_nvme_set_multipath_policy bdev_nvme_set_preferred_path "
    "bdev_nvme_get_io_paths bdev_nvme_remove_error_injection bdev_nvme_add_error_injection "
    "bdev_nvme_get_discovery_info bdev_nvme_stop_discovery bdev_nvme_start_discovery "
    "bdev_nvme_get_controller_health_info bdev_nvme_disable_controller bdev_nvme_enable_controller "
    "bdev_nvme_reset_controller bdev_nvme_get_transport_statistics bdev_nvme_apply_firmware "
    "bdev_nvme_detach_controller bdev_nvme_get_controllers bdev_nvme_attach_controller bdev_nvme_set_hotplug "
    "bdev_nvme_set_options bdev_null_resize bdev_null_delete bdev_null_create bdev_malloc_delete bdev_malloc_create"
).split()
