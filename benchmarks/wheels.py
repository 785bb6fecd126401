"""What wheels become in an image: the factors of ``mega_optimizer/measure/unpacked.py``.

    python -m benchmarks.wheels FOLDER      a folder of wheels, as pip download leaves them

Each wheel is unpacked, packed as a layer is (tar, gzip level 6), compiled, and packed once more.
"""

from __future__ import annotations

import argparse
import compileall
import io
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel: ratios of (gzip layer, tar stream) to it, without bytecode and with."""

    is_pure: bool
    plain: tuple[float, float]
    compiled: tuple[float, float]


class _Counter(io.RawIOBase):
    """Counts what is written to it, and what gzip makes of it."""

    def __init__(self) -> None:
        self._compressor = zlib.compressobj(6, wbits=31)
        self.written = self.compressed = 0

    def writable(self) -> bool:
        return True

    def write(self, content: ReadableBuffer, /) -> int:
        data = bytes(content)
        self.written += len(data)
        self.compressed += len(self._compressor.compress(data))
        return len(data)

    def finish(self) -> tuple[int, int]:
        self.compressed += len(self._compressor.flush())
        return self.compressed, self.written


def main() -> None:
    parser = argparse.ArgumentParser(description="What wheels become in an image.")
    parser.add_argument("folder", type=Path)
    wheels = list(measured(parser.parse_args().folder))
    print("| wheel | bytecode | wheels | unit | lower quartile | median | upper quartile |")
    print("|---|---|---|---|---|---|---|")
    for is_pure, kind in ((True, "Python alone"), (False, "with machine code")):
        found = [wheel for wheel in wheels if wheel.is_pure == is_pure]
        for has_bytecode, word in ((True, "yes"), (False, "no")):
            ratios = [wheel.compiled if has_bytecode else wheel.plain for wheel in found]
            for place, unit in enumerate(("compressed", "on disk")):
                low, middle, high = quantiles([ratio[place] for ratio in ratios], n=4)
                cells = (kind, word, len(found), unit, f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}")
                print(f"| {' | '.join(map(str, cells))} |")


def measured(folder: Path) -> Iterator[Wheel]:
    """Measure every wheel in ``folder``."""
    for path in sorted(folder.glob("*.whl")):
        with tempfile.TemporaryDirectory() as unpacked:
            zipfile.ZipFile(path).extractall(unpacked)
            plain = _layer(unpacked)
            compileall.compile_dir(unpacked, quiet=2, maxlevels=30)
            compiled = _layer(unpacked)
        size = path.stat().st_size
        yield Wheel(
            path.name.endswith("-none-any.whl"),
            (plain[0] / size, plain[1] / size),
            (compiled[0] / size, compiled[1] / size),
        )


def _layer(folder: str) -> tuple[int, int]:
    counter = _Counter()
    with tarfile.open(fileobj=counter, mode="w|") as tar:
        tar.add(folder, arcname="usr/local/lib/python3/site-packages")
    return counter.finish()


if __name__ == "__main__":
    main()
