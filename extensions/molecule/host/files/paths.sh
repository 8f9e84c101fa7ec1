#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# paths.sh NUMBER: waits until the kernel has this number of live paths to exports, and its units for the boot.
live() {
  for controller in /sys/class/nvme/nvme*; do
    [ "$(cat "$controller/transport" "$controller/state")" = "$(printf 'tcp\nlive')" ] && echo "$controller"
  done | wc -l
}
units() { find /etc/systemd/system -maxdepth 1 -name "diskengine-nvme-*.service" | wc -l; }
for _ in $(seq 600); do
  [ "$(live)" -eq "$1" ] && [ "$(units)" -eq "$1" ] && exit 0
  sleep 0.1
done
echo "live: $(live), units: $(units)"
exit 1
