"""Services of Flask and what they are converted to: real servers, the same requests, one answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from mega_optimizer.engine.plan import Options
from mega_optimizer.engine.planner import make_plan
from mega_optimizer.examples import read_example
from mega_optimizer.repository.scan import scan
from mega_optimizer.rules import load_rules
from tests.services.rewritten import written
from tests.services.serving import serving

RULE = "serving/flask-to-fastapi"
HEADERS = ("content-type", "content-length", "location")


@dataclass(frozen=True, slots=True)
class Sent:
    method: str
    path: str
    body: bytes = b""
    content_type: str | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller sees; only the status of errors whose page is the framework's."""

    status: int
    headers: tuple[str | None, ...] = ()
    body: bytes = b""


@contextmanager
def serving_app(folder: Path, program: str = "app.py") -> Iterator[httpx.Client]:
    with serving(folder, {"LIMIT": "20"}, (program,)) as running:
        yield running.client


def answer(client: httpx.Client, sent: Sent) -> Answer:
    headers = {} if sent.content_type is None else {"content-type": sent.content_type}
    got = client.request(sent.method, sent.path, content=sent.body, headers=headers)
    own = "html" not in got.headers.get("content-type", "") or not got.is_error
    page = got.content.startswith(b"<!doctype") or got.content.startswith(b'{"detail"')
    if got.is_error and (page or not own or not got.content or got.status_code == 500):
        return Answer(got.status_code)
    return Answer(got.status_code, tuple(got.headers.get(each) for each in HEADERS), got.content)


JSON = "application/json"
ORDER = b'{"item": "b\xc3\xbccher", "count": 2, "at": {"z": 1, "a": null}}'
RECORDED = (
    Sent("GET", "/"),
    Sent("HEAD", "/"),
    Sent("GET", "/orders"),
    Sent("POST", "/orders", ORDER, JSON),
    Sent("POST", "/orders", b'{"item": "pens"}', "application/vnd.shop+json; charset=utf-8"),
    Sent("POST", "/orders", b'{"item": NaN}', JSON),
    Sent("GET", "/orders"),
    Sent("HEAD", "/orders"),
    Sent("GET", "/orders/"),
    Sent("GET", "/orders?limit=1&limit=2"),
    Sent("GET", "/orders?limit=one"),
    Sent("GET", "/orders?limit="),
    Sent("GET", "/orders?item=b%C3%BCcher&limit=-1"),
    Sent("GET", "/orders?item=+pens"),
    Sent("GET", "/orders/1"),
    Sent("GET", "/orders/01"),
    Sent("GET", "/orders/one"),
    Sent("GET", "/orders/99"),
    Sent("DELETE", "/orders/2"),
    Sent("PATCH", "/orders/2"),
    Sent("POST", "/orders", b"{}", JSON),
    Sent("POST", "/orders", b"[", JSON),
    Sent("POST", "/orders", b"", JSON),
    Sent("POST", "/orders", ORDER),
    Sent("POST", "/orders", ORDER, "text/plain"),
    Sent("POST", "/orders", b"\xff\xfe", JSON),
    Sent("POST", "/orders", '{"item": "utf-16"}'.encode("utf-16"), JSON),
    Sent("PUT", "/echo/a%20b", b'[1, 2.5, "\\ud83d\\ude00"]'),
    Sent("PUT", "/echo/a%2Fb", b"1"),
    Sent("PUT", "/echo/x", b"nothing"),
    Sent("PUT", "/echo/", b"1"),
    Sent("PUT", "/sum", b"[1, 2, 3]", JSON),
    Sent("PUT", "/sum", b"[1, 2, 3]"),
    Sent("PUT", "/sum", b'["one"]', JSON),
    Sent("GET", "/docs"),
    Sent("GET", "/openapi.json"),
)


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return written(RULE, "orders", tmp_path_factory.mktemp("orders"))


@pytest.fixture(scope="module")
def answered(orders: tuple[Path, Path]) -> list[Answer]:
    """What Flask answers to the recorded requests."""
    with serving_app(orders[0]) as flask:
        return [answer(flask, sent) for sent in RECORDED]


