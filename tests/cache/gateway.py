"""The sample's api-gateway with its cache, as processes."""

from __future__ import annotations

import subprocess
from contextlib import AbstractContextManager
from pathlib import Path

from tests.services.environment import installed
from tests.services.rewritten import Checkout
from tests.services.serving import Serving, serving
from tests.services.upstream import Upstream
from tests.test_sample_repository import copy_of_the_sample, optimize


def rewritten_gateway(folder: Path) -> Checkout:
    """Rewrite the sample with the rule and install what its api-gateway then declares."""
    copy = copy_of_the_sample(folder)
    optimize(copy, "safe", "--select", "cache/redis-response")
    service = copy / "services" / "api-gateway"
    assert (service / "app" / "response_cache.py").exists()
    return Checkout(service, installed(folder / "venv", service / "requirements.txt"))


def gateway(
    checkout: Checkout, elsewhere: Upstream, redis_url: str
) -> AbstractContextManager[Serving]:
    """Run the gateway on a port of its own."""
    environment = {
        "PREDICTION_URL": elsewhere.url,
        "ORCHESTRATOR_URL": elsewhere.url,
        "REDIS_URL": redis_url,
    }
    return serving(checkout.folder, environment, python=checkout.python)


def redis_command(port: int, *words: str) -> str:
    """Return what redis-cli prints for a command."""
    done = subprocess.run(
        ["redis-cli", "-p", str(port), *words], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
