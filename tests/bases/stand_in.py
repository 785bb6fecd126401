"""Make stand-ins for Python's official images from Debian packages, for tests and benchmarks.

A stand-in is committed to the local image store under the real name (``docker.io/library/python``),
so that ``FROM python:3.11`` of an unmodified Dockerfile resolves where no registry answers. It is
no copy of the real image: Debian's own interpreter with links in /usr/local/bin, fewer tools, other
sizes. The label ``mega-optimizer.stand-in`` says so. An image of that name without the label is
somebody else's and is left alone.

Needs root, buildah, and a Debian mirror that apt on this machine is configured for; mmdebstrap is
installed where it is missing. A second interpreter, built for this machine, makes a stand-in for
another version of Python: ``--interpreter PREFIX``.

    python -m tests.bases.stand_in 3.11-slim 3.11
    python -m tests.bases.stand_in --interpreter ~/.pyenv/versions/3.10.13 3.10-slim 3.10
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

REPOSITORY = "docker.io/library/python"
LABEL = "mega-optimizer.stand-in"
DEFAULT = ("3.11-slim", "3.11")

_SUITE = "bookworm"  # the Debian release whose Python is 3.11
_SOURCES = ("/etc/apt/sources.list", "/etc/apt/sources.list.d/debian.sources")
_LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*")
_COMMON = ("ca-certificates", "netbase", "tzdata", "usr-is-merged")
# mmdebstrap takes the alternative of usr-is-merged, which depends on all of Perl.
_PERL = "usrmerge perl '^libperl5' '^perl-modules-' '^lib.*-perl$'"
_DEBIAN_PYTHON = ("python3", "python3-venv", "python3-pip", "python3-setuptools", "python3-wheel")
# What an interpreter built from source on Debian is linked with.
_LIBRARIES = (
    "libbz2-1.0",
    "libexpat1",
    "libffi8",
    "libgdbm6",
    "liblzma5",
    "libncursesw6",
    "libreadline8",
    "libsqlite3-0",
    "libssl3",
    "libuuid1",
    "zlib1g",
)
# A part of what the image "buildpack-deps" holds: the stand-in is smaller than the real image.
_TOOLS = (
    *("gcc", "g++", "make", "patch", "pkg-config", "git", "curl", "wget", "procps", "libc6-dev"),
    *("libffi-dev", "libssl-dev", "libpq-dev", "default-libmysqlclient-dev", "zlib1g-dev"),
    *("libxml2-dev", "libxslt1-dev", "libjpeg-dev", "libsqlite3-dev"),
)
# Installers that do not ask pip's configuration read these. The file is the machine's own, mounted.
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
_TRUST = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE")
# What Debian's own images tell apt (debuerreotype), so that packages leave no archives behind.
_APT = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
APT::Update::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::GzipIndexes "true";
"""
_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"


def is_stand_in(name: str) -> bool | None:
    """Whether the image ``name`` of the local store is one of ours; None where there is none."""
    done = subprocess.run(
        ["buildah", "inspect", "--type", "image", name], capture_output=True, text=True, check=False
    )
    if done.returncode:
        return None
    labels = json.loads(done.stdout)["Docker"]["config"].get("Labels") or {}
    return LABEL in labels


def make(tag: str, interpreter: Path | None = None) -> str:
    """Make ``python:TAG``, slim or full, unless an image has that name; return what was done."""
    name = f"{REPOSITORY}:{tag}"
    existing = is_stand_in(name)
    if existing is not None:
        return f"{name}: kept ({'stand-in' if existing else 'not a stand-in'})"
    if tag == "slim" or tag.endswith("-slim"):
        _make_slim(name, interpreter)
    else:
        slim = f"{tag}-slim"
        make(slim, interpreter)
        _make_full(name, f"{REPOSITORY}:{slim}")
    return f"{name}: made"


def _make_slim(name: str, interpreter: Path | None) -> None:
    packages = (*_COMMON, *(_LIBRARIES if interpreter else _DEBIAN_PYTHON))
    with _container("scratch") as container:
        _run("buildah", "add", "--quiet", container, _debian(packages), "/")
        root = Path(_run("buildah", "mount", container).strip())
        version = _install(interpreter, root) if interpreter else _use_debian_python(root)
        about = f"CPython {version}, Debian {_SUITE} packages"
        _configure(container, version, about)
        _run("buildah", "commit", "--quiet", container, name)


@cache
def _debian(packages: tuple[str, ...]) -> str:
    """Make a minimal Debian with ``packages``; return its tar file, which this process keeps."""
    folder = tempfile.mkdtemp(prefix="stand-in-")
    atexit.register(shutil.rmtree, folder)
    tree, tar = os.path.join(folder, "root"), os.path.join(folder, "root.tar")
    _run("mmdebstrap", *_options(packages), _SUITE, tree, *filter(os.path.exists, _SOURCES))
    settings = Path(tree, "etc/apt/apt.conf.d")
    # It holds what was said below to this one installation, not to those to come.
    (settings / "99mmdebstrap").unlink()
    (settings / "docker-clean").write_text(_APT)
    _run("tar", "--create", "--file", tar, "--directory", tree, ".")
    return tar


