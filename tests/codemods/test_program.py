from __future__ import annotations

import pytest

from mega_optimizer.codemods.applications import FASTAPI, read_application
from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.program import Definition, Program
from mega_optimizer.codemods.request_paths import runs_before_fork, runs_per_request
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.service import Service


def program_of(**sources: str) -> Program:
    """Make a program; ``a__b`` stands for ``a/b.py`` and ``INIT`` for ``__init__``."""
    paths = {name.replace("__", "/").replace("INIT", "__init__"): name for name in sources}
    contents = {f"{path}.py": sources[name].encode() for path, name in paths.items()}
    service = Service("web", "", modules=tuple(sorted(contents)))
    return Program(Context(service, MemoryFiles(contents)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("app.db.engine", Definition("src/app/db.py", "engine")),
        ("app.db", Definition("src/app/db.py", "")),
        (".db.engine", Definition("src/app/db.py", "engine")),
        ("..app.db.engine", Definition("src/app/db.py", "engine")),
        ("app.handed_on", Definition("src/app/db.py", "engine")),
        (":local", Definition("src/app/main.py", "local")),
        ("sqlalchemy.engine", None),
        ("app.missing.engine", None),
        (None, None),
    ],
)
def test_definition_is_found_from_any_source_root(name: str | None, expected: object) -> None:
    program = program_of(
        src__app__INIT="from .db import engine as handed_on\n",
        src__app__db="engine = make()\n",
        src__app__main="local = 1\n",
    )
    assert program.definition("src/app/main.py", name) == expected


def test_nearest_of_two_modules_with_one_name_is_meant() -> None:
    program = program_of(a__app__db="x = 1\n", b__app__db="x = 1\n", a__app__main="")
    assert program.module("app.db", "a/app/main.py") == "a/app/db.py"
    assert program.module("app.db", "other.py") is None


DB = "def get_engine():\n    return 1\n\ndef get_db():\n    yield get_engine()\n"


@pytest.mark.parametrize(
    "user",
    [
        "from db import get_engine\n@app.get('/')\ndef view():\n    get_engine()\n",
        "from db import get_db\n@app.get('/')\ndef view(db=Depends(get_db)): ...\n",
        "from db import get_db\nDb = Annotated[object, Depends(get_db)]\n",
        "import db\n@shared_task\ndef work():\n    list(db.get_db())\n",
        "@app.route('/')\ndef view():\n    from db import get_engine\n    get_engine()\n",
        "import db\nclass V(MethodView):\n    def get(self):\n        db.get_engine()\n",
        "import db\ndef helper():\n    db.get_engine()\n@app.get('/')\ndef view():\n    helper()\n",
        "import db\ndef view():\n    db.get_engine()\napp.add_url_rule('/', 'v', view)\n",
    ],
)
def test_what_a_request_reaches(user: str) -> None:
    assert runs_per_request(program_of(db=DB, main=user), Definition("db.py", "get_engine"))


@pytest.mark.parametrize(
    "user",
    [
        "from db import get_engine\nget_engine()\n",
        "from db import get_engine\ndef main():\n    get_engine()\n",
        "from db import get_engine\n@app.on_event('startup')\ndef start():\n    get_engine()\n",
        "from other import get_engine\n@app.get('/')\ndef view():\n    get_engine()\n",
    ],
)
def test_what_no_request_reaches(user: str) -> None:
    assert not runs_per_request(program_of(db=DB, main=user), Definition("db.py", "get_engine"))


def test_use_at_import_is_seen_through_functions() -> None:
    start = Definition("db.py", "get_engine")
    used = "from db import get_engine\ndef init():\n    get_engine()\ninit()\n"
    assert runs_before_fork(program_of(db=DB, main=used), start, after_import=True)
    unused = program_of(db=DB, main=used.replace("\ninit()", ""))
    assert not runs_before_fork(unused, start, after_import=True)


@pytest.mark.parametrize(
    ("user", "after_import"),
    [
        ("from db import get_engine\ndef when_ready(server):\n    get_engine()\n", False),
        ("import db\n@worker_init.connect\ndef check(**_):\n    db.get_engine()\n", True),
        ("import db\n@signals.beat_init.connect()\ndef f(**_):\n    db.get_engine()\n", True),
    ],
)
def test_use_before_a_fork_is_seen(user: str, after_import: bool) -> None:
    program = program_of(db=DB, main=user)
    start = Definition("db.py", "get_engine")
    assert runs_before_fork(program, start, after_import=after_import)


@pytest.mark.parametrize("signal", ["worker_process_init", "signals.task_prerun"])
def test_signals_of_worker_processes_come_after_the_fork(signal: str) -> None:
    user = f"import db\n@{signal}.connect\ndef f(**_):\n    db.get_engine()\n"
    start = Definition("db.py", "get_engine")
    assert not runs_before_fork(program_of(db=DB, main=user), start, after_import=True)


def test_routers_that_include_each_other_end() -> None:
    program = program_of(
        main="from fastapi import FastAPI\nfrom a import router\n"
        "app = FastAPI()\napp.include_router(router)\n",
        a="from fastapi import APIRouter\nimport b\nrouter = APIRouter()\n"
        "router.include_router(b.router)\n",
        b="from fastapi import APIRouter\nimport a\nrouter = APIRouter()\n"
        "router.include_router(a.router)\n@router.get('/x')\ndef x(): ...\n",
    )
    facts = program.facts("main.py")
    assert facts is not None
    application = read_application(program, facts, facts.called(*FASTAPI)[0])
    assert [served.route.handler.path for served in application.routes] == ["x"]


def test_router_of_the_same_module_and_added_routes_are_visible() -> None:
    program = program_of(
        main="from fastapi import APIRouter, FastAPI\n"
        "def make():\n    app = FastAPI()\n    router = APIRouter()\n"
        "    def health(): ...\n"
        "    router.add_api_route('/health', health)\n"
        "    app.include_router(router)\n    return app\n"
    )
    facts = program.facts("main.py")
    assert facts is not None
    application = read_application(program, facts, facts.called(*FASTAPI)[0])
    assert application.hidden is None
    assert [served.route.handler.path for served in application.routes] == ["make.health"]
