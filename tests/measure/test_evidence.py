from __future__ import annotations

import pytest

from mega_optimizer.measure.evidence import Figure, total, unknown


def test_a_sum_with_a_gap_is_no_sum() -> None:
    known = Figure(2, "bytes compressed", source="x", date="2026-11-23")
    assert total((known, known)) == 4
    assert total((known, unknown("bytes compressed", "nobody looked"))) is None
    assert total(()) == 0


def test_compressed_and_on_disk_sizes_are_never_added() -> None:
    with pytest.raises(ValueError, match="cannot be added"):
        total((Figure(1, "bytes compressed"), Figure(1, "bytes on disk")))
