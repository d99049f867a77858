"""Graded notebooks: the instructor's copy with the student's answers pasted in, run and compared by nbval.

In: answers as text, probes, what the reference answers gave. Out: a dict, cell id -> `Outcome`.

nbval runs the cells and asks for a comparison of each; here it gets a kernel in a sandbox, a judge with numeric
tolerance in the grader's own process, and cells known by their ids. What the right outputs are is never written down:
the notebook on disk holds code alone.
"""

import contextlib
import os
import re
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from grader.kernels.kernel import BoxedKernel, GraderError, Stopped
from grader.kernels.sandbox import Limits, box
from grader.probes.inside import MIME
from grader.probes.probe import NUMBER, Wrong, decode, exception_name
from lab3.exercises.answers import answer_file
from lab3.exercises.checks.errors import HINTS

NO_EXCEPTION = "no exception"
LOSSES = 1  # so many kernels of a notebook are replaced; after that the rest of it counts as failed
LINES_BEFORE = answer_file("x").count("\n", 0, answer_file("x").index("x\n", -2))  # the imports before an answer


@dataclass(frozen=True)
class Outcome:
    """What a cell gave: for the student's eyes."""

    passed: bool
    expected: str = ""
    got: str = ""
    likely: str = ""
    place: str = ""
    stopped: bool = False
    seen: object = None  # the observation, where it passed
    seconds: float = 0.0


@dataclass
class GradedNotebook:
    """One graded notebook, one kernel: an exercise and what is asked of it.

    Attributes:
        exercise: its id, the name of the notebook.
        texts: exercise id -> code of an answer; all are run before the first probe.
        probes: `Probe`s, in order.
        rights: the reference's observations, by name of probe.
        seeds: by name of probe.
        given: files that the kernel may read.
        seconds: the time limit of a cell; None: that of the limits.
        keep: whether outcomes hold what probes saw; it can be large.
        check: whether to run the public checks of the exercise where a probe fails; they say the likely reason.
        outcomes: filled in by `run_notebooks`, by cell id: `answer-ID`, `probe-NAME`, `check`.
    """

    exercise: str
    texts: dict
    probes: list
    rights: dict
    seeds: dict
    given: tuple = ()
    seconds: int | None = None
    keep: bool = False
    check: bool = True
    outcomes: dict = field(default_factory=dict)

    def notebook(self):
        """The notebook. The output of a cell is a name: what is right under that name stays in `rights`."""
        cells = [_cell(f"answer-{name}", f"%%answer {name}\n{text}") for name, text in self.texts.items()]
        cells += [_cell(f"probe-{one.name}", f"%%probe {one.exercise} {one.name} {self.seeds[one.name]}\n{one.source}")
                  for one in self.probes]
        if self.check:
            cells.append(_cell("check", f"%%check {self.exercise}\n# the public checks"))
        return new_notebook(cells=cells)


def _cell(name, source):
    return new_code_cell(source, id=name, execution_count=1, outputs=[new_output("display_data", {MIME: name})])


def run_notebooks(notebooks, forkserver, level, limits=None, hidden=()):
    """Run graded notebooks, one after another, each in a box of its own.

    Args:
        notebooks: a list of `GradedNotebook`s; their `outcomes` are filled in.
        forkserver: a `Forkserver`.
        level: the level of the boxes.
        limits: `Limits` for each kernel.
        hidden: folders that no box may show.

    Raises:
        GraderError: a box or a kernel could not be had.
    """
    limits = limits or Limits()
    plugin = Grading({f"{one.exercise}.ipynb": one for one in notebooks}, forkserver, level, limits, hidden,
                     time.monotonic() + limits.submission)
    with tempfile.TemporaryDirectory(prefix="lab3-grading-") as folder:
        for name, graded in plugin.notebooks.items():
            nbformat.write(graded.notebook(), Path(folder) / name)
        quiet = _environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", PYTEST_ADDOPTS="")
        with quiet, open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), \
                contextlib.redirect_stderr(nowhere):
            pytest.main([folder, "-c", os.devnull, "--rootdir", folder, "-p", "nbval.plugin", "-p", "no:cacheprovider",
                         "-p", "no:unraisableexception",  # it collects garbage among all of PyTorch, half a second
                         "-q", "--color=no"], plugins=[plugin])
    if plugin.broken is not None:
        raise plugin.broken


@contextlib.contextmanager
def _environment(**values):
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass
class Grading:
    """The pytest plugin: graded notebooks are collected as `GradedNotebookFile`s."""

    notebooks: dict
    forkserver: object
    level: str
    limits: Limits
    hidden: tuple
    end: float  # by time.monotonic
    broken: GraderError | None = None

    def pytest_collect_file(self, file_path, parent):
        if file_path.name in self.notebooks:
            return GradedNotebookFile.from_parent(parent, path=file_path, grading=self)


