"""The whole lab in one go: train, fill the holes, score, draw the report's figures.

In: a preset and a data set. Out: `summary.json` and `report.html` in a folder, with all that they were made from; for
the embedded cats, before the training, `first.png`: what the shipped model fills.
What a run before left there, the training and the scores, is used again where it still fits.
"""

import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from lab3.common import plots
from lab3.common.files import InputError, atomic_path, content_key, read_json, sha256, write_json, write_text
from lab3.common.machine import best_device, machine_kind, peak_memory, release_memory
from lab3.common.paths import SHIPPED, SOLUTIONS, SUMMARY, TOKENIZER, WEIGHTS, answer_folders
from lab3.data.cats import Cats
from lab3.decoding.inpaint import fill, save_pictures
from lab3.exercises.answers import load_answers
from lab3.metrics.distance import NAMES, load_extractor
from lab3.metrics.score import describe_bits, reference, score_header, score_row, score_seeds, spread
from lab3.model.tokens import tokenizer_key, training_tokens
from lab3.model.transformer import load_transformer
from lab3.presets import SCHEDULES
from lab3.report.pages import Heading, Table, Text, Title, figure, html
from lab3.training.expected_time import as_words, training_seconds
from lab3.training.fit import BITS_PICTURES, fit
from lab3.training.runs import keep_tokenizer, read_metrics, tokenizer_of
from lab3.training.tokenizer_training import train_tokenizer

FEATURES = "lite0"
SHOWN = 10  # pictures in a figure


@dataclass
class Stages:
    """Says what begins and how long it may take, and keeps the seconds that each stage took."""

    seconds: dict = field(default_factory=dict)
    began: float = field(default_factory=time.perf_counter)

    @contextmanager
    def stage(self, name, line=""):
        """Time what runs inside as the stage `name`, after printing `line` with the time that has passed."""
        if line:
            self.say(line)
        begin = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - begin, 1)
        release_memory()

    def say(self, line):
        """Print a line with the time that has passed since the start, in minutes and seconds."""
        minutes, seconds = divmod(int(self.total()), 60)
        print(f"[{minutes:2d}:{seconds:02d}] {line}", flush=True)

    def total(self):
        """Seconds since the start."""
        return time.perf_counter() - self.began


def demo(preset, data, out, progress=True):
    """Run the whole lab.

    Args:
        preset: a `Preset`.
        data: the embedded `Cats` or a folder's `Splits`.
        out: the folder for everything.
        progress: show bars.

    Returns:
        What `summary.json` holds.

    Raises:
        InputError: something in `out` or in the data does not fit; the message says what.
    """
    stages, out, device = Stages(), Path(out), best_device()
    try:
        answers = load_answers(answer_folders())
    except InputError as error:
        if SOLUTIONS.is_dir():
            raise
        raise InputError(f"the demo trains with your own answers. {error} Begin with notebook 00: lab3 lab") from None
    run, decoding = out / "run", preset.decoding
    # All pictures first: what cannot be read should not be found after the training.
    with stages.stage("pictures"):
        _, _, *shown = data.train, data.val, data.test, data.holes, data.masked
    test, holes, masked = (x[:decoding.test_pictures] for x in shown)
    if len(test) < 2:
        raise InputError(f"{data.name}: {len(test)} test picture is too few for a distance. Give more pictures.")
    with stages.stage("tokenizer", "" if isinstance(data, Cats) else "Training a tokenizer on your pictures."):
        tokenizer, models = _tokenizer(preset, data, run, progress).to(device), {}
    if isinstance(data, Cats):
        with stages.stage("first look", "Filling the first holes with the shipped model."):
            models["shipped"] = load_transformer(SHIPPED / WEIGHTS, answers.MultiHeadAttention).to(device)
            _first_look(test[:SHOWN], holes[:SHOWN], masked[:SHOWN], tokenizer, models["shipped"], answers, decoding,
                        out)
        stages.say(f"The shipped model has filled {min(SHOWN, len(test))} holes: {out / 'first.png'}.")

    with stages.stage("training"):
        expected = training_seconds(preset, device, len(data.train))
        stages.say(f"Training a transformer, preset {preset.name}, {preset.training.epochs} passes over the pictures: "
                   f"about {as_words(expected)} in all.")
        about = {"data": data.name, "data_key": data.key, "tokenizer_key": tokenizer_key(tokenizer)}
        models = {"trained": fit(
            *training_tokens(data, tokenizer, preset.training, progress=progress), preset, answers, run, resume=True,
            progress=progress, about=about)} | models
        keep_tokenizer(run, tokenizer)

    with stages.stage("filling"):
        anchors = reference(test, holes, masked, tokenizer, load_extractor(FEATURES), f"{data.key}-{len(test)}")
        results, filled, left = {}, {}, len(models) * len(decoding.seeds)
        for name, model in models.items():
            seconds = next(iter(results.values()))["seconds"] if results else None
            each = f", about {as_words(seconds * len(decoding.seeds))}" if seconds else ""
            stages.say(f"Filling {len(test)} pictures with the {name} model, {len(decoding.seeds)} seeds{each}; "
                       f"{left} fillings are left.")
            weights = (SHIPPED if name == "shipped" else run) / WEIGHTS
            results[name], filled[name] = _fill_and_score(
                out, name, _score_key(weights, decoding, about, anchors), anchors,
                (masked, holes, tokenizer, model, answers, decoding), data.val[:min(BITS_PICTURES, len(test))],
                progress)
            left -= len(decoding.seeds)

    with stages.stage("figures", "Drawing the figures."):
        figures = _figures(masked, tokenizer, models, answers, decoding, anchors, results, filled, run)
        for name, _, page, _ in figures:
            _save(page, out / "figures" / f"{name}.png")
    summary = _summary(preset, anchors, results, run, stages)
    blocks = _blocks(summary, figures, preset, data)
    write_text(out / "report.html", html(blocks, "lab3: filled holes and their distance"))
    write_json(out / "summary.json", summary)
    _tell(summary, data, out)
    return summary


