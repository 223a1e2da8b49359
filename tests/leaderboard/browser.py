"""A real browser for the tests of the site: Debian's chromium, or Chrome, driven by selenium."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest

AXE = "axe-core@4.14.1"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


def unavailable(reason: str) -> NoReturn:
    """Skip on a user's machine; fail in CI, where the browser must be there."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{reason}, and CI must have it")
    pytest.skip(reason)


def programs() -> tuple[str, str]:
    """The browser and its driver."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = next(filter(None, map(shutil.which, ("chromedriver", "chromium-driver"))), None)
    if browser is None or driver is None:
        unavailable("no chromium with its driver here (apt-get install chromium chromium-driver)")
    return browser, driver


@contextmanager
def open_browser(*, scripts: bool = True, dark: bool = False, width: int = 1280, height: int = 900) -> Iterator[Any]:
    """A browser with an empty profile of its own that logs its console and its requests."""
    try:
        from selenium import webdriver
    except ImportError:
        unavailable("selenium is not installed (pip install 'qk-bench[dev]')")
    browser, driver = programs()
    with tempfile.TemporaryDirectory(prefix="qk-browser-") as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = browser
        for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}"):
            options.add_argument(flag)
        if dark:
            options.add_argument("--blink-settings=preferredColorScheme=0")
        if not scripts:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        service = webdriver.ChromeService(executable_path=driver)
        page = webdriver.Chrome(options=options, service=service)
        try:
            if width < 500:  # windows cannot be so narrow
                metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
                page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            yield page
        finally:
            page.quit()


def complaints(page: Any) -> list[str]:
    """What the console says that is a warning or worse."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def requests(page: Any) -> list[str]:
    """Addresses asked for that are not files of the site."""
    found = []
    for entry in page.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            found.append(message["params"]["request"]["url"])
    return [url for url in found if not url.startswith(("file:", "data:", "about:", "chrome:"))]


def axe_source(folder: Path) -> str:
    """The script of axe-core, from npm."""
    npm = shutil.which("npm")
    if npm is None:
        unavailable("no npm here to get axe-core with")
    done = subprocess.run(
        [npm, "pack", AXE, "--silent", "--pack-destination", str(folder)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        unavailable(f"axe-core cannot be had from npm: {done.stderr.strip()[:200]}")
    with tarfile.open(next(folder.glob("axe-core-*.tgz"))) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()
