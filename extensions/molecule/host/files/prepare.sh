#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Makes the account of SPDK, and puts drives into use as their serial numbers say, now and after a reboot.
set -e
drive() { realpath "/dev/disk/by-id/nvme-QEMU_NVMe_Ctrl_$1"; }
blank() { ! blkid -p "$(drive "$1")"; }

# SPDK polls without pause, and would leave little of the machine.
quota=/etc/systemd/system/spdk_tgt.service.d/quota.conf
mkdir -p "${quota%/*}"
printf '[Service]\nCPUQuota=40%%\nCPUQuotaPeriodSec=10ms\n' > "$quota"

id -u spdk > /dev/null || useradd --system spdk

if blank MOUNTED; then
  mkfs.ext4 -q -L mounted "$(drive MOUNTED)"
  mkdir /srv/data
  echo "LABEL=mounted /srv/data ext4 nofail 0 0" >> /etc/fstab
  mount /srv/data
  echo "not to be lost" > /srv/data/file
fi
if blank SWAP; then
  mkswap -q -L swapped "$(drive SWAP)"
  echo "LABEL=swapped none swap nofail 0 0" >> /etc/fstab
  swapon -a
fi
if blank LVM; then
  vgcreate -q data "$(drive LVM)"
  lvcreate -q -L 64M -n volume data
fi
if blank MD; then
  mdadm --quiet --create /dev/md/array --run --level=1 --force --raid-devices=1 --metadata=1.2 "$(drive MD)"
fi
if blank IDLE; then
  mkfs.ext4 -q -L idle "$(drive IDLE)"
fi
