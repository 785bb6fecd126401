from __future__ import annotations

import textwrap

import pytest

from mega_optimizer.codemods.context import Context
from mega_optimizer.codemods.draft import Draft
from mega_optimizer.codemods.finding import Skip, apply_edits
from mega_optimizer.codemods.lifespan import Resource, open_around_serving
from mega_optimizer.codemods.startup import bare_test_client, startup_of
from mega_optimizer.repository.files import MemoryFiles
from mega_optimizer.repository.place import Place
from mega_optimizer.repository.service import LaunchSite, Service

CLIENTS = "def open_client(): ...\ndef open_pool(): ...\n"
MAIN = "app/main.py"


def context_of(contents: dict[str, str], started: str | None = None) -> Context:
    files = {path: textwrap.dedent(text).encode() for path, text in contents.items()}
    sites = (
        [LaunchSite(Place("Dockerfile"), "dockerfile", "uvicorn", "uvicorn", started)]
        if started
        else []
    )
    service = Service("web", "", modules=tuple(sorted(files)), launch=tuple(sites))
    return Context(service, MemoryFiles(files))


def opened(
    contents: dict[str, str], *names: str, user: str = "app/clients.py", started: str | None = None
) -> dict[str, str] | Skip:
    """Open the resources ``names`` of the module ``user``, one rule after the other."""
    contents = {"app/__init__.py": "", "app/clients.py": CLIENTS, **contents}
    for name in names:
        context = context_of(contents, started)
        startup = startup_of(context, user)
        if isinstance(startup, Skip):
            return startup
        draft = Draft(context)
        skip = open_around_serving(context, draft, startup, Resource(user, name))
        if skip is not None:
            return skip
        edits = draft.edits()
        for path in {edit.path for edit in edits}:
            own = [edit for edit in edits if edit.path == path]
            contents[path] = apply_edits(context.files.read(path), own).decode()
    return contents


def assert_main(main: str, expected: str, *names: str, **others: str) -> None:
    result = opened({MAIN: main, **others}, *(names or ("open_client",)))
    assert not isinstance(result, Skip), result
    assert result[MAIN] == textwrap.dedent(expected)


def code_of(contents: dict[str, str], **options: str) -> str:
    result = opened(contents, "open_client", **options)
    assert isinstance(result, Skip), result
    return result.code


def test_application_without_a_lifespan_gets_one() -> None:
    assert_main(
        """\
        import logging

        from fastapi import FastAPI

        from app.routers import items

        logging.basicConfig()

        # served by uvicorn
        app = FastAPI(title="Gateway")  # the gateway
        app.include_router(items.router)
        """,
        """\
        import logging
        from contextlib import asynccontextmanager

        from fastapi import FastAPI

        from app.clients import open_client
        from app.routers import items

        logging.basicConfig()


        @asynccontextmanager
        async def lifespan(app: FastAPI):
            async with open_client():
                yield


        # served by uvicorn
        app = FastAPI(title="Gateway", lifespan=lifespan)  # the gateway
        app.include_router(items.router)
        """,
        **{
            "app/routers/__init__.py": "",
            "app/routers/items.py": "from app.clients import x\nrouter = 1\n",
        },
    )


def test_typed_module_gets_a_typed_lifespan_above_its_factory() -> None:
    assert_main(
        """\
        import fastapi

        from .clients import open_pool


        def lifespan() -> int: ...


        def create_app() -> fastapi.FastAPI:
            app = fastapi.FastAPI(
                title="Gateway",
            )
            return app
        """,
        """\
        from collections.abc import AsyncIterator
        from contextlib import asynccontextmanager

        import fastapi

        from .clients import open_client, open_pool


        def lifespan() -> int: ...


        @asynccontextmanager
        async def app_lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
            async with open_client():
                yield


        def create_app() -> fastapi.FastAPI:
            app = fastapi.FastAPI(
                title="Gateway",
                lifespan=app_lifespan,
            )
            return app
        """,
    )


LIFESPAN = """\
    from contextlib import asynccontextmanager

    from fastapi import FastAPI

    from app import clients


    @asynccontextmanager
    async def lifespan(app: FastAPI):
        start()
        try:

            # serve
            yield {"ready": True}  # until told to stop
        finally:
            stop()


    app = FastAPI(lifespan=lifespan)
    """


def test_yield_of_an_existing_lifespan_is_wrapped() -> None:
    expected = textwrap.dedent(LIFESPAN).replace(
        '        yield {"ready": True}  # until told to stop\n',
        "        async with open_client():\n"
        '            yield {"ready": True}  # until told to stop\n',
    )
    expected = expected.replace(
        "from app import clients\n",
        "from app import clients\nfrom app.clients import open_client\n",
    )
    assert_main(LIFESPAN, expected)


