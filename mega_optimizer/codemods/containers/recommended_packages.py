"""What Debian packages only recommend, and what of that their use in an image needs.

Read in November 2026 from the package indices of Debian 11, 12 and 13 and of Ubuntu 22.04 and 24.04
(https://packages.debian.org, https://packages.ubuntu.com): for each package, everything that it
and what it depends on recommend, over the five releases. A package that is not listed here either
recommends something whose use cannot be told from a Dockerfile (chromium: fonts and sandbox,
default-jre-headless: fonts, imagemagick: its readers of SVG, python3-pip: a compiler), or has not
been read.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

# Package → what it only recommends and does not work without.
NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # Without certificates no https address can be fetched.
        "cargo": ("ca-certificates",),
        "curl": ("ca-certificates",),
        "git": ("ca-certificates",),
        "git-lfs": ("ca-certificates",),
        "nodejs": ("ca-certificates",),
        "python3": ("ca-certificates",),
        "wget": ("ca-certificates",),
        # The headers of C: gcc compiles nothing without them, g++ depends on them.
        "gcc": ("libc6-dev",),
        "cmake": ("gcc", "libc6-dev", "make"),
        "autoconf": ("automake",),
        "rustc": ("cargo",),
        # google/protobuf/*.proto, which most .proto files import.
        "protobuf-compiler": ("libprotobuf-dev",),
        # Something to draw letters with.
        "graphviz": ("fonts-liberation",),
        # Chinese, Japanese and Korean text.
        "poppler-utils": ("poppler-data",),
        # xvfb-run calls it.
        "xvfb": ("xauth",),
        "zip": ("unzip",),
        # How Kafka and LDAP log in.
        "libldap2-dev": ("libldap-common", "libsasl2-modules"),
        "librdkafka-dev": ("ca-certificates", "libsasl2-modules"),
        "libsasl2-dev": ("libsasl2-modules",),
    }
)
# What is needed → the packages of the table that depend on it.
BROUGHT_BY: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "gcc": frozenset({"build-essential", "g++"}),
        "libc6-dev": frozenset(
            {"build-essential", "g++", "gfortran", "libreadline-dev", "python3-dev", "zlib1g-dev"}
        ),
        "make": frozenset({"build-essential"}),
    }
)
# What recommends nothing, or only what an image has no use for: manual pages, translations,
# completions, drivers of screens and sound cards, a mail server, perl modules of dpkg-dev.
COMPLETE = frozenset(
    {
        "apache2-utils", "apt-transport-https", "apt-utils", "automake", "binutils",
        "bison", "build-essential", "bzip2", "ca-certificates", "cron",
        "default-libmysqlclient-dev", "default-mysql-client", "dialog", "dirmngr",
        "dnsutils", "dumb-init", "espeak-ng", "ffmpeg", "file", "fontconfig",
        "fonts-dejavu-core", "fonts-liberation", "freetds-dev", "g++", "gettext",
        "gfortran", "gnupg", "gnupg2", "gosu", "htop", "iproute2", "iputils-ping", "jq",
        "less", "libaio1", "libasound2", "libatlas-base-dev", "libblas-dev", "libbz2-dev",
        "libc6-dev", "libcairo2", "libcairo2-dev", "libcurl4-openssl-dev", "libegl1",
        "libev-dev", "libevent-dev", "libexpat1", "libffi-dev", "libfontconfig1",
        "libfreetype6", "libfreetype6-dev", "libgdk-pixbuf-2.0-0", "libgeos-dev", "libgl1",
        "libgl1-mesa-dev", "libgl1-mesa-glx", "libglib2.0-0", "libglib2.0-dev", "libgomp1",
        "libgssapi-krb5-2", "libharfbuzz-dev", "libharfbuzz0b", "libhdf5-dev", "libicu-dev",
        "libjemalloc2", "libjpeg-dev", "libjpeg62-turbo", "libjpeg62-turbo-dev",
        "libkrb5-dev", "liblapack-dev", "liblcms2-dev", "liblzma-dev", "libmagic-dev",
        "libmagic1", "libmariadb-dev", "libmariadb3", "libncurses5-dev", "libncursesw5-dev",
        "libnss3", "libopenblas-dev", "libopenjp2-7", "libpango-1.0-0",
        "libpangocairo-1.0-0", "libpangoft2-1.0-0", "libpcre3-dev", "libpng-dev",
        "libpq-dev", "libpq5", "libproj-dev", "libreadline-dev", "libsecret-1-0", "libsm6",
        "libsndfile1", "libsodium-dev", "libsox-fmt-all", "libsqlite3-dev", "libssl-dev",
        "libstdc++6", "libtesseract-dev", "libwebp-dev", "libx11-6", "libxext6", "libxml2",
        "libxml2-dev", "libxmlsec1-dev", "libxrender-dev", "libxrender1", "libxslt1-dev",
        "libxslt1.1", "libyaml-dev", "locales", "lsb-release", "lsof", "make",
        "mariadb-client", "media-types", "memcached", "mupdf-tools", "nano", "ncat",
        "net-tools", "netcat", "netcat-openbsd", "netcat-traditional", "nginx",
        "ninja-build", "openssh-client", "openssl", "p7zip-full", "pandoc", "patch",
        "pkg-config", "portaudio19-dev", "postgresql-client", "procps", "psmisc",
        "python3-dev", "python3-distutils", "python3-numpy", "python3-setuptools",
        "python3-venv", "python3-wheel", "redis-tools", "rsync", "screen",
        "shared-mime-info", "sox", "sqlite3", "strace", "sudo", "supervisor", "swig",
        "tcpdump", "telnet", "tesseract-ocr", "tini", "tree", "tzdata", "unixodbc", "unzip",
        "uuid-dev", "vim", "wait-for-it", "xauth", "xz-utils", "zlib1g-dev", "zstd",
    }
)  # fmt: skip
# The official Python images: https://github.com/docker-library/python (slim variants) and
# https://github.com/docker-library/buildpack-deps.
IN_SLIM_PYTHON = frozenset({"ca-certificates", "netbase", "tzdata"})
IN_FULL_PYTHON = IN_SLIM_PYTHON | {
    *("automake", "curl", "gcc", "git", "libc6-dev", "make", "openssh-client", "unzip", "wget"),
}


def needed_with(package: str) -> tuple[str, ...] | None:
    """Return what must be named when ``package`` is installed alone; None where it is unknown."""
    if package in NEEDED:
        return NEEDED[package]
    return () if package in COMPLETE else None


def is_among(package: str, packages: AbstractSet[str]) -> bool:
    """Whether installing ``packages`` installs ``package``."""
    return package in packages or not packages.isdisjoint(BROUGHT_BY.get(package, ()))
