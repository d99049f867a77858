"""What students hand in is read whatever its shape, and the answer that counts is the one that the rule names."""

import ast
import functools
import io
import json
import os
import stat
import tempfile
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from grader.submission import answer_code, archive
from grader.submission import submission as submission_module
from grader.submission.answer_code import python_of, read_cell
from grader.submission.submission import NOTEBOOKS, find_submissions, opened, read_submission, safe_name
from lab3.common.files import InputError, SaveError
from lab3.exercises.answers import answer_file, exercise_of, link, run_answer
from lab3.exercises.checks import check
from lab3.exercises.table import EXERCISES

STUB = "#| exercise: gamma_func\ndef gamma_func(mode='cosine'):\n" \
       "    '''Words.'''\n    raise NotImplementedError  # here"
GAMMA = "#| exercise: gamma_func\ndef gamma_func(mode='cosine'):\n    return 'right'"
NAMED = "04_gamma_schedules.ipynb"


def notebook(*cells, **more):
    """A notebook's bytes: cells are texts of code, or pairs (type, text)."""
    pairs = [cell if isinstance(cell, tuple) else ("code", cell) for cell in cells]
    made = [{"cell_type": kind, "metadata": {}, "source": text} for kind, text in pairs]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more).encode()


def folder(place, **files):
    """A folder `place` with files, name -> bytes; their names may hold folders."""
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return place


def read(place, *cells):
    """The submission that is one notebook with these cells, as a folder."""
    return read_submission(folder(place, **{NAMED: notebook(*cells)}))


def gamma(place, *cells):
    """The answer to gamma_func in a notebook with these cells."""
    return read(place, *cells).answers["gamma_func"]


def value(answer, *arguments):
    """What an answer's function gives, run as the grader runs it."""
    assert answer.problem is None, answer
    name = EXERCISES[answer.exercise].defines
    return run_answer(answer.exercise, answer_file(answer.text), f"<{answer.exercise}>")[name](*arguments)


def zipped(path, *files, compress=zipfile.ZIP_DEFLATED):
    """A zip of (name or ZipInfo, bytes) pairs."""
    with zipfile.ZipFile(path, "w", compress) as zipped:
        for name, content in files:
            zipped.writestr(name, content)
    return path



def test_solved_notebooks_give_every_answer_right():
    answers = read_submission(ROOT / "solutions").answers
    assert all(not one.problem and len(one.notes) == 1 for one in answers.values()), answers
    spaces = {name: run_answer(name, answer_file(one.text), f"<{name}>") for name, one in answers.items()}
    link(spaces)
    for name, space in spaces.items():
        assert check(name, space).passed, name


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solved_answer_is_the_definition_and_nothing_else(exercise):
    text = read_submission(ROOT / "solutions").answers[exercise].text
    assert len(ast.parse(text).body) == 1 and text.startswith(f"#| exercise: {exercise}\n")


def test_starters_are_not_written():
    submission = read_submission(ROOT / "notebooks")
    assert {one.problem for one in submission.answers.values()} == {"not written"}
    assert len(submission.answers) == 11 and submission.readable and not submission.notes


