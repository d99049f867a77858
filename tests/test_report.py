"""The report: what is in it, what is marked, whose text is kept, and that nothing in it loads or runs."""

import io
import json
import re
import shutil
from dataclasses import replace

import pypdf
import pytest
from PIL import Image

from lab3 import cli
from lab3.common.files import read_json
from lab3.common.paths import SHIPPED, SOLUTIONS
from lab3.exercises.answers import answer_file, cell_of
from lab3.exercises.table import EXERCISES, IMPORTS
from lab3.metrics import score
from lab3.presets import DecodingConfig, preset
from lab3.report import report as module
from lab3.report.pages import Code, Figure, Gap, Heading, Table, Text, Title, Verdict, formula, html, numbered
from lab3.report.pdf import pdf
from lab3.report.report import WANTED, gather, read_texts, report

PARTS = ["Introduction", "Implementation", "Multi-head attention", "Masked token modelling", "Training",
         "Gamma schedules", "Iterative decoding", "The Fréchet distance", "Discussion", "Epochs", "Iterations",
         "Results", "Best distance", "Masked pictures and results", "Settings", "Environment", "Conclusion"]
HOSTILE = '</code></pre><script>alert("gone")</script><img src=x onerror=alert(1)>'


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """Every preset scores 8 pictures in 2 steps."""
    small = DecodingConfig(total_iter=2, sweet_spot=2, test_pictures=8, batch_size=8, seeds=(0, 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "preset", lambda name: replace(preset(name), decoding=small))
        yield


def trained(work):
    """Put into a folder of answers what notebook 03 leaves there; the model is the kit's."""
    run = work / "run-cpu"
    run.mkdir()
    for path in (work / "maskgit.safetensors", run / "maskgit-20.safetensors"):
        shutil.copy(SHIPPED / "maskgit.safetensors", path)
    about = read_json(SHIPPED / "maskgit.json")
    (run / "metrics.jsonl").write_text("".join(
        json.dumps(row | {"train_loss": row["epoch_loss"], "lr": 1e-4}) + "\n" for row in about["curve"]))
    (run / "maskgit.json").write_text(json.dumps(about))
    return work


@pytest.fixture(scope="module")
def solved(tmp_path_factory):
    """A solved lab, and its report."""
    work = trained(shutil.copytree(SOLUTIONS, tmp_path_factory.mktemp("solved") / "work"))
    report(work, work.parent / "report.html")
    return work


def page(work):
    return (work.parent / "report.html").read_text()


def printed(path):
    """The text of a PDF, in one line."""
    return " ".join(" ".join(sheet.extract_text() for sheet in pypdf.PdfReader(path).pages).split())


def test_the_report_of_the_solved_lab_has_all_parts(solved):
    text, paper = page(solved), printed(solved.parent / "report.pdf")
    for part in PARTS:
        assert f"</span>{part}</h" in text and part in paper, part
    assert "11 of 11 answers pass" in text and "11 of 11 answers pass" in paper
    assert text.count("✓ Passed") == paper.count("Passed.") == 11
    for name in EXERCISES:
        assert f">{name}</h4>" in text
    for word in ("def", "iterative_decode"):
        assert f">{word}</span>" in text, "code is highlighted"
    assert "bits a picture, mean and standard error of 8 validation pictures" in text
    assert "the kit's own versions" not in text and "The kit's is used" not in text
    figures = re.findall(r"<b>(Figure \d+)\.</b> (\w+)", text)
    assert [number for number, _ in figures] == [f"Figure {number}" for number in range(1, 10)]
    assert " ".join(word for _, word in figures) == "Training The FD The Linear Cosine Square The Masked"
    outline = pypdf.PdfReader(solved.parent / "report.pdf").outline
    assert sum(not isinstance(part, list) for part in outline) == 5  # lists hold the sections


def test_the_scores_are_those_that_were_measured(solved):
    held = read_json(solved / "report" / "scores.json")
    mean = sum(one["distance"] for one in held["scores"].values()) / 2
    for text in (page(solved), printed(solved.parent / "report.pdf")):
        assert f"FD-Lite0 {mean:.2f} ±" in text and f"{held['distance_floor']:.2f}" in text
        assert f"{held['distance_holes']:.2f}" in text and "N = 8" in text


def test_nothing_is_loaded_and_nothing_runs(solved):
    text = re.sub(r"(?<=base64,)[\w+/=]+", "", page(solved))  # where any letters may stand
    assert not re.search(r"<(script|link|iframe|object|embed|base|form)\b|@import|url\(|\bon\w+=|http", text)
    assert {source[:22] for source in re.findall(r'src="([^"]*)"', text)} == {"data:image/png;base64,"}
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text))
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids)) and {target[1:] for target in re.findall(r'href="([^"]*)"', text)} <= set(ids)