class GradedNotebookFile(IPyNbFile):
    """nbval's file, with a kernel in a box; it starts with the first cell that needs it, and again when it was lost."""

    def __init__(self, *args, grading, **options):
        super().__init__(*args, **options)
        self.grading, self.graded = grading, grading.notebooks[self.path.name]
        self.stack, self.losses = contextlib.ExitStack(), 0

    def collect(self):
        self.nb = self.graded.notebook()
        for number, cell in enumerate(self.nb.cells):
            yield GradedCell.from_parent(self, name=cell.id, cell_num=number, cell=cell,
                                         options={"check": True, "skip": False, "check_exception": False})

    def setup(self):
        pass  # in place of nbval's kernel

    def ready(self):
        """Start a kernel where there is none. Answers are loaded again into one that takes another's place.

        Raises:
            Stopped: too much has happened before.
            GraderError: a box or a kernel could not be had.
        """
        if time.monotonic() > self.grading.end:
            raise Stopped(f"not run: the answers before took more than {self.grading.limits.submission / 60:g} minutes")
        if self.kernel is not None:
            return
        if self.losses > LOSSES:
            raise Stopped("not run: too many cells before it had to be stopped")
        try:
            limits = self.grading.limits
            limits = replace(limits, cell=self.graded.seconds or limits.cell)
            made = self.stack.enter_context(box(self.grading.level, limits, self.graded.given, self.grading.hidden))
            self.kernel = BoxedKernel(self.grading.forkserver, made, limits)
        except (OSError, RuntimeError) as error:
            raise GraderError(str(error)) from error
        if self.losses:
            for name, text in self.graded.texts.items():
                self.kernel.await_reply(self.kernel.execute_cell_input(f"%%answer {name}\n{text}", allow_stdin=False))

    def lose(self):
        """End the kernel and its box."""
        self.losses += 1
        self.teardown()

    def teardown(self):
        if self.kernel is not None:
            self.kernel.stop()
            self.kernel = None
        self.stack.close()
        self.stack = contextlib.ExitStack()


class GradedCell(IPyNbCell):
    """nbval's cell; its comparison judges, and notes what came out."""

    def setup(self):
        pass

    def runtest(self):
        graded, name, began = self.parent.graded, self.cell.id, time.perf_counter()
        self.outcome = Outcome(False, "a result", "none: the cell did not get as far as that")
        blocked = next((one for one in graded.texts if not graded.outcomes.get(f"answer-{one}", self.outcome).passed),
                       None) if not name.startswith("answer-") else None
        if blocked is not None:
            before = graded.outcomes[f"answer-{blocked}"]
            self.outcome = replace(before, seconds=0.0)
        elif name == "check" and all(one.passed for one in graded.outcomes.values()) and graded.probes:
            self.outcome = Outcome(True)
        else:
            try:
                self.parent.ready()
                try:
                    super().runtest()
                finally:
                    self.test_outputs = None  # nbval keeps them
            except Stopped as stopped:
                self.outcome = Outcome(False, "an end within the limits", str(stopped), stopped=True)
                self.parent.lose()
            except GraderError as error:
                self.parent.grading.broken = error
                raise
            except NbCellError:
                pass  # what went wrong stands in self.outcome
            except Exception as error:  # something in what the kernel sent that nobody foresaw
                self.outcome = Outcome(False, "a result", f"none that can be read ({type(error).__name__})")
                self.parent.lose()
        if len(graded.texts) > 1:
            self.outcome = limited(self.outcome, graded.outcomes.values())
        graded.outcomes[name] = replace(self.outcome, seconds=round(time.perf_counter() - began, 3))
        assert graded.outcomes[name].passed, graded.outcomes[name].got

    def compare_outputs(self, test, ref, skip_compare=None):
        """Judge the last observation that the cell sent."""
        sent = [one["data"][MIME] for one in test if MIME in one.get("data", {})]
        try:
            self.outcome = self._judge(sent[-1] if sent else None)
        except Wrong as wrong:
            self.outcome = Outcome(False, wrong.expected, wrong.got, wrong.likely)
        self.comparison_traceback = [self.outcome.got]
        return self.outcome.passed

    def _judge(self, text):
        graded, name = self.parent.graded, self.cell.id
        if not isinstance(text, str):
            raise Wrong("a result", "none")
        observation = decode(text)
        if not isinstance(observation, dict) or ("seen" not in observation and "error" not in observation):
            raise Wrong("a result that can be read", "another one")
        if "error" in observation:
            owner = name.removeprefix("answer-") if name.startswith("answer-") else graded.exercise
            return explain(observation["error"], graded.texts.get(owner, ""), loading=name.startswith("answer-"),
                           alone=len(graded.texts) == 1)
        if name.startswith("probe-"):
            one = next(one for one in graded.probes if f"probe-{one.name}" == name)
            one(observation["seen"], graded.rights[one.name])
        return Outcome(True, seen=observation["seen"] if name == "check" or graded.keep else None)


