"""The slides of the notebooks: what is shown, what goes to the notes, and that a page needs no network."""

import re
import sys
from pathlib import Path

import nbformat
import pytest
from browsing import CHROMIUM, MARKS
from conftest import ROOT
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(ROOT / "solutions"))
import slides  # noqa: E402

from lab3.common.files import InputError  # noqa: E402
from lab3.common.plots import is_figure  # noqa: E402

v4 = nbformat.v4
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
IMAGE = f'<img alt="a" src="data:image/png;base64,{PNG}">'
TEXT = """\
## Why divide?

Said aloud.

$$\\sqrt d$$

**Predict.** What comes out?"""


def notebook():
    return v4.new_notebook(cells=[
        v4.new_markdown_cell("# 01 Attention\n\n* **Time**: 45 minutes\n\nIn this lab"),
        v4.new_code_cell("lab = 1", outputs=[v4.new_output("stream", text="not asked for\n")]),
        v4.new_markdown_cell(TEXT),
        v4.new_code_cell("secret()", outputs=[v4.new_output("stream", text="0.5\n"),
                                              v4.new_output("display_data", {"text/html": f"<figure>{IMAGE}"})]),
        v4.new_markdown_cell("<details><summary>What you should have seen</summary>\n\nA half.\n\n</details>\n\n"
                             "## Aside\n\nNothing to show.\n\n## Exercise: `x`\n\n*About 5 minutes, easy.*\n\n"
                             "Write it.")])


def test_headings_questions_formulas_and_figures_are_shown_and_the_rest_is_said():
    found = slides.slides(notebook())
    shown = [(one.heading, one.first, [cell.source or "figure" for cell in one.cells]) for one in found]
    assert shown == [
        ("01 Attention", True, ["* **Time**: 45 minutes"]), ("Why divide?", True, ["$$\\sqrt d$$"]),
        ("Why divide?", False, ["**Predict.** What comes out?"]), ("Why divide?", False, ["```text\n0.5\n```"]),
        ("Why divide?", False, ["figure"]), ("Exercise: `x`", True, ["*About 5 minutes, easy.*"])]
    notes = ["".join(one.notes) for one in found]
    assert "In this lab" in notes[0] and "Said aloud." in notes[1] and "A half." in notes[4] and "Write it." in notes[5]
    page = slides.page(notebook(), "01")
    assert "secret" not in page and "not asked for" not in page and "Nothing to show" not in page
    assert page.count('<aside class="notes">') == 4 and IMAGE[:-1] in page


def test_a_page_loads_reveal_js_alone():
    page = slides.page(notebook(), "01")
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page)
    assert {one for one in loaded if not one.startswith("data:")} == {
        f"reveal.js/{name}" for name in
        ("dist/reveal.css", "dist/theme/white.css", "dist/reveal.js", "plugin/notes/notes.js")}
    assert "http" not in re.sub(r"data:[^\"]+", "", page).replace('http-equiv="X-UA', "")


@pytest.mark.parametrize("path", slides.notebooks(), ids=lambda path: path.stem[:2])
def test_every_notebook_has_slides_with_its_figures(path):
    ran = nbformat.read(path, as_version=4)
    figures = sum(is_figure(output) for cell in ran.cells for output in cell.get("outputs", []))
    found = slides.slides(ran)
    assert sum(cell.cell_type == "code" for one in found for cell in one.cells) == figures >= 2
    assert found[0].heading.startswith(path.stem[:2]) and len(found) > figures


@pytest.mark.nightly
def test_every_formula_of_the_notebooks_is_drawn():
    for path in slides.notebooks():
        cells = slides.as_notebook(slides.slides(nbformat.read(path, as_version=4))).cells
        assert not any(re.search(r"`\$.*\$`", cell.source, re.DOTALL) for cell in cells), path


def test_a_folder_without_reveal_js_is_named(tmp_path):
    with pytest.raises(InputError, match="holds no dist/reveal.js"):
        slides.reveal_js(tmp_path / "to", tmp_path)


@pytest.mark.nightly
@MARKS[1]
def test_slides_fit_the_screen_without_a_network(tmp_path):
    try:
        slides.reveal_js(tmp_path / "reveal.js")
    except InputError as error:
        pytest.skip(str(error))
    ran = nbformat.read(slides.notebooks()[5], as_version=4)
    Path(tmp_path / "05.html").write_text(slides.page(ran, "05"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(offline=True, viewport={"width": 1100, "height": 700}).new_page()
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto((tmp_path / "05.html").as_uri())
        page.wait_for_function("window.Reveal && Reveal.isReady()")
        sizes = page.evaluate("""Reveal.getSlides().map(one => {
            const {h, v} = Reveal.getIndices(one); Reveal.slide(h, v || 0)
            return one.scrollHeight })""")
    assert not errors and len(sizes) == len(slides.slides(ran)) and max(sizes) <= 720 and min(sizes) > 40
