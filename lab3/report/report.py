"""The lab report, written from a student's own work: HTML and PDF.

In: a folder of answers with what notebook 03 left there, and the student's texts in its `report.md`. Out: a page and a
PDF beside it. What takes long is kept in `work/report` and `work/sweeps` and used again where it still fits. What is
not there is marked, never made up; whose model and whose answers a figure shows is said with it.
"""

import platform
import re
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import SimpleNamespace

from lab3 import __version__
from lab3.common import plots
from lab3.common.files import InputError, SaveError, atomic_path, content_key, read_json, write_text
from lab3.common.machine import best_device, machine_kind
from lab3.common.paths import SHIPPED, SUMMARY, WEIGHTS
from lab3.common.progress import progress_bar
from lab3.data.cats import Cats
from lab3.decoding.inpaint import fill
from lab3.exercises.answers import cell_of, link
from lab3.exercises.examine import examine, training_key
from lab3.exercises.fallbacks import FALLBACKS
from lab3.exercises.table import EXERCISES
from lab3.metrics.distance import NAMES, load_extractor
from lab3.metrics.score import describe_bits, reference, score_header, score_row, score_seeds, spread
from lab3.metrics.sweep import PRECOMPUTED, Grid, describe, draw, kept, subject, sweep, sweep_key
from lab3.model.transformer import load_transformer
from lab3.presets import SCHEDULES, preset
from lab3.report.pages import Code, Gap, Heading, Table, Text, Title, Verdict, figure, html
from lab3.training.fit import BITS_PICTURES
from lab3.training.runs import METRICS, WRITTEN_WITH, milestone_file, read_metrics, tokenizer_of

TEXTS = "report.md"  # in the folder of answers: what the student writes
FEATURES = "lite0"
STUDY = 64  # pictures where many settings or models are compared; their numbers go with these of notebook 06
SHOWN = 8  # pictures in a figure
CAT = 27  # the picture that is decoded step by step, as in notebook 05

# The exercises' sections, by notebook, and what to write in each section; the names are the headings of report.md.
SECTIONS = {"01": "Multi-head attention", "02": "Masked token modelling", "03": "Training", "04": "Gamma schedules",
            "05": "Iterative decoding", "06": "The Fréchet distance"}
WANTED = {
    "Introduction": "What is the task, what did you build, what did you find out, with which best distance?",
    "Multi-head attention": "How do the heads come about, what are the shapes, why the division by a square root?",
    "Masked token modelling": "How are masks drawn, what does the model see, which tokens does the loss count?",
    "Training": "Optimizer, warm-up and decay; what an epoch does; how you measure without touching.",
    "Gamma schedules": "What does gamma say, and how do the three schedules differ?",
    "Iterative decoding": "What does a step do with tokens, confidence and noise, and what is carried to the next?",
    "The Fréchet distance": "What is compared with what, and how do you get the trace of the root?",
    "Epochs": "What does longer training change, in the curves, the pictures and the distance? When would you stop?",
    "Iterations": "What do total_iter, sweet_spot and temperature change? Is it more than the spread?",
    "Schedules compared": "What do you see in the masks and predictions of the three schedules?",
    "Best result": "Which setting is your best, how did you choose it, where does it stand between floor and holes?",
    "Conclusion": "What would you do next?",
}


