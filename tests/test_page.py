"""The explorer as one page: what it computes is what Python computes, it asks for nothing, and it can be used."""

import os
import re
import shutil
import subprocess
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
import torch
from browsing import CHROMIUM, MARKS, PATIENCE
from photo_folders import save
from playwright.sync_api import expect, sync_playwright
from shared_noise import SharedNoise
from test_formula import HABITS, HOSTILE, PRODUCTS, RANDOM, SOUND, UNUSUAL, WRONG

from lab3.cli import main
from lab3.common.files import InputError
from lab3.common.paths import ANSWERS, SHIPPED, WEIGHTS
from lab3.data.masks import hidden_tokens, paint
from lab3.decoding.cached import for_decoding
from lab3.decoding.generate import in_order
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.explorer.browser.write import HERE, PICTURES, SCHEDULES, write_page
from lab3.explorer.formula import FORMULAS, POINTS, FormulaError, drawn, parse, remarks
from lab3.model.tokenizer import Tokenizer
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, load_transformer
from lab3.presets import TransformerConfig, preset

pytestmark = MARKS
PLAIN = {"totalIter": 8, "sweetSpot": 8, "temperature": 0, "sampling": "argmax", "order": "confidence", "seed": 0,
         "exact": False, "heights": None}
NOISY = PLAIN | {"temperature": 4.5, "sampling": "categorical", "seed": 7}
DECODE = """async ([number, everything, setting]) => {
    const { picture, hole } = lab3.pictures()[number];
    const request = { picture, hole: everything ? hole.map(() => 1) : hole, settings: { A: setting }, pictures: false };
    const steps = await lab3.ask(request);
    return { tokens: steps.map((one) => one.tokens), masks: steps.map((one) => one.mask),
             picture: [...steps.at(-1).picture] };
}"""


@pytest.fixture(scope="module")
def chromium():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


def opened(browser, path, **options):
    """A page from disk; `errors` are those of its console, `asked` the addresses that it asks for."""
    page = browser.new_page(**options)
    page.set_default_timeout(PATIENCE)
    page.errors, page.asked = [], []
    page.on("console", lambda message: page.errors.append(message.text))
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(path.as_uri() if hasattr(path, "as_uri") else path)
    expect(page.get_by_text("tokens hidden before the first step")).to_be_visible()
    return page


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """The page of the shipped model, as a user writes it."""
    path = tmp_path_factory.mktemp("page") / "explorer.html"
    assert main(["page", str(path)]) == 0
    assert path.stat().st_size <= 8e6
    return path


@pytest.fixture(scope="module")
def page(chromium, shipped):
    page = opened(chromium, shipped)
    yield page
    assert page.errors == []
    assert [url for url in page.asked if not re.match("(file|blob|data):", url)] == []


def in_python(tokenizer, transformer, data, number, everything, schedule, setting):
    """Tokens (S + 1, 256) and masks (S + 1, 256) of a decoding, those before its first step among them."""
    answers = load_answers(ANSWERS, changed={"inpainting": lambda answer: in_order(answer, setting["order"])})
    hole = torch.ones(1, 64, 64, dtype=torch.bool) if everything else data.holes[number][None]
    z_indices, mask = tokenizer.encode(paint(data.test[number][None], hole)), hidden_tokens(hole)
    with torch.no_grad(), SharedNoise(setting["seed"]):
        _, history = answers.iterative_decode(
            for_decoding(transformer, setting["exact"]), z_indices, mask, gamma=parse(SCHEDULES[schedule]),
            total_iter=setting["totalIter"], sweet_spot=setting["sweetSpot"], sampling=setting["sampling"],
            choice_temperature=setting["temperature"], mask_token_id=MASK_TOKEN_ID, generator=torch.Generator())
    tokens, masks = zip((z_indices, mask), *history)
    return torch.cat(tokens), torch.cat(masks)


def agree(page, models, data, number, schedule, setting, everything=False):
    """Compare one decoding, step by step, and its picture."""
    found = page.evaluate(DECODE, [number, everything, setting | {"formula": SCHEDULES[schedule]}])
    tokens, masks = in_python(*models, data, number, everything, schedule, setting)
    assert found["tokens"] == tokens.tolist()
    assert found["masks"] == masks.tolist()
    picture = models[0].decode(tokens[-1:])[0].permute(1, 2, 0).flatten().float()
    assert (torch.tensor(found["picture"]) - picture).abs().mean() < 1  # grey levels: the decoder's filters are int8


@pytest.fixture(scope="module")
def models(tokenizer):
    return tokenizer, load_transformer(SHIPPED / WEIGHTS, TorchAttention)


@pytest.mark.parametrize("number", [*range(2), *(pytest.param(i, marks=pytest.mark.nightly) for i in range(2, 10))])
@pytest.mark.parametrize("schedule", ["cosine", *(pytest.param(name, marks=pytest.mark.nightly)
                                                  for name in ("linear", "square"))])
def test_the_page_fills_a_hole_with_the_tokens_that_python_gives(page, models, cats, number, schedule):
    agree(page, models, cats, number, schedule, PLAIN)


