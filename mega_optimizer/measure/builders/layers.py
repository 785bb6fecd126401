"""The layers of an image: their sizes, and what makes them large.

Builders hand out layers unpacked. Here each is compressed once with gzip at level 6, as a push
would do each time. Implementations of gzip differ: buildah's own made layers up to 6 % larger.
"""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
import zlib
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

from mega_optimizer.measure.builders.inventory import contributors
from mega_optimizer.measure.builders.model import Layer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    Measured = tuple[int, int, tuple[tuple[str, int], ...]]

_GZIP = b"\x1f\x8b"
_GZIP_FORMAT = 31  # the window bits that make zlib write gzip


class LayerFolder:
    """A folder of layers and configurations by digest, as ``push dir:`` writes it.

    What was measured of a layer is remembered: bases are shared by most images.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._measured: dict[str, Measured] = {}
        self._memory = folder.with_suffix(".json")
        with suppress(FileNotFoundError):
            for digest, (compressed, unpacked, largest) in json.loads(
                self._memory.read_bytes()
            ).items():
                pairs = tuple((name, size) for name, size in largest)
                self._measured[digest] = compressed, unpacked, pairs

    def known(self, config: Mapping[str, Any]) -> tuple[Layer, ...] | None:
        """Return the layers of the image with the OCI ``config`` if all were measured before."""
        digests = config["rootfs"]["diff_ids"]
        if not all(digest in self._measured for digest in digests):
            return None
        return tuple(map(self._layer, digests, _instructions(config, len(digests))))

    def remember(self) -> None:
        """Write what was measured beside the folder, for the next run, and empty the folder."""
        self._memory.write_text(json.dumps(self._measured))
        shutil.rmtree(self.folder, ignore_errors=True)

    def layers(self) -> tuple[Layer, ...]:
        """Return the layers of the image that was pushed last, from the base upwards.

        The folder is empty afterwards: of a layer only what was measured is needed again.
        """
        manifest = json.loads((self.folder / "manifest.json").read_bytes())
        config = json.loads(self._blob(manifest["config"]["digest"]).read_bytes())
        digests = [layer["digest"] for layer in manifest["layers"]]
        instructions = _instructions(config, len(digests))
        layers = tuple(map(self._layer, digests, instructions))
        shutil.rmtree(self.folder)
        return layers

    def _layer(self, digest: str, created_by: str) -> Layer:
        if digest not in self._measured:
            with self._blob(digest).open("rb") as stream:
                self._measured[digest] = measured(stream)
        return Layer(created_by, *self._measured[digest])

    def _blob(self, digest: str) -> Path:
        return self.folder / digest.partition(":")[2]


def archive_layers(archive: Path) -> tuple[Layer, ...]:
    """Return the layers of what ``docker save`` wrote."""
    with tarfile.open(archive) as tar:
        (manifest,) = json.loads(_member(tar, "manifest.json").read())
        config = json.loads(_member(tar, manifest["Config"]).read())
        names = manifest["Layers"]
        return tuple(
            Layer(created_by, *measured(_member(tar, name)))
            for name, created_by in zip(names, _instructions(config, len(names)), strict=True)
        )


def measured(stream: IO[bytes]) -> Measured:
    """Return the bytes of a layer compressed and unpacked, and its largest contributors."""
    is_compressed = stream.read(2) == _GZIP
    stream.seek(0)
    tee = _Tee(gzip.GzipFile(fileobj=stream) if is_compressed else stream)
    with tarfile.open(fileobj=tee, mode="r|", bufsize=1 << 20) as tar:
        largest = contributors(_sizes(tar))
    while tee.read(1 << 20):
        pass
    if is_compressed:
        return stream.tell(), tee.unpacked, largest
    return tee.compressed(), tee.unpacked, largest


def _instructions(config: Mapping[str, Any], count: int) -> Sequence[str]:
    """Return what made each of ``count`` layers, as far as the configuration tells."""
    told = [
        each.get("created_by", "")
        for each in config.get("history", ())
        if not each.get("empty_layer")
    ]
    return (told + [""] * count)[:count]


def _sizes(tar: tarfile.TarFile) -> Iterator[tuple[str, int]]:
    for member in tar:
        yield member.name.lstrip("./"), member.size


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    stream = tar.extractfile(name)
    if stream is None:
        raise ValueError(f"{name} is not a file of the archive")
    return stream


class _Tee(io.BufferedIOBase):
    """A stream that counts the bytes that are read from it, and how many gzip makes of them."""

    def __init__(self, stream: IO[bytes] | gzip.GzipFile) -> None:
        self._stream = stream
        self._compressor = zlib.compressobj(6, wbits=_GZIP_FORMAT)
        self._compressed = 0
        self.unpacked = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read like the stream itself."""
        content = self._stream.read(-1 if size is None else size)
        self.unpacked += len(content)
        self._compressed += len(self._compressor.compress(content))
        return content

    def compressed(self) -> int:
        """Return the bytes that gzip made of everything; nothing is read afterwards."""
        self._compressed += len(self._compressor.flush())
        return self._compressed