def test_recorded_requests_are_answered_alike(
    orders: tuple[Path, Path], answered: list[Answer]
) -> None:
    with serving_app(orders[1]) as fastapi:
        found = [answer(fastapi, sent) for sent in RECORDED]
    pairs = zip(RECORDED, found, answered, strict=True)
    assert [each for each in pairs if each[1] != each[2]] == []


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
bodies = (
    st.binary(max_size=6)
    | values.map(lambda value: json.dumps(value).encode())
    | values.map(lambda value: json.dumps({"item": value}).encode())
)
types = st.sampled_from([None, JSON, "APPLICATION/JSON;q=1", "application/hal+json", "text/json"])
words = st.text("ab1é ?#%&=+", max_size=4).map(quote)
paths = st.one_of(
    st.sampled_from(["/", "/orders", "/sum", "/orders/", "/docs", "/redoc"]),
    st.builds("/orders/{}".format, st.integers(-2, 12)),
    st.builds("/echo/{}".format, words),
    st.builds("/orders?limit={}&item={}".format, st.integers(-3, 30) | words, words),
    st.builds("/orders?limit={}&limit={}".format, words, st.integers(0, 3)),
)
methods = st.sampled_from(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])


def test_generated_requests_are_answered_alike(orders: tuple[Path, Path]) -> None:
    before, after = orders
    with serving_app(before) as flask, serving_app(after) as fastapi:

        @settings(
            max_examples=150,
            deadline=None,
            database=None,
            derandomize=True,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(st.builds(Sent, methods, paths, bodies, types))
        def is_the_same(sent: Sent) -> None:
            assert answer(fastapi, sent) == answer(flask, sent), sent

        is_the_same()


WRONG = (
    ("sort_keys=True, ", ""),
    ('f"{text}\\n"', "text"),
    ("values[0]", "values[-1]"),
    ("HTTPException(415)", "HTTPException(400)"),
    ('"GET", "HEAD"', '"GET"'),
    (", redirect_slashes=False", ""),
    ("openapi_url=None, ", ""),
    ("{number:int}", "{number}"),
    (", status_code=404", ""),
)
SEVERAL = """
import importlib, os, uvicorn

apps = [importlib.import_module(f"wrong{number}").app for number in range(COUNT)]


async def app(scope, receive, send):
    number = int(dict(scope["headers"])[b"host"].removeprefix(b"wrong"))
    await apps[number](scope, receive, send)


uvicorn.run(app, port=int(os.environ["PORT"]), lifespan="off")
"""


def test_conversions_gone_wrong_are_seen(
    orders: tuple[Path, Path], answered: list[Answer], tmp_path: Path
) -> None:
    program = (orders[1] / "app.py").read_text()
    for number, (right, wrong) in enumerate(WRONG):
        assert right in program
        (tmp_path / f"wrong{number}.py").write_text(program.replace(right, wrong))
    (tmp_path / "several.py").write_text(SEVERAL.replace("COUNT", str(len(WRONG))))

    unseen = []
    with serving_app(tmp_path, "several.py") as client:
        for number, (right, _) in enumerate(WRONG):
            client.headers["host"] = f"wrong{number}"
            if [answer(client, sent) for sent in RECORDED] == answered:
                unseen.append(right)
    assert unseen == []


SPECIAL = (
    Sent("GET", "/invoices/a%2Bb"),
    Sent("HEAD", "/invoices/1"),
    Sent("GET", "/broken"),
)
FORCED = (
    Sent("POST", "/double", b'{"value": 2}'),
    Sent("POST", "/double", b"value=2", "application/x-www-form-urlencoded"),
    Sent("PUT", "/twice", b'{"value": [1.5, null]}', JSON),
    Sent("GET", "/twice"),
)


@pytest.mark.parametrize(
    ("example", "requests", "statuses"),
    [("dates", SPECIAL, [203, 203, 500]), ("names-of-handlers", FORCED, [201, 400, 201, 405])],
)
def test_other_services_answer_alike(
    tmp_path: Path, example: str, requests: tuple[Sent, ...], statuses: list[int]
) -> None:
    found = []
    for folder in written(RULE, example, tmp_path):
        with serving_app(folder) as client:
            found.append([answer(client, sent) for sent in requests])
    assert found[0] == found[1]
    assert [each.status for each in found[0]] == statuses


@pytest.mark.parametrize(
    ("example", "rule"), [("orders", RULE), ("session", "serving/production-server")]
)
def test_a_service_goes_to_gunicorn_only_where_it_stays_with_flask(example: str, rule: str) -> None:
    rules = [each for each in load_rules() if each.id in (RULE, "serving/production-server")]
    found = next(each for each in rules if each.id == RULE)
    files = read_example(found.folder / "examples" / f"{example}.txtar").files
    plan = make_plan(files, scan(files, "shop"), rules, Options(level="review"))

    assert {each.rule for each in plan.findings if each.status == "would-apply"} == {rule}