@pytest.mark.parametrize("order", ["confidence", "random", "halton"])
def test_the_page_draws_the_codes_that_python_draws_from_the_same_noise(page, models, cats, order):
    agree(page, models, cats, 2, "cosine", NOISY | {"order": order, "totalIter": 5, "sweetSpot": 4})


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(3))
def test_the_page_draws_whole_cats_as_python_does(page, models, cats, seed):
    agree(page, models, cats, 0, "arccos", NOISY | {"seed": seed, "exact": seed == 2}, everything=True)


@pytest.fixture(scope="module")
def small(tokenizer):
    """Models of other shapes: random weights, large enough that no two codes are nearly as likely."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        config = TransformerConfig(dim=64, layers=2, hidden=128, heads=4, norm="pre", conv=True, labels=(3, 2))
        transformer = BidirectionalTransformer(config, TorchAttention).eval()
        for name, parameter in transformer.named_parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
        tokenizer = Tokenizer(preset("smoke").tokenizer).eval()
    for model in (transformer, tokenizer):  # what float16 holds
        model.load_state_dict({name: tensor.half().float() for name, tensor in model.state_dict().items()})
    return tokenizer, transformer


@pytest.fixture(scope="module")
def written(small, cats, tmp_path_factory):
    """The page of the small models."""
    path = tmp_path_factory.mktemp("small") / "explorer.html"
    write_page(path, *small, cats)
    return path


@pytest.fixture(scope="module")
def small_page(chromium, written):
    page = opened(chromium, written)
    yield page
    assert page.errors == []


def test_a_model_of_another_shape_decodes_alike(small_page, small, cats):
    for setting in (PLAIN, NOISY, PLAIN | {"exact": True}):
        agree(small_page, small, cats, 1, "cosine", setting)
    agree(small_page, small, cats, 0, "cosine", NOISY, everything=True)


def test_heads_that_the_product_does_not_take_are_refused(small, cats, tmp_path):
    config = TransformerConfig(dim=36, layers=1, hidden=8, heads=3)
    with pytest.raises(InputError, match="multiple of 8 channels, not 12"):
        write_page(tmp_path / "page.html", small[0], BidirectionalTransformer(config, TorchAttention), cats)
    assert not list(tmp_path.iterdir())


READ = """([texts, points]) => texts.map((text) => {
    try {
        const gamma = lab3.parse(text);
        return { values: points.map(gamma), remarks: lab3.remarks(gamma) };
    } catch (error) { return { said: error.message, place: error.place }; }
})"""


def test_a_formula_means_the_same_in_both_languages(small_page):
    texts = [row[0] for row in SOUND + WRONG + PRODUCTS + HABITS + UNUSUAL]
    texts += [*FORMULAS.values(), *SCHEDULES.values(), *HOSTILE, *RANDOM]
    for text, found in zip(texts, small_page.evaluate(READ, [texts, POINTS.tolist()]), strict=True):
        try:
            gamma = parse(text)
        except FormulaError as error:
            assert found == {"said": str(error), "place": error.place}, text
        else:
            assert found["remarks"] == remarks(gamma), text
            assert found["values"] == pytest.approx(gamma(POINTS).tolist(), rel=1e-14, abs=1e-14), text


def test_a_drawn_curve_is_the_same_in_both_languages(small_page):
    heights = [1.0, 0.9, 0.9, 0.5, 0.6, 0.3, 0.2, 0.1, 0.0]
    found = small_page.evaluate("([heights, points]) => points.map(lab3.drawn(heights))", [heights, POINTS.tolist()])
    assert found == pytest.approx(drawn(heights)(POINTS).tolist(), abs=1e-14)


@pytest.mark.parametrize("width, theme", [(360, "dark"), pytest.param(800, "light", marks=pytest.mark.nightly),
                                          pytest.param(1400, "light", marks=pytest.mark.nightly)])
def test_the_page_can_be_used(chromium, written, width, theme):
    page = opened(chromium, written, viewport={"width": width, "height": 900}, color_scheme=theme, has_touch=True)
    status, steps = page.locator("#status"), page.locator("#film-A li")
    expect(steps).to_have_count(9)
    expect(page.locator(".pictures input")).to_have_count(PICTURES)

    page.locator('[name="A.totalIter"]').press("ArrowLeft")  # all steps stay all steps
    expect(steps).to_have_count(8)
    expect(status).to_contain_text("hidden before")

    page.locator('[name="A.schedule"]').select_option("typed formula")
    page.locator('[name="A.formula"]').fill("1 - r^")
    expect(page.get_by_role("alert").first).to_contain_text("something is missing at its end")
    page.locator('[name="A.formula"]').fill("1.2 - r")
    expect(page.get_by_text("It begins at 1.20 and not at 1")).to_be_visible()

    page.locator("[name=hole]").select_option("painted")
    expect(status).to_contain_text("the hole is empty")
    expect(steps).to_have_count(0)
    pad = page.get_by_role("application")
    pad.scroll_into_view_if_needed()
    box = pad.bounding_box()
    page.touchscreen.tap(box["x"] + 90, box["y"] + 90)
    expect(steps).to_have_count(8)
    pad.focus()
    for key in ("ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "ArrowUp", "Space"):
        page.keyboard.press(key)

    page.locator("[name=compare]").check()
    page.locator('[name="B.schedule"]').select_option("drawn curve")
    handle = page.get_by_role("slider", name="gamma at r = 0.5")
    handle.press("ArrowDown")
    expect(handle).to_have_value("0.74")
    expect(page.get_by_text("tokens of A and B differ")).to_be_visible()
    expect(page.get_by_text("original")).to_be_visible()
    page.locator("#step").press("Home")
    expect(page.locator("figcaption").first).to_contain_text("A, step 0:")
    page.get_by_role("button", name="Play").click()
    expect(page.locator("figcaption").first).to_contain_text(re.compile("A, step [2-7]:"))

    page.get_by_text("Challenge", exact=True).click()
    page.locator("[name=goal]").fill("12")
    expect(status).to_contain_text(re.compile("A (reaches|misses) the goal of 12 dB: .* in 7 steps"))
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "something is wider than the page"
    unnamed = page.evaluate("""() => [...document.querySelectorAll('input, select, [role=slider], button, canvas')]
        .filter(one => one.offsetParent && !(one.labels?.length || one.ariaLabel || one.textContent.trim()
                || one.querySelector('[aria-label]'))).map(one => one.outerHTML.slice(0, 120))""")
    assert not unnamed

    other = opened(chromium, page.locator("#link").input_value())  # what the link opens
    for name in ("A.formula", "A.totalIter", "B.schedule", "hole", "goal"):
        selector = f'[name="{name}"]'
        expect(other.locator(selector)).to_have_value(page.locator(selector).input_value())
    expect(other.locator("#film-B li")).to_have_count(9)
    chosen = "() => [lab3.setting('A'), lab3.setting('B'), lab3.hole()]"
    assert other.evaluate(chosen) == page.evaluate(chosen)
    for one in (page, other):
        assert one.errors == [] and all(re.match("(file|blob|data):", url) for url in one.asked)
        one.close()


class NamesUtf8(SimpleHTTPRequestHandler):
    """A static server that calls every page UTF-8, as some do."""

    extensions_map = {".html": "text/html; charset=utf-8"}

    def log_message(self, *_):
        pass


def test_a_static_server_serves_the_page(chromium, written):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(NamesUtf8, directory=written.parent)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/{written.name}"
        page = opened(chromium, address)
        expect(page.locator("#play")).to_have_text("▶ Play")
        assert page.errors == [] and [url for url in page.asked if not re.match("(blob|data):", url)] == [address]
        page.close()
        server.shutdown()


def test_an_own_picture_is_taken_and_another_file_refused(small_page, cats, tmp_path):
    page, cat = small_page, cats.test[40].permute(1, 2, 0).contiguous()
    save(tmp_path / "cat.png", cat.numpy())
    (tmp_path / "text.png").write_text("no picture")
    page.locator("#file").set_input_files(tmp_path / "text.png")
    expect(page.locator("#status")).to_contain_text("text.png: not a picture that this browser can read")
    page.locator("#file").set_input_files(tmp_path / "cat.png")
    expect(page.locator(".pictures input")).to_have_count(PICTURES + 1)
    assert page.evaluate("lab3.pictures().at(-1).picture") == cat.flatten().tolist()


def test_modules_import_what_exists():
    for path in HERE.glob("*.js"):
        for names, other in re.findall(r'^import (?:\{([^}]*)\}|\w+) from "([^"]+)";$', path.read_text(), re.MULTILINE):
            code = (path.parent / other).read_text()
            exported = re.findall(r"^export (?:async )?(?:function\*?|const) (\w+)", code, re.MULTILINE)
            assert set(re.findall(r"\w+", names)) <= set(exported), (path.name, other)
            assert names or "export default" in code


BUILD = """
require("wabt")().then((wabt) => {
    const made = wabt.parseWat("matmul.wat", require("fs").readFileSync(process.argv[1], "utf8"), { simd: true });
    process.stdout.write(Buffer.from(made.toBinary({}).buffer));
});"""


def test_the_product_is_what_its_text_gives():
    assert (HERE / "matmul.wasm").stat().st_size < 1000
    node, npm = shutil.which("node"), shutil.which("npm")
    if not node or not npm:
        pytest.skip("no Node.js on this machine")
    folders = os.environ.get("NODE_PATH") or subprocess.check_output([npm, "root", "-g"], text=True).strip()
    made = subprocess.run([node, "-e", BUILD, HERE / "matmul.wat"], capture_output=True, env={"NODE_PATH": folders})
    if b"Cannot find module 'wabt'" in made.stderr:
        pytest.skip("needs wabt: npm install -g wabt")
    assert made.returncode == 0, made.stderr.decode()
    assert made.stdout == (HERE / "matmul.wasm").read_bytes()
