"""The calibration of docs/statistics.md with fewer repetitions; every limit is widened by three standard errors.

The full measurement is `python -m qk_bench.stats.calibration`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from qk_bench.stats import calibration


@pytest.mark.parametrize(("table", "repetitions"), [
    ("false-alarms", 400),
    ("coverage", 400),
    ("families", 200),
    ("gate", 400),
    ("power", 400),
    ("margin", 400),
])  # fmt: skip
def test_promise_is_kept(table: str, repetitions: int) -> None:
    measurements = list(calibration.TABLES[table](repetitions))
    broken = [m for m in measurements if not m.kept(repetitions, reduced=True)]
    # three standard errors leave 1 chance in 740 for each measurement; with a hundred of them one may fall outside
    assert len(broken) <= 1, broken
    assert all(m.kept(repetitions // 3, reduced=True) for m in broken), broken


def test_tables_can_be_written_into_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "statistics.md"
    page.write_text(f"before\n{calibration.BEGIN}\nold\n{calibration.END}\nafter\n")
    monkeypatch.setattr(calibration, "TABLES", {"few-clusters": calibration.few_clusters})
    assert calibration.main(["--repetitions", "20", "--write", str(page)]) == 0
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "### Few clusters" in text
