"""Debian packages: what only a build needs, and which package has a program.

Names are those of Debian 11 to 13. https://packages.debian.org,
https://github.com/docker-library/buildpack-deps (what the full Python images bring).
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_BUILD_ONLY = re.compile(
    r"build-essential|(?:gcc|g\+\+|gfortran|clang|cpp|llvm)(?:-[\d.]+)?|make|cmake|ninja-build"
    r"|autoconf|automake|libtool|pkg-config|pkgconf|bison|flex|nasm|yasm|swig|rustc|cargo"
    r"|python3?-dev|libpython3-dev|cython3?|musl-tools|ccache|meson"
)
_DEVELOPMENT = re.compile(r"[\w.+-]+-dev")
_LIBRARY = re.compile(r"lib[\w.+-]*\d[\w.+-]*")
# What runs beside the program, and never takes part in installing Python packages.
_RUNTIME_ONLY = frozenset(
    {
        "bash", "cron", "curl", "default-mysql-client", "dnsutils", "dumb-init", "ffmpeg",
        "fontconfig", "ghostscript", "gosu", "graphviz", "htop", "iproute2", "iputils-ping",
        "jq", "less", "libgl1", "libgl1-mesa-glx", "libglib2.0-0", "libgomp1", "libmagic1",
        "libpq5", "libsm6", "libsndfile1", "libxext6", "libxrender1", "locales", "mariadb-client",
        "media-types", "nano", "net-tools",
        "netcat-openbsd", "netcat-traditional", "nginx", "poppler-utils", "postgresql-client",
        "procps", "redis-tools", "sqlite3", "telnet", "tesseract-ocr", "tini",
        "tzdata", "vim", "wait-for-it", "wget", "wkhtmltopdf",
    }
)  # fmt: skip
# Development packages whose shared library has one name in Debian 11, 12 and 13, where 13 may
# only provide it. The value is empty where the slim image brings the library, or C needs none.
_RUNTIME_PARTNERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "libpq-dev": ("libpq5",),
        "postgresql-server-dev-all": ("libpq5",),
        "default-libmysqlclient-dev": ("libmariadb3",),
        "libmariadb-dev": ("libmariadb3",),
        "libmariadb-dev-compat": ("libmariadb3",),
        "libmariadbclient-dev": ("libmariadb3",),
        "unixodbc-dev": ("unixodbc",),
        "libxml2-dev": ("libxml2",),
        "libxslt1-dev": ("libxslt1.1",),
        "libxslt-dev": ("libxslt1.1",),
        "libmagic-dev": ("libmagic1",),
        "libglib2.0-dev": ("libglib2.0-0",),
        "libsndfile1-dev": ("libsndfile1",),
        "libsndfile-dev": ("libsndfile1",),
        "portaudio19-dev": ("libportaudio2",),
        "libportaudio-dev": ("libportaudio2",),
        "libsnappy-dev": ("libsnappy1v5",),
        "librdkafka-dev": ("librdkafka1",),
        "libcairo2-dev": ("libcairo2",),
        "libpango1.0-dev": ("libpango-1.0-0", "libpangocairo-1.0-0", "libpangoft2-1.0-0"),
        "libgdk-pixbuf2.0-dev": ("libgdk-pixbuf-2.0-0",),
        "libopenblas-dev": ("libopenblas0",),
        "liblapack-dev": ("liblapack3",),
        "libblas-dev": ("libblas3",),
        "libcurl4-openssl-dev": ("libcurl4",),
        "libyaml-dev": ("libyaml-0-2",),
        "libgl1-mesa-dev": ("libgl1",),
        "libsm-dev": ("libsm6",),
        "libxext-dev": ("libxext6",),
        "libxrender-dev": ("libxrender1",),
        "libjpeg62-turbo-dev": ("libjpeg62-turbo",),
        "libjpeg-dev": ("libjpeg62-turbo",),
        "libfreetype6-dev": ("libfreetype6",),
        "libfreetype-dev": ("libfreetype6",),
        "libxmlsec1-dev": ("libxmlsec1", "libxmlsec1-openssl"),
        # The slim image has these: CPython itself is linked with them.
        "libffi-dev": (),
        "libssl-dev": (),
        "zlib1g-dev": (),
        "libbz2-dev": (),
        "liblzma-dev": (),
        "libsqlite3-dev": (),
        "libreadline-dev": (),
        "libncurses5-dev": (),
        "libncurses-dev": (),
        "libncursesw5-dev": (),
        "libc6-dev": (),
        "libc-dev": (),
        "linux-libc-dev": (),
        "libstdc++-dev": (),
        "libcrypt-dev": (),
        "uuid-dev": (),
        "python3-dev": (),
        "python-dev": (),
        "libpython3-dev": (),
        "llvm-dev": (),
    }
)
_LIBRARIES_OF_COMPILERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    # Fortran and OpenMP code is linked with these.
    {"gfortran": ("libgfortran5",)}
)

# Programs that the full images have and the slim ones lack, and the package of each.
PROGRAMS: Mapping[str, str] = MappingProxyType(
    {
        "git": "git",
        "curl": "curl",
        "wget": "wget",
        "ssh": "openssh-client",
        "scp": "openssh-client",
        "sftp": "openssh-client",
        "ssh-keygen": "openssh-client",
        "ssh-keyscan": "openssh-client",
        "ssh-agent": "openssh-client",
        "hg": "mercurial",
        "svn": "subversion",
        "ps": "procps",
        "top": "procps",
        "free": "procps",
        "pgrep": "procps",
        "pkill": "procps",
        "pidof": "procps",
        "watch": "procps",
        "uptime": "procps",
        "vmstat": "procps",
        "sysctl": "procps",
        "file": "file",
        "unzip": "unzip",
        "xz": "xz-utils",
        "unxz": "xz-utils",
        "bzip2": "bzip2",
        "bunzip2": "bzip2",
        "patch": "patch",
        "gpg": "gnupg",
        "convert": "imagemagick",
        "identify": "imagemagick",
        "mogrify": "imagemagick",
        "magick": "imagemagick",
        "composite": "imagemagick",
        "montage": "imagemagick",
    }
)
# Programs of the tool chain: what runs them at run time compiles at run time.
TOOLCHAIN = frozenset(
    {
        "gcc", "g++", "cc", "c++", "c99", "c89", "cpp", "clang", "clang++", "gfortran", "make",
        "cmake", "ninja", "ld", "as", "ar", "nm", "objdump", "objcopy", "strip", "ranlib",
        "readelf", "autoconf", "automake", "libtool", "m4", "pkg-config", "cargo", "rustc",
        "pg_config", "mysql_config", "mariadb_config", "xml2-config", "xslt-config", "swig",
        "cython", "cythonize", "dpkg-buildpackage", "gdb",
    }
)  # fmt: skip
# What pip may use to fetch a requirement, and a program to do its own work.
_BUILD_ON_BOTH_SIDES = frozenset(
    {"ca-certificates", "git", "git-lfs", "gnupg", "mercurial", "openssh-client", "subversion"}
)


def package_name(word: str) -> str:
    """Return the package of one word of ``apt-get install`` (``gcc=4:12.2``, ``gcc:amd64``)."""
    return re.split(r"[=:/]", word, maxsplit=1)[0]


def is_for_building(package: str) -> bool:
    """Whether only a build needs ``package``: a compiler, a tool beside it, or headers."""
    return bool(_BUILD_ONLY.fullmatch(package) or _DEVELOPMENT.fullmatch(package))


def is_for_running(package: str) -> bool:
    """Whether installing Python packages surely does without ``package``."""
    if package in _BUILD_ON_BOTH_SIDES or is_for_building(package):
        return False
    return package in _RUNTIME_ONLY or bool(_LIBRARY.fullmatch(package))


def runtime_partners(package: str) -> tuple[str, ...] | None:
    """Return the packages that what was built with ``package`` needs to run; None for unknown."""
    if package in _RUNTIME_PARTNERS:
        return _RUNTIME_PARTNERS[package]
    if package in _LIBRARIES_OF_COMPILERS:
        return _LIBRARIES_OF_COMPILERS[package]
    return () if _BUILD_ONLY.fullmatch(package) else None


def is_system_python(package: str) -> bool:
    """Whether ``package`` is Debian's own Python, or a Python package of Debian."""
    # supervisor and uwsgi of Debian are started with Debian's Python.
    if package in ("supervisor", "uwsgi", "gunicorn", "pipx"):
        return True
    return bool(re.fullmatch(r"python3?(?:\.\d+)?(?:-(?!dev$).+)?", package))
