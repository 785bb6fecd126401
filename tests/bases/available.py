"""The builder and the base images that tests with real images need."""

from __future__ import annotations

import ast
import fcntl
import hashlib
import os
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from mega_optimizer.measure.builders.buildah import Buildah, buildah_answers
from mega_optimizer.measure.builders.model import Limits
from tests.bases.stand_in import REPOSITORY, is_stand_in, make

CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def require_buildah() -> None:
    """Skip, loudly, where buildah does not answer; in CI that is a failure."""
    if buildah_answers():
        return
    message = "buildah does not answer (it is not installed, or this is not root): nothing is built"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def require_base(tag: str = "3.11-slim") -> None:
    """Make the stand-in ``python:TAG`` where the local store has no such image."""
    require_buildah()
    lock = Path(tempfile.gettempdir()) / "mega-optimizer-stand-in.lock"
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # the workers of one run share the store
        if is_stand_in(f"{REPOSITORY}:{tag}") is None:
            make(tag)


def buildah(limits: Limits | None = None) -> Buildah:
    """Return a builder for images on the stand-in."""
    require_base()
    return Buildah(limits or Limits())


def volumes_for_pip(more: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return what pip inside a build needs of this machine: its configuration and certificates.

    Read from what pip and OpenSSL say, in the form of ``MEGA_OPTIMIZE_BUILD_VOLUMES``. ``more`` are
    other files (or files in place of these), by where they are mounted.
    """
    found: dict[str, str] = {}
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    if certificates:
        found[CERTIFICATES] = os.path.realpath(certificates)
    configuration = "\n".join(["[global]", *_settings(listed, bool(certificates)), ""])
    digest = hashlib.sha256(configuration.encode()).hexdigest()[:12]
    path = Path(tempfile.gettempdir()) / f"mega-optimizer-pip-{digest}.conf"
    path.write_text(configuration)
    found["/etc/pip.conf"] = str(path)
    return " ".join(f"{source}:{target}" for target, source in {**found, **more}.items())


def _settings(listed: str, has_certificates: bool) -> Iterator[str]:
    """Yield the indexes that ``pip config list`` names, and where a build has the certificates.

    What names a file or folder of this machine (a constraint, a folder of wheels) is left out.
    """
    if has_certificates:
        yield f"cert = {CERTIFICATES}"
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        setting = name.rpartition(".")[2]
        words = ast.literal_eval(value).split()
        remote = [word for word in words if not word.startswith(("/", "file:"))]
        if setting in ("index-url", "extra-index-url", "trusted-host") and remote:
            yield f"{setting} = {' '.join(remote)}"
