"""The schedule explorer in a notebook, in JupyterLab."""

import os
import re
from pathlib import Path

import nbformat
import pytest
from browsing import MARKS, open_notebook, run_all, settings
from playwright.sync_api import expect

pytestmark = MARKS


@pytest.fixture
def abroad(page):
    """The addresses outside this machine that a page asks for."""
    found = []
    page.on("request", lambda request: re.match(r"(https?://127\.0\.0\.1|data:|blob:)", request.url)
            or found.append(request.url))
    return found


def decoded(page):
    """Wait until what was asked for is on screen."""
    expect(page.get_by_text("tokens hidden before the first step").first).to_be_visible()


def look(page, name):
    """A picture of the page, where a folder for it is named."""
    if folder := os.environ.get("LAB3_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=f"{folder}/explorer-{name}.png")


def slide(page, name, key, times=1):
    """Move a slider with the keyboard."""
    page.get_by_role("slider", name=name, exact=True).first.focus()
    for _ in range(times):
        page.keyboard.press(key)


def drag(page, handle, start, end):
    """Move a handle of the chart with the mouse from one height to another."""
    box = handle.bounding_box()  # of the whole way that it can go, and half a handle on either end
    x, y = (box["x"] + box["width"] / 2, box["y"] + box["width"] / 2)
    heights = [y + (1 - height) * (box["height"] - box["width"]) for height in (start, end)]
    page.mouse.move(x, heights[0])
    page.mouse.down()
    page.mouse.move(x, heights[1], steps=5)
    page.mouse.up()


def explored(page, name):
    """What a user does with the explorer, from slider to play."""
    decoded(page)
    chart, steps = page.locator(".l3-chart"), page.locator(".l3 ol li")
    expect(steps).to_have_count(9)

    slide(page, "total_iter", "ArrowLeft", 3)  # all steps stay all steps
    expect(steps).to_have_count(6)
    slide(page, "sweet_spot", "ArrowLeft", 2)
    expect(steps).to_have_count(4)
    expect(chart.locator(".rest")).to_have_count(1)  # what is taken all at once
    slide(page, "sweet_spot", "End")
    expect(steps).to_have_count(6)

    page.get_by_label("schedule").first.select_option("typed formula")
    formula = page.get_by_label("formula").first
    formula.fill("1 - r^")
    expect(page.get_by_role("alert").filter(has_text="something is missing at its end")).to_be_visible()
    expect(page.get_by_text("Not updated.")).to_be_visible()
    expect(page.locator(".l3-old .l3-chart")).to_be_visible()
    formula.fill("1-2r")
    hint = page.get_by_role("alert").filter(has_text="a product needs its *: 1-2 * r")
    assert hint.locator("pre").evaluate("one => getComputedStyle(one).fontFamily") == "monospace"
    formula.fill("1.2 - r")
    expect(page.locator(".l3-old")).to_have_count(0)
    expect(page.get_by_text("It begins at 1.20 and not at 1")).to_be_visible()
    decoded(page)

    page.get_by_label("schedule").first.select_option("drawn curve")
    handle = page.get_by_role("slider", name="gamma at r = 0.5")
    handle.focus()
    page.keyboard.press("ArrowDown")
    expect(handle).to_have_value("0.74")
    decoded(page)
    drag(page, handle, 0.74, 0.25)
    assert float(handle.input_value()) == pytest.approx(0.25, abs=0.02)
    decoded(page)

    page.get_by_label("hole", exact=True).select_option("drawn by you")
    expect(page.get_by_role("alert").filter(has_text="the hole is empty")).to_be_visible()
    pad = page.get_by_role("application")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 180, box["y"] + 150, steps=6)
    page.mouse.up()
    said = page.locator(".l3-pad:not(.l3-tokens) div")
    expect(said).not_to_contain_text(re.compile(r"^0 %"))
    decoded(page)
    painted = said.text_content()
    pad.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "Space"):
        page.keyboard.press(key)
    expect(said).not_to_have_text(painted)

    page.get_by_label("compare with a second setting").check()
    expect(page.get_by_text("tokens differ")).to_be_visible()
    expect(page.locator(".l3 b.differs").first).to_be_visible()
    expect(page.locator(".l3 ol")).to_have_count(2)

    slide(page, "step", "Home")
    expect(page.get_by_text("A, step 0 of")).to_be_visible()
    page.get_by_role("button", name="play or pause").click()
    expect(page.get_by_text(re.compile(r"A, step [2-9] of"))).to_be_visible()

    page.get_by_label("be the sampler").check()
    tokens = page.get_by_role("application", name="Tokens to keep")
    expect(page.get_by_text(re.compile("Be the sampler: step 1 of 5"))).to_be_visible()
    tokens.focus()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    expect(page.locator(".l3-tokens div")).to_contain_text(re.compile(r"^1 of \d+ chosen. Row 8, column 9: chosen"))
    page.keyboard.press("Space")
    expect(page.locator(".l3-tokens div")).to_contain_text("0 of")
    page.get_by_role("button", name="Let MaskGIT choose this step").click()
    expect(page.get_by_text(re.compile("Be the sampler: step [2-5] of 5"))).to_be_visible()
    look(page, name)
    assert not page.errors, page.errors


@pytest.mark.nightly
def test_a_notebook_can_be_explored(jupyter, page, abroad):
    address, home = jupyter
    settings(home / "settings", "apputils-extension/themes", theme="JupyterLab Dark")
    nbformat.write(nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell('import lab3\nlab = lab3.start("05")'),
               nbformat.v4.new_code_cell("lab.explore()")],
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}), home / "notebooks" / "explore.ipynb")
    page.set_viewport_size({"width": 1280, "height": 2600})
    open_notebook(page, address, "explore.ipynb", text=False)
    run_all(page)
    explored(page, "notebook-dark")
    assert not [one for one in abroad if "127.0.0.1" not in one]
    unnamed = page.evaluate("""() => [...document.querySelectorAll(
            '.jp-OutputArea-output :is(input, select, [role=slider], button, img, canvas)')]
        .filter(one => one.offsetParent && !(one.labels?.length || one.ariaLabel || one.title || one.alt
                       || one.textContent.trim())).map(one => one.outerHTML.slice(0, 120))""")
    assert not unnamed
