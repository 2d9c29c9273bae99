"""Writes a source archive again, so that two builds of one commit are byte for byte the same.

`python packaging/source_archive.py dist/NAME.tar.gz`, with SOURCE_DATE_EPOCH set: members are sorted, belong to user
and group 0 without names, have mode 644 or 755 and this time; the gzip header has it, too, and no file name.
"""

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def normalize(archive: bytes, epoch_s: int) -> bytes:
    """The same members with the same content; everything that depends on the machine is replaced."""
    packed = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as old,
        gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=epoch_s) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda each: each.name):
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime = epoch_s
            member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
            member.pax_headers = {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)
    return packed.getvalue()


def main() -> None:
    path = Path(sys.argv[1])
    path.write_bytes(normalize(path.read_bytes(), int(os.environ["SOURCE_DATE_EPOCH"])))


if __name__ == "__main__":
    main()
