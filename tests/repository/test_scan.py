from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.scan import open_repository, scan
from tests.repository.test_git_index import git

FILES = {
    "Dockerfile": b"FROM python\nCOPY . .\nRUN pip install -r requirements.txt\nCMD uvicorn a:b\n",
    "requirements.txt": b"fastapi\nredis\n",
    "a.py": b"import httpx\n",
    "lib/b.py": b"import torch\n",
}


def test_the_same_files_give_the_same_repository() -> None:
    backwards = dict(reversed(FILES.items()))
    assert scan(MemoryFiles(FILES), "x") == scan(MemoryFiles(backwards), "x")


def test_files_on_disk_and_in_memory_are_scanned_alike(tmp_path: Path) -> None:
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    files, walked = open_repository(tmp_path)
    assert walked == scan(MemoryFiles(FILES), tmp_path.name)
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    assert open_repository(tmp_path)[1] == walked
    assert list(files.paths) == sorted(FILES)


def test_the_problems_of_files_and_services_come_together(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_bytes(b"services: [\n")
    (tmp_path / "Dockerfile").symlink_to("/etc/passwd")
    _, repository = open_repository(tmp_path)
    assert [(problem.path, problem.code) for problem in repository.problems] == [
        ("Dockerfile", "outside-root"),
        ("compose.yaml", "yaml-syntax"),
    ]


def test_importing_the_scan_loads_no_parser() -> None:
    code = "import sys, mega_optimizer.repository.scan; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"ruamel.yaml", "tree_sitter", "dockerfile", "tomlkit", "packaging", "pathspec"}
    assert not heavy & set(done.stdout.split())
    assert not {"libcst", "git", "httpx", "rich"} & set(done.stdout.split())
