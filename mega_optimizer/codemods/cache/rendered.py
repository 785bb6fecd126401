"""Render a template of generated code."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from mega_optimizer.rules import data_folder

if TYPE_CHECKING:
    from jinja2 import Environment


def rendered(template: str, **values: object) -> str:
    """Return ``templates/<template>`` with ``values`` filled in."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(data_folder() / "templates"),
        autoescape=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