@pytest.mark.nightly
def test_a_second_report_keeps_the_students_text_and_decodes_nothing_again(solved, monkeypatch):
    """In a copy: the solved report stays as it is for others."""
    work = shutil.copytree(solved, solved.parent / "again" / "work")
    texts = (work / "report.md").read_text()
    for heading in WANTED:
        assert f"## {heading}\n" in texts
    mine = texts.replace("Name:", "Name: Ada Lovelace & 王小明").replace("Date:", "Date: 1 May 2026").replace(
        "## Introduction\n", f"## Introduction\n\nWe *fill* **holes**. {HOSTILE}\n\n- one `x_y`\n- two\n\n"
        "```\n## no heading\n```\n\n![far](http://far.away/x.png) [a page](https://example.org) [bad](javascript:x)\n",
    ) + "\n## A part of mine <b>\n\nMore.\n"
    (work / "report.md").write_text(mine)
    monkeypatch.setattr(score, "fill", None)  # any scoring would fail
    report(work, work.parent / "report.html")
    assert (work / "report.md").read_text() == mine
    text, paper = page(work), printed(work.parent / "report.pdf")
    assert "Ada Lovelace &amp; 王小明" in text and "1 May 2026" in text
    assert "<em>fill</em>" in text and "<li>one <code>x_y</code></li>" in text and "## no heading" in text
    assert "A part of mine &lt;b&gt;</h2>" in text
    assert "<script" not in text and "&lt;script&gt;" in text and "<img src=x" not in text
    assert 'src="http' not in text and "javascript:x</a>" not in text and 'href="javascript' not in text
    for words in ("Ada Lovelace & ", "We fill holes.", "one x_y", "## no heading", "A part of mine <b>", "<script>"):
        assert words in paper, words
    assert text.count("To fill in.") == page(solved).count("To fill in.") - 1


@pytest.fixture(scope="module")
def empty(tmp_path_factory):
    work = tmp_path_factory.mktemp("empty") / "work"
    work.mkdir()
    report(work, work.parent / "report.html")
    return work


def test_the_report_of_an_empty_folder_marks_what_is_missing(empty):
    text, paper = page(empty), printed(empty.parent / "report.pdf")
    for part in PARTS:
        assert f"</span>{part}</h" in text and part in paper, part
    assert "0 of 11 answers pass" in text and "✓ Passed" not in text
    for name, one in EXERCISES.items():
        assert f"No answer yet: notebook {one.notebook} asks for {name}." in text
        assert f"No answer yet: notebook {one.notebook} asks for {name}." in paper
    assert "No training of yours yet: notebook 03" in text and "No model of yours yet: notebook 03" in text
    assert "<code>iterative_decode</code>: a decoding in one pass" in text
    assert "could not be made" not in text
    assert text.count("To fill in.") == len(WANTED) + len(EXERCISES) + 1


