#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Packages with their states, apt's lists and pins, the files of /etc and /boot, kernel and boot.
set -eu
dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\n'
find /etc /boot /var/lib/apt /var/lib/dpkg -xdev -type f -exec sha256sum {} +
find /etc -xdev -type l -printf '%p -> %l\n'
uname -r
cat /proc/sys/kernel/random/boot_id
