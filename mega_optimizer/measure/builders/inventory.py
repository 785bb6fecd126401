"""The files of an image as data: what lies where, whose it is, and which packages that makes."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import stat
import tarfile
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import IO, TYPE_CHECKING, Literal

from mega_optimizer.measure.builders.elf import needed_libraries

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

Kind = Literal["file", "link", "folder", "other"]

_DPKG = "var/lib/dpkg/status"
_DPKG_BYTES = 16 << 20
_DIST_INFO = re.compile(r"/(?:site|dist)-packages/([^/]+?)-([^/-]+)\.(?:dist|egg)-info(?:/|$)")
_is_library = re.compile(r"\.so(?:\.\d+)*$").search


@dataclass(frozen=True, slots=True)
class Entry:
    """One file. ``digest`` is of its content (a link's: where it leads); empty where not asked.

    ``needed`` are the shared libraries that an ELF file of a Python package names.
    """

    kind: Kind
    mode: int
    owner: int
    size: int
    digest: str = ""
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Inventory:
    """All files of an image, by path without the leading slash."""

    entries: Mapping[str, Entry]
    dpkg_status: bytes = b""

    @cached_property
    def distributions(self) -> Mapping[str, frozenset[str]]:
        """The Python distributions by normalised name (PEP 503), each with its versions."""
        found: dict[str, set[str]] = defaultdict(set)
        for path in self.entries:
            match = _DIST_INFO.search(f"/{path}")
            if match:
                found[re.sub(r"[-_.]+", "-", match[1]).lower()].add(match[2])
        return {name: frozenset(versions) for name, versions in found.items()}

    @cached_property
    def debian_packages(self) -> Mapping[str, str]:
        """The installed Debian packages with their versions, as dpkg's status file lists them."""
        return {fields["Package"]: fields.get("Version", "") for fields in self._debian_fields}

    @cached_property
    def debian_bytes(self) -> Mapping[str, int]:
        """What each Debian package takes, unpacked (Debian policy 5.6.20, "Installed-Size")."""
        sizes = {each["Package"]: each.get("Installed-Size", "") for each in self._debian_fields}
        return {name: 1024 * int(size) for name, size in sizes.items() if size.isdecimal()}

    @cached_property
    def _debian_fields(self) -> Sequence[Mapping[str, str]]:
        paragraphs = self.dpkg_status.decode("utf-8", "replace").split("\n\n")
        listed = [
            dict(
                line.split(": ", 1)
                for line in paragraph.splitlines()
                if ": " in line and line[0] != " "
            )
            for paragraph in paragraphs
        ]
        return [
            fields
            for fields in listed
            if fields.get("Status", "").endswith(" installed") and "Package" in fields
        ]

    @cached_property
    def missing_libraries(self) -> Mapping[str, str]:
        """Shared libraries that a Python package needs and no file provides, each with a user."""
        present = {posixpath.basename(path) for path in self.entries}
        return {
            library: path
            for path, entry in self.entries.items()
            for library in entry.needed
            if library not in present
        }

    def below(self, folder: str) -> Mapping[str, Entry]:
        """Return what lies below ``folder`` (an absolute path), by path relative to it."""
        prefix = folder.strip("/") + "/" if folder.strip("/") else ""
        return {
            path[len(prefix) :]: entry
            for path, entry in self.entries.items()
            if path.startswith(prefix)
        }


def inventory_of_folder(root: Path, hashed: str) -> Inventory:
    """Read the file system mounted at ``root``; no link is followed."""
    entries: dict[str, Entry] = {}
    dpkg_status = b""
    for folder, subfolders, names in os.walk(root):
        inside = os.path.relpath(folder, root)
        prefix = "" if inside == "." else f"{inside}/"
        if prefix in ("proc/", "sys/", "dev/"):
            subfolders.clear()
            continue
        for name in (*subfolders, *names):
            path, real = prefix + name, os.path.join(folder, name)
            about = os.lstat(real)
            entry = Entry(_kind(about.st_mode), about.st_mode & 0o7777, about.st_uid, about.st_size)
            if entry.kind == "link":
                entry = _linking(entry, os.readlink(real))
            elif entry.kind == "file" and _is_read(path, hashed):
                with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                    entry = _reading(entry, path, hashed, stream)
            elif path == _DPKG and entry.kind == "file":
                with open(os.open(real, os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                    dpkg_status = stream.read(_DPKG_BYTES)
            entries[path] = entry
    return Inventory(entries, dpkg_status)


def inventory_of_tar(archive: Path, hashed: str) -> Inventory:
    """Read an exported file system; nothing of it is unpacked."""
    entries: dict[str, Entry] = {}
    dpkg_status = b""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = posixpath.normpath(member.name).lstrip("/")
            if path in (".", "") or path.split("/")[0] in ("proc", "sys", "dev"):
                continue
            entry = Entry(_tar_kind(member), member.mode & 0o7777, member.uid, member.size)
            source = member
            if member.islnk():
                source = tar.getmember(member.linkname)
                entry = Entry("file", member.mode & 0o7777, member.uid, source.size)
            if entry.kind == "link":
                entry = _linking(entry, member.linkname)
            elif entry.kind == "file" and (_is_read(path, hashed) or path == _DPKG):
                stream = tar.extractfile(source)
                if stream is not None and path == _DPKG:
                    dpkg_status = stream.read(_DPKG_BYTES)
                elif stream is not None:
                    entry = _reading(entry, path, hashed, stream)
            entries[path] = entry
    return Inventory(entries, dpkg_status)


def contributors(sizes: Iterator[tuple[str, int]], count: int = 5) -> tuple[tuple[str, int], ...]:
    """Return the ``count`` largest folders or Python packages of ``sizes`` (path, bytes)."""
    total: dict[str, int] = defaultdict(int)
    for path, size in sizes:
        total[_contributor(path)] += size
    largest = sorted(total.items(), key=lambda item: -item[1])[:count]
    return tuple((name, size) for name, size in largest if size)


def _contributor(path: str) -> str:
    parts = posixpath.dirname(path).split("/")
    for packages in ("site-packages", "dist-packages"):
        if packages in parts:
            return "/".join(parts[: parts.index(packages) + 2])
    return "/".join(parts[:3]) or "/"


def _is_read(path: str, hashed: str) -> bool:
    inside = hashed.strip("/")
    return (bool(inside) and path.startswith(f"{inside}/")) or _may_need_libraries(path)


def _may_need_libraries(path: str) -> bool:
    return "-packages/" in path and _is_library(path) is not None


def _reading(entry: Entry, path: str, hashed: str, stream: IO[bytes]) -> Entry:
    digest, needed = "", tuple[str, ...]()
    inside = hashed.strip("/")
    if inside and path.startswith(f"{inside}/") and "-packages/" not in path:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]
    if _may_need_libraries(path):
        needed = needed_libraries(stream)
    return Entry(entry.kind, entry.mode, entry.owner, entry.size, digest, needed)


def _linking(entry: Entry, target: str) -> Entry:
    return Entry(entry.kind, entry.mode, entry.owner, entry.size, f"-> {target}")


def _kind(mode: int) -> Kind:
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISLNK(mode):
        return "link"
    return "folder" if stat.S_ISDIR(mode) else "other"


def _tar_kind(member: tarfile.TarInfo) -> Kind:
    if member.isreg():
        return "file"
    if member.issym():
        return "link"
    return "folder" if member.isdir() else "other"