def _make_full(name: str, slim: str) -> None:
    with _container(slim) as container:
        environment = ("env", "DEBIAN_FRONTEND=noninteractive")
        _run("buildah", "run", container, "--", "apt-get", "update", "-qq")
        install = ("apt-get", "install", "-y", "-qq", "--no-install-recommends", *_TOOLS)
        _run("buildah", "run", container, "--", *environment, *install)
        _run("buildah", "run", container, "--", "sh", "-c", "rm -rf /var/lib/apt/lists/*")
        _run("buildah", "commit", "--quiet", container, name)


def _options(packages: tuple[str, ...]) -> Iterator[str]:
    yield from ("--quiet", "--variant=minbase", f"--include={','.join(packages)}")
    yield from ('--aptopt=APT::Install-Recommends "false"', "--dpkgopt=force-unsafe-io")
    yield f'--customize-hook=chroot "$1" apt-get purge --yes --quiet --quiet {_PERL}'
    yield from (f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT)


def _use_debian_python(root: Path) -> str:
    """Let ``python`` and ``pip`` be found where the official images have them."""
    library = next((root / "usr/lib").glob("python3.*"))
    version = library.name.removeprefix("python")
    # Debian lets pip install beside its packages only without this mark (PEP 668).
    (library / "EXTERNALLY-MANAGED").unlink(missing_ok=True)
    for name in ("python", "python3", library.name):
        (root / "usr/local/bin" / name).symlink_to(f"/usr/bin/{library.name}")
    for name in ("pip", "pip3"):
        (root / "usr/local/bin" / name).symlink_to("/usr/bin/pip3")
    return version


def _install(interpreter: Path, root: Path) -> str:
    """Copy an interpreter with its standard library to /usr/local, and give it its own pip."""
    library = next((interpreter / "lib").glob("python3.*"))
    left_out = shutil.ignore_patterns("site-packages", "__pycache__", "test", "tests", "*.a")
    target = root / "usr/local"
    shutil.copytree(library, target / "lib" / library.name, symlinks=True, ignore=left_out)
    (target / "lib" / library.name / "site-packages").mkdir()
    for shared in (interpreter / "lib").glob("libpython3*.so*"):
        shutil.copy2(shared, target / "lib", follow_symlinks=False)
    _strip(target / "lib")
    shutil.copytree(interpreter / "include", target / "include", dirs_exist_ok=True)
    shutil.copy2(interpreter / "bin" / library.name, target / "bin" / library.name)
    for name in ("python", "python3"):
        (target / "bin" / name).symlink_to(library.name)
    _run("chroot", str(root), "/sbin/ldconfig")
    python = f"/usr/local/bin/{library.name}"
    _run("chroot", str(root), python, "-m", "ensurepip", "--default-pip")
    if not (target / "bin" / "pip").exists():
        (target / "bin" / "pip").symlink_to("pip3")
    return library.name.removeprefix("python")


def _strip(folder: Path) -> None:
    """Remove debugging symbols, as the official images do, where this machine has the tool."""
    if shutil.which("strip"):
        shared = [str(path) for path in folder.rglob("*.so*") if not path.is_symlink()]
        _run("strip", "--strip-unneeded", *shared)


def _configure(container: str, version: str, about: str) -> None:
    _run(
        *("buildah", "config", "--cmd", "python3", "--label", f"{LABEL}={about}"),
        *("--env", f"PATH={_PATH}", "--env", "LANG=C.UTF-8", "--env", f"PYTHON_VERSION={version}"),
        *(f"--env={name}={_CERTIFICATES}" for name in _TRUST),
        container,
    )


@contextmanager
def _container(base: str) -> Iterator[str]:
    container = _run("buildah", "from", "--pull-never", base).strip()
    try:
        yield container
    finally:
        _run("buildah", "rm", container)


def _run(*command: str) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "LC_ALL": "C"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Make stand-ins for Python's official images.")
    parser.add_argument("tags", nargs="*", default=DEFAULT, help="for instance 3.11-slim 3.11")
    parser.add_argument("--interpreter", type=Path, help="prefix of an interpreter to use")
    arguments = parser.parse_args()
    if shutil.which("mmdebstrap") is None:
        _run("apt-get", "update", "-qq")
        _run("apt-get", "install", "-y", "-qq", "--no-install-recommends", "mmdebstrap")
    for tag in arguments.tags:
        print(make(tag, arguments.interpreter), flush=True)


if __name__ == "__main__":
    main()
