"""Dockerfiles: exact ranges, stages, and what is in force where."""

from mega_optimizer.repository.dockerfile.model import (
    Argument,
    Dockerfile,
    Flag,
    Heredoc,
    Instruction,
    Stage,
)
from mega_optimizer.repository.dockerfile.parse import parse_dockerfile
from mega_optimizer.repository.dockerfile.stages import (
    Copy,
    copies,
    environment_at,
    is_python_stage,
    lineage,
    root_image,
    shell_at,
    shipping_stage,
    stage_ships,
    workdir_at,
)

__all__ = [
    "Argument",
    "Copy",
    "Dockerfile",
    "Flag",
    "Heredoc",
    "Instruction",
    "Stage",
    "copies",
    "environment_at",
    "is_python_stage",
    "lineage",
    "parse_dockerfile",
    "root_image",
    "shell_at",
    "shipping_stage",
    "stage_ships",
    "workdir_at",
]
