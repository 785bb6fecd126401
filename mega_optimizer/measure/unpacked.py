"""What a wheel becomes in an image once it is installed.

The factors are medians over 84 wheels of packages that services use, unpacked, compiled with
CPython 3.11 and packed as a layer (``benchmarks/wheels.py``, 2026-11-24; the quartiles are in
docs/benchmarks/images.md). A wheel is compressed itself; the bytecode that pip compiles of its
modules comes on top, and weighs more than the modules do.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "the medians of 84 wheels, unpacked and compiled (benchmarks/wheels.py, 2026-11-24)"
VENV = "pip in the virtual environment"
VENV_SOURCE = "what python -m venv installed in the sample's images (docs/benchmarks, 2026-11-24)"
# Python's venv installs pip, and before 3.12 setuptools: (bytes compressed, bytes on disk).
_PIP, _SETUPTOOLS = (4_000_000, 12_900_000), (2_900_000, 10_000_000)
_LAST_WITH_SETUPTOOLS = 11


@dataclass(frozen=True, slots=True)
class _Factors:
    compressed: float
    on_disk: float


# By whether the wheel is of Python alone, and whether bytecode is compiled at installation.
_FACTORS = {
    (True, True): _Factors(2.44, 9.12),
    (True, False): _Factors(0.89, 4.27),
    (False, True): _Factors(1.10, 3.89),
    (False, False): _Factors(0.99, 3.47),
}


def layer_bytes(wheel: str, size: int, is_compiled: bool) -> tuple[int, int]:
    """Return (bytes compressed, bytes on disk) of a layer that holds ``wheel`` of ``size`` bytes.

    ``is_compiled`` says whether the installer compiles bytecode: pip does, uv and Poetry do not.
    """
    factors = _FACTORS[wheel.endswith("-none-any.whl"), is_compiled]
    return round(size * factors.compressed), round(size * factors.on_disk)


def venv_bytes(minor: int) -> tuple[int, int]:
    """Return (bytes compressed, bytes on disk) of what ``python3.minor -m venv`` installs."""
    if minor > _LAST_WITH_SETUPTOOLS:
        return _PIP
    return _PIP[0] + _SETUPTOOLS[0], _PIP[1] + _SETUPTOOLS[1]
