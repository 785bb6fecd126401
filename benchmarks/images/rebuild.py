"""How long an image takes to be built again after one line of the service's code was added."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from benchmarks.images.row import Rebuild
from mega_optimizer.measure.build import ImageSource, dockerfile_in, lay_out
from mega_optimizer.measure.builders.buildah import Buildah
from mega_optimizer.measure.builders.model import NotBuilt, Recipe
from mega_optimizer.repository.index import DiskFiles
from mega_optimizer.repository.tree import is_product

_ROUNDS = 3
# After this long no further round is begun.
_ENOUGH_SECONDS = 60.0
_FILES_AT_MOST = 4


def rebuild(
    builder: Buildah, source: ImageSource, files: DiskFiles, changed: Mapping[str, bytes]
) -> Rebuild | None:
    """Rebuild before and after by turns; None where no file of the service is in the image.

    All that an edit leaves valid is in the builder's store by now, as on a developer's machine.
    """
    states: dict[str, Mapping[str, bytes]] = {"before": {}}
    if changed:
        states["after"] = changed
    made = {name: _build(builder, source, files, each) for name, each in states.items()}
    untouched = {name: each[0] for name, each in made.items() if each}
    if len(untouched) < len(states):
        return None
    for path in _own_files(source):
        seconds: dict[str, list[float]] = {name: [] for name in states}
        for number in range(_ROUNDS):
            if sum(sum(each) for each in seconds.values()) > _ENOUGH_SECONDS:
                break
            for name, overlay in states.items():
                content = overlay.get(path) or files.read(path)
                edited = content.rstrip(b"\n") + b"\n# edit %d\n" % number
                built = _build(builder, source, files, {**overlay, path: edited})
                if built is None or built[0] == untouched[name]:
                    break
                seconds[name].append(round(built[1], 2))
        if all(seconds.values()):
            return Rebuild(path, tuple(seconds["before"]), tuple(seconds.get("after", ())))
    return None


def _build(
    builder: Buildah, source: ImageSource, files: DiskFiles, overlay: Mapping[str, bytes]
) -> tuple[str, float] | None:
    with tempfile.TemporaryDirectory(prefix="mega-optimize-") as folder:
        lay_out(files, overlay, Path(folder))
        context, dockerfile = dockerfile_in(Path(folder), source)
        recipe = Recipe(context, dockerfile, source.stage, dict(source.arguments))
        made = builder.image(recipe, Path(folder).with_suffix(".log"))
    return None if isinstance(made, NotBuilt) else made


def _own_files(source: ImageSource) -> Iterator[str]:
    """Yield Python files of the service, those that it launches first, then the nearest."""
    service = source.service
    product = [path for path in service.modules if is_product(path, service.root)]
    launched = " ".join(site.command for site in service.launch).replace(".", "/")
    near = str(PurePosixPath(source.dockerfile).parent)

    def rank(path: str) -> tuple[bool, bool, int, str]:
        stem = path.removesuffix(".py").rpartition("/")[2]
        is_launched = (
            stem in launched.replace("/py", "").replace(":", " ").replace("/", " ").split()
        )
        is_near = near in (".", "") or path.startswith(f"{near}/")
        return not is_near, not is_launched, path.count("/"), path

    yield from sorted(product, key=rank)[:_FILES_AT_MOST]
