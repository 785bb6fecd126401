"""The layers of an image in an OCI layout: their sizes, and what makes them large."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any

from mega_optimizer.measure.builders.inventory import contributors
from mega_optimizer.measure.builders.model import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class OciLayout:
    """A folder of images that share blobs (OCI image layout specification).

    What is read of a layer is kept: bases are shared by most images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._unpacked: dict[str, tuple[int, tuple[tuple[str, int], ...]]] = {}

    def layers(self, tag: str) -> tuple[Layer, ...]:
        """Return the layers of the image ``tag``, from the base upwards."""
        index = json.loads((self.folder / "index.json").read_bytes())
        found = next(
            each
            for each in index["manifests"]
            if each.get("annotations", {}).get("org.opencontainers.image.ref.name") == tag
        )
        manifest = self._json(found["digest"])
        history = [
            each.get("created_by", "")
            for each in self._json(manifest["config"]["digest"]).get("history", ())
            if not each.get("empty_layer")
        ]
        layers = manifest["layers"]
        history += [""] * (len(layers) - len(history))
        return tuple(
            self._layer(descriptor, created_by)
            for descriptor, created_by in zip(layers, history, strict=False)
        )

    def _layer(self, descriptor: dict[str, Any], created_by: str) -> Layer:
        digest = descriptor["digest"]
        if digest not in self._unpacked:
            with gzip.open(self._blob(digest)) as stream:
                self._unpacked[digest] = unpacked_size(stream)
        on_disk, largest = self._unpacked[digest]
        return Layer(created_by, descriptor["size"], on_disk, largest)

    def _json(self, digest: str) -> dict[str, Any]:
        return json.loads(self._blob(digest).read_bytes())  # type: ignore[no-any-return]

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        return self.folder / "blobs" / algorithm / value


def unpacked_size(stream: IO[bytes] | gzip.GzipFile) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Return the bytes of a layer's tar stream, and its largest contributors."""
    counted = _Counted(stream)
    with tarfile.open(fileobj=counted, mode="r|") as tar:
        largest = contributors(_sizes(tar))
    while counted.read(1 << 20):
        pass
    return counted.count, largest


def _sizes(tar: tarfile.TarFile) -> Iterator[tuple[str, int]]:
    for member in tar:
        yield member.name.lstrip("./"), member.size


class _Counted(io.BufferedIOBase):
    """A stream that counts the bytes that were read from it."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self.count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like the stream itself."""
        content = self._stream.read(-1 if size is None else size)
        self.count += len(content)
        return content


def archive_layers(archive: Path) -> tuple[Layer, ...]:
    """Return the layers of what ``docker save`` wrote.

    Layers that lie there unpacked are compressed to tell their size, as a push would do.
    """
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(_member(tar, "manifest.json").read())
        config = json.loads(_member(tar, manifest["Config"]).read())
        history = [
            each.get("created_by", "")
            for each in config.get("history", ())
            if not each.get("empty_layer")
        ]
        history += [""] * (len(manifest["Layers"]) - len(history))
        return tuple(
            _archived_layer(tar, name, created_by)
            for name, created_by in zip(manifest["Layers"], history, strict=False)
        )


def _archived_layer(tar: tarfile.TarFile, name: str, created_by: str) -> Layer:
    stream = _member(tar, name)
    is_compressed = stream.read(2) == b"\x1f\x8b"
    stream.seek(0)
    if is_compressed:
        with gzip.open(stream) as unpacked:
            on_disk, largest = unpacked_size(unpacked)
        return Layer(created_by, tar.getmember(name).size, on_disk, largest)
    compressor, compressed = zlib.compressobj(6, wbits=31), 0
    while chunk := stream.read(1 << 20):
        compressed += len(compressor.compress(chunk))
    compressed += len(compressor.flush())
    stream.seek(0)
    on_disk, largest = unpacked_size(stream)
    return Layer(created_by, compressed, on_disk, largest)


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file of the archive")
    return stream
