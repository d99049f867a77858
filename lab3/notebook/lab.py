"""What a notebook holds of the lab: saved answers, pictures, models, and a check of every answer as it is written.

In: a notebook's number. Out: a `Lab`. `start` puts the saved answers into the notebook's names and watches its cells:
an exercise's cell is checked and saved as soon as it has run.
"""

import ast
import contextlib
import io
import os
import sys
import time
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from matplotlib.figure import Figure

from lab3.common.files import InputError, SaveError, load_tensors, read_json, write_text
from lab3.common.machine import best_device
from lab3.common.paths import LABELLED, SHIPPED, SUMMARY, TOKENIZER, WEIGHTS, work_folder
from lab3.common.plots import as_html, training_curve
from lab3.data.cats import Cats
from lab3.exercises import predictions
from lab3.exercises.answers import answer_file, exercise_of, link, run_answer
from lab3.exercises.checks import Report, check
from lab3.exercises.examine import (
    CHECK_LIMIT,
    TRAINING,
    examine,
    import_optimizers,
    not_there,
    plain,
    time_limit,
    training_key,
)
from lab3.exercises.fallbacks import FALLBACKS, TorchAttention
from lab3.exercises.handin import ZIP, pack_handin
from lab3.exercises.table import ALL_EXERCISES, DECODING, EXERCISES, LOSS, MARK
from lab3.model.tokenizer import load_tokenizer
from lab3.model.tokens import tokenizer_key, training_tokens
from lab3.model.transformer import load_transformer, save_transformer
from lab3.notebook.environment import print_environment, print_expected_time, say
from lab3.presets import preset
from lab3.training.fit import fit
from lab3.training.runs import CHECKPOINT, WRITTEN_WITH, milestone_file, read_metrics

# Notebook -> the earlier answers that it uses. It is told of these alone; 01 and what is not here use none.
USES = {
    "02": ("multi_head_attention",), "03": ("multi_head_attention", *LOSS), "04": ("multi_head_attention",),
    "05": ("multi_head_attention", "gamma_func"), "06": ("multi_head_attention", *DECODING),
    "07": ("multi_head_attention", *DECODING),
}

_watching = None


def start(notebook, preset_name=None, work=None):
    """Begin a notebook.

    Prints what it finds, line by line, puts the saved answers of this notebook and earlier ones into its names, and
    from then on checks and saves every exercise's cell that runs. In place of an answer that is missing or wrong, a
    built-in fallback is used where the kit has one, and a message tells you.

    Args:
        notebook: its number, "00" to "07".
        preset_name: "smoke", "cpu" or "report"; None: what `LAB3_PRESET` says, else "cpu".
        work: the folder of answers; None: what `LAB3_WORK` says, else `work/` beside `notebooks/`; of an
            installed package `work/` in the current folder.

    Returns:
        A `Lab`.

    Raises:
        InputError: no such notebook or preset.
    """
    numbers = [f"{number:02d}" for number in range(8)]
    if notebook not in numbers:
        raise InputError(f"notebook must be one of {', '.join(numbers)}, not {notebook!r}.")
    chosen = preset(preset_name or os.environ.get("LAB3_PRESET") or "cpu")
    lab = Lab(notebook, chosen, Path(work or work_folder()).resolve())
    print_environment(notebook, chosen, lab.device, lab.work)
    lab._find_answers()
    print_expected_time(notebook, chosen, lab.device, lab.data)
    lab._watch()
    return lab


