"""What code imports that only the installer beside it has brought.

poetry and pipenv draw in packages of their own. Where they stand in the environment of the program
it can import those without declaring them; in an environment without the installer it cannot.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

from mega_optimizer.codemods.containers.image_recipe import shipped_files
from mega_optimizer.codemods.finding import Skip
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.tree import is_product

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mega_optimizer.codemods.containers.image_recipe import Recipe
    from mega_optimizer.codemods.context import Context

# Module → package, of what `pip install poetry` and `pip install pipenv` bring (poetry 1.0 to 2.2,
# pipenv 2018 to 2025).
_BROUGHT: Mapping[str, str] = MappingProxyType(
    {
        "anyio": "anyio", "attr": "attrs", "cachecontrol": "cachecontrol", "certifi": "certifi",
        "cffi": "cffi", "charset_normalizer": "charset-normalizer", "cleo": "cleo",
        "click": "click", "cryptography": "cryptography", "distlib": "distlib",
        "dulwich": "dulwich", "filelock": "filelock", "h11": "h11", "html5lib": "html5lib",
        "httpcore": "httpcore", "httpx": "httpx", "idna": "idna",
        "importlib_metadata": "importlib-metadata", "jsonschema": "jsonschema",
        "keyring": "keyring", "msgpack": "msgpack", "more_itertools": "more-itertools",
        "packaging": "packaging", "pexpect": "pexpect", "pkg_resources": "setuptools",
        "pkginfo": "pkginfo", "platformdirs": "platformdirs", "rapidfuzz": "rapidfuzz",
        "requests": "requests", "requests_toolbelt": "requests-toolbelt",
        "setuptools": "setuptools", "shellingham": "shellingham", "six": "six",
        "sniffio": "sniffio", "tomli": "tomli", "tomlkit": "tomlkit", "urllib3": "urllib3",
        "virtualenv": "virtualenv", "yaml": "pyyaml", "zstandard": "zstandard",
    }
)  # fmt: skip
_IMPORT = re.compile(
    rb"^[ \t]*(?:import|from)[ \t]+(%s)\b" % b"|".join(name.encode() for name in _BROUGHT),
    re.MULTILINE,
)


def undeclared_import(context: Context, recipe: Recipe) -> Skip | None:
    """Return the first import of a package that the service does not install by itself."""
    dependencies = context.dependencies
    known = {entry.name for each in dependencies.manifests for entry in each.dependencies}
    known |= dependencies.locked.keys()
    shipped = shipped_files(context, recipe)
    for path in context.service.modules:
        content = context.read(path)
        if path not in shipped or not is_product(path, context.service.root):
            continue
        for found in _IMPORT.finditer(content) if isinstance(content, bytes) else ():
            package = _BROUGHT[found[1].decode()]
            if package not in known and isinstance(content, bytes):
                place = Place(path, content.count(b"\n", 0, found.start()) + 1)
                reason = f"{package} is not declared: only the installer brings it"
                return Skip(place, "undeclared-import", reason)
    return None
