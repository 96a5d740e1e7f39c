#!/bin/bash
# unpack.sh ARCHIVES FOLDER: unpacks every .deb of one folder into another, without documentation.
set -e -o pipefail
for archive in "$1"/*.deb; do
  dpkg-deb --fsys-tarfile "$archive" | tar -x -C "$2" --keep-directory-symlink \
    --exclude=./usr/share/doc --exclude=./usr/share/man --exclude=./usr/share/locale \
    --exclude=./usr/share/i18n
done
