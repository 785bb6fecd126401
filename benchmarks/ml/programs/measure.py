"""Measure the cases of a module: pairs in alternating order, a JSON line for each case.

python measure.py MODULE [--rounds N] [--only RULE …]
python measure.py MODULE --peak NUMBER SIDE DEVICE    the memory of one side
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

RUN = 0.15  # seconds that one side of a pair runs, where a call is shorter
CASE = 12.0  # seconds that all pairs of a case may take; three pairs are made in any case
PEAKS = 2


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--peak", nargs=3, metavar=("NUMBER", "SIDE", "DEVICE"))
    arguments = parser.parse_args()
    cases = importlib.import_module(arguments.module).CASES
    if arguments.peak:
        number, side, device = arguments.peak
        print(json.dumps(peaks(cases[int(number)].build(device)[int(side)])))
        return
    for number, case in enumerate(cases):
        if arguments.only and case.rule not in arguments.only:
            continue
        for device in case.devices:
            if device == "cuda" and not has_cuda():
                continue
            line = measured(case, device, arguments.rounds)
            if case.memory and device == "cpu":
                line["peaks"] = [peak_of(arguments.module, number, side, device) for side in (0, 1)]
            print(json.dumps(line), flush=True)


def has_cuda():
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


def device_name(device):
    return sys.modules["torch"].cuda.get_device_name() if device == "cuda" else "CPU"


def measured(case, device, rounds):
    before, after = case.build(device)
    outputs = [plain(before()), plain(after())]
    lasts = [timed(each, 1, device) for each in (before, after)]
    calls = [max(1, round(RUN / each)) for each in lasts]
    pair = sum(number * each for number, each in zip(calls, lasts, strict=True))
    pairs = []
    for number in range(min(rounds, max(3, int(CASE / pair)))):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        times = [0.0, 0.0]
        for side in order:
            run = (before, after)[side]
            times[side] = timed(run, calls[side], device) / calls[side] / case.requests
        pairs.append(times)
    return {
        "rule": case.rule,
        "what": case.what,
        "device": device_name(device),
        "pairs": pairs,
        "difference": difference(*outputs),
    }


def timed(run, calls, device):
    synchronize(device)
    started = time.perf_counter()
    for _ in range(calls):
        run()
    synchronize(device)
    return time.perf_counter() - started


def synchronize(device):
    if device == "cuda":
        sys.modules["torch"].cuda.synchronize()


def plain(output):
    if hasattr(output, "detach"):
        output = output.detach().float().cpu().numpy()
    return np.asarray(output, dtype=np.float64)


def difference(one, other):
    """The largest difference of two outputs, as a part of the largest value."""
    return float(np.abs(one - other).max() / max(np.abs(one).max(), 1e-12))


def peak_of(module, number, side, device):
    command = [sys.executable, __file__, module, "--peak", str(number), str(side), device]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def peaks(run):
    """How far each of some calls raises the resident memory of the process, in bytes (Linux)."""
    run()
    found = []
    for _ in range(PEAKS):
        Path("/proc/self/clear_refs").write_text("5")
        started = status("VmRSS")
        run()
        found.append(max(0, status("VmHWM") - started))
    return found


def status(key):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{key}:"))


if __name__ == "__main__":
    main()
