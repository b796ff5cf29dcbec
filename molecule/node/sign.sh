#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# sign.sh DIRECTORY: make a key each for Proxmox, Debian and somebody else, and sign the repositories in DIRECTORY.
set -eu
cd "$1"
GNUPGHOME=$(mktemp -d)
export GNUPGHOME
trap 'gpgconf --kill all; rm -rf "$GNUPGHOME"' EXIT
mkdir -p keys
for name in proxmox debian other; do
    gpg -q --batch --passphrase '' --quick-generate-key "$name@lab.test" ed25519 sign never
    gpg -q --batch --armor --export "$name@lab.test" > "keys/$name.asc"
done
for release in */dists/*/Release; do
    case $release in debian/*) name=debian ;; *) name=proxmox ;; esac
    gpg -q --batch --local-user "$name@lab.test" --clearsign --output "${release%Release}InRelease" "$release"
    rm "$release"
done
ln -sfn now proxmox
