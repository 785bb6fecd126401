"""Run in the folder of video-generation: eight threads read what one read before, ROUNDS times.

Exits with 1 as soon as a thread fails, or reads anything else.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

os.environ["MODEL_DIR"] = tempfile.mkdtemp()
os.environ["HF_HUB_OFFLINE"] = "1"

import torch

torch.set_num_threads(1)

import make_model
from video.generator import encode

THREADS = 8
PROMPTS = [
    (f"{'waves at night ' * (2 + number)} and {number} gulls", detail)
    for number in range(4)
    for detail in ("rough", "fine")
]


def main(rounds: int) -> int:
    make_model.main()
    wanted = [encode(*each) for each in PROMPTS]
    barrier = Barrier(THREADS)

    def read(prompt: tuple[str, str]) -> torch.Tensor:
        barrier.wait()
        return encode(*prompt)

    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(rounds):
            found = list(pool.map(read, PROMPTS))
            if not all(map(torch.equal, found, wanted)):
                print("another text was read")
                return 1
    print("the same texts were read")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