def _tokenizer(preset, data, run, progress):
    """The shipped tokenizer for the embedded cats; for other pictures one that is trained on them."""
    if isinstance(data, Cats):
        return tokenizer_of(run, data, SHIPPED / TOKENIZER)
    train_tokenizer(data.train, preset.tokenizer, run / "tokenizer", resume=True, progress=progress,
                    about={"data": data.name, "data_key": data.key})
    return tokenizer_of(run, data)  # as it was saved, in half precision


def _first_look(test, holes, masked, tokenizer, shipped, answers, decoding, out):
    """Fill some holes with the shipped model, before the training begins."""
    look = fill(masked, holes, tokenizer, shipped, answers, decoding, decoding.seeds[0], progress=False)
    _save(plots.comparison({"masked": masked, "shipped\nmodel": look.pasted, "original": test}, ""), out / "first.png")


def _fill_and_score(out, name, key, anchors, filling, held_out, progress):
    """Fill and score with every seed, and keep the first seed's pictures; what `out` has for this key is used again."""
    result, first = score_seeds(out / f"scores-{name}.json", key, *filling, lambda: anchors, progress, held_out)
    filled = first or fill(*filling, filling[-1].seeds[0], progress=progress)
    save_pictures(filled.decoded, out / name / "decoded")
    save_pictures(filled.pasted, out / name / "pasted")
    return result, filled


def _score_key(weights, decoding, about, anchors):
    answered = [path.read_text(encoding="utf-8") for folder in answer_folders() for path in sorted(folder.glob("*.py"))]
    return content_key(repr(part).encode() for part in (
        sha256(weights), asdict(decoding), about, len(anchors.originals), anchors.extractor.key, answered))


def _summary(preset, anchors, results, run, stages):
    """What `summary.json` holds."""
    means = {name: spread(result["scores"]) for name, result in results.items()}
    trained, shipped = means["trained"], means.get("shipped")
    return {
        "features": FEATURES, "protocol": "course", "n": len(anchors.originals), **trained["mean"],
        "distance_floor": anchors.distance_floor, "distance_holes": anchors.distance_holes,
        "train_seconds": read_json(run / SUMMARY)["train_seconds"],
        "inpaint_seconds": results["trained"]["seconds"], "seconds": round(stages.total(), 1),
        "stage_seconds": stages.seconds, "peak_memory_gb": peak_memory(),
        "preset": preset.name, "seeds": list(preset.decoding.seeds), "sd": trained["sd"],
        **_bits(results["trained"]),
        **({"shipped": shipped["mean"] | {"sd": shipped["sd"]} | _bits(results["shipped"])} if shipped else {}),
    }


def _bits(result):
    return {name: result[name] for name in ("bits", "bits_error", "bits_pictures")}


