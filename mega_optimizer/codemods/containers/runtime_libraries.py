"""What Python packages need of the system at run time, beside what their wheels bring.

A wheel from a package index brings its libraries along, or links to those that every Debian image
has (PEP 600, manylinux). Listed here is what does not follow from that: packages without Linux
wheels, what is loaded by name at run time, and libraries that PEP 600 leaves to the system though
the slim image lacks them. Packages that are missing here and need one all the same fail at import.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_OPENCV = ("libgl1", "libglib2.0-0")
_PANGO = ("libpango-1.0-0", "libpangoft2-1.0-0", "libpangocairo-1.0-0")

# Python package → Debian packages, for what the full image has and the slim one lacks.
LIBRARIES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # No Linux wheel: compiled against libpq. https://www.psycopg.org/docs/install.html
        "psycopg2": ("libpq5",),
        "psycopg-c": ("libpq5",),
        "psycopg2cffi": ("libpq5",),
        # https://www.psycopg.org/psycopg3/docs/basic/install.html: libpq is loaded by name.
        "psycopg": ("libpq5",),
        # No Linux wheel. https://github.com/PyMySQL/mysqlclient#linux
        "mysqlclient": ("libmariadb3",),
        # https://lightgbm.readthedocs.io/en/latest/Installation-Guide.html: OpenMP's library.
        "lightgbm": ("libgomp1",),
        "llama-cpp-python": ("libgomp1",),
        # The page of opencv-python on PyPI: links to libGL and GLib, not in its wheel.
        "opencv-python": _OPENCV,
        "opencv-contrib-python": _OPENCV,
        # They draw in one of the two.
        "ultralytics": _OPENCV,
        "supervision": _OPENCV,
        "insightface": _OPENCV,
        "gfpgan": _OPENCV,
        "basicsr": _OPENCV,
        "facexlib": _OPENCV,
        "realesrgan": _OPENCV,
        "deepface": _OPENCV,
        "mediapipe": _OPENCV,
        "paddleocr": _OPENCV,
        "mtcnn": _OPENCV,
        "retina-face": _OPENCV,
        # The page of python-magic on PyPI: loaded by name.
        "python-magic": ("libmagic1",),
        "unstructured": ("libmagic1",),
        # No wheel: of what it may link to in the full image (buildconf/base.ini, `auto`) the slim
        # one lacks the XML library. It embeds Python, and finds the environment that it is part of
        # by the place of its own program.
        # https://uwsgi-docs.readthedocs.io/en/latest/Install.html
        "uwsgi": ("libxml2",),
        # Compiled where there is no wheel.
        "pycurl": ("libcurl4",),
        "xmlsec": ("libxmlsec1", "libxmlsec1-openssl"),
        "pyodbc": ("unixodbc",),
        "aioodbc": ("unixodbc",),
        # https://doc.courtbouillon.org/weasyprint/stable/first_steps.html: loaded by name.
        "weasyprint": (*_PANGO, "libharfbuzz-subset0", "libgdk-pixbuf-2.0-0"),
        # https://doc.courtbouillon.org/cairocffi/stable/overview.html: loaded by name.
        "cairocffi": ("libcairo2",),
        "cairosvg": ("libcairo2",),
        "xhtml2pdf": ("libcairo2",),
        "rlpycairo": ("libcairo2",),
        "pycairo": ("libcairo2",),
        # https://python-soundfile.readthedocs.io: wheels since 0.12, loaded by name before.
        "soundfile": ("libsndfile1",),
        "librosa": ("libsndfile1",),
    }
)
# Python package → the Debian packages of the programs that it calls.
CALLED_PROGRAMS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gitpython": ("git",),
        "dbt-core": ("git",),
        "dvc": ("git",),
        "copier": ("git",),
        "cookiecutter": ("git",),
        "pre-commit": ("git",),
        "ansible": ("openssh-client",),
        "ansible-core": ("openssh-client",),
        "ansible-runner": ("openssh-client",),
    }
)
# Python packages that compile while the program runs.
COMPILERS_AT_RUN_TIME = frozenset(
    {
        "brian2", "cmdstanpy", "cppyy", "deepspeed", "flash-attn", "flashinfer-python", "nuitka",
        "pyinstaller", "pymc", "pymc3", "pystan", "pytensor", "pythran", "sglang", "theano",
        "triton", "unsloth", "vllm", "xformers",
    }
)  # fmt: skip
# Python packages whose shared libraries have no name that is the same in each release of Debian,
# or that link to whatever they find in the image when they are compiled.
UNKNOWN_LIBRARIES = frozenset(
    {
        "dlib", "gdal", "gssapi", "ibm-db", "m2crypto", "mpi4py", "pyaudio", "pycups", "pygobject",
        "pygraphviz", "pykerberos", "pylibmc", "pysqlcipher3", "python-ldap", "rpy2", "tesserocr",
        "wand", "zbar",
    }
)  # fmt: skip
# Python packages that take the interpreter's place.
OWN_INTERPRETERS = frozenset({"mod-wsgi", "unit"})
# Python packages that answer with files, whose types come from /etc/mime.types where that exists:
# the full image has it (of media-types), the slim one does not.
SERVE_FILES = frozenset(
    {
        "apache-airflow", "apache-superset", "bokeh", "chainlit", "cherrypy", "dagster", "dash",
        "django", "flower", "google-cloud-storage", "gradio", "label-studio", "locust", "mkdocs",
        "mlflow", "nicegui", "optuna-dashboard", "panel", "prefect", "sanic", "streamlit",
        "tensorboard", "whitenoise",
    }
)  # fmt: skip


def libraries_of(packages: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Return the Debian packages that the Python ``packages`` (name → extras) need to run."""
    needed: dict[str, None] = {}
    for name, extras in packages.items():
        # The binary flavour brings its own libpq.
        if name == "psycopg" and ("binary" in extras or "psycopg-binary" in packages):
            continue
        needed |= dict.fromkeys(LIBRARIES.get(name, ()))
    return tuple(needed)
