"""Switch tiling and slicing on at the autoencoder, where diffusers keeps them since 0.40.

``DiffusionPipeline.enable_vae_tiling`` and its three sisters left diffusers with 0.40; they did
nothing but call ``vae.enable_tiling`` (``pipelines/pipeline_utils.py`` of 0.39).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mega_optimizer.codemods.finding import Edit, Fix, Skip
from mega_optimizer.codemods.ml.pipelines import condition_around, pipeline_calls
from mega_optimizer.repository.place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mega_optimizer.codemods.context import Context
    from mega_optimizer.codemods.finding import Outcome

AT_THE_AUTOENCODER = {
    "enable_vae_tiling": "enable_tiling",
    "disable_vae_tiling": "disable_tiling",
    "enable_vae_slicing": "enable_slicing",
    "disable_vae_slicing": "disable_slicing",
}


def find(context: Context) -> Iterator[Outcome]:
    """Yield one fix for each call of a method that the pipelines no longer have."""
    for found in pipeline_calls(context, *AT_THE_AUTOENCODER):
        if isinstance(found, Skip):
            yield found
            continue
        path, source, call, function = found
        place = Place(path, call.lineno, call.col_offset + 1)
        guard = condition_around(source, call)
        if guard in ("hasattr", "try"):
            yield Skip(place, "handled", "the code around it minds that the method may be missing")
            continue
        method = AT_THE_AUTOENCODER[function.attr]
        start, end = source.range(function.value)[1], source.range(function)[1]
        yield Fix(
            place,
            f"diffusers has no {function.attr} any more: call vae.{method}",
            (Edit(path, start, end, f".vae.{method}".encode()),),
        )
