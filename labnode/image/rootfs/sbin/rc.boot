#!/bin/sh
# Everything the canary needs: the file systems of the kernel, and the drivers of the disks that are there.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o mode=755 tmpfs /run

disks=
for alias in $(cat /sys/bus/pci/devices/*/modalias); do
    case $alias in
    pci:v00001AF4d*) disks="$disks virtio_pci" ;;                                 # any virtio device
    pci:*bc01sc01*) disks="$disks ata_piix sd_mod sr_mod" ;;                      # IDE
    pci:*bc01sc06*) disks="$disks ahci sd_mod sr_mod" ;;                          # SATA
    esac
done
# shellcheck disable=SC2086 # a list of names
modprobe -a -q $disks 2>/dev/null
for device in /sys/bus/virtio/devices/*/device; do
    [ -r "$device" ] || continue
    read -r id <"$device"
    case $id in
    0x0002) modprobe -q virtio_blk ;;
    0x0008) modprobe -a -q virtio_scsi sd_mod sr_mod ;;
    esac
done