def test_two_resources_share_one_statement() -> None:
    result = opened({MAIN: LIFESPAN}, "open_client", "open_pool")
    assert not isinstance(result, Skip)
    assert "        async with open_client(), open_pool():\n            yield {" in result[MAIN]
    assert "from app.clients import open_client, open_pool\n" in result[MAIN]


def test_long_statements_are_nested_instead() -> None:
    manager = "open_all_connections_to_the_warehouse_of_the_company"
    clients = CLIENTS + f"def {manager}(): ...\n"
    result = opened({MAIN: LIFESPAN, "app/clients.py": clients}, "open_client", manager)
    assert not isinstance(result, Skip)
    assert f"            async with {manager}():\n                yield {{" in result[MAIN]


@pytest.mark.parametrize(
    ("main", "path", "expected"),
    [
        (
            "from app.start import run\nfrom fastapi import FastAPI\napp = FastAPI(lifespan=run)\n",
            "app/start.py",
            "async def run(app):\n    async with open_client():\n        yield\n",
        ),
        (
            "from fastapi import FastAPI\nfrom app.start import made\n"
            "def create(**rest):\n    run = made(1)\n    app = FastAPI(lifespan=run, **rest)\n",
            "app/start.py",
            "def made(x):\n    @manager\n    async def inner(app):\n"
            "        async with open_client():\n            yield\n    return inner\n",
        ),
        (
            "from fastapi import FastAPI\nfrom app import start\n"
            "class Server:\n    def serve(self):\n"
            "        self.app = FastAPI(lifespan=self.run)\n"
            "    async def run(self, app):\n        yield\n",
            MAIN,
            "    async def run(self, app):\n        async with open_client():\n            yield\n",
        ),
    ],
)
def test_lifespan_is_found_in_another_module_a_factory_and_a_class(
    main: str, path: str, expected: str
) -> None:
    start = (
        "from app import clients\n\n\nasync def run(app):\n    yield\n\n\n"
        "def made(x):\n    @manager\n    async def inner(app):\n        yield\n    return inner\n"
    )
    result = opened({MAIN: main, "app/start.py": start}, "open_client")
    assert not isinstance(result, Skip), result
    assert expected in result[path]
    assert "import open_client" in result[path]


EVENTS = """\
    from fastapi import FastAPI

    from app import clients

    app = FastAPI()


    @app.on_event("startup")
    async def start():
        connect()


    @app.get("/")
    def index(): ...
    """


def test_handlers_of_events_are_added_where_there_are_some() -> None:
    expected = """\
        from contextlib import AsyncExitStack

        from fastapi import FastAPI

        from app import clients
        from app.clients import open_client

        app = FastAPI()


        @app.on_event("startup")
        async def start():
            connect()


        _resources = AsyncExitStack()


        @app.on_event("startup")
        async def open_resources():
            await _resources.enter_async_context(open_client())


        @app.on_event("shutdown")
        async def close_resources():
            await _resources.aclose()


        @app.get("/")
        def index(): ...
        """
    assert_main(EVENTS, expected)
    second = expected.replace("import open_client", "import open_client, open_pool").replace(
        "(open_client())\n",
        "(open_client())\n            await _resources.enter_async_context(open_pool())\n",
    )
    assert_main(EVENTS, second, "open_client", "open_pool")


def test_events_of_a_router_count_too() -> None:
    main = "from fastapi import FastAPI\nfrom app import clients, jobs\napp = FastAPI()\n"
    jobs = "@router.on_event('startup')\ndef start(): ...\n"
    result = opened({MAIN: main, "app/jobs.py": jobs}, "open_client")
    assert not isinstance(result, Skip)
    assert '@app.on_event("startup")\nasync def open_resources():' in result[MAIN]
    assert "lifespan" not in result[MAIN]


def test_carriage_returns_survive() -> None:
    main = textwrap.dedent(LIFESPAN).replace("\n", "\r\n")
    result = opened({MAIN: main}, "open_client")
    assert not isinstance(result, Skip)
    assert result[MAIN].count("\n") == result[MAIN].count("\r\n") == main.count("\n") + 2


FASTAPI = "from fastapi import FastAPI\nfrom app import clients\n"


