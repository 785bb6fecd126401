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
        "git-core": ("ca-certificates",),
        "git-lfs": ("ca-certificates",),
        "libcurl4": ("ca-certificates",),
        "libcurl4-openssl-dev": ("ca-certificates",),
        "libcurl4t64": ("ca-certificates",),
        "nodejs": ("ca-certificates",),
        **{
            python: ("ca-certificates",)
            for python in (
                *("python-is-python3", "python3", "python3.9", "python3.10", "python3.11"),
                *("python3.12", "python3.13"),
            )
        },
        "wget": ("ca-certificates",),
        # The headers of C: gcc compiles nothing without them, g++ depends on them.
        **{gcc: ("libc6-dev",) for gcc in ("gcc", "gcc-10", "gcc-11", "gcc-12")},
        "cmake": ("gcc", "libc6-dev", "make"),
        "autoconf": ("automake",),
        "rustc": ("cargo",),
        # google/protobuf/*.proto, which most .proto files import.
        "protobuf-compiler": ("libprotobuf-dev",),
        # Something to draw letters with.
        "graphviz": ("fonts-liberation",),
        # Chinese, Japanese and Korean text.
        "libpoppler-dev": ("poppler-data",),
        "poppler-utils": ("poppler-data",),
        # The languages alone recognise nothing.
        **{
            f"tesseract-ocr-{language}": ("tesseract-ocr",)
            for language in ("deu", "eng", "fra", "ita", "jpn", "kor", "por", "rus", "spa")
        },
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
        "acl", "adduser", "antiword", "apache2-utils", "apt-transport-https", "apt-utils",
        "aria2", "aspell-en", "attr", "automake", "bash-completion", "bc", "bear",
        "binutils", "bison", "build-essential", "busybox", "bzip2", "ca-certificates",
        "cabextract", "catdoc", "ccache", "clang-format", "cmake-data", "conntrack",
        "coreutils", "cron", "cups-client", "daemontools", "debianutils",
        "default-libmysqlclient-dev", "default-mysql-client", "default-mysql-client-core",
        "dialog", "dirmngr", "dnsutils", "dos2unix", "dstat", "dumb-init", "espeak",
        "espeak-ng", "ffmpeg", "file", "findutils", "flac", "fontconfig", "fonts-dejavu",
        "fonts-dejavu-core", "fonts-freefont-ttf", "fonts-liberation", "fonts-liberation2",
        "fonts-noto-cjk", "fonts-noto-color-emoji", "fonts-noto-core", "fonts-roboto",
        "fonts-wqy-zenhei", "freeglut3-dev", "freetds-bin", "freetds-common", "freetds-dev",
        "fuse", "g++", "g++-11", "g++-12", "gawk", "gcc-multilib", "gettext",
        "gettext-base", "gfortran", "gifsicle", "gnupg", "gnupg-agent", "gnupg2", "gosu",
        "gpg-agent", "grep", "gstreamer1.0-plugins-base", "gstreamer1.0-tools", "gunicorn",
        "gzip", "haproxy", "hostname", "htop", "hunspell", "iftop", "iotop", "iproute2",
        "iputils-ping", "iso-codes", "jpegoptim", "jq", "lame", "language-pack-en",
        "ldap-utils", "less", "libaio-dev", "libaio1", "libapache2-mod-wsgi-py3",
        "libarchive13", "libasound2", "libasound2-dev", "libatk1.0-0", "libatlas-base-dev",
        "libatomic1", "libavcodec-dev", "libavformat-dev", "libblas-dev", "libblas3",
        "libbluetooth-dev", "libbrotli-dev", "libbz2-dev", "libc6-dev", "libcairo2",
        "libcairo2-dev", "libcap-dev", "libcap2-bin", "libcgal-dev", "libcups2",
        "libdbus-1-3", "libdrm2", "libegl1", "libegl1-mesa", "libeigen3-dev", "libev-dev",
        "libevent-dev", "libexpat1", "libexpat1-dev", "libffi-dev", "libffi7", "libffi8",
        "libfftw3-dev", "libfontconfig1", "libfreetype-dev", "libfreetype6",
        "libfreetype6-dev", "libfuse2", "libgbm1", "libgdbm-dev", "libgdk-pixbuf-2.0-0",
        "libgdk-pixbuf2.0-0", "libgeos-c1v5", "libgeos-dev", "libgfortran5", "libgl1",
        "libgl1-mesa-dev", "libgl1-mesa-dri", "libgl1-mesa-glx", "libglfw3", "libglib2.0-0",
        "libglib2.0-0t64", "libglib2.0-bin", "libglib2.0-dev", "libglu1-mesa", "libgmp-dev",
        "libgomp1", "libgoogle-perftools-dev", "libgoogle-perftools4", "libgsl-dev",
        "libgssapi-krb5-2", "libgstreamer1.0-0", "libharfbuzz-dev", "libharfbuzz0b",
        "libhdf5-dev", "libice6", "libicu-dev", "libicu70", "libicu72", "libicu74",
        "libicu76", "libjack-dev", "libjemalloc2", "libjpeg-dev", "libjpeg-turbo-progs",
        "libjpeg-turbo8", "libjpeg62-turbo", "libjpeg62-turbo-dev", "libjpeg8", "libkrb5-3",
        "libkrb5-dev", "liblapack-dev", "liblapack3", "liblcms2-2", "liblcms2-dev",
        "libldap-2.5-0", "libldap-common", "libleptonica-dev", "libleveldb-dev",
        "liblz4-dev", "liblzma-dev", "libmagic-dev", "libmagic1", "libmariadb-dev",
        "libmariadb-dev-compat", "libmariadb3", "libmecab-dev", "libmediainfo0v5",
        "libmemcached11", "libmp3lame-dev", "libmpdec3", "libmpfr-dev", "libncurses-dev",
        "libncurses5-dev", "libncursesw5-dev", "libnss3", "libnss3-dev", "libnuma1",
        "libopenblas-dev", "libopenblas0", "libopengl0", "libopenjp2-7", "libopus-dev",
        "libopus0", "libosmesa6", "libosmesa6-dev", "libpango-1.0-0", "libpangocairo-1.0-0",
        "libpangoft2-1.0-0", "libpcre2-8-0", "libpcre2-dev", "libpcre3", "libpcre3-dev",
        "libpng-dev", "libportaudio2", "libpq-dev", "libpq5", "libproj-dev", "libproj22",
        "libproj25", "libprotobuf-dev", "libpulse0", "libpython3-dev", "libraw-dev",
        "librdkafka1", "libreadline-dev", "librocksdb-dev", "libsasl2-2",
        "libsasl2-modules", "libsasl2-modules-gssapi-mit", "libsdl2-2.0-0", "libsdl2-dev",
        "libsecret-1-0", "libsm-dev", "libsm6", "libsnappy-dev", "libsnappy1v5",
        "libsndfile1", "libsodium-dev", "libsox-fmt-all", "libspatialindex6",
        "libspatialite7", "libsqlite3-0", "libsqlite3-dev", "libsqlite3-mod-spatialite",
        "libsrtp2-dev", "libssl-dev", "libssl1.1", "libssl3", "libstdc++6",
        "libswscale-dev", "libsystemd-dev", "libtbb2", "libtcmalloc-minimal4",
        "libtesseract-dev", "libtiff5", "libtiff6", "libudev1", "libusb-1.0-0",
        "libv4l-dev", "libvpx-dev", "libvulkan1", "libwebp-dev", "libwebp6", "libwebp7",
        "libx11-6", "libxcb1", "libxcomposite1", "libxcursor1", "libxdamage1", "libxext6",
        "libxfixes3", "libxi6", "libxkbcommon0", "libxml2", "libxml2-dev", "libxml2-utils",
        "libxmlsec1", "libxmlsec1-dev", "libxmlsec1-openssl", "libxrandr2",
        "libxrender-dev", "libxrender1", "libxslt1-dev", "libxslt1.1", "libxss1", "libxt6",
        "libxtst6", "libyaml-dev", "libzstd-dev", "locales", "locales-all", "lsb-base",
        "lsb-release", "lsof", "lz4", "make", "man-db", "mariadb-client",
        "mariadb-client-core", "mawk", "mecab", "mecab-ipadic-utf8", "media-types",
        "mediainfo", "memcached", "mesa-utils", "monit", "moreutils", "mosh",
        "mosquitto-clients", "mpg123", "mupdf-tools", "mysql-client", "nano", "ncat",
        "net-tools", "netcat", "netcat-openbsd", "netcat-traditional", "nginx",
        "ninja-build", "nmap", "numactl", "openssh-client", "openssl", "optipng",
        "opus-tools", "p7zip", "p7zip-full", "pandoc", "passwd", "patch", "pdftk", "pigz",
        "pkg-config", "pngquant", "portaudio19-dev", "postgresql-client",
        "postgresql-client-13", "postgresql-client-14", "postgresql-client-15",
        "postgresql-client-16", "postgresql-client-17", "procps", "proj-bin", "psmisc",
        "pv", "pwgen", "python3-dev", "python3-distutils", "python3-numpy",
        "python3-setuptools", "python3-tk", "python3-venv", "python3-wheel",
        "python3.10-dev", "python3.10-venv", "python3.11-dev", "python3.11-venv",
        "python3.12-dev", "python3.12-venv", "python3.13-venv", "qpdf", "rclone",
        "redis-sentinel", "redis-server", "redis-tools", "rsync", "s3fs", "screen", "sed",
        "shared-mime-info", "socat", "sox", "spatialite-bin", "sqlite3", "strace", "sudo",
        "supervisor", "swig", "tcpdump", "telnet", "tesseract-ocr", "tini", "tmux", "tree",
        "tzdata", "tzdata-legacy", "unixodbc", "unrtf", "unzip", "util-linux", "uuid-dev",
        "uwsgi", "uwsgi-plugin-python3", "v4l-utils", "varnish", "vim", "wait-for-it",
        "webp", "xauth", "xmlsec1", "xz-utils", "zlib1g-dev", "zstd",
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
