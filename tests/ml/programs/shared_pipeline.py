"""Run in the folder of image-generation: eight threads draw what one drew before, ROUNDS times.

Exits with 1 as soon as a thread fails, or draws another image.
"""

import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

os.environ["MODEL_DIR"] = str(Path(tempfile.mkdtemp()) / "tiny-sd")
os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline

torch.set_num_threads(1)

import make_model
from app.pipeline import build_pipeline, generate
from app.schemas import ImageRequest
from app.settings import settings

THREADS = 8
PROMPTS = ("a lighthouse", "a harbour", "a gull", "waves")


def write_model() -> None:
    # Euler's scheduler counts its steps, which is the state that threads disturb.
    built = make_model.build()
    components = {**built.components, "scheduler": EulerDiscreteScheduler()}
    pipeline = StableDiffusionPipeline(**components, requires_safety_checker=False)
    pipeline.save_pretrained(settings.model_dir)


def requests() -> list[ImageRequest]:
    return [
        ImageRequest(prompt=prompt, seed=seed, steps=1 + seed % 2, width=64, height=64, guidance=0)
        for seed, prompt in enumerate(PROMPTS * 2)
    ]


def main(rounds: int) -> int:
    write_model()
    barrier = Barrier(THREADS)

    def load(_: int) -> StableDiffusionPipeline:
        barrier.wait()
        return build_pipeline()

    with ThreadPoolExecutor(THREADS) as pool:
        if len({id(each) for each in pool.map(load, range(THREADS))}) != 1:
            print("more than one pipeline was loaded")
            return 1
    wanted = [generate(each).tobytes() for each in requests()]

    def draw(request: ImageRequest) -> bytes:
        barrier.wait()
        return generate(request).tobytes()

    sys.setswitchinterval(1e-5)
    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(rounds):
            if list(pool.map(draw, requests())) != wanted:
                print("another image was drawn")
                return 1
    print("the same images were drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
