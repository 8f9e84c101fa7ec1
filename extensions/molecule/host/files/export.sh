#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# export.sh NQN: the machine exports a file on two ports of its own, by the kernel's target, now and after a reboot.
set -e
truncate -s 64M /srv/exported
cat > /usr/local/sbin/export <<EOF
#!/bin/sh -e
modprobe -a nvmet nvmet-tcp
cd /sys/kernel/config/nvmet
mkdir subsystems/$1 subsystems/$1/namespaces/1
echo 1 > subsystems/$1/attr_allow_any_host
echo /srv/exported > subsystems/$1/namespaces/1/device_path
echo 1 > subsystems/$1/namespaces/1/enable
for port in 4420 4421; do
  mkdir ports/\$port
  echo tcp > ports/\$port/addr_trtype
  echo ipv4 > ports/\$port/addr_adrfam
  echo 127.0.0.1 > ports/\$port/addr_traddr
  echo \$port > ports/\$port/addr_trsvcid
  ln -s /sys/kernel/config/nvmet/subsystems/$1 ports/\$port/subsystems/$1
done
EOF
chmod +x /usr/local/sbin/export
cat > /etc/systemd/system/export.service <<EOF
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/export
[Install]
WantedBy=multi-user.target
EOF
systemctl enable --quiet --now export
