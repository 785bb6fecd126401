from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from mega_optimizer.engine.apply import apply_changes
from mega_optimizer.errors import ApplyError
from mega_optimizer.repository.guard import Guard


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def test_files_are_replaced_and_created(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"old\r\n")
    apply_changes(Guard(tmp_path), {"a.py": (b"old\r\n", b"new\r\n"), "b.txt": (None, b"fresh")})
    assert contents(tmp_path) == {"a.py": b"new\r\n", "b.txt": b"fresh"}


def test_mode_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "run.sh"
    script.write_bytes(b"old")
    script.chmod(0o751)
    apply_changes(Guard(tmp_path), {"run.sh": (b"old", b"new")})
    assert stat.S_IMODE(script.stat().st_mode) == 0o751


def test_new_file_gets_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    former = os.umask(0o027)
    try:
        apply_changes(Guard(tmp_path), {"new": (None, b"")})
    finally:
        os.umask(former)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


def test_a_file_that_changed_meanwhile_stops_everything(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    (tmp_path / "b").write_bytes(b"edited by a person")
    with pytest.raises(ApplyError, match="b changed while the plan was made"):
        apply_changes(Guard(tmp_path), {"a": (b"old", b"new"), "b": (b"old", b"new")})
    assert contents(tmp_path) == {"a": b"old", "b": b"edited by a person"}


def test_a_file_that_appeared_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"somebody's")
    with pytest.raises(ApplyError):
        apply_changes(Guard(tmp_path), {"new": (None, b"ours")})
    assert contents(tmp_path) == {"new": b"somebody's"}


def test_symlinks_are_not_written_through(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"old")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(outside)
    with pytest.raises(ApplyError, match="symlink"):
        apply_changes(Guard(root), {"link": (b"old", b"new")})
    assert outside.read_bytes() == b"old"


def test_what_was_replaced_is_put_back_when_a_later_file_fails(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    script = textwrap.dedent(
        """
        import sys
        from pathlib import Path
        from mega_optimizer.engine import apply
        from mega_optimizer.errors import ApplyError
        from mega_optimizer.repository.guard import Guard

        root = Path(sys.argv[1])
        replace = Path.replace

        def vanish(self, target):
            # The folder of the second file disappears between staging and replacing.
            if Path(target).name == "b":
                raise OSError(28, "No space left on device")
            return replace(self, target)

        Path.replace = vanish
        try:
            apply.apply_changes(Guard(root), {"a": (b"old", b"new"), "b": (None, b"new")})
        except ApplyError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "nothing was written: No space left on device" in done.stdout
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="needs Linux to limit file sizes")
def test_a_full_disk_leaves_everything_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"old")
    script = textwrap.dedent(
        """
        import resource, signal, sys
        from pathlib import Path
        from mega_optimizer.engine.apply import apply_changes
        from mega_optimizer.errors import ApplyError
        from mega_optimizer.repository.guard import Guard

        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            changes = {"a": (b"old", b"new"), "b": (None, b"x" * 5000)}
            apply_changes(Guard(Path(sys.argv[1])), changes)
        except ApplyError as error:
            print(error)
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "nothing was written: File too large" in done.stdout
    assert contents(tmp_path) == {"a": b"old"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["staging", "replacing"])
def test_a_signal_leaves_all_files_old_or_all_new(
    tmp_path: Path, moment: str, number: signal.Signals
) -> None:
    names = [f"f{index:02}" for index in range(20)]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from mega_optimizer.engine.apply import apply_changes
        from mega_optimizer.repository.guard import Guard

        root, moment, number = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
        seen = 0

        def strike(event, arguments):
            # The interpreter tells of each rename and open: the tenth one meets the signal.
            global seen
            wanted = "os.rename" if moment == "replacing" else "tempfile.mkstemp"
            if event == wanted:
                seen += 1
                if seen == 10:
                    os.kill(os.getpid(), number)

        sys.addaudithook(strike)
        apply_changes(Guard(root), {p.name: (b"old", b"new") for p in sorted(root.iterdir())})
        """
    )
    arguments = [sys.executable, "-c", script, str(tmp_path), moment, str(int(number))]
    done = subprocess.run(arguments, capture_output=True, check=False)
    assert done.returncode != 0
    kept = b"new" if moment == "replacing" else b"old"
    found = contents(tmp_path)
    if moment == "staging" and number == signal.SIGTERM:
        # Termination does not unwind the program: scratch files may stay, targets never change.
        found = {name: content for name, content in found.items() if name in names}
    assert found == dict.fromkeys(names, kept)
