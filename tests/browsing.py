"""A browser for tests: Chromium, a JupyterLab server on a copy of the notebooks, and pages that note their errors.

In: Debian's `chromium`. Out: fixtures, and what to do with a page.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect, sync_playwright

from lab3.common.paths import ROOT

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MARKS = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PATIENCE = 60_000  # milliseconds
expect.set_options(timeout=PATIENCE)


def settings(folder, name, **values):
    path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(address, server, log):
    """Wait until a server answers; it must not end before."""
    for _ in range(240):
        try:
            urllib.request.urlopen(address, timeout=60)
            return
        except (urllib.error.URLError, OSError):
            assert server.poll() is None, log.read_text()
            time.sleep(0.5)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A JupyterLab server on a copy of the starters, with a work folder of its own: (its address, the folder)."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(ROOT / "solutions", home / "notebooks" / "solved", ignore=shutil.ignore_patterns("[!0-9]*"))
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", f"--ServerApp.root_dir={home / 'notebooks'}"]
    with serving(home, command, LAB3_WORK=str(home / "work")) as address:
        yield address, home


@contextmanager
def serving(home, command, folder=None, **environment):
    """Run a command that starts JupyterLab, its settings in `home`, as long as the block lasts; yields its address."""
    settings(home / "settings", "notebook-extension/tracker", windowingMode="none")  # cells out of sight exist, too
    labconfig = home / "config" / "labconfig"
    labconfig.mkdir(parents=True)
    (labconfig / "page_config.json").write_text(json.dumps(
        {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [*map(str, command), "--allow-root", f"--port={port}", "--ip=127.0.0.1", "--IdentityProvider.token=",
         "--ServerApp.port_retries=0"],
        cwd=folder, stdout=subprocess.DEVNULL, stderr=open(home / "log.txt", "w"),
        env=os.environ | {
            "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"), "LAB3_PRESET": "smoke"} | environment)
    try:
        wait_for(f"{address}/api/status", server, home / "log.txt")
        yield address
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page():
    """A browser page; what it writes to its console as errors is in `page.errors`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        page.set_default_timeout(PATIENCE)
        page.errors = []
        page.on("console", lambda message: message.type == "error" and page.errors.append(message.text))
        page.on("pageerror", lambda error: page.errors.append(str(error)))
        yield page
        if folder := os.environ.get("LAB3_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/last.png")
        browser.close()


def open_notebook(page, address, name, text=True):
    """Open a notebook and wait for its kernel and, where it has some, for its text."""
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    if text:
        page.locator(".jp-Notebook .jp-MarkdownOutput").last.wait_for()  # it is set, not only the code


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
