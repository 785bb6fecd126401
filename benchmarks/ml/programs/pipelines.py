"""Parts of diffusers pipelines: random weights, made here."""

from __future__ import annotations

import torch
from case import BOTH, Case
from diffusers import AutoencoderKL, UNet2DConditionModel
from modules import inference

SIDE = 1024


def autoencoder(device):
    torch.manual_seed(7)
    return (
        AutoencoderKL(
            block_out_channels=(16, 32, 32, 32),
            norm_num_groups=8,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            latent_channels=4,
            sample_size=512,
        )
        .eval()
        .to(device)
    )


def denoiser(device):
    torch.manual_seed(7)
    return (
        UNet2DConditionModel(
            sample_size=64,
            block_out_channels=(32, 64),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
        )
        .eval()
        .to(device)
    )


def tiled(device):
    whole, tiles = autoencoder(device), autoencoder(device)
    tiles.enable_tiling()
    latents = torch.randn(1, 4, SIDE // 8, SIDE // 8, device=device)
    return inference(lambda: whole.decode(latents)[0]), inference(lambda: tiles.decode(latents)[0])


def unsliced(device):
    sliced, plain = denoiser(device), denoiser(device)
    sliced.set_attention_slice("auto")
    latents = torch.randn(2, 4, 64, 64, device=device)
    words = torch.randn(2, 77, 32, device=device)
    return (
        inference(lambda: sliced(latents, 1, words)[0]),
        inference(lambda: plain(latents, 1, words)[0]),
    )


CASES = (
    Case("ml/vae-tiling", "decode an image of 1024 px: whole → tiles", tiled, memory=True,
         devices=BOTH),
    Case("ml/drop-attention-slicing", "one step of a small UNet, 512 px: sliced → SDPA", unsliced,
         memory=True, devices=BOTH),
)  # fmt: skip
