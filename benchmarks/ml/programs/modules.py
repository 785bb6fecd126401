"""Modules of PyTorch and transformers: random weights, made here."""

from __future__ import annotations

import asyncio
import copy
import tempfile
import types
import warnings
from pathlib import Path

import torch
from case import BOTH, Case
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2LMHeadModel

warnings.filterwarnings("ignore")
FRAMES = 16


def bert(width, layers, device):
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=1000,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 64,
        intermediate_size=4 * width,
    )
    return BertModel(config).eval().to(device)


def tokens(batch, length, device):
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 1000, (batch, length), generator=generator).to(device)


def dense(width, device):
    torch.manual_seed(7)
    layers = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, 10)).eval().to(device)


def convolutions(device):
    torch.manual_seed(7)
    layers = [nn.Conv2d(3, 32, 3, padding=1)]
    for _ in range(6):
        layers += [nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval().to(device)


def decoder(device):
    torch.manual_seed(7)
    up = nn.Upsample(scale_factor=2)
    first, second = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)
    last = nn.Conv2d(32, 3, 3, padding=1)
    return nn.Sequential(first, nn.SiLU(), up, second, nn.SiLU(), up, last).eval().to(device)


def inference(run):
    def measured():
        with torch.inference_mode():
            return run()

    return measured


def without_grad(run):
    def measured():
        with torch.no_grad():
            return run()

    return measured


def modes(make, before):
    """Gradients as they are, or switched off by ``before``, against inference mode."""

    def build(device):
        run = make(device)
        return (before(run) if before else lambda: run().detach()), inference(run)

    return build


def text(width, layers, length):
    def make(device):
        model, ids = bert(width, layers, device), tokens(1, length, device)
        return lambda: model(ids).last_hidden_state

    return make


def numbers(width):
    def make(device):
        model, values = dense(width, device), torch.randn(1, width, device=device)
        return lambda: model(values)

    return make


def batched(model_of, values_of, batch):
    """``batch`` calls with one input each against one call with all of them."""

    def build(device):
        model, values = model_of(device), values_of(batch, device)

        def single():
            return torch.cat([model(values[i : i + 1]) for i in range(batch)])

        return inference(single), inference(lambda: model(values))

    return build