# Texts of exceptions that hold nothing but shapes and types: these a student may read.
SHAPES = re.compile(
    r"mat1 and mat2 shapes cannot be multiplied \(\d+x\d+ and \d+x\d+\)"
    r"|The size of tensor a \(\d+\) must match the size of tensor b \(\d+\) at non-singleton dimension \d+"
    r"|shape '\[[-\d, ]{1,40}\]' is invalid for input of size \d+"
    r"|expected scalar type \w{1,8} but found \w{1,8}"
    r"|Dimension out of range \(expected to be in range of \[-?\d, -?\d\], but got -?\d\)"
    r"|not enough values to unpack \(expected \d+, got \d+\)|too many values to unpack \(expected \d+\)")


OWED = (  # what an exercise does not allow, and what the answers that another builds on refuse
    (r"ready-made attention", "ready-made attention is not allowed in this exercise"),
    (r"ratio must lie in \(0, 1\]", "inpainting takes a ratio in (0, 1]: progress after the step, never 0"),
    (r"ratio must (lie in \[0, 1\]|be one number)", "sample_mask takes a ratio in [0, 1], one or one a row"),
    (r"(sampling|prob_type) must be", "an argument has another value than the texts of the exercises allow"),
)


def explain(error, text, *, loading=False, alone=True):
    """An exception in words: its type, the line of the answer at which it came out, the likely reason.

    Args:
        error: what `describe` gives; whatever it holds, only texts known beforehand and lines of the student's own
            code get through.
        text: the answer's code.
        loading: whether it came when the answer was run, before any call of it.
        alone: whether no other answer is in the kernel. Where one is, not even shapes are shown: numbers could spell
            its code.
    """
    error = error if isinstance(error, dict) else {}
    kind = exception_name(error)
    message = str(error.get("text"))[:500]
    line = _line(error, text)
    if kind == "NotImplementedError" and "raise" in line:  # input() and PyTorch raise it too
        return Outcome(False, "an answer", "NotImplementedError", "not written yet", line)
    # not where the answer itself raises it, and no large number: either could say what an input holds
    shapes = SHAPES.search(message) if alone and not line.startswith("raise") else None
    got = f"{kind}: {re.sub(r'[0-9]{5,}', '…', shapes[0])}" if shapes else kind
    if kind == "NameError" and (name := re.match(r"name '(\w{1,60})' is not defined", message)):
        got += f": {name[1]} is not defined" if re.search(rf"\b{name[1]}\b", text) else ""
    if kind == "ModuleNotFoundError" and (name := re.match(r"No module named '(\w{1,60})", message)):
        got += f": {name[1]} is not there" if re.search(rf"\b{name[1]}\b", text) else ""
    likely = next((reason for pattern, reason in (*OWED, *HINTS) if re.search(pattern, f"{kind}: {message}")), "")
    return Outcome(False, "a definition that runs" if loading else NO_EXCEPTION, got, likely, line)


def limited(outcome, earlier):
    """An outcome as feedback tells it where the kernel holds other answers, whose code details could spell.

    The first failure with a line, a number or an exception is told in full, and so are those that say the same. Of
    later ones numbers, lines and what kind of exception it was are left out.
    """
    first = next(filter(_detailed, earlier), None)
    if first is None or not _detailed(outcome):
        return outcome
    if (outcome.got, outcome.likely, outcome.place) == (first.got, first.likely, first.place):
        return outcome
    if outcome.expected == NO_EXCEPTION:
        return replace(outcome, got="another exception", likely="", place="")
    return replace(outcome, got=NUMBER.sub("…", outcome.got), place="")


def _detailed(outcome):
    return not outcome.stopped and bool(
        outcome.place or outcome.expected == NO_EXCEPTION or NUMBER.search(outcome.got))


def _line(error, text):
    number = error.get("line")
    lines = text.splitlines()
    if not isinstance(number, int) or not 0 < number - LINES_BEFORE <= len(lines):
        return ""
    return lines[number - LINES_BEFORE - 1].strip()[:160]