class Lab:
    """One notebook's hold on the lab; `start` makes it.

    `preset`: the settings in use. `work`: the folder of answers. `device`: where models run. `data`: the embedded
    `Cats`. `tokenizer`: the kit's. `missing`: exercise id -> why an answer of this notebook or an earlier one is not
    used. `reports`: exercise id -> the last `Report` on an answer of this notebook.
    """

    def __init__(self, notebook, preset, work):
        self.notebook, self.preset, self.work = notebook, preset, work
        self.device = best_device()
        self.data = Cats()
        self.missing, self.reports, self._texts = {}, {}, {}
        self._shell = _shell()
        self._names = self._shell.user_ns if self._shell else sys.modules["__main__"].__dict__

    def __repr__(self):
        return f"lab3 notebook {self.notebook}, preset {self.preset.name}, answers in {self.work}"

    @cached_property
    def tokenizer(self):
        return load_tokenizer(SHIPPED / TOKENIZER).to(self.device)

    @property
    def answers(self):
        """The answers as the notebook has them now: a namespace, fallbacks included."""
        names = [one.defines for one in ALL_EXERCISES.values()]
        return SimpleNamespace(**{name: self._names[name] for name in names if name in self._names})

    @property
    def run(self):
        """The folder of the training that `train` starts or goes on with."""
        return self.work / f"run-{self.preset.name}"

    def check(self, name):
        """Check an answer of this notebook again; nothing happens where it is right.

        Args:
            name: the exercise's id.

        Raises:
            NotImplementedError: it is not written yet.
            AssertionError: it is wrong; the message says how.
            InputError: the exercise does not exist, or its cell has not run.
        """
        if name not in ALL_EXERCISES:
            raise InputError(f"exercise {name!r} does not exist. The exercises are: {', '.join(ALL_EXERCISES)}.")
        if name not in self.reports:
            raise InputError(f"{name}: its cell has not run yet. Run it first; it begins with #| exercise: {name}")
        if not self.reports[name].passed and name in self._texts:  # what it builds on may have been fixed since
            self._examine(name)
        report = self.reports[name]
        if not report.written:
            raise plain(NotImplementedError(report.message))
        if not report.passed:
            raise plain(AssertionError(report.message))

    def status(self):
        """Print what the checks say of every answer in `work/`, how many are right, and which comes next."""
        reports = [report for _, _, report in examine(self.work)]
        for report in reports:
            say(report.message.splitlines()[0])
        print(_progress(reports))

    def predict(self, question, guess=predictions.UNKNOWN):
        """Keep your guess of what a cell shows, before it shows it, in `work/predictions/`.

        Args:
            question: its id.
            guess: a number or a word, as the cell's comment says; `...` for no guess.

        Raises:
            InputError: a guess that the question does not take; the message says which it takes.
        """
        self._tell(predictions.predict, question, guess)

    def observe(self, question, result):
        """Print the result beside your guess, and keep it; prints nothing without a guess.

        Args:
            question: as `predict` takes it.
            result: what came out.
        """
        self._tell(predictions.observe, question, result)

    def _tell(self, keep, *arguments):
        try:
            said = keep(self.work, *arguments)
        except SaveError as error:  # a full disk stops no cell
            said = str(error)
        if said:
            print(said)

    def hand_in(self, predictions=False):
        """Pack notebooks, answers and model into `lab3-handin.zip` beside `work/`, as `python -m lab3 handin` does.

        Prints what is in the zip and what is missing. Notebooks count as they are saved.

        Args:
            predictions: whether to pack your guesses of `predict` too.

        Raises:
            InputError: the notebooks are missing, or the zip would be too large.
            SaveError: the zip cannot be written.
        """
        print(*pack_handin(self.work.parent / ZIP, self.work, predictions).lines(), sep="\n")

    def label(self, name, yours):
        """What to call an exercise's answer in a figure: `yours`, or the fallback's name where that is used.

        Args:
            name: the exercise's id.
            yours: such as "your attention".
        """
        fallback, called = FALLBACKS.get(name, (None, yours))
        return called if fallback is not None and self._names.get(ALL_EXERCISES[name].defines) is fallback else yours

    def train(self, fresh=False):
        """Train a transformer with the notebook's answers, or go on where a training stopped.

        Draws the loss as it falls. The weights and the record of their training are kept in `work/maskgit.safetensors`.
        The seed comes from the answers' text: other answers train another model. Where an answer that training needs
        is missing, says so and gives the kit's own checkpoint.

        Args:
            fresh: start a new training; the folder of the earlier training is kept under another name.

        Returns:
            The trained `BidirectionalTransformer`, in eval mode.
        """
        waiting = [name for name in TRAINING if name in self.missing and name not in FALLBACKS]
        if waiting:
            print(f"Training needs {', '.join(waiting)}, not right yet. The kit's own checkpoint is used instead.")
            return self.shipped()
        if fresh and self.run.exists():
            self.run.rename(self.run.with_name(f"{self.run.name}-until-{time.strftime('%Y%m%d-%H%M%S')}"))
        about = {"data": self.data.name, "data_key": self.data.key, "tokenizer_key": tokenizer_key(self.tokenizer)}
        _compare_answers(self.run / WRITTEN_WITH, training_key(self.work))
        tokens = training_tokens(self.data, self.tokenizer, self.preset.training)
        draw = _curve(self._shell)
        if read_metrics(self.run):
            draw(self.run)
        settings = replace(self.preset, training=replace(self.preset.training, seed=self._seed()))
        try:
            transformer = fit(*tokens, settings, self.answers, self.run, resume=True, about=about, on_part=draw)
        except KeyboardInterrupt:
            rows = read_metrics(self.run)
            kept = f" after batch {rows[-1]['step']}" if rows else ""
            raise plain(KeyboardInterrupt(
                f"Training stopped. It was last saved{kept}: run this cell again to go on from there."
                if rows else "Training stopped before anything was saved. Run this cell again to start it.")) from None
        record = load_tensors(self.run / WEIGHTS)[1]["record"]
        save_transformer(self.work / WEIGHTS, transformer, half=True, record=record)
        return transformer

    def _seed(self):
        """The seed of the training in `run`, or of a new one."""
        checkpoint = self.run / CHECKPOINT
        if checkpoint.is_file():
            return load_tensors(checkpoint)[1]["identity"]["training"]["seed"]
        return int(training_key(self.work)[:8], 16)

    def metrics(self):
        """The rows of the training's metrics, for `plots.training_curve`; those of the kit's checkpoint without one."""
        rows = read_metrics(self.run)
        if rows:
            return rows
        return [row | {"train_loss": row["epoch_loss"]} for row in read_json(SHIPPED / SUMMARY)["curve"]]

    def trained(self):
        """The transformer that the student trained; without one, says so and gives the kit's own."""
        try:
            return self._load(self.work / WEIGHTS)
        except InputError as error:
            print(f"No model of yours yet: the kit's own is used. Notebook 03 trains one. ({error})")
            return self.shipped()

    def milestones(self):
        """The student's transformer after parts of its training: a dict, label -> transformer; empty without one."""
        found = {}
        for percent in self.preset.training.milestones:
            path = self.run / milestone_file(percent)
            if path.is_file():
                found[f"{percent} %"] = self._load(path)
        return found

    def explore(self, hole=27, others=None):
        """The explorer of schedules and decodings; see `explorer.widgets.explore`."""
        from lab3.explorer.widgets import explore

        return explore(self, hole, others)

    def sweep(self, grid=None):
        """The panel of sweeps: distances over schedules, steps and temperatures; see `explorer.sweep_panel.panel`."""
        from lab3.explorer.sweep_panel import panel

        return panel(self, grid)

    def shipped(self):
        """The transformer that comes with the kit, trained longer than a notebook would take."""
        return self._load(SHIPPED / WEIGHTS)

    def labelled(self):
        """The kit's small transformer that knows labels: `labelled().with_labels(...)`, see `truth.labels_of`."""
        return self._load(LABELLED / WEIGHTS)

    def _load(self, path):
        """A transformer with the notebook's attention, or PyTorch's where there is none yet."""
        return load_transformer(path, getattr(self.answers, "MultiHeadAttention", TorchAttention)).to(self.device)

    # What follows is `start`, step by step.

    def _find_answers(self):
        """Put the saved answers of this notebook and earlier ones into its names, and fallbacks for missing ones."""
        found, reports = {}, []
        for name, namespace, report in examine(self.work):
            exercise, saved = EXERCISES[name], (self.work / f"{name}.py").is_file()
            reports.append(report)
            if exercise.notebook > self.notebook:
                continue
            used = exercise.notebook == self.notebook or name in USES.get(self.notebook, ())
            if report.passed:
                found[name] = namespace
                said = f"[OK]   {name} (notebook {exercise.notebook}): yours"
            else:
                label, why = ("FAIL", "fails its check") if saved else ("TODO", "not there yet")
                said = f"[{label}] {name} (notebook {exercise.notebook}): {why}; {self._replace(name, why)}"
            if used and (saved or exercise.notebook < self.notebook):
                say(said)
        self._names.update(link(found))
        print(_progress(reports))

    def _replace(self, name, why):
        """Use a fallback for an answer, or a function that asks for it; returns the words for that."""
        self.missing[name] = why
        answer, called = FALLBACKS.get(name, (not_there(name), "nothing"))
        self._names[ALL_EXERCISES[name].defines] = answer
        return f"{called} is used instead"

    def _watch(self):
        """Check and save exercise cells from now on."""
        global _watching
        if self._shell is None:
            return
        self._shell.run_line_magic("matplotlib", "inline")
        self._shell.display_formatter.formatters["text/html"].for_type(Figure, as_html)
        if _watching is not None:
            self._shell.events.unregister("post_run_cell", _watching)
        _watching = self._after_cell
        self._shell.events.register("post_run_cell", _watching)

    def _after_cell(self, result):
        """Check and save an exercise's cell; where that cannot be done, an earlier report no longer holds."""
        cell = (result.info.raw_cell if result.info else "") or ""
        try:
            name = exercise_of(cell)
        except InputError as error:
            print(error)
            return
        if name and result.success:
            self._texts[name] = answer_file(cell)
            self._examine(name)
            say(self.reports[name].message)
        elif name:
            error = result.error_before_exec or result.error_in_exec
            self._not_checked(name, f"this cell stopped with {type(error).__name__}")
        elif result.success:
            for name in _defined_in(self._shell.transform_cell(cell)):
                self._not_checked(name, f"this cell lacks the line  {MARK} {name}")

    def _examine(self, name):
        """Check an answer, save it, and use a fallback for one that is not written."""
        others = {ALL_EXERCISES[one].defines: not_there(one) for one in self.missing}
        report = _check_and_save(name, self._texts[name], self.work, vars(self.answers) | others)
        self.missing.pop(name, None)
        if not report.written:
            used = self._replace(name, "not written yet")
            report = replace(report, message=f"{report.message}; {used}")
        self.reports[name] = report

    def _not_checked(self, name, why):
        """Say that an answer was neither checked nor saved; what an earlier check said of it no longer holds."""
        path = self.work / f"{name}.py"
        kept = f"\n       kept      the earlier answer, {path.parent.name}/{path.name}" if path.is_file() else ""
        self._texts.pop(name, None)
        self.reports[name] = Report(
            name, False, True, f"[FAIL] {name}: {why}, so the answer is not checked and not saved{kept}")
        say(self.reports[name].message)


