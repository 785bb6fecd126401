from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mega_optimizer.errors import PublishError
from mega_optimizer.publish.remote import Remote, find_remote

if TYPE_CHECKING:
    from pathlib import Path

GITHUB = {"server": "https://github.com", "api": "https://api.github.com"}


def configured(folder: Path, text: str) -> Path:
    (folder / "config").write_text(text)
    return folder


@pytest.mark.parametrize(
    "url",
    [
        "https://github.com/acme/shop.git",
        "https://github.com/acme/shop",
        "https://github.com/acme/shop/",
        "https://robot:secret@github.com/acme/shop.git",
        "HTTPS://GitHub.com/acme/shop.git",
        "git@github.com:acme/shop.git",
        "github.com:acme/shop",
        "ssh://git@github.com/acme/shop.git",
        "ssh://git@ssh.github.com:443/acme/shop.git",
        '"https://github.com/acme/shop.git" # ours',
    ],
)
def test_forms_of_a_url(tmp_path: Path, url: str) -> None:
    folder = configured(tmp_path, f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {url}\n')
    assert find_remote(folder, "origin", {}) == Remote(**GITHUB, owner="acme", name="shop")


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://evil.example/acme/shop.git", "set GITHUB_SERVER_URL if evil.example is to have"),
        ("https://github.com.evil.example/acme/shop.git", "github.com.evil.example"),
        ("https://github.com:8443/acme/shop.git", "github.com:8443"),
        ("https://github.com@evil.example/acme/shop.git", "evil.example"),
        ("git@evil.example:acme/shop.git", "evil.example"),
        ("/srv/git/shop.git", "this machine"),
        ("file:///srv/git/shop.git", "this machine"),
        ("ext::sh -c evil", "ext"),
        ("https://github.com/shop.git", "owner/name"),
        ("https://github.com/acme/shop/tree", "owner/name"),
        ("https://github.com/../shop", "owner/name"),
        ("https://github.com/acme/sh op", "owner/name"),
    ],
)
def test_urls_that_get_no_token(tmp_path: Path, url: str, told: str) -> None:
    folder = configured(tmp_path, f'[remote "origin"]\n\turl = {url}\n')
    with pytest.raises(PublishError, match=told):
        find_remote(folder, "origin", {})


def test_a_password_in_the_url_is_not_shown(tmp_path: Path) -> None:
    url = "https://robot:hunter2@evil.example/acme/shop.git"
    folder = configured(tmp_path, f'[remote "origin"]\n\turl = {url}\n')
    with pytest.raises(PublishError) as caught:
        find_remote(folder, "origin", {})
    assert "hunter2" not in str(caught.value)


def test_another_remote_by_name(tmp_path: Path) -> None:
    text = (
        '[remote "origin"]\n\turl = https://github.com/me/shop\n'
        '[Remote "up\\"stream"] url = https://github.com/acme/shop\n'
        '[branch "main"]\n\tremote = origin\n'
    )
    assert find_remote(configured(tmp_path, text), 'up"stream', {}).owner == "acme"
    assert find_remote(tmp_path, "origin", {}).owner == "me"


def test_an_enterprise_server(tmp_path: Path) -> None:
    folder = configured(tmp_path, '[remote "origin"]\n\turl = git@git.acme.example:shop/web.git\n')
    environment = {"GITHUB_SERVER_URL": "https://git.acme.example/"}
    found = find_remote(folder, "origin", environment)
    assert (found.server, found.api) == (
        "https://git.acme.example",
        "https://git.acme.example/api/v3",
    )
    environment["GITHUB_API_URL"] = "https://api.acme.example"
    assert find_remote(folder, "origin", environment).api == "https://api.acme.example"


def test_without_a_remote_the_environment_says(tmp_path: Path) -> None:
    with pytest.raises(PublishError, match="no remote origin"):
        find_remote(tmp_path, "origin", {})
    environment = {"GITHUB_REPOSITORY": "acme/shop"}
    assert str(find_remote(tmp_path, "origin", environment)) == "acme/shop"


def test_the_token_is_not_sent_in_clear_text(tmp_path: Path) -> None:
    for name in ("GITHUB_SERVER_URL", "GITHUB_API_URL"):
        environment = {"GITHUB_REPOSITORY": "a/b", name: "http://git.acme.example"}
        with pytest.raises(PublishError, match="is not https"):
            find_remote(tmp_path, "origin", environment)
