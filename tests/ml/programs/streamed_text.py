"""Run in the folder of image-generation: a real server streams what the old route answers.

Exits with 1 and a line for each check that fails.
"""

import os
import sys
import tempfile
import threading
import time
from pathlib import Path

folder = Path(tempfile.mkdtemp())
os.environ |= {
    "MODEL_DIR": str(folder / "image"),
    "WRITER_DIR": str(folder / "writer"),
    "HF_HUB_OFFLINE": "1",
}

import httpx
import torch
import uvicorn

torch.set_num_threads(1)

import make_model

make_model.main()

from app import prompts, text_stream
from app.main import app
from fastapi.responses import StreamingResponse
from transformers import CLIPTokenizer

PATIENCE = 30  # seconds for what happens at once
stopped = threading.Event()
started = threading.Semaphore(0)


def tokens_of(tokenizer, text):
    return tokenizer(text, return_tensors="pt").input_ids


def endless(tokenizer):
    def generate(streamer, stopping_criteria):
        started.release()
        ids = tokens_of(tokenizer, "waves ")
        while not stopping_criteria(ids, None).all():
            streamer.put(ids[:, 1:-1])
            time.sleep(0.001)  # a model takes longer
        stopped.set()

    return generate


def broken(tokenizer):
    def generate(streamer, stopping_criteria):
        streamer.put(tokens_of(tokenizer, "waves at night ")[:, 1:-1])
        raise MemoryError("no memory is left")

    return generate


def stream(kind):
    tokenizer = CLIPTokenizer.from_pretrained(prompts.settings.model_dir / "tokenizer")
    return StreamingResponse(text_stream.stream_text(tokenizer, kind(tokenizer)))


app.add_api_route("/endless", lambda: stream(endless))
app.add_api_route("/broken", lambda: stream(broken))


def check_text(client):
    for prompt, tokens in (("a lighthouse", 5), ("waves at night", 30), ("x", 1), ("ä, ö", 12)):
        body = {"prompt": prompt, "tokens": tokens}
        whole = client.post("/prompts/suggestion", json=body).json()["prompt"]
        with client.stream("POST", "/prompts/suggestion/stream", json=body) as response:
            assert response.status_code == 200
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            streamed = "".join(response.iter_text())
        assert streamed == whole, (streamed, whole)


def check_wrong_requests(client):
    body = {"prompt": "", "tokens": 5}
    answers = [client.post(f"/prompts/suggestion{end}", json=body) for end in ("", "/stream")]
    assert [each.status_code for each in answers] == [422, 422]


def first_piece(client):
    with client.stream("GET", "/endless") as response:
        assert next(response.iter_text())


def check_leaving(client):
    """Pieces come while the model writes, and it stops when nobody reads them."""
    with client.stream("GET", "/endless") as response:
        pieces = response.iter_text()  # it closes the connection when nobody holds it
        assert next(pieces)
        assert not stopped.is_set()
    assert stopped.wait(PATIENCE), "the model writes on for nobody"


def check_error(client):
    try:
        with client.stream("GET", "/broken") as response:
            text = "".join(response.iter_text())
    except httpx.RemoteProtocolError:
        return
    raise AssertionError(f"an error of the model ended the answer as if it were whole: {text}")


def check_most(client):
    """One more than MOST begins only when one has left."""
    while started.acquire(blocking=False):
        pass
    opened = []
    for _ in range(text_stream.MOST):
        opened.append(client.stream("GET", "/endless"))
        opened[-1].__enter__()
        assert started.acquire(timeout=PATIENCE)
    waiting = threading.Thread(target=first_piece, args=(client,))
    waiting.start()
    assert not started.acquire(timeout=1), "more are written than MOST"
    opened.pop().__exit__(None, None, None)
    assert started.acquire(timeout=PATIENCE), "nobody takes the place of one who left"
    for each in opened:
        each.__exit__(None, None, None)
    waiting.join(PATIENCE)


CHECKS = (
    check_text,
    check_wrong_requests,
    check_leaving,
    check_error,
    check_most,
)


def main() -> int:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.05)
    port = server.servers[0].sockets[0].getsockname()[1]
    failed = 0
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client:
        for check in CHECKS:
            try:
                check(client)
            except Exception as error:
                print(f"{check.__name__}: {type(error).__name__}: {error}")
                failed = 1
    sys.stdout.flush()
    os._exit(failed)  # what a mutation left running does not matter


if __name__ == "__main__":
    main()
