"""Builds the site of a synthetic run of 10 models x 10,000 samples at 64 px: time, memory, page weights.

    python tests/benchmarks/site_build.py [SAMPLES] [FOLDER]

Promised: at most 120 s and less than 1 GB on two idle cores; first page at most 300 KB and usable within 1 s from disk.
CPU time is printed beside the wall time, because only the first holds on a machine that others use too.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parents[2]))

MAIN = "import sys; from pathlib import Path; from qk_leaderboard import build; build([Path(sys.argv[1])], Path(sys.argv[2]))"


def measure(run: Path, out: Path) -> tuple[float, float, int]:
    """Wall seconds, CPU seconds and the peak memory of all processes together, in bytes."""
    start = time.monotonic()
    process = psutil.Popen([sys.executable, "-c", MAIN, str(run), str(out)])
    peak, cpu = 0, {}
    while process.poll() is None:
        memory = 0
        try:
            for one in (process, *process.children(recursive=True)):
                memory += one.memory_full_info().uss
                times = one.cpu_times()
                cpu[one.pid] = times.user + times.system
        except psutil.Error:
            pass
        peak = max(peak, memory)
        time.sleep(0.2)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - start, sum(cpu.values()), peak


def weight(out: Path) -> int:
    """Bytes that the first page loads."""
    names = (
        "index.html",
        "assets/site.css",
        "assets/site.js",
        "assets/leaderboard.js",
        "assets/icon.svg",
        "data/leaderboard.js",
    )
    return sum((out / name).stat().st_size for name in names)


def usable(out: Path) -> float | None:
    """Seconds from opening the first page to its table standing, in a browser that was already open."""
    if shutil.which("chromium") is None:
        return None
    from tests.leaderboard.browser import open_browser

    with open_browser() as page:
        page.get("about:blank")
        page.get((out / "index.html").as_uri())
        script = "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd / 1000"
        return float(page.execute_script(script))


def main() -> None:
    """Build once and print."""
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    with tempfile.TemporaryDirectory(prefix="site-build-") as temporary:
        folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(temporary)
        run, out = folder / "run", folder / "site"
        if not run.exists():
            subprocess.run(
                [sys.executable, str(Path(__file__).with_name("synthetic_run.py")), str(run), str(samples)], check=True
            )
        shutil.rmtree(out, ignore_errors=True)
        wall, cpu, peak = measure(run, out)
        print(f"10 models x {samples} samples at 64 px, {psutil.cpu_count()} cores, load {psutil.getloadavg()[0]:.1f}")
        print(f"build: {wall:.0f} s wall, {cpu:.0f} s CPU, {peak / 2**20:.0f} MiB at most, all processes together")
        print(f"first page: {weight(out) / 1024:.0f} KB with everything it loads")
        pages = sorted(out.glob("data/*/samples-*.js"), key=lambda path: path.stat().st_size)
        print(
            f"gallery: index {(pages[0].parent / 'index.js').stat().st_size / 1024:.0f} KB, {len(pages)} pages of data, the largest {pages[-1].stat().st_size / 1024:.0f} KB"
        )
        seconds = usable(out)
        if seconds is not None:
            print(f"first page usable after {seconds:.2f} s from disk")


if __name__ == "__main__":
    main()
