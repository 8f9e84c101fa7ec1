#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# by_hand.sh ADDRESS: the drive is given to the kernel behind the back of the collection and used. udev, told to look at
# everything anew, must leave it alone, and take it again once nothing uses it.
set -e
device=/sys/bus/pci/devices/$1
driver() { basename "$(readlink "$device/driver")"; }

echo "$1" > "$device/driver/unbind"
mkdir /run/rules
mv /etc/udev/rules.d/*diskengine* /run/rules
udevadm control --reload
echo "$1" > /sys/bus/pci/drivers/nvme/bind
until ls "$device"/nvme/nvme*/nvme*n1 > /dev/null 2>&1; do sleep 0.1; done
udevadm settle
drive=/dev/$(basename "$device"/nvme/nvme*/nvme*n1)
mkfs.ext4 -q "$drive"
mount "$drive" /mnt
mv /run/rules/* /etc/udev/rules.d
rmdir /run/rules
udevadm control --reload
udevadm trigger --action=add --settle --subsystem-match=pci --subsystem-match=nvme
udevadm settle
echo "mounted: $(driver)"
[ "$(driver)" = nvme ]
touch /mnt/file
umount /mnt
wipefs -qa "$drive"
udevadm trigger --action=add --settle --subsystem-match=pci --subsystem-match=nvme
udevadm settle
echo "free: $(driver)"
[ "$(driver)" = vfio-pci ]
