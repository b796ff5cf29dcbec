# SPDX-License-Identifier: GPL-3.0-or-later
"""Build a bootable guest image from packages of this distribution, without root and without mounting anything.

The image is a disk with two partitions: a FAT one that SYSLINUX boots (kernels and initramfs), and the canary's
area (see ../canary.c). It holds the distribution's kernel, busybox, the real qemu-ga with the libraries it needs,
and the canary. Only the standard library is used: this runs before any environment exists.
"""
