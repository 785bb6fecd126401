"""Which repository of which forge a checkout belongs to, read as data: git is not asked."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mega_optimizer.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

GITHUB = "https://github.com"
# Git over ssh on the https port has a host name of its own.
SSH_HOSTS = {"ssh.github.com": "github.com"}

_SECTION = re.compile(r'\[\s*([\w.-]+)(?:\s+"((?:[^"\\]|\\.)*)")?\s*\]')
_VARIABLE = re.compile(r"([A-Za-z][\w-]*)\s*=\s*(.*)")
_SCP_LIKE = re.compile(r"(?:[^@/\s]+@)?([^:/\s]+):(?!//)(.+)")
_NAME = re.compile(r"(?!\.+$)[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository on a forge: where its web pages and its API are, its owner and its name."""

    server: str
    api: str
    owner: str
    name: str

    def __str__(self) -> str:
        return f"{self.owner}/{self.name}"


def find_remote(git_folder: Path, name: str, environment: Mapping[str, str]) -> Remote:
    """Return the repository that the remote ``name`` of the checkout names.

    Without such a remote ``GITHUB_REPOSITORY`` counts. The host must be github.com or the one of
    ``GITHUB_SERVER_URL``: the configuration of a target shall not choose who gets the token.
    Raises :class:`PublishError`.
    """
    server = environment.get("GITHUB_SERVER_URL", "").rstrip("/") or GITHUB
    _check_transport(server)
    url = _remote_url(git_folder / "config", name)
    if url is None:
        path = environment.get("GITHUB_REPOSITORY", "")
        if not path:
            raise PublishError(
                f"the checkout has no remote {name}: name another with --remote, "
                "or set GITHUB_REPOSITORY to owner/name"
            )
    else:
        host, path = _host_and_path(url)
        known = {urlsplit(server).netloc.lower(), urlsplit(server).hostname}
        if SSH_HOSTS.get(host, host) not in known:
            raise PublishError(
                f"the remote {name} is at {host}, but the token is for {server}: "
                f"set GITHUB_SERVER_URL if {host} is to have it"
            )
    owner, _, repository = path.strip("/").removesuffix(".git").partition("/")
    if not _NAME.fullmatch(owner) or not _NAME.fullmatch(repository):
        raise PublishError(f"the remote {name} does not name a repository as owner/name")
    return Remote(server, _api(server, environment), owner, repository)


def _api(server: str, environment: Mapping[str, str]) -> str:
    given = environment.get("GITHUB_API_URL", "").rstrip("/")
    if given:
        _check_transport(given)
        return given
    return "https://api.github.com" if server == GITHUB else f"{server}/api/v3"


def _check_transport(url: str) -> None:
    parts = urlsplit(url)
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and local):
        raise PublishError(f"{url} is not https: the token would be readable on the way")


def _host_and_path(url: str) -> tuple[str, str]:
    """Return host (with a port for http) and path; what may be a password is dropped."""
    if "://" not in url:
        scp_like = _SCP_LIKE.fullmatch(url)
        return (scp_like[1].lower(), scp_like[2]) if scp_like else ("this machine", url)
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http", "ssh", "git"):
        return "this machine", parts.path
    host = (parts.hostname or "").lower()
    try:
        port = f":{parts.port}" if parts.port and parts.scheme in ("http", "https") else ""
    except ValueError:
        port = ""
    return host + port, parts.path


def _remote_url(config: Path, name: str) -> str | None:
    try:
        text = config.read_text("utf-8", "replace") if config.is_file() else ""
    except OSError as error:
        raise PublishError(f"{os.fspath(config)} cannot be read: {error.strerror}") from error
    urls = [value for section, key, value in _variables(text) if (section, key) == (name, "url")]
    return urls[0] if urls and urls[0] else None


def _variables(text: str) -> Iterator[tuple[str, str, str]]:
    """Yield (subsection, key, value) of the ``remote`` sections, as git-config(1) describes."""
    remote: str | None = None
    for line in text.replace("\\\n", "").splitlines():
        line = line.strip()
        if section := _SECTION.match(line):
            is_remote = section[1].lower() == "remote"
            remote = re.sub(r"\\(.)", r"\1", section[2] or "") if is_remote else None
            line = line[section.end() :].strip()
        variable = _VARIABLE.fullmatch(line)
        if remote is not None and variable:
            yield remote, variable[1].lower(), _value(variable[2])


def _value(written: str) -> str:
    """Return a value without quotes and without the comment behind it."""
    value, quoted = "", False
    characters = iter(written)
    for character in characters:
        if character == "\\":
            value += next(characters, "")
        elif character == '"':
            quoted = not quoted
        elif character in "#;" and not quoted:
            break
        else:
            value += character
    return value.strip()