def _tell(summary, data, out):
    """Print the distances and bits, and where the rest is."""
    n, seeds = summary["n"], len(summary["seeds"])
    spent = ", ".join(f"{name} {as_words(seconds)}" for name, seconds in summary["stage_seconds"].items())
    peak = f" Peak memory: {summary['peak_memory_gb']:.1f} GB." if summary["peak_memory_gb"] else ""
    print(f"Time: {as_words(summary['seconds'])} ({spent}).{peak}")
    print(f"{NAMES[FEATURES]} of {n} pictures, whole decoded pictures, mean of {seeds} seeds:")
    models = [(f"{name} model", row) for name, row in (
        ("shipped", summary.get("shipped")), ("trained", summary)) if row]
    for label, value in [("tokenizer alone (floor)", summary["distance_floor"]),
                         *((label, row["distance"]) for label, row in models),
                         ("holes unfilled", summary["distance_holes"])]:
        print(f"  {label:26s}{value:8.2f}")
    for label, row in models:
        print(f"{label}: {describe_bits(row, data)}.")
    print(f"Look at {out / 'report.html'}; the numbers are in {out / 'summary.json'}.", flush=True)


def _save(page, path):
    with atomic_path(path) as temporary:
        page.savefig(temporary, format="png")


def _figures(masked, tokenizer, models, answers, decoding, anchors, results, filled, run):
    """The report's figures: a list of (name, title, figure, caption)."""
    best, original = list(models)[-1], anchors.originals[:SHOWN]
    rows = {"masked": masked[:SHOWN]} | {f"{name}\nmodel": filled[name].pasted[:SHOWN] for name in models}
    schedules = {}
    for name in SCHEDULES:
        steps = replace(decoding, schedule=name, sweet_spot=decoding.total_iter)
        one = fill(masked[:1], anchors.holes[:1], tokenizer, models[best], answers, steps, decoding.seeds[0],
                   progress=False)
        schedules[name] = (one.masks[0], tokenizer.decode(one.predictions[0]))
    redrawn = tokenizer.decode(tokenizer.encode(original))
    return [
        ("results", "Masked pictures and results", plots.comparison(rows | {"original": original}, ""),
         "Known pixels put back. What the hole hid is made up, to fit what is left of the picture."),
        ("distance", "The distance", plots.distance_bars(
            {f"{name} model": [one.distance for one in result["scores"]] for name, result in results.items()}
            | {f"{name} model, pasted": [one.distance_pasted for one in result["scores"]]
               for name, result in results.items()},
            anchors.distance_floor, anchors.distance_holes, NAMES[FEATURES], ""),
         "Bars: mean over seeds; dots: the seeds. A perfect model comes down to about the floor, pasted pictures to "
         "below it: their known pixels never went through the tokenizer."),
        ("training", "Training", plots.training_curve(read_metrics(run), ""),
         "The loss falls from guessing to what the picture's known part does not decide."),
        ("decoding", "Iterative decoding for three schedules", plots.decoding_steps(
            schedules, (masked[0], original[0]), ""),
         f"{best.capitalize()} model. Masks in the latent domain, dark where hidden; below, what each step predicts."),
        ("gamma", "Gamma", plots.schedule_curves(
            {name: answers.gamma_func(name) for name in SCHEDULES}, decoding.total_iter, ""),
         "Cosine and square keep more hidden early, when the model knows least."),
        ("tokenizer", "The tokenizer", plots.comparison({"original": original, "redrawn": redrawn}, ""),
         "What 256 tokens keep of a picture: the floor of it all."),
    ]


def _blocks(summary, figures, preset, data):
    """What the report page holds."""
    rows = [("floor: the tokenizer's reconstructions", f"{summary['distance_floor']:.2f}", "", "", "", "")]
    for label, row in (("shipped model", summary.get("shipped")), ("model trained here", summary)):
        if row:
            rows.append((label, *score_row(row, row["sd"])))
    rows.append(("holes unfilled", f"{summary['distance_holes']:.2f}", "", "", "", ""))
    settings = [("data", data.name), *((f"{kind}: {name}", value) for kind in (
        "tokenizer", "training", "transformer", "decoding") for name, value in asdict(getattr(preset, kind)).items())]
    return [
        Title("Holes filled, and how well", (
            f"{summary['n']} test pictures, preset {summary['preset']}, {len(summary['seeds'])} seeds. "
            f"{machine_kind()}. Training took {summary['train_seconds']:.0f} s, one decoding of the test set "
            f"{summary['inpaint_seconds']:.0f} s.",)),
        Table(score_header(NAMES[FEATURES]), tuple(rows), numbers=True),
        Text(f"{NAMES[FEATURES]} compares the filled pictures with the originals through the features of a network; "
             "lower is better. It is not an FID and not on its scale."),
        *(Text(f"{label}: {describe_bits(row, data)}.") for label, row in (
            ("Shipped model", summary.get("shipped")), ("Model trained here", summary)) if row),
        *(block for _, title, page, caption in figures for block in (Heading(title), figure(page, caption))),
        Heading("Settings"), Table((), tuple((name, str(value)) for name, value in settings)),
        *([Text("Cats drawn by David Revoy, CC BY 4.0.")] if "shipped" in summary else []),
    ]