def test_names_of_notebooks_are_the_courses():
    found = {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
    not_graded = {"00_start_here.ipynb", "07_from_nothing.ipynb"}
    assert set(NOTEBOOKS.values()) == found - not_graded
    assert set(NOTEBOOKS) == {one.notebook for one in EXERCISES.values()}



def test_a_missing_answer_is_missing(tmp_path):
    answer = gamma(tmp_path, "x = 1")
    assert answer.problem == "missing" and answer.text == "" and "#| exercise: gamma_func" in answer.notes[0]


@pytest.mark.parametrize("line", [
    "#|exercise:gamma_func", "  # |  exercise :  gamma_func  ", "#| exercise: gamma_func\r"])
def test_the_marker_may_have_other_spaces_and_stand_anywhere(tmp_path, line):
    answer = gamma(tmp_path, GAMMA.replace("'right'", "0").split("\n", 1)[1],
                   f"import os\n\n{line.strip()}\n" + GAMMA.split("\n", 1)[1])
    assert value(answer) == "right" and "cell 2 counts: it has the line" in answer.notes[0]


def test_of_several_the_last_counts_and_the_notes_say_so(tmp_path):
    answer = gamma(tmp_path, GAMMA.replace("right", "old"), ("markdown", "words"), GAMMA)
    assert value(answer) == "right"
    assert f"{NAMED}, cell 3 counts" in answer.notes[0] and f"{NAMED}, cell 1." in answer.notes[1]


def test_an_untouched_starter_never_replaces_an_answer(tmp_path):
    answer = gamma(tmp_path, GAMMA, STUB)
    assert value(answer) == "right" and answer.notes[1] == f"Untouched starters do not count: {NAMED}, cell 2."


def test_within_a_cell_too_a_starter_never_replaces_an_answer(tmp_path):
    assert value(gamma(tmp_path, GAMMA + "\n" + STUB)) == "right"


def test_an_answer_in_a_new_cell_counts_though_the_starter_keeps_the_marker(tmp_path):
    answer = gamma(tmp_path, STUB, GAMMA.split("\n", 1)[1])
    assert value(answer) == "right" and "cell 2 counts: it defines gamma_func" in answer.notes[0]


def test_a_marked_cell_is_preferred_to_a_later_one_without_marker(tmp_path):
    assert value(gamma(tmp_path, GAMMA, "gamma_func = lambda mode='': 'trial'")) == "right"


def test_an_answer_may_stand_in_the_cell_of_another(tmp_path):
    submission = read(tmp_path, "#| exercise: mvtm_loss\ndef mvtm_loss():\n    return 1\n\n" + GAMMA.split("\n", 1)[1])
    assert value(submission.answers["gamma_func"]) == "right"
    assert value(submission.answers["mvtm_loss"]) == 1
    assert "gamma_func" not in submission.answers["mvtm_loss"].text


def test_a_cell_with_two_markers_answers_both(tmp_path):
    submission = read(tmp_path, GAMMA + "\n\n#| exercise: mvtm_loss\ndef mvtm_loss():\n    return gamma_func()")
    assert value(submission.answers["gamma_func"]) == "right"
    assert not submission.answers["mvtm_loss"].problem and "right" not in submission.answers["mvtm_loss"].text


@pytest.mark.parametrize("kind", ["markdown", "raw"])
def test_a_cell_that_became_text_counts_where_no_code_cell_does(tmp_path, kind):
    answer = gamma(tmp_path, (kind, f"```python\n{GAMMA}\n```" if kind == "markdown" else GAMMA))
    assert value(answer) == "right" and "no code cell" in answer.notes[0]
    assert "cell 2 counts" in gamma(tmp_path, (kind, GAMMA), GAMMA).notes[0]


def test_text_that_only_mentions_a_marker_is_no_answer(tmp_path):
    assert gamma(tmp_path, ("markdown", "Begin with\n\n#| exercise: gamma_func\n\nand go on (so")).problem == "missing"


def test_an_unknown_id_is_noted(tmp_path):
    submission = read(tmp_path, GAMMA.replace("gamma_func\n", "gamma\n"))
    assert "cell 1: exercise 'gamma' does not exist" in submission.notes[0]
    assert value(submission.answers["gamma_func"]) == "right"


def test_an_optional_exercise_is_known_and_not_read(tmp_path):
    submission = read(tmp_path, GAMMA, "#| exercise: guided_logits\ndef guided_logits(c, u, s):\n    return c")
    assert not submission.notes and "guided_logits" not in submission.answers
    assert value(submission.answers["gamma_func"]) == "right"


def test_the_courses_file_name_comes_first_then_the_number_then_the_rest(tmp_path):
    order = [NAMED, f"deep/{NAMED}", "04 old.ipynb", "a.ipynb"]
    place = folder(tmp_path, **{name: notebook(GAMMA.replace("right", name)) for name in reversed(order)})
    for expected in order:
        answer = read_submission(place).answers["gamma_func"]
        assert value(answer) == expected and answer.notes[0].startswith(f"{expected}, cell 1 counts")
        (place / expected).unlink()


def test_an_answer_in_a_copy_counts_where_the_courses_notebook_has_only_the_starter(tmp_path):
    copy = "04_gamma_schedules-Copy1.ipynb"
    place = folder(tmp_path, **{NAMED: notebook(STUB), copy: notebook(GAMMA)})
    assert f"{copy}, cell 1 counts" in read_submission(place).answers["gamma_func"].notes[0]


def test_checks_tags_ids_and_magics_have_no_say(tmp_path):
    cell = {"cell_type": "code", "id": "check-gamma_func", "source": "# NBVAL_SKIP\n%%answer sample_mask\n" + GAMMA,
            "metadata": {"tags": ["raises-exception"], "nbgrader": {"locked": True, "points": 100}}}
    place = folder(tmp_path, **{NAMED: json.dumps({"cells": [cell], "nbformat": 4}).encode()})
    answer = read_submission(place).answers["gamma_func"]
    assert value(answer) == "right" and "%%" not in answer.text


@pytest.mark.parametrize("body", [
    "raise NotImplementedError", "raise NotImplementedError('later')", "...", "'''Words.'''",
    "'''Words.'''\n    pass\n    raise NotImplementedError"])
def test_starters(body):
    [one] = read_cell(1, f"def gamma_func():\n    {body}")
    assert one.stub("gamma_func")


@pytest.mark.parametrize("body", ["x = 1\n    raise NotImplementedError", "raise ValueError", "return None", "f()"])
def test_what_is_more_than_a_starter(body):
    [one] = read_cell(1, f"def gamma_func():\n    {body}")
    assert not one.stub("gamma_func")


def test_a_class_with_one_method_written_is_written(tmp_path):
    text = ("class MultiHeadAttention(nn.Module):\n    def __init__(self):\n        super().__init__()\n        {}\n"
            "    def forward(self, x):\n        raise NotImplementedError")
    for body, problem in (("raise NotImplementedError", "not written"), ("self.dim = 3", None)):
        assert read(tmp_path, text.format(body)).answers["multi_head_attention"].problem == problem



def kept(place, *cells):
    """The statements of the answer, each on one line."""
    return [ast.unparse(one).replace("\n", " ") for one in ast.parse(gamma(place, *cells).text).body]


def test_calls_prints_plots_and_asserts_are_dropped(tmp_path):
    cell = GAMMA + "\n\nassert gamma_func() == 'right'\nprint(gamma_func())\ntorch.manual_seed(0)\n" \
                   "for i in range(3):\n    print(i)\n" \
                   "r = torch.linspace(0, 1, 5)\nplt.plot(r); plt.show()\ngamma_func('linear')"
    answer = gamma(tmp_path, cell)
    assert answer.text == GAMMA + "\n" and len(answer.notes) == 1


def test_comments_decorators_and_layout_stay(tmp_path):
    definition = "# A helper.\n@functools.cache  # once\ndef half(r):\n    # half\n    return  r/2\n\n\n"
    cell = "import functools\n\n" + definition + GAMMA.replace("'right'", "half( 3 )  # my half")
    answer = gamma(tmp_path, cell + "\nprint(1)")
    assert definition.strip() in answer.text and "half( 3 )  # my half" in answer.text and value(answer) == 1.5


def test_helpers_of_other_cells_go_with_it_and_theirs_too(tmp_path):
    answer = gamma(
        tmp_path, "from math import pi as PI\nimport lab3\nlab = lab3.start('04')",
        "def half(x):\n    return x * SHARE",
        ("markdown", "words"), "SHARE: float = 1 / 2\nOTHER = 3\nprint(SHARE)", GAMMA.replace("'right'", "half(PI)"))
    assert value(answer) == pytest.approx(1.5707963)
    assert "OTHER" not in answer.text and "lab3" not in answer.text
    assert answer.notes[-1] == "It uses other cells of the notebook: 1, 2, 4."


def test_helpers_are_not_taken_from_other_notebooks(tmp_path):
    place = folder(tmp_path, **{NAMED: notebook(GAMMA.replace("'right'", "half(1)")),
                                "a.ipynb": notebook("def half(x):\n    return x / 2")})
    answer = read_submission(place).answers["gamma_func"]
    assert "half, which no cell of the notebook defines" in answer.notes[-1] and "def half" not in answer.text
    with pytest.raises(NameError):
        value(answer)


@pytest.mark.parametrize("setting", [
    "half, other = (lambda x: x / 2), 3",
    "half = lambda x: 0\nhalf = lambda x: x / 2",
    "if (half := (lambda x: x / 2)):\n    pass",
    "try:\n    from nowhere import half\nexcept ImportError:\n    def half(x):\n        return x / 2",
    "with torch.no_grad():\n    half = lambda x: x / 2",
    "for half in [lambda x: x / 2]:\n    pass",
    "from operator import truediv\ndef half(x): return truediv(x, 2)",
    "import operator as op; half = lambda x: op.truediv(x, 2)",
    "class Half:\n    share = 2\n    def __call__(self, x):\n        return x / self.share\nhalf = Half()",
    "match [lambda x: x / 2]:\n    case [half]:\n        pass",
    "SHARE = 1\nSHARE += 1\ndef half(x): return x / SHARE",
    "def set_share():\n    global SHARE\n    SHARE = 2\nset_share()\ndef half(x): return x / SHARE",
    "import types\nhalf = types.SimpleNamespace()\nhalf = lambda x: x / half.share\nhalf.share = 2",
    "half = lambda x: x / half.share\nsetattr(half, 'share', 2)",
    "shares = []\nshares.append(2)\ndef half(x): return x / shares[0]",
    "shares = {}\nshares['half'] = 2\ndef half(x): return x / shares['half']",
    "shares = {}\nfor name in ('half',):\n    shares[name] = 2\ndef half(x): return x / shares['half']",
    "from collections import *\nhalf = lambda x: x / Counter('ll')['l']",
    "TABLE = {}\ndef register(name):\n    def keep(f):\n        TABLE[name] = f\n        return f\n    return keep\n"
    "@register('half')\ndef any_name(x):\n    return x / 2\ndef half(x): return TABLE['half'](x)",
    "TABLE = {}\ndef register(name, f):\n    TABLE[name] = f\nregister('half', lambda x: x / 2)\n"
    "def half(x): return TABLE['half'](x)",
], ids=range(20))
@pytest.mark.parametrize("apart", [False, True])
def test_whatever_binds_or_changes_a_name(tmp_path, setting, apart):
    cells = ["unrelated = 1\nprint(unrelated)\n" + setting, GAMMA.replace("'right'", "half(3)")]
    answer = gamma(tmp_path, *(cells if apart else ["\n".join(cells)]))
    assert value(answer) == 1.5, answer
    assert "unrelated" not in answer.text


def test_a_method_set_on_the_class_goes_with_it(tmp_path):
    cells = ["#| exercise: multi_head_attention\nclass MultiHeadAttention(nn.Module):\n    pass_on = True",
             "def forward(self, x):\n    return x + 1", "MultiHeadAttention.forward = forward",
             "MultiHeadAttention().forward(3)", "setattr(MultiHeadAttention, 'dim', 3)"]
    answer = read(tmp_path, *cells).answers["multi_head_attention"]
    attention = value(answer)
    assert attention(2) == 3 and attention.dim == 3 and "(3)" not in answer.text


def test_a_class_may_go_on_in_a_later_cell(tmp_path):
    cells = ["#| exercise: multi_head_attention\nclass MultiHeadAttention(nn.Module):\n    dim = 3",
             "class MultiHeadAttention(MultiHeadAttention):\n    def forward(self, x):\n        return x + 1"]
    for these in (cells, [cells[0].split("\n", 1)[1], cells[1]]):
        attention = value(read(tmp_path, *these).answers["multi_head_attention"])
        assert attention(2) == 3 and attention.dim == 3


def test_a_change_of_an_earlier_class_of_the_same_name_is_dropped(tmp_path):
    cell = "class MultiHeadAttention(nn.Module):\n    size = 3"
    answer = read(tmp_path, cell, "MultiHeadAttention.size = 4", cell).answers["multi_head_attention"]
    assert value(answer).size == 3


def test_an_answer_may_wrap_itself(tmp_path):
    cell = GAMMA + "\n\ndef loud(f):\n    return lambda *a: f(*a).upper()\n\ngamma_func = loud(gamma_func)\n" \
                   "gamma_func()"
    assert value(gamma(tmp_path, cell)) == "RIGHT"


def test_the_own_cells_helper_is_not_replaced_by_a_later_cells(tmp_path):
    own = "def half(x):\n    return x / 2\n\n" + GAMMA.replace("'right'", "half(3)")
    assert value(gamma(tmp_path, "half = 7", own, "def half(x):\n    raise NotImplementedError")) == 1.5


def test_a_helper_is_taken_from_before_the_answer_or_else_from_after(tmp_path):
    answer, helper = GAMMA.replace("'right'", "half(3)"), "def half(x):\n    return x / 2"
    assert value(gamma(tmp_path, helper, answer, "half = torch.zeros(3)\nhalf[0] = 1\nhalf.zero_()")) == 1.5
    assert value(gamma(tmp_path, answer, helper)) == 1.5
    assert value(gamma(tmp_path, "def half(x):\n    raise NotImplementedError", answer, helper)) == 1.5


def test_a_starter_of_a_helper_does_not_replace_it(tmp_path):
    helper = "def half(x):\n    return x / 2"
    assert value(gamma(tmp_path, helper, "def half(x):\n    raise NotImplementedError",
                       GAMMA.replace("'right'", "half(3)"))) == 1.5


def test_what_runs_at_once_comes_after_what_it_needs(tmp_path):
    cells = [GAMMA.replace("def ", "@twice\ndef ").replace("'right'", "BASE"), "BASE = start(1)",
             "def start(x):\n    return x + STEP", "STEP = 1", "def twice(f):\n    return lambda: f() * 2"]
    assert value(gamma(tmp_path, *cells)) == 4


def test_names_that_the_lab_gives_come_from_the_own_cell_only(tmp_path):
    answer = gamma(tmp_path, "import math\nF = 3\nmax = 0\ndef sample_mask():\n    pass", GAMMA.replace(
        "'right'", "math.pi, F, max, sample_mask"))
    assert "import" not in answer.text and "max = 0" not in answer.text and "sample_mask()" not in answer.text
    answer = gamma(tmp_path, "import torch.nn as nn\n" + GAMMA.replace("'right'", "nn.Module"))
    assert answer.text.startswith("import torch.nn as nn")


def test_what_the_own_cell_sets_on_a_module_stays(tmp_path):
    cell = "math.third = lambda: 3\n" + GAMMA.replace("'right'", "math.third()")
    assert value(gamma(tmp_path, "import math", cell)) == 3
    assert "third =" not in gamma(tmp_path, *cell.split("\n", 1)).text


def test_names_of_loops_and_comprehensions_need_nothing(tmp_path):
    cells = ["for name, x in enumerate(lab.data):\n    print(x)\nx = lab.data", "TABLE = {}\nfor name in ('half',):\n"
             "    TABLE[name] = [x for x in range(3)]", GAMMA.replace("'right'", "TABLE['half']")]
    answer = gamma(tmp_path, *cells)
    assert value(answer) == [0, 1, 2] and "lab" not in answer.text


def test_what_hangs_on_the_lab_is_left_out_and_noted(tmp_path):
    cells = ["import lab3\nlab = lab3.start('04')", "pictures = lab.data.test\nn = len(pictures)",
             GAMMA.replace("'right'", "n if mode == 'n' else mode")]
    answer = gamma(tmp_path, *cells)
    assert value(answer, "x") == "x" and "start" not in answer.text
    assert "It uses n: what hangs on the notebook's lab" in answer.notes[-1]


def test_names_that_nobody_defines_are_noted_and_left(tmp_path):
    answer = gamma(tmp_path, "def half(:", GAMMA.replace("'right'", "half(3)"))
    assert answer.problem is None
    assert "half, which no cell of the notebook defines (not read: cell 1: syntax error in line 1" in answer.notes[-1]


def test_broken_cells_are_not_mentioned_where_nothing_is_lacking(tmp_path):
    assert len(gamma(tmp_path, "def half(:", GAMMA).notes) == 1


def test_future_imports_come_first(tmp_path):
    cell = "from __future__ import annotations\n" + GAMMA
    assert gamma(tmp_path, "x = 1", cell).text.startswith("from __future__ import annotations")


def test_future_imports_of_earlier_cells_hold_too(tmp_path):
    """As in Jupyter, where they stay in force."""
    answer = gamma(tmp_path, "from __future__ import annotations", GAMMA.replace("():", "() -> Unknown:"))
    assert value(answer) == "right"
    assert "__future__" not in gamma(tmp_path, GAMMA, "from __future__ import annotations").text


def test_a_helper_may_bear_the_name_of_a_builtin(tmp_path):
    cell = GAMMA.replace("'right'", "round(2.5)")
    assert value(gamma(tmp_path, "def round(x):\n    return 'mine'", cell)) == "mine"
    assert value(gamma(tmp_path, cell, "def round(x):\n    return 'later'")) == 2


def test_statements_that_all_hang_together_take_no_time(tmp_path):
    names = [f"v{i}" for i in range(80)]
    chain = f"{' = '.join(names)} = f({', '.join(names)})"
    began = time.process_time()
    gamma(tmp_path, "def f(*x):\n    return 1", *[chain] * 240, GAMMA.replace("'right'", "v0"))
    assert time.process_time() - began < 20


def lines(count, line):
    return "\n".join(line.format(i=i, next=i + 1) for i in range(count, 0, -1))


@pytest.mark.parametrize("cells", [
    [lines(1900, "b{next} = b{i}"), "b1 = lab3.start('04')", GAMMA],
    [lines(900, "a{i}.x = a{next}"), lines(901, "a{i} = {{}}"), GAMMA.replace("'right'", "a1")],
    [lines(900, "a{i}.append(a{next})"), lines(901, "a{i} = []"), GAMMA.replace("'right'", "a1")],
    [GAMMA.replace("def", "@h\ndef").replace("'right'", "b1"), lines(1900, "b{i} = g(b{next})"), "def h(x): return x"],
    [lines(400, "def f{i}(x):\n    t{i}.append(x)\n    return t{next}"), lines(401, "t{i} = []"),
     lines(399, "f{i}(f{next})"), GAMMA.replace("'right'", "t1")],
    [";".join(["b = 1"] * 1999)] * 12 + [GAMMA.replace("'right'", "b")],
], ids=["lab", "attributes", "methods", "order", "calls", "one line"])
def test_what_an_answer_needs_is_found_in_linear_time(tmp_path, cells):
    """Each statement here makes the next one needed: with a look at all of them for each, this takes minutes."""
    began = time.process_time()
    answer = gamma(tmp_path, *cells)
    assert answer.problem is None and time.process_time() - began < 5


@pytest.mark.parametrize("content, said", [
    (b'{"cells": [' + b"{}," * 300_000 + b"{}]}", "more than 5,000 cells"),
    (b'{"cells": [], "outputs": [' + b"{}," * 6_000_000 + b"{}]}", "more than 500,000 JSON objects")])
def test_too_many_cells_are_refused_before_they_are_read(tmp_path, content, said):
    began = time.process_time()
    assert said in read_submission(folder(tmp_path, **{NAMED: content})).notes[0]
    assert time.process_time() - began < 2


def test_code_is_limited_for_all_notebooks_together(tmp_path):
    code = notebook(*["x = '" + "y" * 190_000 + "'"] * 3)
    place = folder(tmp_path, **{"a.ipynb": code, "b.ipynb": code, NAMED: notebook(GAMMA)})
    submission = read_submission(place)
    assert value(submission.answers["gamma_func"]) == "right"
    assert [note.split(":")[0] for note in submission.notes] == ["b.ipynb"]


@pytest.mark.parametrize("depth, said", [(2, None), (20, "finally blocks are nested too deep")])
def test_finally_blocks_that_grow_when_they_are_compiled(tmp_path, depth, said):
    body = "".join(f"{' ' * i}try:\n{' ' * i} if a: return\n{' ' * i}finally:\n" for i in range(1, depth + 1))
    began = time.process_time()
    answer = gamma(tmp_path, GAMMA + f"\ndef f():\n{body}{' ' * (depth + 1)}b\n")
    assert time.process_time() - began < 2 and (said in answer.problem if said else answer.problem is None)


def test_a_link_takes_nobody_elses_name(tmp_path):
    folder(tmp_path / "real", **{NAMED: notebook(GAMMA)})
    (tmp_path / "aaa").symlink_to(tmp_path / "real")
    assert find_submissions([tmp_path]) == {"real": (tmp_path / "real",)}


def test_an_await_or_del_elsewhere_does_no_harm(tmp_path):
    assert value(gamma(tmp_path, "import asyncio\nawait asyncio.sleep(0)", "def half(x):\n    return x / 2",
                       GAMMA.replace("'right'", "half(1)"), "del half")) == 0.5



def test_magics_are_removed_and_lines_keep_their_numbers():
    cell = "%%time\n%matplotlib inline\nimport math\n!pip install x \\\n   'y\nmath.pi?\nif True:\n    %time f()\n" \
           "files = !ls it's\n?math\nx = 1\n"
    assert python_of(cell).split("\n") == [
        "pass", "pass", "import math", "pass", "", "pass", "if True:", "    pass", "pass", "pass", "x = 1", ""]


@pytest.mark.parametrize("cell", [
    "x = '''\n%time\n!ls\n'''\ny = 1", "x = (7\n% 4)", "x = 7 \\\n% 4", 'x = f"{1}" """\n%time \\"""\n!x"""',
    "x = 5\nx != 4", "x = '\\''\ny = [\n!= 3", "# it's\nx = 1  # \"\"\"", "r'\\'\nx = 'a'\n"])
def test_strings_and_brackets_are_left_alone(cell):
    assert python_of(cell) == cell


def test_magic_after_strings_with_such_lines(tmp_path):
    cell = "%%time\n" + GAMMA.replace("'right'", "'''a\n%time\n!ls'''") + "\n!pip install \"x\n%time gamma_func()"
    assert value(gamma(tmp_path, cell)) == "a\n%time\n!ls"


def test_cells_in_other_languages_hold_no_python(tmp_path):
    assert gamma(tmp_path, "%%bash\necho 'it", GAMMA).problem is None
    assert read_cell(1, "%%html\n<b>") == []


def test_a_cell_that_is_indented_as_a_whole(tmp_path):
    assert value(gamma(tmp_path, "#| exercise: gamma_func\n    def gamma_func():\n        return 'right'")) == "right"


def test_windows_line_ends(tmp_path):
    answer = gamma(tmp_path, GAMMA.replace("\n", "\r\n") + "\r\n\r\nprint(1)\r\n")
    assert answer.text == GAMMA + "\n"



@pytest.mark.parametrize("cell, said", [
    (GAMMA + "\n\n\nif x\n    pass", "line 6 (if x): expected ':'"),
    ("%%time\n" + GAMMA + "\n  y = 1", "line 5 (y = 1): unindent"),
    (GAMMA + "\nreturn 3", "line 4 (return 3): 'return' outside function"),
    (GAMMA + "\n\0", "null"),
    (GAMMA + "\nx = " + "-" * 100_000 + "1", "too deeply nested"),
    (GAMMA + "\nx = a" + ".b" * 5_000, "too deeply nested"),
    (GAMMA + "\nx = " + "(" * 500 + ")" * 500, "too many nested parentheses"),
    (GAMMA + "\n#" + "x" * submission_module.MAX_CODE, "longer than 200,000 characters"),
    (GAMMA + "\nx = 1" * (answer_code.MAX_STATEMENTS + 1), "more than 2000 statements"),
], ids=range(9))
def test_a_cell_that_cannot_be_read_is_the_problem(tmp_path, cell, said):
    answer = gamma(tmp_path, "x = 1", cell)
    assert said in answer.problem and f"{NAMED}, cell 2: " in answer.problem and answer.text == ""
    assert "\n" not in answer.problem and len(answer.problem) < 300


def test_a_broken_cell_does_not_replace_an_answer(tmp_path):
    answer = gamma(tmp_path, GAMMA, GAMMA + "\n(")
    assert value(answer) == "right" and "cell 2 does not count: syntax error in line 4" in answer.notes[1]


def test_a_broken_cell_without_marker_that_defines_the_name_is_the_problem(tmp_path):
    assert "syntax error" in gamma(tmp_path, STUB, GAMMA.split("\n", 1)[1] + "\n(").problem


def test_characters_that_no_text_has(tmp_path):
    assert value(gamma(tmp_path, GAMMA + "  # \ud800")) == "right"



@pytest.mark.parametrize("content, said", [
    (b"", "is empty"), (b"{", "is damaged"), (b"\x89PNG\r\n\x1a\n\0\0", "is damaged"), (b"[]", "has no cells"),
    (b'{"nbformat": 4}', "has no cells"), (b'{"cells": 3}', "has no cells"), (b"[" * 200_000, "nested too deep"),
    (b'{"a":' * 200_000, "nested too deep"), (notebook(*["x = '" + "y" * 190_000 + "'"] * 6), "1,000,000 characters"),
    (notebook(*["x = 1\n" * 1900] * 2), "more than 2000 statements"),
    (b" " * (submission_module.MAX_NOTEBOOK + 1), "20 MB"),
], ids=range(11))
def test_a_notebook_that_cannot_be_read_is_noted_and_the_others_count(tmp_path, content, said):
    place = folder(tmp_path, **{"03_training.ipynb": content, NAMED: notebook(GAMMA)})
    submission = read_submission(place)
    assert submission.readable and value(submission.answers["gamma_func"]) == "right"
    assert len(submission.notes) == 1 and said in submission.notes[0] and submission.notes[0].startswith("03_training")
    (place / NAMED).unlink()
    assert not read_submission(place).readable


def test_odd_cells_are_passed_over(tmp_path):
    cells = [3, None, {}, {"cell_type": "code"}, {"source": ["x"]}, {"cell_type": [], "source": {}},
             {"cell_type": "code", "source": [line + "\n" for line in GAMMA.split("\n")] + [7]}]
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        place = folder(tmp_path, **{NAMED: json.dumps({"cells": cells}).encode(encoding)})
        assert value(read_submission(place).answers["gamma_func"]) == "right"


def test_notebooks_of_format_3_are_read(tmp_path):
    cells = [{"cell_type": "code", "input": GAMMA.split("\n"), "language": "python"}]
    cells[0]["input"] = "\n".join(cells[0]["input"])
    place = folder(tmp_path, **{NAMED: json.dumps({"nbformat": 3, "worksheets": [{"cells": cells}, 3]}).encode()})
    assert value(read_submission(place).answers["gamma_func"]) == "right"


def test_large_outputs_do_no_harm(tmp_path):
    cell = {"cell_type": "code", "source": GAMMA, "outputs": [{"data": {"image/png": "x" * 15_000_000}}]}
    place = folder(tmp_path, **{NAMED: json.dumps({"cells": [cell]}).encode()})
    submission = read_submission(place)
    assert value(submission.answers["gamma_func"]) == "right" and not submission.notes


def test_a_sparse_notebook_of_a_gigabyte_is_not_read(tmp_path):
    place = folder(tmp_path, **{"a.ipynb": b"{"})
    os.truncate(place / "a.ipynb", 10**9)
    began = time.perf_counter()
    assert "larger than the 20 MB" in read_submission(place).notes[0]
    assert time.perf_counter() - began < 1



def test_an_empty_folder_is_one_clear_note(tmp_path):
    submission = read_submission(tmp_path)
    assert not submission.readable and len(submission.notes) == 1 and "There is no notebook" in submission.notes[0]
    assert {one.problem for one in submission.answers.values()} == {"missing"}


def test_a_path_that_is_not_there(tmp_path):
    submission = read_submission(tmp_path / "gone.zip")
    assert not submission.readable and submission.notes == ("gone.zip: No such file or directory.",)


def test_links_pipes_and_hidden_files_are_not_opened(tmp_path):
    outside = folder(tmp_path / "outside", **{"secret.ipynb": notebook(GAMMA), "maskgit.safetensors": b"secret"})
    place = folder(tmp_path / "in", **{".ipynb_checkpoints/a.ipynb": notebook(GAMMA), "._b.ipynb": b""})
    (place / NAMED).symlink_to(outside / "secret.ipynb")
    (place / "more").symlink_to(outside)
    (place / "work").mkdir()
    (place / "work" / "maskgit.safetensors").symlink_to(outside / "maskgit.safetensors")
    os.mkfifo(place / "pipe.ipynb")
    submission = read_submission(place)
    assert submission.answers["gamma_func"].problem == "missing" and submission.model is None
    assert sum("is a link or no ordinary file" in note for note in submission.notes) == 3


def test_a_pipe_is_no_submission(tmp_path):
    for name in ("a.ipynb", "b.zip"):
        os.mkfifo(tmp_path / name)
        assert "no ordinary file" in read_submission(tmp_path / name).notes[0]


def test_the_model_is_found_and_counted(tmp_path):
    place = folder(tmp_path, **{NAMED: notebook(GAMMA), "work/maskgit.safetensors": b"weights",
                                "work/run-cpu/maskgit.safetensors": b"others"})
    submission = read_submission(place)
    assert submission.model == place / "work" / "maskgit.safetensors" and not submission.notes
    (place / "work" / "maskgit.safetensors").write_bytes(b"other weights")
    assert read_submission(place).digest != submission.digest


def test_a_model_elsewhere_is_noted(tmp_path):
    submission = read_submission(folder(tmp_path, **{NAMED: notebook(GAMMA), "maskgit.safetensors": b"weights"}))
    assert submission.model is None and "counts as work/maskgit.safetensors only" in submission.notes[0]


def test_one_notebook_alone_is_a_submission(tmp_path):
    place = folder(tmp_path, **{NAMED: notebook(GAMMA), "b.ipynb": notebook(GAMMA)})
    submission = read_submission(place / NAMED)
    assert value(submission.answers["gamma_func"]) == "right" and submission.name == "04_gamma_schedules"


def test_the_digest_is_of_content_not_of_place_or_time(tmp_path):
    digests = set()
    for name in ("a", "b"):
        place = folder(tmp_path / name, **{NAMED: notebook(GAMMA), f"{name}.txt": b"no matter"})
        digests.add(read_submission(place).digest)
        digests.add(read_submission(zipped(tmp_path / f"{name}.zip", (NAMED, notebook(GAMMA)))).digest)
    assert len(digests) == 1 and len(digests.pop()) == 64
    assert read(tmp_path / "a", GAMMA + " ").digest not in digests


def test_many_notes_are_cut(tmp_path):
    submission = read_submission(folder(tmp_path, **{f"{i:02d}.ipynb": b"{" for i in range(60)}))
    assert len(submission.notes) == submission_module.MAX_NOTES + 1
    assert submission.notes[-1] == "And 21 more notes like these."


def test_deep_folders_and_too_many_files(tmp_path, monkeypatch):
    place = folder(tmp_path / "deep", **{NAMED: notebook(GAMMA), "a/" * 13 + "b.ipynb": notebook(GAMMA)})
    submission = read_submission(place)
    assert "nested too deep" in submission.notes[0] and len(submission.answers["gamma_func"].notes) == 1
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    files = {f"{i}.png": b"" for i in range(4)} | {NAMED: notebook(GAMMA)}
    many = zipped(tmp_path / "many.zip", *files.items())
    for submission in (read_submission(folder(tmp_path / "many", **files)), read_submission(many)):
        assert not submission.readable and "more than 3 files" in submission.notes[0]



def test_a_zip_with_one_folder_and_a_model(tmp_path):
    path = zipped(tmp_path / "ann.zip", ("lab3/", b""), (f"lab3/{NAMED}", notebook(GAMMA)),
                  ("lab3/work/maskgit.safetensors", b"weights"), (f"__MACOSX/lab3/._{NAMED}", b"\0"),
                  (f"lab3/.ipynb_checkpoints/{NAMED}", notebook(STUB)), ("lab3/x.py", b"no"))
    with opened(path) as submission:
        assert value(submission.answers["gamma_func"]) == "right" and not submission.notes
        assert submission.model.read_bytes() == b"weights" and submission.name == "ann"
        assert [one.name for one in submission.model.parent.iterdir()] == ["maskgit.safetensors"]
    assert not submission.model.exists()
    assert read_submission(path).model is None


def test_a_folder_that_holds_just_a_zip(tmp_path):
    zipped(folder(tmp_path / "ann", **{"words.txt": b""}) / "lab.zip", (NAMED, notebook(GAMMA)))
    submission = read_submission(tmp_path / "ann")
    assert value(submission.answers["gamma_func"]) == "right" and submission.notes[0].startswith("lab.zip: ")


@pytest.mark.parametrize("damage, said", [
    (lambda raw: b"", "it is no zip"), (lambda raw: b"Rar!\x1a\x07" + raw[:50], "it is no zip"),
    (lambda raw: raw[:len(raw) // 2], "cut off or damaged"), (lambda raw: raw[:-3], "cut off or damaged"),
    (lambda raw: raw[:10] + bytes(len(raw) - 32) + raw[-22:], "cut off or damaged")])
def test_a_zip_that_is_none_is_one_clear_note(tmp_path, damage, said):
    path = zipped(tmp_path / "a.zip", (NAMED, notebook(GAMMA)))
    path.write_bytes(damage(path.read_bytes()))
    submission = read_submission(path)
    assert not submission.readable and len(submission.notes) == 1
    assert said in submission.notes[0] and "as a zip again" in submission.notes[0]


def entry(name, mode=0, **fields):
    """A zip's entry with odd properties."""
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    for key, value in fields.items():
        setattr(info, key, value)
    return info


@pytest.mark.parametrize("info, said", [
    (entry("../a.ipynb"), "leads out"), (entry("/a.ipynb"), "leads out"), (entry("b/../../a.ipynb"), "leads out"),
    (entry("C:\\a.ipynb"), "leads out"), (entry("..\\a.ipynb"), "leads out"),
    (entry("a.ipynb", stat.S_IFLNK), "a link"), (entry("a.ipynb", stat.S_IFIFO), "a link"),
    (entry("a/" * 20 + "a.ipynb"), "nested too deep"),
    (entry("a.ipynb", compress_type=zipfile.ZIP_BZIP2), "unusual way"),
    (entry("a.ipynb", compress_type=zipfile.ZIP_LZMA), "unusual way"), (entry(NAMED), "twice"),
], ids=range(11))
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_are_refused_leave_the_others(tmp_path, info, said):
    content = notebook(GAMMA.replace("right", "wrong"))
    path = zipped(tmp_path / "a.zip", (NAMED, notebook(GAMMA)), (info, content))
    submission = read_submission(path)
    assert value(submission.answers["gamma_func"]) == "right"
    assert len(submission.notes) == 1 and said in submission.notes[0]
    assert list(tmp_path.iterdir()) == [path]


def test_encrypted_entries_are_refused(tmp_path):
    path = zipped(tmp_path / "a.zip", (NAMED, notebook(GAMMA)))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(raw)
    assert "is encrypted" in read_submission(path).notes[0]


def test_windows_separators_are_understood(tmp_path):
    path = zipped(tmp_path / "a.zip", (entry(f"lab\\{NAMED}"), notebook(GAMMA)),
                  (entry("lab\\work\\maskgit.safetensors"), b"weights"))
    with opened(path) as submission:
        assert value(submission.answers["gamma_func"]) == "right" and submission.model.read_bytes() == b"weights"


def test_a_bomb_is_not_unpacked(tmp_path):
    path = zipped(tmp_path / "a.zip", ("bomb.ipynb", bytes(300_000_000)), (NAMED, notebook(GAMMA)))
    honest = path.read_bytes()
    lying = honest.replace((300_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert path.stat().st_size < 1_000_000 and lying != honest
    for raw, said in ((honest, "larger than the 20 MB"), (lying, "cannot be read")):
        path.write_bytes(raw)
        began = time.perf_counter()
        submission = read_submission(path)
        assert said in submission.notes[0] and value(submission.answers["gamma_func"]) == "right"
        assert time.perf_counter() - began < 1


def test_a_models_limit_does_not_trust_the_zip(tmp_path, monkeypatch):
    monkeypatch.setattr(submission_module, "MAX_MODEL", 1000)
    path = zipped(tmp_path / "a.zip", (NAMED, notebook(GAMMA)), ("work/maskgit.safetensors", bytes(5000)))
    with opened(path) as submission:
        assert submission.model is None and "the model is larger" in submission.notes[0]


def test_damaged_entries_leave_the_others(tmp_path):
    path = zipped(tmp_path / "a.zip", ("a.ipynb", notebook("x = 1" * 50)), (NAMED, notebook(GAMMA)),
                  ("work/maskgit.safetensors", b"weights"), compress=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"x = 1x = 1", b"y = 2y = 2", 1).replace(b"weights", b"wEights"))
    with opened(path) as submission:
        assert value(submission.answers["gamma_func"]) == "right" and submission.model is None
        assert all("cannot be read (Bad CRC-32" in note for note in submission.notes) and len(submission.notes) == 2


def test_a_list_of_entries_that_is_too_long_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "MAX_DIRECTORY", 70_000)
    path = zipped(tmp_path / "a.zip", *((f"{i:04d}" * 20, b"") for i in range(700)))
    assert "files. Hand in notebooks" in read_submission(path).notes[0]


def test_no_room_for_the_model_is_the_graders_trouble(tmp_path):
    path = zipped(tmp_path / "a.zip", (NAMED, notebook(GAMMA)), ("work/maskgit.safetensors", b"weights"))
    with pytest.raises(SaveError, match="could not be unpacked"):
        read_submission(path, tmp_path / "no such folder")


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=20), keep=st.integers(0, 3000))
@example(cuts=[(306, 0)], keep=211)  # a file without a name
def test_no_damage_to_a_zip_raises(cuts, keep):
    for compress in (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED):
        raw = bytearray(damaged_zip(compress))
        for place, byte in cuts:
            raw[place % len(raw)] = byte
        with temporary(".zip", bytes(raw[:max(keep, 1)] if keep < len(raw) // 2 else raw)) as path:
            with opened(path) as submission:
                assert len(submission.answers) == 11


@functools.cache
def damaged_zip(compress):
    file = io.BytesIO()
    zipped(file, (NAMED, notebook(GAMMA, "x = 1")), ("work/maskgit.safetensors", b"weights"), compress=compress)
    return file.getvalue()


@contextmanager
def temporary(suffix, content):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place, f"a{suffix}")
        path.write_bytes(content)
        yield path



def test_a_folder_of_many_and_a_folder_of_one(tmp_path):
    folder(tmp_path, **{"ann/01.ipynb": b"", "bob/lab/notebooks/01.ipynb": b"", "cy.zip": b"", "dan.rar": b"",
                        "readme.txt": b"", ".git/x": b"", "__MACOSX/x": b""})
    assert list(find_submissions([tmp_path])) == ["ann", "bob", "cy", "dan"]
    assert list(find_submissions([tmp_path / "ann", tmp_path / "cy.zip"])) == ["ann", "cy"]
    assert list(find_submissions([tmp_path / "bob" / "lab"])) == ["lab"]
    assert find_submissions([tmp_path, tmp_path / "ann"])["ann"] == (tmp_path / "ann",)
    (tmp_path / "empty").mkdir()
    assert list(find_submissions([tmp_path / "empty"])) == ["empty"]
    (tmp_path / "work").mkdir()
    with pytest.raises(InputError, match="work lies beside ann: is this one submission, or several"):
        find_submissions([tmp_path])


def test_a_submission_that_is_missing_is_named(tmp_path):
    with pytest.raises(InputError, match=r"gone\.zip: No such file"):
        find_submissions([tmp_path / "gone.zip"])


def test_what_lies_beside_submissions_is_not_merged_with_them(tmp_path):
    class_of_notebooks = folder(tmp_path / "bare", **{f"{name}.ipynb": notebook(GAMMA) for name in ("ann", "bob")})
    deep = folder(tmp_path / "lab_3_2026_deep", **{f"class/{name}/{NAMED}": notebook(GAMMA) for name in ("ann", "bob")})
    packed = zipped(tmp_path / "lab_3_2026_all.zip", ("lin_100_900_lab3.zip", b""), ("wu_101_901_lab3.zip", b""))
    for place, said in ((class_of_notebooks, "ann.ipynb lies beside bob.ipynb"),
                        (deep, "holds several submissions, such as ann and bob"),
                        (packed, "submissions of several students")):
        with pytest.raises(InputError, match=said):
            find_submissions([place])


@pytest.mark.parametrize("files", [
    {"notebooks/04.ipynb": b"", "work/x": b"", "lab3/explorer/web/explorer.ipynb": b"", "data/x.zip": b""},
    {NAMED: b"", "old/04.ipynb": b"", "images/x.png": b"", "sample_1_2_3.png": b""},
    {"my lab.ipynb": notebook(GAMMA), "my lab (1).ipynb": notebook(GAMMA), "my lab-Copy1.ipynb": notebook(GAMMA)},
], ids=["the lab itself", "a backup", "copies"])
def test_what_is_one_submission(tmp_path, files):
    assert list(find_submissions([folder(tmp_path / "ann", **files)])) == ["ann"]


STUDENTS = st.tuples(st.text("abcxyz", min_size=1, max_size=6), st.integers(1, 10**9))
FILES = st.lists(st.tuples(STUDENTS, st.sampled_from(["lab3.zip", "lab3-1.zip", NAMED, "a_b.zip", "report.pdf"]),
                           st.sampled_from(["", "LATE_"])), min_size=2, max_size=12)


@settings(max_examples=50, deadline=None)
@given(FILES)
def test_downloads_of_canvas_are_parted_by_student(files):
    with tempfile.TemporaryDirectory() as place:
        for number, ((student, user), file, late) in enumerate(files, 1000):
            Path(place, f"{student}_{late}{user}_{number}_{file}").touch()
        if not any(file.endswith((".zip", ".ipynb")) for _, file, _ in files):
            return
        found = find_submissions([place])
    parted = {frozenset(path.name for path in paths) for paths in found.values()}
    by_student = {}
    for number, ((student, user), file, late) in enumerate(files, 1000):
        by_student.setdefault((student, user), []).append(f"{student}_{late}{user}_{number}_{file}")
    assert parted == set(map(frozenset, by_student.values()))


@given(st.text(" \t", max_size=3), st.text(" \t", max_size=3), st.text(" \t", max_size=3), st.text(" \t", max_size=3),
       st.sampled_from(["", "%%time\n", "%%capture out\n", "import os\n"]))
def test_a_marker_may_have_any_spaces_everywhere(one, two, three, four, above):
    cell = f"{above}{one}#{two}|{three}exercise{four}:{one}gamma_func{two}\ndef gamma_func():\n    return 3"
    assert exercise_of(cell) == "gamma_func"
    assert run_answer("gamma_func", answer_file(cell), "<cell>")["gamma_func"]() == 3
    with temporary(".ipynb", notebook(cell)) as path:
        assert value(read_submission(path).answers["gamma_func"]) == 3


def test_names_are_distinct_whatever_the_order(tmp_path):
    paths = [folder(tmp_path / name, x=b"") for name in ("a/ann", "b/Ann", "b/ann-2", "c/grades.csv")]
    paths.append(zipped(tmp_path / "ann.zip"))
    named = find_submissions(paths)
    assert named == find_submissions(paths[::-1]) and set(named.values()) == {(path,) for path in paths}
    assert sorted(named) == ["Ann-3", "ann", "ann-2", "ann-2-2", "grades.csv-2"]


@pytest.mark.parametrize("name, safe", [
    ("Ann Müller_123_file_", "Ann_Müller_123_file"), (".hidden", "hidden"), ("-rf", "rf"), ("a..b", "a_b"),
    ("=cmd|x", "cmd_x"), ("a\nb", "a_b"), ("...", "submission"), ("v1.2", "v1.2"), ("x.ZIP", "x"),
    ("\udcff", "submission"), ("y" * 200, "y" * 100), ("é" * 100, "é" * 50), ("u\u0308", "ü")])
def test_names_are_fit_for_folders(name, safe):
    assert safe_name(f"/somewhere/{name}") == safe


HELPERS = ["import math as m", "SHARE = m.pi / 2", "def half(x):\n    return x / 2",
           "TABLE = {'linear': lambda r: 1 - r}\nTABLE['cosine'] = lambda r: m.cos(SHARE * r)\n"
           "TABLE.update(square=lambda r: 1 - r**2)"]
DEFINITION = "def gamma_func(mode='cosine'):\n    if mode not in TABLE:\n        raise ValueError('mode')\n    " \
             "return lambda r: half(2 * TABLE[mode](r))"
NOISE = ["print(gamma_func()(0.5))", "%matplotlib inline", "assert True", "x = [r for r in range(3)]", STUB,
         "def broken(:", ("markdown", "# Words"), "for mode in ('a', 'b'):\n    print(mode)",
         "gamma_func('linear')(1); 'text'",
         "import lab3\nlab = lab3.start('04')\nmode = lab.mode", "def half_done(x):\n    raise NotImplementedError",
         "try:\n    gamma_func('x')\nexcept ValueError as r:\n    print(r)"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_any_arrangement_of_a_right_answer_runs(data):
    marker = "#| exercise: gamma_func\n" if data.draw(st.booleans()) else ""
    parts = [*HELPERS, marker + DEFINITION]
    split = data.draw(st.lists(st.booleans(), min_size=len(parts) - 1, max_size=len(parts) - 1))
    cells = [parts[0]]
    for part, apart in zip(parts[1:], split):
        cells = [*cells, part] if apart else [*cells[:-1], f"{cells[-1]}\n\n{part}"]
    cells += data.draw(st.lists(st.sampled_from(cells), max_size=3))
    cells += data.draw(st.lists(st.sampled_from(NOISE), max_size=6))
    cells = data.draw(st.permutations(cells))
    with temporary(".ipynb", notebook(*cells)) as path:
        answer = read_submission(path).answers["gamma_func"]
    function = value(answer)
    assert function(0.5) == pytest.approx(0.7071068), cells
    assert "print" not in answer.text and "lab" not in answer.text
    spaces = {"gamma_func": run_answer("gamma_func", answer_file(answer.text), "<any>")}
    assert spaces["gamma_func"]["gamma_func"]("square")(0.5) == 0.75
