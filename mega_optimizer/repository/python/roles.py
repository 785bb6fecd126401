"""What a Python file is for, as its path tells: product code, tests, database migrations."""

from __future__ import annotations

TEST_FOLDERS = frozenset({"tests", "test", "testing", "integration_tests", "e2e"})
MIGRATION_FOLDERS = frozenset({"alembic", "migrations", "versions"})


def is_test(path: str) -> bool:
    """Whether ``path`` belongs to a test suite (a tests folder, ``test_x.py``, ``conftest.py``)."""
    *folders, name = path.split("/")
    return (
        not TEST_FOLDERS.isdisjoint(folders)
        or name == "conftest.py"
        or name == "tests.py"
        or name.startswith("test_")
        or name.endswith("_test.py")
    )


def is_migration(path: str) -> bool:
    """Whether ``path`` is part of Alembic's (or a like tool's) environment."""
    return not MIGRATION_FOLDERS.isdisjoint(path.split("/")[:-1])