@dataclass(frozen=True)
class Material:
    """All that a report is made from.

    `run`: the training's folder or None. `own`: whether the transformer is the student's. `reports`: exercise id -> its
    `Report`. `answers`: what passed, with the fallbacks. `texts`: heading -> what the student wrote.
    """

    work: Path
    run: Path | None
    preset: object
    decoding: object
    data: object
    tokenizer: object
    transformer: object
    own: bool
    answers: object
    reports: dict
    texts: dict

    @property
    def model(self):
        return "your model" if self.own else "the kit's model"

    @cached_property
    def extractor(self):
        return load_extractor(FEATURES)

    @cached_property
    def subject(self):
        return subject(self.data, self.tokenizer, self.transformer, self.answers, self.work, self.model)

    @cached_property
    def n(self):
        """Test pictures for the final score, and for studies."""
        n = len(self.data.test[:self.decoding.test_pictures])
        return SimpleNamespace(test=n, study=min(STUDY, max(2, n // 4)))

    @cached_property
    def references(self):
        return {}

    def reference(self, n):
        """What decodings of the first n test pictures are compared with."""
        if n not in self.references:
            self.references[n] = reference(self.data.test[:n], self.data.holes[:n], self.data.masked[:n],
                                           self.tokenizer, self.extractor, f"{self.data.key}-{n}")
        return self.references[n]

    def fill(self, transformer=None, pictures=None, **changes):
        """The first pictures filled as the first seed fills them, in whole batches; `changes` of the decoding."""
        rows = slice(pictures, pictures + 1) if pictures is not None else slice(self.decoding.batch_size)
        return fill(self.data.masked[rows], self.data.holes[rows], self.tokenizer, transformer or self.transformer,
                    self.answers, replace(self.decoding, **changes), self.decoding.seeds[0], progress=False)

    def scores(self, name, n, seeds, transformer=None):
        """Scores of a model, the report's own unless another is named, kept under `name`."""
        transformer = transformer or self.transformer
        about = subject(self.data, self.tokenizer, transformer, self.answers, self.work, name)
        decoding = replace(self.decoding, seeds=seeds)
        key = content_key(str(part).encode() for part in (about.key, asdict(decoding), n, self.extractor.key))
        found, _ = score_seeds(
            self.work / "report" / f"{name}.json", key, self.data.masked[:n], self.data.holes[:n], self.tokenizer,
            transformer, self.answers, decoding, partial(self.reference, n),
            held_out=self.data.val[:min(BITS_PICTURES, n)])
        return found


def report(work, out, run=None, preset_name=None, **changes):
    """Write a report.

    Args:
        work: the folder of answers. `report.md` is made there where there is none, and never touched where there is.
        out: the page, a name that ends in .html; the PDF gets the same name.
        run: the folder of a training; None: the one that notebook 03 left in `work`.
        preset_name: whose settings the decoding has, but that codes are drawn; None: the training's.
        changes: settings of the decoding that are not the preset's.

    Returns:
        The paths of both files.

    Raises:
        InputError: something that was named cannot be used, or the extra `report` is not installed.
        SaveError: a file cannot be written.
    """
    try:
        from lab3.report.pdf import pdf
    except ModuleNotFoundError:
        raise InputError('The PDF needs the package reportlab: pip install "maskgit-lab[report]"') from None
    began, out = time.perf_counter(), Path(out)
    if out.suffix != ".html":
        raise InputError(f"{out}: the report's name has to end in .html; the PDF beside it gets the same name.")
    material = gather(Path(work), run, preset_name, changes)
    blocks = []
    for part in (introduction, implementation, discussion, results):
        blocks += part(material)
    blocks += [*environment(material, time.perf_counter() - began), *conclusion(material)]
    name = material.texts["name"]
    blocks = [Title("Lab 3: filling holes with MaskGIT", (
        name or f"Name: to fill in, in {TEXTS}", material.texts["date"] or time.strftime("%d %B %Y"))), *blocks]
    title = "Lab 3: filling holes with MaskGIT" + (f", {name}" if name else "")
    write_text(out, html(blocks, title))
    printed = out.with_suffix(".pdf")
    with atomic_path(printed) as temporary:
        temporary.write_bytes(pdf(blocks, title, name))
    return out, printed


def gather(work, run=None, preset_name=None, changes=None):
    """Find what a report is made from, and check the answers. Raises `InputError`."""
    if not work.is_dir():
        raise InputError(f"{work}: no such folder of answers. The notebooks make it: run their exercise cells first.")
    if run is not None and not (Path(run) / METRICS).is_file() and not (Path(run) / WEIGHTS).is_file():
        raise InputError(f"{run}: holds no training. Name a folder that python -m lab3 train made.")
    texts = read_texts(work)
    data, device = Cats(), best_device()
    home = Path(run) if run is not None else work  # where the model is
    run = Path(run) if run is not None else _newest_run(work, preset_name)
    summary = _summary(run)
    if summary.get("data_key", data.key) != data.key:
        raise InputError(f"{run}: was trained on {summary['data']}. A report is about the embedded cats.")
    trained = summary.get("preset") or (run.name.removeprefix("run-") if run and run.name[:4] == "run-" else None)
    chosen = preset(preset_name or trained or "cpu")
    decoding = replace(chosen.decoding.drawn(), **(changes or {}))
    decoding.check()

    print("Checking the answers.", flush=True)
    found, reports = {}, {}
    for name, namespace, verdict in examine(work):
        reports[name] = verdict
        if verdict.passed:
            found[name] = namespace
    fallbacks = {EXERCISES[name].defines: answer for name, (answer, _) in FALLBACKS.items()}
    answers = SimpleNamespace(**fallbacks | link(found))
    tokenizer = tokenizer_of(home if home != work else SHIPPED, data).to(device)
    own = (home / WEIGHTS).is_file()
    transformer = load_transformer((home if own else SHIPPED) / WEIGHTS, answers.MultiHeadAttention).to(device)
    return Material(work, run, chosen, decoding, data, tokenizer, transformer, own, answers, reports, texts)


def _newest_run(work, preset_name):
    """The training that notebook 03 left, of this preset if there is one; None where there is none at all."""
    runs = [path.parent for path in work.glob(f"run-*/{METRICS}") if "-until-" not in path.parent.name]
    return max(runs, default=None, key=lambda run: (run.name == f"run-{preset_name}", (run / METRICS).stat().st_mtime))


def _summary(run):
    """What a finished training says of itself; empty where it is not finished."""
    return read_json(run / SUMMARY) if run and (run / SUMMARY).is_file() else {}


# The student's texts.

def read_texts(work):
    """What the student wrote in `report.md`, by heading, and `name` and `date`; makes the file where there is none."""
    path = Path(work) / TEXTS
    if not path.exists():
        write_text(path, EMPTY + "".join(f"\n## {name}\n\n<!-- {hint} -->\n" for name, hint in WANTED.items()))
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as UTF-8 text ({error}). Save it as UTF-8.") from None
    parts, heading, fenced = {"": []}, "", False
    for line in text.splitlines():
        fenced ^= line.lstrip().startswith("```")
        if line.startswith("## ") and not fenced:
            heading = line[3:].strip()
            parts.setdefault(heading, [])
        else:
            parts[heading].append(line)
    texts = {name: re.sub(r"<!--.*?-->", "", "\n".join(lines), flags=re.DOTALL).strip()
             for name, lines in parts.items()}
    for field in ("name", "date"):
        line = re.search(rf"^{field}:[ \t]*(.*)$", texts[""], re.MULTILINE | re.IGNORECASE)
        texts[field] = line[1].strip() if line else ""
    return texts


EMPTY = """Name:
Date:

<!-- Your texts for the report. Write under the headings, in Markdown; python -m lab3 report puts them in their places
and never changes this file. What stands between these marks does not appear. -->
"""


def written(material, heading):
    """The student's text of a heading, or a mark that it is still to be written."""
    text = material.texts.get(heading)
    return [Text(text, material.work)] if text else [Gap(f"{WANTED[heading]} Write it in {TEXTS}, under “{heading}”.")]


# The parts of the report: each gives blocks.

def introduction(material):
    return [Heading("Introduction"), *written(material, "Introduction")]


def implementation(material):
    """Every answer as it was written, what its check says, and the student's own words."""
    blocks = [Heading("Implementation")]
    passed = sum(verdict.passed for verdict in material.reports.values())
    blocks.append(Text(f"{passed} of {len(EXERCISES)} answers pass their checks."))
    standing = [f"`{name}`: {FALLBACKS[name][1]}" for name, verdict in material.reports.items()
                if not verdict.passed and name in FALLBACKS]
    if standing:
        blocks.append(Text("In all that follows the kit's own versions are used for " + "; ".join(standing) + "."))
    for notebook, section in SECTIONS.items():
        blocks += [Heading(section, 2), *written(material, section)]
        for name, one in EXERCISES.items():
            if one.notebook == notebook:
                blocks += [Heading(name, 3), *answer(material, name)]
    return blocks


def answer(material, name):
    """The code of an answer, and what its check says."""
    verdict, path = material.reports[name], material.work / f"{name}.py"
    if not path.is_file():
        return [Gap(f"No answer yet: notebook {EXERCISES[name].notebook} asks for {name}.")]
    code = Code(cell_of(path.read_text(encoding="utf-8", errors="replace")))
    if verdict.passed:
        return [Verdict("passed", verdict.message.split(": ", 1)[-1]), code]
    return [Verdict("failed" if verdict.written else "missing", verdict.message), code]


def discussion(material):
    """Training curves, what epochs and iterations do."""
    return [Heading("Discussion"),
            Heading("Epochs", 2), *_tried(epochs, material), *written(material, "Epochs"),
            Heading("Iterations", 2), *_tried(iterations, material), *written(material, "Iterations")]


def epochs(material):
    """The curve of the training, and the model after parts of it."""
    rows = read_metrics(material.run) if material.run else []
    if not rows:
        return [Gap("No training of yours yet: notebook 03 makes one, with its curve and its milestones.")]
    summary, blocks = _summary(material.run), []
    if not summary:
        blocks.append(Gap(f"The training is not finished, it is at epoch {rows[-1]['epoch']:.2f}: run notebook 03's "
                          "training cell again and it goes on."))
    written_with = material.run / WRITTEN_WITH
    if written_with.is_file() and written_with.read_text() != training_key(material.work):
        blocks.append(Text("The answers that training uses have changed since this training began."))
    last = next((row for row in reversed(rows) if "val_loss" in row), None)
    blocks.append(figure(plots.training_curve(rows, ""), "Training loss by part, validation loss and the learning "
                         "rate." + (f" The last validation loss is {last['val_loss']:.3f} nats after "
                                             f"{last['epoch']:g} epochs." if last else "")))
    stages = {f"{percent} %": material.run / milestone_file(percent) for percent in material.preset.training.milestones}
    models = {label: load_transformer(path, material.answers.MultiHeadAttention).to(best_device())
              for label, path in stages.items() if path.is_file()}
    if material.own and summary:
        models["100 %"] = material.transformer
    if not models:
        return blocks + [Gap("No milestones of the training: notebook 03 keeps them.")]
    n, seeds = material.n.study, material.decoding.seeds[:2]
    print(f"Scoring the training's milestones on {n} pictures.", flush=True)
    found = {label: material.scores(f"epochs-{label.split()[0]}", n, seeds, model) for label, model in models.items()}
    data, rows = material.data, {"masked": material.data.masked[:SHOWN]}
    rows |= {label: material.fill(model).pasted[:SHOWN] for label, model in models.items()}
    anchors = next(iter(found.values()))
    return [*blocks,
            figure(plots.comparison(rows | {"original": data.test[:SHOWN]}, ""),
                   "The same holes, filled by the model after parts of its training; known pixels put back."),
            figure(plots.distance_bars(
                {label: [one.distance for one in result["scores"]] for label, result in found.items()},
                anchors["distance_floor"], anchors["distance_holes"], NAMES[FEATURES], ""),
                f"{NAMES[FEATURES]} after parts of the training, {n} pictures, {len(seeds)} seeds. With so few "
                "pictures all numbers are higher than with the whole test set.")]


def iterations(material):
    """Heat maps of the distance over schedule, total_iter, sweet spot and temperature."""
    found = _sweep(material)
    best = found.best()
    values = found.distances(tuple(best.values()))
    said = f"The lowest of {len(found.cells)} settings is {best['schedule']}, {best['sweet_spot']} of " \
           f"{best['total_iter']} steps, temperature {best['temperature']:g}, with {_mean(values)}. It was chosen by " \
           "these very numbers, so with other seeds it comes out higher more often than not."
    return [figure(draw(found, ""), f"The distance over all settings of the decoding. {describe(found)}"), Text(said)]


def _sweep(material):
    """A finished sweep of this model and these answers, the largest there is; a small one is made where none is."""
    folder = material.work / "sweeps"
    done = [found for found in kept([*sorted(folder.glob("*.json")), PRECOMPUTED], material.subject)
            if found.grid.sampling == material.decoding.sampling]
    if done:
        return max(done, key=lambda found: len(found.cells))
    decoding = material.decoding
    grid = Grid(total_iters=tuple(sorted({1, 2, 4, decoding.total_iter})), temperatures=(decoding.choice_temperature,),
                sampling=decoding.sampling, pictures=material.n.study, seeds=decoding.seeds[:2])
    print(f"Trying settings of the decoding on {grid.pictures} pictures.", flush=True)
    with progress_bar(total=len(grid.decodings()), desc="decodings") as bar:
        for found in sweep(folder / f"{sweep_key(material.subject, grid)}.json", grid, material.subject):
            bar.update(found.done - bar.n)
    return found


def results(material):
    """Iterative decoding for three schedules, the best distance, pictures."""
    return [Heading("Results"),
            Heading("Iterative decoding", 2), *_tried(schedules, material), *written(material, "Schedules compared"),
            Heading("Best distance", 2), *_tried(best, material), *written(material, "Best result"),
            Heading("Masked pictures and results", 2), *_tried(pictures, material),
            Heading("Settings", 2), *settings(material)]


def schedules(material):
    """Masks in the latent domain and predicted pictures, step by step, for each schedule."""
    decoding, data, blocks = material.decoding, material.data, []
    cells = _sweep(material)
    for name in SCHEDULES:
        filled = material.fill(pictures=CAT, schedule=name)
        page = plots.decoding_steps({name: (filled.masks[0], material.tokenizer.decode(filled.predictions[0]))},
                                    (data.masked[CAT], data.test[CAT]), "")
        values = cells.distances((name, decoding.total_iter, decoding.sweet_spot, decoding.choice_temperature))
        number = (f" {NAMES[FEATURES]} with this schedule: {_mean(values)} ({cells.grid.pictures} pictures, "
                  f"{len(values)} seeds)." if values else "")
        blocks += [Heading(name.capitalize(), 3), figure(
            page, f"{name.capitalize()} schedule, {material.model}. Above the masks in the latent domain, dark where "
                  f"hidden, with how many; below what each step predicts.{number}")]
    return blocks


def best(material):
    """The final score: the whole test set, several seeds, both protocols, between its anchors."""
    decoding, n = material.decoding, material.n.test
    print(f"Filling and scoring {n} test pictures, {len(decoding.seeds)} seeds.", flush=True)
    found = material.scores("scores", n, decoding.seeds)
    two = spread(found["scores"])
    name, model = NAMES[FEATURES], material.model
    rows = (("floor: the tokenizer's reconstructions", f"{found['distance_floor']:.2f}", "", "", "", ""),
            (model, *score_row(two["mean"], two["sd"])),
            ("holes unfilled", f"{found['distance_holes']:.2f}", "", "", "", ""))
    note = "" if material.own else " No model of yours yet: notebook 03 trains one. The kit's is used."
    return [
        Text(f"**{name} {two['mean']['distance']:.2f} ± {two['sd']['distance']:.2f}** with {model}, "
             f"{decoding.schedule} schedule, {decoding.sweet_spot} of {decoding.total_iter} steps: mean and standard "
             f"deviation over {len(decoding.seeds)} seeds, whole decoded pictures, N = {n}.{note}"),
        Table(score_header(name), rows, f"Scores of {n} test pictures. The first column scores whole decoded pictures, "
              "“pasted” those with the known pixels put back. Lower is better, but for PSNR.", numbers=True),
        figure(plots.distance_bars(
            {"whole pictures": [one.distance for one in found["scores"]],
             "pasted": [one.distance_pasted for one in found["scores"]]},
            found["distance_floor"], found["distance_holes"], name, ""),
            "The distance between its anchors. Bars: means; dots: seeds. The floor belongs to whole pictures; pasted "
            "ones can come below it, as their known pixels never went through the tokenizer."),
        Text(f"Bits: {describe_bits(found, material.data)}."),
        Text(f"{name} is the Fréchet distance on the features of EfficientNet-Lite0. It is not an FID and not on its "
             "scale.")]


def pictures(material):
    filled, data = material.fill(), material.data
    return [figure(plots.comparison(
        {"masked": data.masked[:SHOWN], "decoded": filled.decoded[:SHOWN], "pasted": filled.pasted[:SHOWN],
         "original": data.test[:SHOWN]}, ""),
        f"Masked pictures and what {material.model} makes of them: the whole decoded picture, the known pixels put "
        "back, and the original.")]


def settings(material):
    """What the training and the decoding were set to."""
    blocks = []
    about = _summary(material.run) if material.own else read_json(SHIPPED / SUMMARY)
    if about.get("training"):
        trained = [(f"{_words(name)}", _value(value)) for name, value in about["training"].items()]
        shape = [(f"transformer: {_words(name)}", _value(value)) for name, value in about["transformer"].items()]
        spent = [("batches in all", f"{about['steps']}"), ("pictures", f"{about['train_pictures']}"),
                 ("time", f"{about['train_seconds']:.0f} s")]
        blocks.append(Table((), tuple(trained + spent + shape), f"Settings of the training of {material.model}."))
    else:
        blocks.append(Gap("The settings of your training are not there: its folder lacks maskgit.json, which a "
                          "finished training has. Name the folder with --run."))
    decoding = material.decoding
    rows = [(_words(name), _value(value)) for name, value in asdict(decoding).items() if name != "test_pictures"]
    rows.insert(0, ("preset", material.preset.name))
    blocks.append(Table((), tuple(rows), f"Settings of the decoding, {material.n.test} test pictures."))
    if decoding.sweet_spot == 1:
        blocks.append(Text("With a single step, schedule and choice temperature decide nothing: they choose which "
                           "tokens are hidden again, and no step follows."))
    return blocks


def _version(name):
    """The version of a distribution; None where it is not installed."""
    with suppress(PackageNotFoundError):
        return version(name)


def environment(material, seconds):
    """Versions and machine."""
    rows = [("Python", platform.python_version()),
            *((name, installed) for name in ("torch", "torchvision", "numpy", "scipy", "matplotlib")
              if (installed := _version(name))),
            ("lab3", __version__),
            ("machine", machine_kind()), ("device", str(best_device())),
            ("pictures", f"{material.data.name}, {material.data.key}"),
            ("written", time.strftime("%Y-%m-%d %H:%M")), ("time for this report", f"{seconds:.0f} s")]
    return [Heading("Environment", 2), Table((), tuple(rows)), Text("Cats drawn by David Revoy, CC BY 4.0.")]


def conclusion(material):
    """The student's last words, and what stands under headings of the student's own."""
    blocks = [Heading("Conclusion"), *written(material, "Conclusion")]
    for name, text in material.texts.items():
        if name not in WANTED and name not in ("", "name", "date"):
            blocks += [Heading(name), Text(text, material.work)]
    return blocks


def _tried(part, material):
    """A part's blocks; where an answer fails at it, the place says so and the report goes on."""
    try:
        return part(material)
    except SaveError:
        raise
    except Exception as error:  # of a student's answer: anything can come
        return [Gap(f"This part could not be made. {type(error).__name__}: {error}")]


def _mean(values):
    scores = sum(values) / len(values)
    if len(values) < 2:
        return f"{scores:.2f}"
    return f"{scores:.2f} ± {(sum((value - scores) ** 2 for value in values) / (len(values) - 1)) ** 0.5:.2f}"


def _words(name):
    return {"lr": "learning rate", "eta_min": "eta_min (as a factor of the learning rate)"}.get(name, name)


def _value(value):
    if value is None:
        return "all"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