def _defined_in(code):
    """The exercises whose names the top level of a cell's Python code defines."""
    names, body = set(), []
    with contextlib.suppress(SyntaxError):  # IPython takes more than Python does, such as await
        body = ast.parse(code).body
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return [name for name, one in ALL_EXERCISES.items() if one.defines in names]


def _progress(reports):
    """How many answers are right, and which comes next: "4 of 11 right; next: 03 mvtm_loss"."""
    waiting = [report.exercise for report in reports if not report.passed]
    following = f"; next: {EXERCISES[waiting[0]].notebook} {waiting[0]}" if waiting else ""
    return f"       {len(reports) - len(waiting)} of {len(reports)} right{following}"


def _shell():
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    return get_ipython()


def _check_and_save(name, text, work, others):
    """Check an answer as later notebooks will find it, on its own, and save it.

    A right answer that a wrong one replaces, from another notebook for example, is kept in `work/earlier/`.
    """
    path = work / f"{name}.py"
    report = _check(name, text, path, others)
    if not report.written:
        kept = f"; {path} keeps an earlier answer" if path.is_file() else ""
        return replace(report, message=report.message + kept)
    try:
        earlier = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else text
        if not report.passed and earlier != text and _check(name, earlier, path, others).passed:
            kept = path.parent / "earlier" / path.name
            write_text(kept, earlier)
            report = replace(report, message=f"{report.message}\n       kept      the right answer that it replaces, "
                                             f"as {kept.relative_to(work.parent)}")
        write_text(path, text)
    except SaveError as error:  # an answer that later notebooks cannot find is not done, however right
        said = report.message.replace("[OK]  ", "[FAIL]", 1)
        return Report(name, False, True, f"{said}\n       not saved {error}")
    return report


def _check(name, text, path, others):
    """The `Report` on an answer's text, run on its own; what it prints was seen when its cell ran."""
    others = {key: value for key, value in others.items() if key != ALL_EXERCISES[name].defines}
    import_optimizers(name)
    try:
        with time_limit(CHECK_LIMIT):
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                namespace = run_answer(name, text, path, others)
            namespace.update(others)
            return check(name, namespace)
    except (InputError, TimeoutError) as error:
        return Report(name, False, True, f"[FAIL] {name}: {error}")


def _compare_answers(path, key):
    """Say when the answers are not those that a training began with; note them in `path` where it begins."""
    if not path.is_file():
        write_text(path, key)
    elif path.read_text() != key:
        print("Your answers have changed since this training began. lab.train(fresh=True) starts a new one with them.")


def _curve(shell):
    """A function that redraws the training's curve in one place; outside a notebook it does nothing."""
    if shell is None:
        return lambda run: None
    from IPython.display import HTML, display

    place = display(HTML(""), display_id=True)  # above the bar, whatever is drawn later
    return lambda run: place.update(HTML(as_html(training_curve(
        read_metrics(run), "The loss falls, fast at first. Dotted: guessing among all codes."))))
