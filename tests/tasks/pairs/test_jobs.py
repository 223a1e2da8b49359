"""What a build keeps between interruptions."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_files_are_utf8_in_any_locale(tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from qk_tasks.pairs.jobs import put; put(Path(sys.argv[1]), chr(937))"
    ascii_only = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "kept")], env=ascii_only, check=True)
    assert (tmp_path / "kept").read_bytes() == chr(937).encode()
