"""Copies are found whatever was done to them; answers that were written apart are not; code is shown, never run."""

import ast
import csv
import itertools
import os
import re
import shutil
import time

import numpy as np
import pytest
from corpus import RIGHT
from probing import TEXTS, hand_in, notebook_of
from test_results import HOSTILE, Page

from grader.cli import main
from grader.similar import compare as similar_module
from grader.similar import pages
from grader.similar.compare import FLOOR, Handed, common_runs, compare, read_class, read_code, read_tokens
from grader.submission import side_by_side
from lab3.common.files import InputError
from lab3.common.paths import ROOT
from lab3.exercises.table import EXERCISES

STYLES = {exercise: {name: text for name, (of, text) in RIGHT.items() if of == exercise} for exercise in EXERCISES}
KEPT = {one.defines for one in EXERCISES.values()} | {"forward", "query", "key", "value", "output", "attn_drop"}
TEXT = """
import math
from torch.nn import functional as F

@torch.no_grad()
def f(scores, dim):
    x = 1
    print('a', f'{x}')
    return F.softmax(scores, dim) * math.pi
"""


@pytest.fixture(scope="module")
def base():
    return similar_module.base_prints()


class Renamed(ast.NodeTransformer):
    """Own names and texts are others, docstrings are new; what the contracts fix stays."""

    def __init__(self, tree):
        nodes = list(ast.walk(tree))
        own = {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
        own |= {node.name for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        self.stored = {node.attr for node in nodes
                       if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        self.stored |= {part.name for node in nodes if isinstance(node, ast.ClassDef) for part in node.body
                        if isinstance(part, ast.FunctionDef)}
        names = sorted(name for name in (own | self.stored) - KEPT if not name.startswith("__"))
        self.names = {name: f"my_{number}" for number, name in enumerate(names)}

    def visit_Name(self, node):
        node.id = self.names.get(node.id, node.id)
        return node

    def visit_Attribute(self, node):
        if node.attr in self.stored:
            node.attr = self.names.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node):
        node.name = self.names.get(node.name, node.name)
        node.body.insert(0, ast.Expr(ast.Constant("Words of mine.")))
        return self.generic_visit(node)

    def visit_ClassDef(self, node):
        node.name = self.names.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_JoinedStr(self, node):
        return ast.Constant("a text")

    def visit_Constant(self, node):
        return ast.Constant("a text") if isinstance(node.value, str) else node


def disguised(text):
    """A copy: renamed, formatted again, other comments and texts, imports in another order and two more."""
    tree = ast.parse(text)
    tree = Renamed(tree).visit(tree)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    tree.body = [ast.parse("import os, sys").body[0], *reversed(imports),
                 *(node for node in tree.body if node not in imports)]
    return ast.unparse(ast.fix_missing_locations(tree)).replace("\n", "  # mine\n")


def handed(name, **texts):
    return Handed(name, {exercise: read_code(text) for exercise, text in texts.items()}, ())


def lab_of(place):
    """A whole lab in other styles than the labs of other places; the reference answer where there are no more."""
    return {exercise: [*found.values(), *[TEXTS[exercise]] * (place + 1)][place] for exercise, found in STYLES.items()}


def table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("changes", [
    [("scores", "s"), ("x", "yy")], [("    return", "    # a remark\n    return")], [("x = 1", "x = (\n        1)")],
    [("'a'", '"other"')], [("x = 1", "x: int = 1")], [("= 1", "= 2.5")], [("f'{x}'", "'x'")],
    [("x = 1", "x = 1; pass")], [("f(scores, dim):", "f(scores: torch.Tensor, dim: int) -> list[str]:")],
    [("import math", "import math, json as j")], [("functional as F", "functional"), ("F.", "functional.")],
    [("    x =", "    'Words.'\n    x =")]])
def test_what_tokens_leave_out(changes):
    other = TEXT
    for old, new in changes:
        assert old in other
        other = re.sub(rf"\b{old}\b", new, other) if old.isalpha() else other.replace(old, new)
    assert read_tokens(other)[0] == read_tokens(TEXT)[0]


@pytest.mark.parametrize("change", [
    ("softmax", "sigmoid"), (" * ", " + "), ("= 1", "= -1"), ("= 1", "= None"), ("@torch.no_grad()", ""),
    (", dim)", ")"), ("print", "repr")])
def test_what_tokens_keep(change):
    assert read_tokens(TEXT.replace(*change))[0] != read_tokens(TEXT)[0]


def test_lines_are_those_of_the_text():
    tokens, lines = read_tokens("import os\n\n@cache\ndef f(x):\n    # why\n    return g(\n        x)\n")
    assert list(zip(tokens, lines, strict=True)) == [
        ("FunctionDef", 4), ("cache", 3), ("arguments", 4), ("name", 4), ("Return", 6), ("Call", 6), ("g", 6),
        ("name", 7)]


@pytest.mark.parametrize("text", ["def f(:", "(" * 5000 + ")" * 5000, "x = '\x00'"])
def test_text_that_is_no_python_is_said_to_be(text):
    with pytest.raises(ValueError, match="cannot be read as Python"):
        read_code(text)


def test_a_long_answer_is_read_up_to_a_limit_and_a_note_says_so(tmp_path):
    assert len(read_tokens("x = 1\n" * 8000)[0]) == similar_module.MOST_TOKENS
    hand_in(tmp_path, {"gamma_func": "def gamma_func():\n" + "    x = 1\n" * 1000})
    [note] = similar_module.read_one([tmp_path], "ann").notes
    assert note.startswith("gamma_func: only its first ") and "more than 2000 tokens" in note


def test_a_class_that_is_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(similar_module, "MOST_SUBMISSIONS", 1)
    for name in ("one", "two"):
        hand_in(tmp_path / name, {})
    with pytest.raises(InputError, match="2 submissions: at most 1 are compared at a time"):
        read_class([tmp_path])


def test_a_submission_that_takes_too_long_to_read_costs_itself_alone(tmp_path, monkeypatch):
    for name in ("one", "two"):
        hand_in(tmp_path / name, {"gamma_func": TEXTS["gamma_func"]})
    monkeypatch.setattr(side_by_side, "LONGEST", 1)
    real = similar_module.read_submission
    monkeypatch.setattr(similar_module, "read_submission",
                        lambda paths, name: time.sleep(30) if name == "two" else real(paths, name=name))
    found = {one.name: one for one in read_class([tmp_path])}
    assert found["one"].codes and "takes more than" in found["two"].notes[0]


@pytest.mark.parametrize("exercise", EXERCISES)
def test_styles_are_not_alike_and_a_disguised_copy_is(exercise, base):
    styles = STYLES[exercise]
    apart = compare([handed(name, **{exercise: text}) for name, text in styles.items()], base)
    assert apart.alike[exercise][~np.eye(len(styles), dtype=bool)].max() < 0.3
    assert apart.reported() == []
    for place, (name, text) in enumerate(styles.items()):
        assert disguised(text) != text
        found = compare([handed(one, **{exercise: other}) for one, other in {
            **styles, "copy": disguised(text)}.items()], base)
        assert found.alike[exercise][place, len(styles)] > 0.6, name
        assert found.reported() == [(place, len(styles))], name


def test_reference_answers_are_nobodys_own(base):
    found = compare([handed("one", **TEXTS), handed("two", **TEXTS)], base)
    assert found.overall.max() == 0 and found.reported() == []


def test_starters_alone_are_nothing_to_compare(tmp_path, capsys):
    for name in ("one", "two"):
        shutil.copytree(ROOT / "notebooks", tmp_path / "class" / name, ignore=shutil.ignore_patterns(".*"))
    assert main(["similar", str(tmp_path / "class"), "--out", str(tmp_path / "out")]) == 2
    assert "0 of 2 submissions can be compared" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_code_of_the_starters_that_goes_with_an_answer_does_not_count(base):
    cells = similar_module.given_cells()
    longest = max((cell for cell in cells if "exercise:" not in cell), key=lambda cell: len(read_tokens(cell)[0]))
    assert len(read_tokens(longest)[0]) > 100
    found = compare([handed(name, gamma_func=longest) for name in ("one", "two")], base)
    assert found.overall.max() == 0


def test_what_the_class_shares_counts_little_and_what_two_share_counts():
    common, rare = (STYLES["inpainting"][f"inpainting-{name}"] for name in ("inverse-cdf", "multinomial-and-topk"))
    own = ["def mine(x):\n" + "".join(f"    x = torch.own_{number}_{line}(x)\n" for line in range(60))
           for number in range(30)]
    crowd = [handed(f"{number:02d}", inpainting=common + text) for number, text in enumerate(own)]
    found = compare(crowd, frozenset())
    assert found.reported() == [] and 0 < found.alike["inpainting"][3, 4] < 0.1
    crowd[3:5] = [handed(f"{number:02d}", inpainting=rare + own[number]) for number in (3, 4)]
    found = compare(crowd, frozenset())
    assert found.reported() == [(3, 4)] == found.pairs()[:1]


def test_a_group_that_shares_all_is_found(base):
    apart = [handed(f"{place}", **lab_of(place)) for place in range(4)]
    group = [handed(f"group-{number}", **lab_of(4)) for number in range(4)]
    found = compare(apart + group, base)
    assert found.reported() == list(itertools.combinations(range(4, 8), 2))
    assert all(found.overall[pair] == pytest.approx(1) for pair in found.reported())


def test_a_short_answer_reaches_no_high_figure():
    text = "def masked_forward(a, b, c, d):\n    return c(a.where(b, d))[..., :-1], a"
    found = compare([handed("one", masked_forward=text), handed("two", masked_forward=text)], frozenset())
    assert 0 < found.alike["masked_forward"][0, 1] == len(read_code(text).all_prints) / FLOOR < 0.6


def test_only_exercises_that_both_have_count():
    texts = STYLES["inpainting"]["inpainting-inverse-cdf"], STYLES["gamma_func"]["gamma_func-sine-and-product"]
    found = compare([handed("one", inpainting=texts[0], gamma_func=texts[1]), handed("two", inpainting=texts[0]),
                     handed("three", gamma_func=texts[1])], frozenset())
    assert found.overall[0, 1] == pytest.approx(1) and found.overall[1, 2] == 0
    assert np.isnan(found.alike["gamma_func"][0, 1]) and np.isnan(found.alike["mvtm_loss"]).all()


def test_runs_are_found_in_another_order_and_none_twice():
    one, other = [1, 2, 3, 9, 4, 5, 6, 1, 2, 3], [4, 5, 6, 7, 1, 2, 3]
    assert common_runs(one, other, frozenset()) == [(0, 4, 3), (4, 0, 3)]
    assert common_runs(one, other, frozenset({2})) == [(0, 4, 1), (2, 6, 1), (4, 0, 3)]


def test_stretches_name_the_lines_on_both_sides():
    text = STYLES["gamma_func"]["gamma_func-sine-and-product"].strip()
    found = compare([handed("first", gamma_func=text), handed("second", gamma_func="# more\n\n" + disguised(text)),
                     handed("third", gamma_func=f"import os\n{text}"), handed("fourth", gamma_func="x = 1")],
                    frozenset())
    [stretch] = found.stretches(0, 2, "gamma_func")
    assert stretch.first == (1, len(text.splitlines())) and stretch.second == (2, len(text.splitlines()) + 1)
    assert stretch.others == 1


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report on a class: a copy, a hostile answer that two handed in, broken and empty submissions."""
    place = tmp_path_factory.mktemp("similar")
    labs = {f"student-{number}": lab_of(number) for number in range(5)}
    labs["copycat"] = {name: disguised(text) for name, text in labs["student-3"].items()}
    trace = place / "trace"
    lines = ["# <script>alert(1)</script> </div> &amp; {{ 7 * 7 }} \u202e\u2028 hidden", '"""<img src=x>"""',
             *(f"note = {text!r}" for text in HOSTILE)]
    hostile = "\n    ".join([f"TRACE = [open({str(trace)!r}, 'w')]\n\ndef gamma_func(mode='cosine'):",
                             *lines, "TRACE.append(1)", "return lambda r: 1 - r"])
    for name in ("student-0", "student-1"):
        labs[name]["gamma_func"] = hostile
    for name, texts in labs.items():
        hand_in(place / "class" / name, texts)
    (place / "class" / "broken.zip").write_text("no zip")
    (place / "class" / "empty").mkdir()
    (place / "class" / "half").mkdir()
    (place / "class" / "half" / "lab.ipynb").write_text(notebook_of(
        "#| exercise: gamma_func\ndef gamma_func(:", f"#| exercise: sample_mask\n{TEXTS['sample_mask']}"))
    stale = place / "out" / "similar" / "a+b.html"
    stale.parent.mkdir(parents=True)
    stale.write_text("of an earlier run")
    assert main(["similar", str(place / "class"), "--out", str(place / "out")]) == 0
    assert not trace.exists(), "an answer was run"
    assert not stale.exists()
    return place / "out"


def test_the_copy_stands_first_in_table_and_page(report):
    lines = table(report / "similar.csv")
    assert len(lines) == 7 * 6 // 2 and list(lines[0]) == ["first", "second", "overall", *EXERCISES]
    assert (lines[0]["first"], lines[0]["second"]) == ("copycat", "student-3") and float(lines[0]["overall"]) > 90
    overall = [float(line["overall"]) for line in lines]
    assert overall == sorted(overall, reverse=True)
    assert all(line["gamma_func"] == "" for line in lines if "half" in (line["first"], line["second"]))
    page = Page((report / "similar.html").read_text())
    assert page.said().index("copycat and student-3") < page.said().index("student-0 and student-1")
    assert ("a", "href", "similar/copycat%2Bstudent-3.html") in page.attributes


def test_answers_in_other_styles_are_not_reported(report):
    listed = {path.name for path in (report / "similar").iterdir()}
    assert listed == {"copycat+student-3.html", "student-0+student-1.html"}


def test_broken_submissions_are_named_and_the_rest_goes_on(report):
    page = Page((report / "similar.html").read_text())
    assert "7 submissions compared" in page and "2 not compared" in page
    assert "broken broken.zip: it is no zip" in page and "empty There is no notebook in it" in page
    assert "half gamma_func: lab.ipynb, cell 1: syntax error" in page


def test_pages_load_nothing_and_show_hostile_text_as_text(report):
    for path in [report / "similar.html", *(report / "similar").iterdir()]:
        page = Page(path.read_text())
        assert not page.tags & {"script", "img", "link", "iframe", "object", "form"}
        assert not [name for _, name, _ in page.attributes if name.startswith("on") or name == "src"]
        ids = [value for _, name, value in page.attributes if name == "id"]
        links = [value for _, name, value in page.attributes if name == "href"]
        assert len(ids) == len(set(ids)) and not [link for link in links if ":" in link]
        assert all(link[1:] in ids for link in links if link.startswith("#"))
    text = (report / "similar" / "student-0+student-1.html").read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text and "{{ 7 * 7 }}" in text and "hidden" in text
    assert not set("\u202e\u2028\x00\x1b") & set(text)


def test_both_sides_have_the_same_stretches(report):
    page = Page((report / "similar" / "copycat+student-3.html").read_text())
    assert len([value for tag, name, value in page.attributes if name == "class" and value.startswith("line c")]) > 100
    ids = {value for tag, name, value in page.attributes if tag == "div" and name == "id"}
    assert len(ids) >= 20
    for one in ids:
        exercise, side, number = one.rsplit("-", 2)
        assert f"{exercise}-{'b' if side == 'a' else 'a'}-{number}" in ids


def test_a_process_that_dies_costs_one_submission(tmp_path, monkeypatch):
    for name in ("one", "two", "three"):
        hand_in(tmp_path / "class" / name, {"gamma_func": TEXTS["gamma_func"]})
    real = similar_module.read_submission
    monkeypatch.setattr(similar_module, "read_submission",
                        lambda path, name: os._exit(1) if name == "two" else real(path, name=name))
    found = {one.name: one for one in read_class([tmp_path / "class"])}
    assert found["one"].codes and found["three"].codes and not found["two"].codes
    assert "breaks down" in found["two"].notes[0]


def test_zips_and_folders_give_the_same_figures(tmp_path):
    for name in ("one", "two"):
        hand_in(tmp_path / "class" / name, lab_of(0))
        shutil.make_archive(str(tmp_path / "zips" / name), "zip", tmp_path / "class" / name)
    for kind in ("class", "zips"):
        assert main(["similar", str(tmp_path / kind), "--out", str(tmp_path / f"out-{kind}")]) == 0
    assert table(tmp_path / "out-class" / "similar.csv") == table(tmp_path / "out-zips" / "similar.csv")


def test_a_missing_folder_is_said_in_one_line(tmp_path, capsys):
    assert main(["similar", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_pages_are_limited_and_the_table_is_not(base, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MOST_PAIRS", 2)
    monkeypatch.setattr(pages, "MOST_LINES", 5)
    found = compare([handed(name, **lab_of(0)) for name in ("a", "b", "c")], base)
    assert len(pages.write_report(found, tmp_path)) == 3
    assert len(list((tmp_path / "similar").iterdir())) == 2 and len(table(tmp_path / "similar.csv")) == 3
    assert "more lines" in Page(next((tmp_path / "similar").iterdir()).read_text())
    assert "Of 3 pairs, the first 2 are shown" in Page((tmp_path / "similar.html").read_text())
