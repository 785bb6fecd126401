from __future__ import annotations

import pytest

from mega_optimizer.codemods.blocking import blocks, thread_hazard
from mega_optimizer.codemods.call_graph import reached
from mega_optimizer.codemods.import_lines import ImportLine, import_lines
from mega_optimizer.codemods.module_paths import reaches
from mega_optimizer.codemods.program import Definition
from tests.codemods.test_program import program_of

SERVICE = (
    "import requests\nclass Base:\n    def fetch(self):\n        return requests.get('http://x')\n"
    "class Service(Base):\n    def load(self):\n        return self.fetch()\n"
    "def make() -> Service:\n    return Service()\nservice = Service()\n"
)


@pytest.mark.parametrize(
    "main",
    [
        "from service import service\ndef f():\n    service.load()\n",
        "from service import Service\ndef f(s: Service):\n    s.load()\n",
        "from service import Service\ndef f(s: Annotated[Service, Depends()]):\n    s.load()\n",
        "from service import make\ndef f():\n    s = make()\n    s.load()\n",
        "import service\ndef f():\n    s = service.make()\n    s.fetch()\n",
    ],
)
def test_calls_are_followed_to_methods(main: str) -> None:
    program = program_of(service=SERVICE, main=main)
    functions = reached(program, Definition("main.py", "f"))
    assert Definition("service.py", "Base.fetch") in functions
    assert any(blocks(program, each) for each in functions)


def test_state_of_another_module_is_seen() -> None:
    program = program_of(
        state="seen = {}\n", main="import state\ndef f(x):\n    state.seen[x] = 1\n"
    )
    hazard = thread_hazard(program, [Definition("main.py", "f")])
    assert hazard is not None
    assert hazard[0] == "shared-state"


def test_parts_of_a_parameter_are_no_shared_state() -> None:
    program = program_of(main="x = {}\ndef f(x):\n    x['a'] = 1\n    x.update(b=2)\n")
    assert thread_hazard(program, [Definition("main.py", "f")]) is None


def test_lines_of_imports_say_when_they_run() -> None:
    source = b"""\
import a, b.c as d  # two
from .e import (
    f,  # one
    g as h,
)
try:
    import i
except ImportError:
    pass
if TYPE_CHECKING:
    from j import k
def later():
    from .. import l
"""
    assert import_lines("m.py", source) == (
        ImportLine("a", "always"),
        ImportLine("b.c", "always"),
        ImportLine(".e.f", "always"),
        ImportLine(".e.g", "always"),
        ImportLine("i", "maybe"),
        ImportLine("..l", "ever"),
    )


def test_modules_reach_each_other_through_others() -> None:
    program = program_of(a="import b\n", b="def f():\n    import c\n", c="")
    assert reaches(program, "a.py", "c.py")
    assert not reaches(program, "a.py", "c.py", "maybe")
    assert reaches(program, "a.py", "b.py", "always")
