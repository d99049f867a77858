"""The notebooks in JupyterLab, in a browser, as a new student meets them.

Needs Chromium (Debian: `apt-get install chromium`); without it these tests are skipped. `LAB3_SCREENSHOTS` names a
folder for pictures of what the browser showed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from browsing import MARKS, open_notebook, run_all, settings
from conftest import ROOT
from playwright.sync_api import expect

sys.path.insert(0, str(ROOT / "solutions"))
import build  # noqa: E402

pytestmark = MARKS


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


@pytest.mark.parametrize("theme", ["JupyterLab Light", pytest.param("JupyterLab Dark", marks=pytest.mark.nightly)])
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
    red = page.locator('[data-mime-type="application/vnd.jupyter.stderr"]')
    expect(red).to_contain_text("[TODO] multi_head_attention")  # the check has stopped the run

    type_answer(page, "multi_head_attention", reference("multi_head_attention"))
    run_all(page)
    expect(outputs.filter(has_text="[OK]   multi_head_attention")).to_be_visible()
    expect(page.locator(".jp-OutputArea-output img")).to_have_count(3)  # scale, attention maps, what goes wrong
    assert (home / "work" / "multi_head_attention.py").read_text().endswith(reference("multi_head_attention") + "\n")
    expect(red).to_have_count(1)
    expect(red).to_contain_text("NotImplementedError")  # of the practice at the end, which is not written
    assert cut_off(page) == []
    screenshots(page, f"01-{'dark' if dark else 'light'}")

    open_notebook(page, address, "02_masked_token_modelling.ipynb")
    run_all(page)
    expect(outputs.filter(has_text="[OK]   multi_head_attention (notebook 01): yours")).to_be_visible()
    assert not [error for error in page.errors if "favicon" not in error], page.errors


def axe():
    """The code of axe-core, which finds what hinders screen readers and weak eyes; skips without it."""
    root = shutil.which("npm") and subprocess.run(["npm", "root", "-g"], capture_output=True, text=True).stdout.strip()
    path = Path(os.environ.get("LAB3_AXE") or Path(root or "", "axe-core")) / "axe.min.js"
    if not path.is_file():
        pytest.skip("needs axe-core: npm install -g axe-core")
    return path.read_text()


@pytest.mark.nightly
@pytest.mark.parametrize("path", sorted((ROOT / "solutions").glob("*.ipynb")), ids=lambda path: path.stem[:2])
def test_a_page_of_a_notebook_hinders_nobody(page, path, tmp_path):
    code, file = axe(), tmp_path / "page.html"
    file.write_text(build.page(nbformat.read(path, as_version=4), path.stem))
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(file.as_uri(), wait_until="domcontentloaded")
    page.evaluate(code)
    found = page.evaluate("async () => (await axe.run()).violations")
    assert [(one["id"], [node["html"][:200] for node in one["nodes"]]) for one in found] == []


@pytest.mark.parametrize("name", [
    pytest.param(path.name, marks=pytest.mark.nightly)
    for path in sorted((ROOT / "solutions").glob("*.ipynb"))])
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