@pytest.mark.parametrize(
    ("main", "code"),
    [
        ("from app import clients\n", "no-application"),
        (FASTAPI + "app = FastAPI(**options)\n", "arguments-hidden"),
        (FASTAPI + "import x\napp = FastAPI(lifespan=x.run)\n", "lifespan-elsewhere"),
        (FASTAPI + "app = FastAPI()\napp.router.lifespan_context = y\n", "lifespan-elsewhere"),
        (FASTAPI + "uvicorn.run('x', lifespan='off')\napp = FastAPI()\n", "lifespan-off"),
        (FASTAPI + "app = FastAPI()\nadmin = FastAPI()\n", "several-applications"),
        (FASTAPI + "make(FastAPI())\n", "shape-not-known"),
        (FASTAPI + "if x:\n    app = FastAPI()\n", "shape-not-known"),
        (FASTAPI + "open_client = 1\napp = FastAPI()\n", "name-taken"),
        (
            FASTAPI + "def f():\n    app = FastAPI()\n"
            "    @app.on_event('startup')\n    def g(): ...\n",
            "events-in-factory",
        ),
        (
            FASTAPI + "async def run(app):\n    if x:\n        yield 1\n    else:\n"
            "        yield 2\napp = FastAPI(lifespan=run)\n",
            "lifespan-shape",
        ),
        (
            FASTAPI + "async def run(app):\n    for x in y:\n        yield\n"
            "app = FastAPI(lifespan=run)\n",
            "lifespan-shape",
        ),
        (
            FASTAPI + "async def run(app):\n    z = yield\napp = FastAPI(lifespan=run)\n",
            "lifespan-shape",
        ),
    ],
)
def test_what_cannot_be_shown_is_skipped(main: str, code: str) -> None:
    assert code_of({MAIN: main}) == code


def test_module_that_the_application_is_imported_by_is_skipped() -> None:
    main = FASTAPI + "app = FastAPI()\n"
    clients = "from app.main import app\n" + CLIENTS
    assert code_of({MAIN: main, "app/clients.py": clients}) == "import-cycle"


@pytest.mark.parametrize(
    "imports",
    [
        "",
        "try:\n    from app import clients\nexcept ImportError: ...\n",
        "def f():\n    import app.clients\n",
    ],
)
def test_module_that_may_be_optional_is_not_imported(imports: str) -> None:
    main = f"from fastapi import FastAPI\n{imports}app = FastAPI()\n"
    assert code_of({MAIN: main}) == "not-imported-at-start"


def test_launched_module_shows_where_names_start() -> None:
    contents = {
        "app/__init__.py": "",
        "app/clients.py": "",
        "src/web/main.py": "from .core import app\nfrom .c import open_client\n",
        "src/web/core.py": "from fastapi import FastAPI\napp = FastAPI()\n",
        "src/web/c.py": CLIENTS,
    }
    result = opened(contents, "open_client", user="src/web/c.py", started="web.main:app")
    assert not isinstance(result, Skip), result
    assert "from web.c import open_client" in result["src/web/core.py"]


def test_outer_application_opens_what_a_mounted_one_uses() -> None:
    main = (
        "from fastapi import FastAPI\nfrom app.api import api, made\napp = FastAPI()\n"
        "app.mount('/api', api)\napp.mount('/more', made())\n"
    )
    api = (
        "from fastapi import FastAPI\nfrom app import clients\napi = FastAPI()\n"
        "def made():\n    inner = FastAPI()\n    return inner\n"
    )
    result = opened({MAIN: main, "app/api.py": api}, "open_client")
    assert not isinstance(result, Skip)
    assert "app = FastAPI(lifespan=lifespan)" in result[MAIN]
    assert result["app/api.py"] == api


def test_launched_application_is_taken_of_two_that_use_the_code() -> None:
    two = {
        MAIN: FASTAPI + "app = FastAPI()\n",
        "app/admin.py": FASTAPI + "def create():\n    site = FastAPI()\n    return site\n",
    }
    assert code_of(two) == "several-applications"
    result = opened(two, "open_client", started="app.admin:create")
    assert not isinstance(result, Skip)
    assert "site = FastAPI(lifespan=lifespan)" in result["app/admin.py"]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("with TestClient(app) as client:\n    pass\n", False),
        ("client = TestClient(app)\n", True),
        ("AsyncClient(transport=ASGITransport(app=app))\n", True),
    ],
)
def test_tests_that_never_run_the_lifespan_are_found(source: str, found: bool) -> None:
    program = context_of({"tests/test_app.py": source}).program
    assert (bare_test_client(program) is not None) == found


def test_tasks_of_a_lifespan_stop_before_the_resource_closes() -> None:
    main = """\
        import asyncio

        from fastapi import FastAPI

        from app.clients import other


        async def lifespan(app: FastAPI):
            \"\"\"Start and stop.\"\"\"
            # the loop
            task = asyncio.create_task(work())
            text = \"\"\"
        kept
        \"\"\"

            yield
            task.cancel()


        app = FastAPI(lifespan=lifespan)
        """
    expected = """\
        import asyncio

        from fastapi import FastAPI

        from app.clients import open_client, open_pool, other


        async def lifespan(app: FastAPI):
            \"\"\"Start and stop.\"\"\"
            # the loop
            async with open_client(), open_pool():
                task = asyncio.create_task(work())
                text = \"\"\"
        kept
        \"\"\"

                yield
                task.cancel()


        app = FastAPI(lifespan=lifespan)
        """
    assert_main(main, expected, "open_client", "open_pool")
