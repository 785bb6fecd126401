"""The services of a sample checkout as processes: started as their images start, wired as compose
wires them, on ports of the loopback interface.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml import YAML
from uv import find_uv_bin

from mega_optimizer.engine.resolve import child_environment
from mega_optimizer.repository.dockerfile import parse_dockerfile, shipping_stage
from mega_optimizer.repository.launch.container import start_instructions
from mega_optimizer.repository.place import Problem
from tests.services.postgres import PostgreSQL
from tests.services.programs import free_port, require

START_UP = 120  # seconds; a loaded machine takes a few
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")
_ADDRESS = re.compile(r"//((?:[^@/]*@)?)([\w-]+):\d+")
# No round of the auto-scaler while requests are compared.
_SETTINGS = {"PYTHONDONTWRITEBYTECODE": "1", "DECISION_INTERVAL": "3600"}


@dataclass(frozen=True, slots=True)
class Running:
    """A service that answers at ``url``; its output goes to ``log``."""

    name: str
    url: str
    log: Path
    process: subprocess.Popen[bytes]


def compose(checkout: Path) -> dict[str, dict[str, object]]:
    """Return the services of the compose file of ``checkout``."""
    document = YAML(typ="safe").load((checkout / "docker-compose.yml").read_text())
    services: dict[str, dict[str, object]] = document["services"]
    return services


def folders(checkout: Path) -> dict[str, Path]:
    """Return the folder of each service that compose builds, publishes and always starts, and of
    those that have an image and no manifest: something else runs it.
    """
    text = "".join(path.read_text() for path in checkout.glob("k8s/*.yaml"))
    named = {*compose(checkout), *re.findall(r"^  name: (\S+)", text, re.MULTILINE)}
    images = (path.parent for path in sorted(checkout.glob("services/*/Dockerfile")))
    found = {folder.name: folder for folder in images if folder.name not in named}
    for name, about in compose(checkout).items():
        build = about.get("build")
        context = build.get("context") if isinstance(build, dict) else build
        if context and about.get("ports") and not about.get("profiles"):
            found[name] = checkout / str(context)
    return found


@contextmanager
def running(
    checkout: Path, hosts: Mapping[str, int], settings: Mapping[str, str], logs: Path
) -> Iterator[dict[str, Running]]:
    """Run all services of ``checkout``.

    ``hosts`` maps the other hosts that the compose file names to ports of the loopback interface,
    ``settings`` are variables for all services. Output and virtual environments go to ``logs``.
    """
    built = folders(checkout)
    ports = {name: free_port() for name in built}
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        services = {}
        for name, folder in built.items():
            environment = _environment(compose(checkout).get(name, {}), {**hosts, **ports})
            environment.update(settings)
            bin_folder = _installed(folder, logs / f"{name}.venv")
            environment["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
            _build(folder, environment)
            services[name] = stack.enter_context(
                _started(name, folder, ports[name], environment, logs / f"{name}.log")
            )
        for service in services.values():
            _await(service)
        yield services


def _environment(about: Mapping[str, object], hosts: Mapping[str, int]) -> dict[str, str]:
    given = about.get("environment") or {}
    pairs = (
        [str(each).partition("=")[::2] for each in given]
        if isinstance(given, list)
        else [(str(key), str(value)) for key, value in dict(given).items()]  # type: ignore[call-overload]
    )
    environment = dict(child_environment(os.environ))
    for key, value in pairs:
        text = _VARIABLE.sub(lambda found: found[2] or "", value)
        environment[key] = _ADDRESS.sub(lambda found: _local(found, hosts), text)
        if text in hosts:
            environment[key] = "127.0.0.1"
            environment[key.replace("HOST", "PORT")] = str(hosts[text])
    return {**environment, **_SETTINGS}


def _local(address: re.Match[str], hosts: Mapping[str, int]) -> str:
    """Return an address of compose's network as one of the loopback interface."""
    return f"//{address[1]}127.0.0.1:{hosts[address[2]]}"


def _installed(folder: Path, environment: Path) -> Path:
    uv = find_uv_bin()
    subprocess.run([uv, "venv", "-q", "--python", sys.executable, environment], check=True)
    python = environment / "bin" / "python"
    done = subprocess.run(
        [uv, "pip", "install", "-q", "--python", python, "-r", folder / "requirements.txt"],
        env=child_environment(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return environment / "bin"


def _build(folder: Path, environment: Mapping[str, str]) -> None:
    """Do what the image does when it is built, beyond copying and installing."""
    if (folder / "train.py").exists():
        subprocess.run(
            ["python", "train.py"], cwd=folder, env=environment, check=True, capture_output=True
        )


@contextmanager
def _started(
    name: str, folder: Path, port: int, environment: Mapping[str, str], log: Path
) -> Iterator[Running]:
    command = [_on_port(word, folder, port) for word in _command(folder)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**environment, "PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Running(name, f"http://127.0.0.1:{port}", log, process)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(timeout=START_UP)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise


def _command(folder: Path) -> list[str]:
    """Return what the image of the service starts."""
    dockerfile = parse_dockerfile("Dockerfile", (folder / "Dockerfile").read_bytes())
    assert not isinstance(dockerfile, Problem)
    stage = shipping_stage(dockerfile, None)
    assert stage is not None
    words: list[str] = []
    for instruction in start_instructions(dockerfile, stage):
        if instruction is None:
            continue
        if instruction.exec_form is not None:
            words += [word.text for word in instruction.exec_form]
        else:
            words += ["sh", "-c", " ".join(instruction.values)]
    return words


def _on_port(word: str, folder: Path, port: int) -> str:
    exposed = re.search(r"^EXPOSE\s+(\d+)", (folder / "Dockerfile").read_text(), re.MULTILINE)
    return word if exposed is None else re.sub(rf"\b{exposed[1]}\b", str(port), word)


def _await(service: Running) -> None:
    """Return when the service accepts connections."""
    host, _, port = service.url.removeprefix("http://").partition(":")
    deadline = time.monotonic() + START_UP
    while not _accepts(host, int(port)):
        with suppress(subprocess.TimeoutExpired):
            service.process.wait(timeout=0.2)
        started = service.process.poll() is None and time.monotonic() < deadline
        assert started, f"{service.name} does not start: {service.log.read_text()}"


def _accepts(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def fill_database(server: PostgreSQL, checkout: Path) -> None:
    """Make the database that the compose file names, its user and its first tables."""
    (client,) = require("psql")
    for statement in ("CREATE ROLE acme SUPERUSER LOGIN", "CREATE DATABASE acme OWNER acme"):
        subprocess.run([client, server.url, "-qc", statement], check=True)
    url = f"postgresql://acme@127.0.0.1:{server.port}/acme"
    for script in sorted(checkout.glob("services/*/schema.sql")):
        subprocess.run([client, url, "-q", "-f", script], check=True, capture_output=True)
