"""The benchmark of models judges only what every pair says, and renews only what it measured."""

from __future__ import annotations

from pathlib import Path

from benchmarks.ml.__main__ import read
from benchmarks.ml.page import Measurement, row, write
from benchmarks.serving.page import MARK


def measured(*pairs: tuple[float, float], what: str = "forest", device: str = "CPU") -> Measurement:
    return Measurement("ml/threads", what, device, pairs, 0.0)


def test_what_every_pair_says_is_bold() -> None:
    assert "**2.00× (1.50–4.00)**" in row(measured((0.3, 0.2), (0.2, 0.1), (0.4, 0.1)))  # noqa: RUF001


def test_pairs_that_disagree_are_open_and_a_loss_is_told() -> None:
    assert "open: 1.00×" in row(measured((0.2, 0.1), (0.1, 0.1), (0.1, 0.2)))  # noqa: RUF001
    assert "slower: 0.50×" in row(measured((0.1, 0.2), (0.1, 0.2)))  # noqa: RUF001


def test_a_line_of_a_program_is_read_whole() -> None:
    line = (
        '{"rule": "ml/vae-tiling", "what": "decode", "device": "CPU", "pairs": [[1.0, 2.0]], '
        '"difference": 0.001, "peaks": [[700000000, 700000000], [130000000, 130000000]]}'
    )
    assert "1e+03 → 2e+03" not in row(read(line))
    assert "| 1000 → 2000 | slower: 0.50× (0.50–0.50) | 700 → 130 | 1e-03 |" in row(read(line))  # noqa: RUF001


def test_other_rows_stay(tmp_path: Path) -> None:
    page = tmp_path / "ml.md"
    page.write_text(f"Introduction\n\n{MARK}")
    write(page, [measured((0.2, 0.1)), measured((0.4, 0.1), device="GPU")])
    write(page, [measured((0.6, 0.1))])
    text = page.read_text()
    assert text.startswith(f"Introduction\n\n{MARK}")
    assert text.count("| CPU |") == text.count("| GPU |") == 1
    assert "6.00×" in text  # noqa: RUF001
    assert "4.00×" in text  # noqa: RUF001
    assert "2.00×" not in text  # noqa: RUF001
