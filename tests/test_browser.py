"""The notebooks in JupyterLab, in a browser, as a new student meets them.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests are skipped. `LAB3_SCREENSHOTS` names a
folder for pictures of what the browser showed.
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
from pathlib import Path

import pytest
from conftest import ROOT
from playwright.sync_api import expect, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PATIENCE = 120_000  # milliseconds
expect.set_options(timeout=PATIENCE)


def settings(folder, name, **values):
    path = folder / "@jupyterlab" / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory):
    """A JupyterLab server on a copy of the starters, with a work folder of its own: (its address, the folder)."""
    home = tmp_path_factory.mktemp("jupyter")
    shutil.copytree(ROOT / "notebooks", home / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copytree(ROOT / "solutions", home / "notebooks" / "solved", ignore=shutil.ignore_patterns("[!0-9]*"))
    settings(home / "settings", "notebook-extension/tracker", windowingMode="none")  # cells out of sight exist, too
    labconfig = home / "config" / "labconfig"
    labconfig.mkdir(parents=True)
    (labconfig / "page_config.json").write_text(json.dumps(
        {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}", "--ip=127.0.0.1",
         "--IdentityProvider.token=", "--ServerApp.port_retries=0", f"--ServerApp.root_dir={home / 'notebooks'}"],
        stdout=subprocess.DEVNULL, stderr=open(home / "log.txt", "w"),
        env=os.environ | {
            "JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"), "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "IPYTHONDIR": str(home / "ipython"), "LAB3_WORK": str(home / "work"), "LAB3_PRESET": "smoke"})
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"{address}/api/status", timeout=5)
                break
            except (urllib.error.URLError, OSError):
                assert server.poll() is None, (home / "log.txt").read_text()
                time.sleep(0.5)
        yield address, home
    finally:
        server.terminate()
        server.wait(30)


@pytest.fixture
def page(jupyter):
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


def open_notebook(page, address, name):
    page.goto(f"{address}/lab/tree/{name}?reset")
    page.locator(".jp-Notebook .jp-CodeCell").first.wait_for()
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for()
    page.locator(".jp-Notebook .jp-MarkdownOutput").last.wait_for()  # the text is set, not only the code


def run_all(page):
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def screenshots(page, name):
    """Pictures of the whole notebook, where a folder for them is named."""
    folder = os.environ.get("LAB3_SCREENSHOTS")
    if not folder:
        return
    Path(folder).mkdir(parents=True, exist_ok=True)
    for number, cell in enumerate(page.locator(".jp-Notebook .jp-Cell").all()):
        cell.scroll_into_view_if_needed()
        cell.screenshot(path=f"{folder}/{name}-{number:02d}.png")


def cut_off(page):
    """Outputs and texts that are wider than the place they have."""
    return page.evaluate("""() => [...document.querySelectorAll('.jp-OutputArea-output, .jp-RenderedMarkdown')]
        .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.textContent.slice(0, 80))""")


def type_answer(page, exercise, text):
    """Write an answer over an exercise's stub, as a student does."""
    editor = page.locator(".jp-CodeCell .cm-content", has_text=f"#| exercise: {exercise}")
    editor.click()
    page.keyboard.press("Control+a")
    page.keyboard.insert_text(text)


def reference(name):
    text = (ROOT / "solutions" / "work" / f"{name}.py").read_text()
    return text[text.index("#| exercise"):].rstrip()


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_a_student_answers_01_and_finds_the_answer_in_02(jupyter, page, theme):
    address, home = jupyter
    shutil.rmtree(home / "work", ignore_errors=True)
    settings(home / "settings", "apputils-extension/themes", theme=theme)
    shutil.copy(ROOT / "notebooks" / "01_multi_head_attention.ipynb", home / "notebooks")
    dark = theme.endswith("Dark")

    open_notebook(page, address, "01_multi_head_attention.ipynb")
    expect(page.locator("body")).to_have_attribute("data-jp-theme-light", "false" if dark else "true")
    run_all(page)
    outputs = page.locator(".jp-OutputArea-output")
    expect(outputs.filter(has_text="[TODO] multi_head_attention: not written yet").first).to_be_visible()
    assert not (home / "work" / "multi_head_attention.py").exists()

    type_answer(page, "multi_head_attention", reference("multi_head_attention"))
    run_all(page)
    expect(outputs.filter(has_text="[OK]   multi_head_attention")).to_be_visible()
    expect(page.locator(".jp-OutputArea-output img")).to_have_count(3)  # scale, attention maps, what goes wrong
    assert (home / "work" / "multi_head_attention.py").read_text().endswith(reference("multi_head_attention") + "\n")
    red = page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
    expect(red).to_have_count(1)
    expect(red).to_contain_text("NotImplementedError")  # of the practice at the end, which is not written
    assert cut_off(page) == []
    screenshots(page, f"01-{'dark' if dark else 'light'}")

    open_notebook(page, address, "02_masked_token_modelling.ipynb")
    run_all(page)
    expect(outputs.filter(has_text="[OK]   multi_head_attention (notebook 01): yours")).to_be_visible()
    assert not [error for error in page.errors if "favicon" not in error], page.errors


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "solutions").glob("*.ipynb")))
def test_a_solved_notebook_can_be_read_as_a_page(jupyter, page, name):
    address, home = jupyter
    settings(home / "settings", "apputils-extension/themes", theme="JupyterLab Light")
    open_notebook(page, address, f"solved/{name}")
    assert page.locator(".jp-OutputArea-output img").count() >= 2
    assert page.locator('[data-mime-type="application/vnd.jupyter.stderr"]').count() == 0
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0, "a formula that cannot be set"
    assert cut_off(page) == []
    code = page.evaluate("""() => [...document.querySelectorAll('.jp-InputArea-editor .cm-scroller')]
        .filter(part => part.scrollWidth > part.clientWidth + 1).map(part => part.textContent.slice(0, 60))""")
    assert code == [], "code wider than its cell"
    screenshots(page, name.removesuffix(".ipynb"))
