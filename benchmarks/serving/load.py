"""Load by wrk: a closed loop, as many requests as the connections allow."""

from __future__ import annotations

import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.case import Request

# percentiles are in microseconds, the duration too
REPORT = """
done = function(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "errors": %d, "status": %d}',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    errors.connect + errors.read + errors.write + errors.timeout, errors.status))
end
"""


@dataclass(frozen=True, slots=True)
class Load:
    """One run: requests answered, seconds, latencies in milliseconds, failures of any kind."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def send(request: Request, base: str, connections: int, seconds: float) -> Load:
    """Send ``request`` over ``connections`` connections for ``seconds``."""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(lua(request))
        script.flush()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s"]
        done = subprocess.run(
            [*command, "-s", script.name, base + request.path],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise SystemExit(f"wrk: {done.stdout}{done.stderr}")
    told = json.loads(done.stdout[done.stdout.rindex("{") :])
    return Load(
        requests=told["requests"],
        seconds=told["duration"] / 1e6,
        p50=told["p50"] / 1e3,
        p99=told["p99"] / 1e3,
        errors=told["errors"] + told["status"],
    )


def lua(request: Request) -> str:
    lines = [f"wrk.method = {json.dumps(request.method)}"]
    headers = dict(request.headers)
    if request.body is not None:
        lines.append(f"wrk.body = {json.dumps(json.dumps(request.body))}")
        headers["Content-Type"] = "application/json"
    lines += [f"wrk.headers[{json.dumps(k)}] = {json.dumps(v)}" for k, v in headers.items()]
    return "\n".join(lines) + REPORT


def is_available() -> bool:
    """Whether wrk can be started."""
    return any((Path(folder) / "wrk").exists() for folder in ("/usr/bin", "/usr/local/bin"))