class Pooled(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(ids).pooler_output


def in_type(model_of, values_of, dtype):
    def build(device):
        model, values = model_of(device), values_of(device)
        low = copy.deepcopy(model).to(dtype)
        given = values.to(dtype) if values.is_floating_point() else values
        return inference(lambda: model(values)), inference(lambda: low(given).float())

    return build


def quantized(model_of, values_of, how):
    def build(device):
        model, values = model_of(device), values_of(device)
        low = how(model)
        return inference(lambda: model(values)), inference(lambda: low(values))

    return build


def by_torch(model):
    return torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def by_torchao(model):
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    low = copy.deepcopy(model)
    quantize_(low, Int8DynamicActivationInt8WeightConfig())
    return low


def loads(device):
    folder = tempfile.mkdtemp()
    bert(256, 4, "cpu").save_pretrained(folder)
    ids = tokens(1, 16, device)

    def load():
        return BertModel.from_pretrained(folder).eval().to(device)

    kept = load()
    return (
        inference(lambda: load()(ids).last_hidden_state),
        inference(lambda: kept(ids).last_hidden_state),
    )


class Letters:
    """A tokenizer of one letter a token."""

    def decode(self, tokens, **_):
        ids = tokens.tolist() if isinstance(tokens, torch.Tensor) else tokens
        return "".join(chr(97 + each % 26) for each in (ids if isinstance(ids, list) else [ids]))


def first_text(device):
    """Wait for all of a text, or for what the generated code of the rule yields first."""
    template = Path(__file__).resolve().parents[3] / "templates" / "ml" / "text_stream.py.j2"
    module = types.ModuleType("text_stream")
    exec(template.read_text().replace("{{ most }}", "8"), module.__dict__)
    torch.manual_seed(7)
    config = GPT2Config(vocab_size=1000, n_embd=256, n_layer=4, n_head=4, n_positions=128)
    model = GPT2LMHeadModel(config).eval().to(device)
    prompt, letters = tokens(1, 16, device), Letters()
    options = {"max_new_tokens": 64, "min_new_tokens": 64, "do_sample": False, "pad_token_id": 0}

    def write(**streaming):
        return model.generate(prompt, **options, **streaming)

    async def first():
        pieces = module.stream_text(letters, write, skip_prompt=True)
        try:
            return await anext(pieces)
        finally:
            await pieces.aclose()

    def whole():
        return torch.tensor([float(ord(letters.decode(write()[0][16:])[0]))])

    def beginning():
        return torch.tensor([float(ord(asyncio.run(first())[0]))])

    return whole, beginning


def frames(device):
    model = decoder(device)
    values = torch.randn(FRAMES, 32, 16, 16, device=device)

    def single():
        return torch.cat([model(values[i : i + 1]) for i in range(FRAMES)])

    def chunks():
        return torch.cat([model(values[i : i + 8]) for i in range(0, FRAMES, 8)])

    return inference(single), inference(chunks)


def encoder(device):
    return Pooled(bert(768, 4, device))


def small_encoder(device):
    return Pooled(bert(256, 4, device))


def wide(device):
    return dense(1024, device)


def narrow(device):
    return dense(128, device)


def floats(width):
    return lambda batch, device: torch.randn(batch, width, device=device)


def images(batch, device):
    return torch.randn(batch, 3, 64, 64, device=device)


def ids(batch, device):
    return tokens(batch, 16, device)


def of(values, batch):
    return lambda device: values(batch, device)


CASES = (
    Case("ml/model-cache", "BERT 256×4: `from_pretrained` a request → kept", loads, devices=BOTH),
    Case("ml/inference-mode", "BERT 256×4, 16 tokens: as it is → inference mode",
         modes(text(256, 4, 16), None), devices=BOTH),
    Case("ml/inference-mode", "BERT 256×4, 16 tokens: `no_grad` → inference mode",
         modes(text(256, 4, 16), without_grad), devices=BOTH),
    Case("ml/inference-mode", "dense 3×128, one row: as it is → inference mode",
         modes(numbers(128), None), devices=BOTH),
    Case("ml/batch-inference", "dense 3×1024: 8 rows one by one → a batch",
         batched(wide, floats(1024), 8), 8, devices=BOTH),
    Case("ml/batch-inference", "dense 3×1024: 32 rows one by one → a batch",
         batched(wide, floats(1024), 32), 32, devices=BOTH),
    Case("ml/batch-inference", "BERT 256×4, 16 tokens: 8 texts one by one → a batch",
         batched(small_encoder, ids, 8), 8, devices=BOTH),
    Case("ml/batch-inference", "7 convolutions, 64 px: 8 images one by one → a batch",
         batched(convolutions, images, 8), 8, devices=BOTH),
    Case("ml/batch-inference", "7 convolutions, 64 px: 32 images one by one → a batch",
         batched(convolutions, images, 32), 32, devices=BOTH),
    Case("ml/frame-batching", "decoder of 64 px frames: 16 one by one → chunks of 8",
         frames, FRAMES, devices=BOTH),
    Case("ml/dtype", "BERT 768×4, 16 tokens: FP32 → BF16",
         in_type(encoder, of(ids, 1), torch.bfloat16), devices=BOTH),
    Case("ml/dtype", "BERT 768×4, 16 tokens: FP32 → FP16 (no rule does that on a CPU)",
         in_type(encoder, of(ids, 1), torch.float16), devices=BOTH),
    Case("ml/dtype", "dense 3×128, one row: FP32 → BF16",
         in_type(narrow, of(floats(128), 1), torch.bfloat16), devices=BOTH),
    Case("ml/int8", "BERT 768×4, 16 tokens: FP32 → `torch.ao` dynamic INT8",
         quantized(encoder, of(ids, 1), by_torch)),
    Case("ml/int8", "BERT 768×4, 16 tokens: FP32 → torchao dynamic INT8, not compiled",
         quantized(encoder, of(ids, 1), by_torchao)),
    Case("ml/int8", "dense 3×1024, one row: FP32 → `torch.ao` dynamic INT8",
         quantized(wide, of(floats(1024), 1), by_torch)),
    Case("ml/int8", "dense 3×1024, 32 rows: FP32 → `torch.ao` dynamic INT8",
         quantized(wide, of(floats(1024), 32), by_torch), 32),
    Case("ml/int8", "dense 3×128, one row: FP32 → `torch.ao` dynamic INT8",
         quantized(narrow, of(floats(128), 1), by_torch)),
    Case("ml/stream-generation", "GPT-2 256×4 writes 64 tokens: until the whole → until the first text",
         first_text),
)  # fmt: skip