@pytest.mark.nightly
def test_the_report_of_broken_answers_comes_with_what_their_checks_say(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    (work / "gamma_func.py").write_text(f'{IMPORTS}\n\ndef gamma_func(mode="cosine"):\n    """{HOSTILE}"""\n'
                                        f'    raise RuntimeError({HOSTILE!r})\n')
    (work / "mvtm_loss.py").write_text("def mvtm_loss(:\n")
    (work / "sample_mask.py").write_bytes(b"\xff\xfe\x00")
    (work / "frechet_distance.py").write_text("raise SystemExit\n")
    report(work, tmp_path / "report.html")
    text, paper = page(work), printed(tmp_path / "report.pdf")
    assert "<script" not in text and "<img src=x" not in text and "&lt;/script&gt;" in text
    assert "<script>" in paper and "def gamma_func" in paper
    assert "[FAIL] gamma_func" in text and "[FAIL] gamma_func" in paper and "RuntimeError" in text
    assert "the answer to mvtm_loss fails when it runs (SyntaxError" in text
    assert "sample_mask.py: not readable as text" in text
    assert text.count("✗ Not passed") == 4 and "0 of 11 answers pass" in text
    assert "<code>gamma_func</code>: a straight line" in text


def test_an_answer_that_fails_in_use_costs_its_part_alone(solved, monkeypatch):
    material = gather(solved)

    def broken(*_, **__):
        raise RuntimeError("not on this day")

    monkeypatch.setattr(material.answers, "iterative_decode", broken)
    [gap] = module._tried(module.schedules, material)
    assert "RuntimeError: not on this day" in gap.text


def test_a_training_that_is_not_finished_is_shown_as_such(solved, tmp_path):
    work = shutil.copytree(solved, tmp_path / "work")
    (work / "maskgit.safetensors").unlink()
    (work / "run-cpu" / "maskgit.json").unlink()
    (work / "run-cpu" / "answers.txt").write_text("other answers")
    material = gather(work)
    assert not material.own
    blocks = module.epochs(material)
    assert "not finished, it is at epoch 14.00" in blocks[0].text
    assert "have changed since" in blocks[1].text
    assert any(isinstance(block, Figure) for block in blocks)


def test_another_setting_is_scored_on_request(solved, tmp_path):
    material = gather(solved, changes={"schedule": "square", "total_iter": 3, "sweet_spot": 1})
    decoding = material.decoding
    assert (decoding.schedule, decoding.total_iter, decoding.sweet_spot) == ("square", 3, 1)
    assert any("decide nothing" in block.text for block in module.settings(material) if isinstance(block, Text))


def test_a_run_may_be_named(solved, tmp_path):
    run = tmp_path / "mine"
    shutil.copytree(solved / "run-cpu", run)
    shutil.copy(solved / "maskgit.safetensors", run)
    material = gather(solved, run)
    assert material.own and material.run == run
    (run / "maskgit.json").write_text(json.dumps(read_json(run / "maskgit.json") | {"data": "dogs", "data_key": "0"}))
    with pytest.raises(ValueError, match="was trained on dogs"):
        gather(solved, run)


@pytest.mark.parametrize("arguments, named", [
    (["--work", "{}/none", "--out", "{}/r.html"], "none: no such folder of answers"),
    (["--work", "{}", "--trust-code", "--out", "{}/r.pdf"], "has to end in .html"),
    (["--work", "{}", "--trust-code", "--run", "{}/none", "--out", "{}/r.html"], "none: holds no training"),
    (["--work", "{}", "--trust-code", "--out", "{}/r.html", "--sweet-spot", "9"], "sweet-spot must lie in"),
    (["--work", "{}", "--trust-code", "--out", "{}/r.html", "--schedule", "cubic"], "schedule must be one of"),
])
def test_what_cannot_be_used_is_said_in_a_line(capsys, tmp_path, arguments, named):
    status = cli.main(["report", *(argument.format(tmp_path) for argument in arguments)])
    said = capsys.readouterr().err
    assert status == 2 and named in said and len(said.splitlines()) == 1
    assert not (tmp_path / "r.html").exists()


def test_a_text_that_is_not_utf8_is_refused_and_kept(tmp_path):
    (tmp_path / "report.md").write_bytes(b"Name: \xff\n")
    with pytest.raises(ValueError, match="not readable as UTF-8"):
        read_texts(tmp_path)
    assert (tmp_path / "report.md").read_bytes() == b"Name: \xff\n"


def test_the_command_writes_both(capsys, tmp_path, empty):
    work = shutil.copytree(empty, tmp_path / "work")
    assert cli.main(["report", "--work", str(work), "--trust-code", "--out", str(tmp_path / "deep" / "r.html")]) == 0
    assert {path.name for path in (tmp_path / "deep").iterdir()} == {"r.html", "r.pdf"}
    assert "report.md" in capsys.readouterr().out


# The blocks.

def test_a_cell_comes_back_as_it_was_written():
    cell = "#| exercise: gamma_func\ndef gamma_func():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION"
    assert cell_of(answer_file(cell)) == "def gamma_func():\n    return 1"


def test_blocks_are_numbered():
    blocks = [Heading("a"), Heading("b", 2), Heading("c", 3), Table((), (("x", "y"),)), Heading("d"), Heading("e", 2),
              Table((), (("x", "y"),), "caption")]
    assert [number for number, _ in numbered(blocks)] == ["1", "1.1", "", "", "2", "2.1", "Table 1"]


TEXT = r"""Scores are divided by $\sqrt{d}$, and it costs $5.

$$D = |\mu_1 - \mu_2|^2 + \mathrm{tr}(\Sigma_1)$$

| setting | distance |
|---|---|
| cosine, $T = 8$ | **38** |

The loss: ![my curve](curve.png) See also ![](gone.png), ![](../secret.png), ![](https://example.org/x.png) and
$\unknown{x}$.

```python
print("code")
```
"""


@pytest.mark.parametrize("latex", [
    r"\sqrt d", r"\tfrac12 \hat x", r"\mathcal L \le 1", r"\underbrace{\frac{a}{\sqrt{b}}}_{\text{weights}} v",
    r"\begin{cases} a & b < 1 \\[2pt] c & d \end{cases}"])
def test_formulas_as_latex_spells_them_are_drawn(latex):
    assert formula(latex) is not None


def test_a_text_shows_formulas_tables_and_pictures_of_its_folder(tmp_path):
    work = tmp_path / "work"
    work.mkdir()
    for path, colour in ((work / "curve.png", "red"), (tmp_path / "secret.png", "blue")):
        Image.new("RGB", (120, 60), colour).save(path)
    blocks = [Text(TEXT, work)]
    page, paper = html(blocks, "t"), pdf(blocks, "t")
    assert page.count('class="formula"') == 3 and r'alt="\sqrt{d}"' in page
    assert "<table>" in page and "<strong>38</strong>" in page
    assert page.count('class="picture"') == 1 and 'alt="my curve"' in page
    found = pypdf.PdfReader(io.BytesIO(paper))
    assert sum(len(one.images) for one in found.pages) == 4, "three formulas and a picture"
    for text in (re.sub(r"\s+", " ", page), printed(io.BytesIO(paper))):
        for words in ("it costs $5", "gone.png: no picture of this name in work/", "../secret.png: no picture",
                      "https://example.org/x.png: no picture", "unknown{x}"):
            assert words in text, words
    assert "print(" in printed(io.BytesIO(paper)) and pdf(blocks, "t") == paper


def test_code_keeps_with_what_belongs_to_it_on_paper():
    """Wherever on a page it begins: a box to fill in, its heading, and more than a line of the code."""
    for lines in range(30, 50):
        blocks = [Text("\n\n".join(["A line."] * lines)), Gap("fill this in"), Heading("answer", 3),
                  Verdict("passed", "right"), Code("\n".join(f"line_{n} = {n}" for n in range(30)))]
        pages = [one.extract_text() for one in pypdf.PdfReader(io.BytesIO(pdf(blocks, "t"))).pages]
        page = next(text for text in pages if "fill this in" in text)
        assert "answer" in page and "line_5 " in page, lines


def test_long_and_strange_text_fits_on_paper():
    blocks = [Title("Ω ℝ 中文 \U0001f63a \x00 <b>", ("&amp;",)), Code("x = '" + "long " * 200 + "end'\n\tif y:\n"),
              Verdict("failed", "one\n" + "word " * 100 + "last"), Gap("<i>gap</i>"), Code(""),
              Text("1. one\n2. two\n\n> quoted"),
              Table(("a", "b"), tuple((f"row {n}", "word " * 60) for n in range(60)), "A long one.")]
    paper = printed(io.BytesIO(pdf(blocks, "title", "author")))
    for words in ("中文", "<b>", "&amp;", "end'", "last", "<i>gap</i>", "2", "quoted", "row 59"):
        assert words in paper, words
    assert pdf(blocks, "title") == pdf(blocks, "title"), "the same blocks, the same bytes"
    assert "&lt;i&gt;gap" in html(blocks, "title")
