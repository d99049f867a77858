"""The command line: `python -m lab3 ...`.

In: arguments. Out: folders of results; exit status 0 done, 1 the work itself failed, 2 unusable input; each error is
one line. Every command is a few calls to the modules beside this one.
"""

import argparse
import io
import math
import os
import shlex
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from lab3 import __version__

# No other module: importing PyTorch takes seconds, and help does not need it.
from lab3.common.paths import ANSWERS, LABELLED, OWN, SHIPPED, answer_folders, work_folder

STOPPED = 130  # what shells expect of a program that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message):
        print(f"{self.prog}: {message}. See {self.prog} --help.", file=sys.stderr)
        sys.exit(2)


def make_parser():
    """The whole command line, as one parser."""
    parser = Parser(prog="python -m lab3", description="Train a masked image model, fill holes, score the result.")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument("--version", action="version", version=f"lab3 {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")

    lab = commands.add_parser("lab", parents=[debug], help="open the notebooks in JupyterLab")
    lab.add_argument("folder", type=Path, nargs="?", metavar="DIR",
                     help="where notebooks go, with work/ beside them; default: the current folder, or notebooks/ in "
                          "the project's own folder")
    lab.add_argument("--no-browser", dest="browser", action="store_false", help="only print the address")
    lab.add_argument("--jupyter", nargs=argparse.REMAINDER, default=[], metavar="OPTION", help="options of JupyterLab")

    demo = commands.add_parser("demo", parents=[debug], help="run the whole lab: train, fill, score, report")
    demo.add_argument("--preset", default="cpu", help="smoke, cpu (default) or report")
    _add_data(demo)
    demo.add_argument("--out", type=Path, default=Path("out/demo"))

    data = commands.add_parser("data", help="check a folder of pictures, or make a clean copy of it")
    actions = data.add_subparsers(dest="action", required=True, metavar="audit|import")
    audit = actions.add_parser("audit", parents=[debug], help="list what is wrong with it")
    audit.add_argument("folder", type=Path, metavar="DIR")
    audit.add_argument("--json", type=Path, metavar="FILE", help="also write the findings here")
    copy = actions.add_parser("import", parents=[debug], help="make a clean copy of 64x64 PNGs")
    copy.add_argument("folder", type=Path, metavar="DIR")
    copy.add_argument("--out", type=Path, required=True)
    copy.add_argument("--drop-duplicates", action="store_true")
    copy.add_argument("--skip-unreadable", action="store_true", help="leave unreadable files out")

    for name, text in (("train-tokenizer", "train a VQGAN on pictures"), ("train", "train a transformer on tokens")):
        train = commands.add_parser(name, parents=[debug], help=text)
        train.add_argument("--preset", default="cpu", help="smoke, cpu (default), report"
                           + (" or labels" if name == "train" else ""))
        _add_data(train)
        train.add_argument("--out", type=Path, required=True, metavar="RUN")
        train.add_argument("--resume", action="store_true", help="resume the training in this folder")
        train.add_argument("--epochs", type=int, help="how many epochs to train, instead of the preset's")
        train.add_argument("--train-pictures", type=int, metavar="N",
                           help="train on the first N pictures; of the embedded cats up to 252,000, default: 12,000")
        if name == "train-tokenizer":
            train.add_argument("--decoder-of", type=Path, metavar="FILE",
                               help="train only the decoder of this tokenizer further: pictures keep their tokens")
        if name == "train":
            _add_work(train)
            train.add_argument("--tokenizer", type=Path, metavar="FILE", help="default: the run's, or the shipped one")

    inpaint = commands.add_parser("inpaint", parents=[debug], help="fill the holes of the test pictures")
    inpaint.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    _add_data(inpaint)
    _add_work(inpaint)
    _add_decoding(inpaint, sampling="argmax")
    inpaint.add_argument("--seed", type=int, default=0)
    inpaint.add_argument("--out", type=Path, required=True)

    generate = commands.add_parser("generate", parents=[debug], help="draw whole pictures from nothing")
    generate.add_argument("--run", type=Path, help="a folder of train; default: the shipped model, with --labels the "
                          "shipped one that knows them")
    _add_data(generate)
    _add_work(generate)
    generate.add_argument("--n", type=int, default=64, help="how many pictures; default: 64")
    _add_decoding(generate, sampling="categorical", steps="16")
    generate.add_argument("--order", default="confidence",
                          help="which tokens a step keeps: confidence (the most confident; default), random, halton")
    generate.add_argument("--code-temperature", type=float, default=1.0,
                          help="what logits are divided by; below 1, unlikely codes are rarely drawn; default: 1")
    generate.add_argument("--labels", metavar="TEXT", help="which cats to draw, such as \"body=blue, eyes=glasses\"")
    generate.add_argument("--guidance", type=float, default=0.0, metavar="SCALE",
                          help="how strongly labels guide, with the answer guided_logits; default: 0")
    generate.add_argument("--seed", type=int, default=0)
    generate.add_argument("--out", type=Path, required=True)

    sweep = commands.add_parser("sweep", parents=[debug], help="score schedules, steps and temperatures")
    sweep.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    _add_data(sweep)
    _add_work(sweep, "the kit's own, or work in a student's copy", lambda: answer_folders()[-1])
    for name, kind in (("schedules", str), ("total-iters", int), ("parts", float), ("temperatures", float),
                       ("seeds", int)):
        sweep.add_argument(f"--{name}", type=kind, nargs="+", metavar=name[:-1].upper())
    sweep.add_argument("--sampling", help="categorical or argmax")
    sweep.add_argument("--pictures", type=int, help="how many test pictures to use")
    sweep.add_argument("--out", type=Path, required=True, metavar="FILE",
                       help="a JSON file, which a later sweep continues; the heat maps go beside it")

    report = commands.add_parser("report", parents=[debug], help="write the lab report for your answers: HTML and PDF")
    _add_work(report, "work", _own_work)
    report.add_argument("--run", type=Path, help="a folder of train; default: what notebook 03 left in work")
    report.add_argument("--preset", help="whose decoding is scored: smoke for a quick draft; default: the training's")
    _add_decoding(report, sampling="categorical")
    report.add_argument("--out", type=Path, required=True, metavar="FILE.html", help="the PDF goes beside it")

    check = commands.add_parser("check", parents=[debug], help="run the notebooks' checks on answers")
    _add_work(check, "work", _own_work)

    page = commands.add_parser("page", parents=[debug], help="write the explorer as one HTML file to open anywhere")
    page.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    _add_data(page)
    page.add_argument("out", type=Path, metavar="OUT.html")

    handin = commands.add_parser(
        "handin", parents=[debug], formatter_class=argparse.RawDescriptionHelpFormatter,
        help="pack what you hand in: notebooks, answers, model",
        epilog="example:\n  python -m lab3 handin lab3-handin.zip\n\nThe zip is written even if something is missing; "
               "lines say what. exit status: 0 written, 2 unusable input.")
    handin.add_argument("out", type=Path, metavar="OUT.zip")
    handin.add_argument("--predictions", action="store_true",
                        help="pack your predictions too, for an anonymous page of the class's predictions")
    _add_work(handin, "work", _own_work)

    fid = commands.add_parser("fid", parents=[debug], help="measure the distance between two folders of pictures")
    fid.add_argument("folders", type=Path, nargs=2, metavar="DIR")
    fid.add_argument("--features", required=True, help="inception (FID) or lite0 (FD-Lite0, needs no download)")
    fid.add_argument("--weights", type=Path, metavar="FILE", help="your own Inception weights")
    fid.add_argument("--json", type=Path, metavar="FILE", help="also write the result here")
    return parser


def print_any_text():
    """Let output hold any character; one that the terminal's encoding lacks, such as cp1252, is printed escaped."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main(arguments=None):
    """Run one command; returns the exit status."""
    print_any_text()
    if "WORLD_SIZE" not in os.environ:  # torchrun's processes say one after the other what is wrong
        make_parser().parse_args(arguments)
    from lab3.training.distributed import joined

    with joined() as tell:
        return _run(arguments, tell)


def _run(arguments, tell):
    """Run one command, and say what is wrong with `tell`; returns the exit status."""
    from lab3.common.files import InputError, SaveError
    from lab3.training.distributed import processes

    options = make_parser().parse_args(arguments)
    options.line = shlex.join(["python", "-m", "lab3", *(sys.argv[1:] if arguments is None else arguments)])
    try:
        if processes() > 1 and options.command != "train":
            raise InputError("works in one process. Start it with python; torchrun is for train.")
        if hasattr(options, "default_work"):
            options.work = options.work or options.default_work()
        _check_trust(options)
        return COMMANDS[options.command](options) or 0
    except KeyboardInterrupt:
        again = {"train": "--resume", "train-tokenizer": "--resume", "sweep": "the same command",
                 "report": "the same command"}.get(options.command)
        tell("stopped." + (f" What was saved is kept; {again} continues from there." if again else ""))
        return STOPPED
    except Exception as error:
        unusable = isinstance(error, (InputError, SaveError))
        text = str(error) if unusable else f"failed: {type(error).__name__}: {error} (--debug shows where)"
        trace = traceback.format_exc() if options.debug else ""
        tell(f"{trace}lab3 {options.command}: {' '.join(text.split())}")
        return 2 if unusable else 1


def run_lab(options):
    from lab3.notebook.serve import serve

    serve(options.folder, options.browser, options.jupyter)


def run_demo(options):
    from lab3.demo import demo

    demo(_preset(options), _data(options), options.out)


def run_data(options):
    from lab3.common.files import write_json
    from lab3.data.audit import audit, format_audit
    from lab3.data.photo_import import import_photos

    if options.action == "audit":
        findings = audit(options.folder)
        print(format_audit(findings))
        if options.json:
            write_json(options.json, asdict(findings))
    else:
        done = import_photos(options.folder, options.out, drop_duplicates=options.drop_duplicates,
                             skip_unreadable=options.skip_unreadable)
        counts = ", ".join(f"{n} in {split}" for split, n in done.counts.items())
        print(f"{options.out}: {counts}; {len(done.dropped)} duplicates dropped, {len(done.skipped)} unreadable files "
              f"and {len(done.left_out)} others left out. {options.out / 'import.json'} names them.")


def run_train_tokenizer(options):
    from lab3.model.tokenizer import load_tokenizer
    from lab3.model.tokens import weights_key
    from lab3.training.tokenizer_training import DECODER, train_tokenizer

    preset, data = _preset(options), _data(options, options.train_pictures)
    config = preset.tokenizer if options.epochs is None else replace(preset.tokenizer, epochs=options.epochs)
    run, about, decoder_of = options.out / "tokenizer", {"data": data.name, "data_key": data.key}, None
    if options.decoder_of is not None:
        decoder_of = load_tokenizer(options.decoder_of)
        config = replace(config, **DECODER)
        about["decoder_of"] = weights_key(decoder_of)
    train_tokenizer(data.train, config, run, decoder_of=decoder_of, resume=options.resume, about=about)
    print(f"{run / 'tokenizer.safetensors'} is ready. python -m lab3 train --out {options.out} uses it.")


def run_train(options):
    from lab3.common.machine import best_device
    from lab3.common.paths import WEIGHTS
    from lab3.data import cats
    from lab3.exercises.answers import load_answers
    from lab3.metrics.truth import hide, require_cats
    from lab3.model.tokens import tokenizer_key, training_tokens
    from lab3.training.distributed import claim_device, on_first
    from lab3.training.fit import fit
    from lab3.training.runs import keep_tokenizer, tokenizer_of

    claim_device()
    preset, data = _preset(options), _data(options, options.train_pictures)
    if options.epochs is not None:
        preset = replace(preset, training=replace(preset.training, epochs=options.epochs))
    if options.train_pictures is not None:
        preset = replace(preset, training=replace(preset.training, train_pictures=options.train_pictures))
    labels = None
    if preset.transformer.labels:
        require_cats(data)
        labels = hide(cats.choices("train", data.n_train))[:preset.training.train_pictures]
    answers = load_answers(options.work)
    tokenizer = tokenizer_of(options.out, data, options.tokenizer).to(best_device())
    tokens, about = on_first(lambda: (training_tokens(data, tokenizer, preset.training), {
        "data": data.name, "data_key": data.key, "tokenizer_key": tokenizer_key(tokenizer)}))
    fit(*tokens, preset, answers, options.out, labels=labels, resume=options.resume, about=about)
    on_first(lambda: keep_tokenizer(options.out, tokenizer))
    print(f"{options.out / WEIGHTS} is ready. python -m lab3 inpaint --run {options.out} --out DIR fills holes.")


def run_inpaint(options):
    from lab3.common.files import write_json
    from lab3.decoding.inpaint import fill, save_pictures
    from lab3.exercises.answers import load_answers
    from lab3.presets import preset

    decoding = replace(preset("cpu").decoding, **_decoding(options))
    decoding.check()
    _check_seed(options)
    data, answers = _data(options), load_answers(options.work)
    tokenizer, transformer = _models(options, data, answers)
    filled = fill(data.masked, data.holes, tokenizer, transformer, answers, decoding, options.seed)
    for folder, pictures in (("masked", data.masked), ("decoded", filled.decoded), ("pasted", filled.pasted)):
        save_pictures(pictures, options.out / folder)
    if data.has_originals:
        save_pictures(data.test, options.out / "original")
    write_json(options.out / "inpaint.json", _told(options, decoding, data) | {"n": len(data.masked)})
    print(f"{options.out / 'decoded'} (whole decoded pictures) and {options.out / 'pasted'} (known pixels put back) "
          f"hold {len(data.masked)} pictures.")


def run_generate(options):
    from lab3.common.files import InputError, read_json, write_json
    from lab3.common.paths import SUMMARY
    from lab3.decoding.generate import STEPS, generate, in_order, save_generated
    from lab3.decoding.guidance import Guided
    from lab3.exercises.answers import load_answers
    from lab3.exercises.table import EXERCISES, OPTIONAL
    from lab3.metrics.nearest_cat import SIZES
    from lab3.metrics.score import describe_bits, model_bits, score_generated
    from lab3.metrics.truth import labels_of, require_cats
    from lab3.presets import preset
    from lab3.training.fit import BITS_PICTURES

    decoding = replace(preset("cpu").decoding.drawn(),
                       **{"total_iter": STEPS, "sweet_spot": STEPS} | _decoding(options))
    decoding.check()
    _check_seed(options)
    labels = None if options.labels is None else labels_of(options.labels)
    if not 0 <= options.guidance < math.inf:
        raise InputError(f"guidance must be 0 or more, not {options.guidance}.")
    if options.guidance and labels is None:
        raise InputError("guidance needs labels. Name them, for example --labels \"body=blue, eyes=glasses\".")
    data = _data(options)
    options.run = options.run or (SHIPPED if labels is None else LABELLED)
    answers = load_answers(options.work, (*EXERCISES, *(OPTIONAL if options.guidance else ())),
                           {"inpainting": lambda answer: in_order(answer, options.order)})
    if labels is not None:
        require_cats(data)
    tokenizer, transformer = _models(options, data, answers)
    unlabelled = transformer
    if labels is not None:
        if transformer.config.labels != SIZES:
            raise InputError(f"{options.run}: its transformer knows no labels. Train one with --preset labels, or "
                             "leave --run out.")
        given = labels.to(next(transformer.parameters()).device)
        transformer = (Guided(transformer, given, options.guidance, answers.guided_logits, exact=decoding.exact)
                       if options.guidance else transformer.with_labels(given))
    made = generate(options.n, tokenizer, transformer, answers, decoding, options.seed,
                    code_temperature=options.code_temperature)
    save_generated(made, tokenizer, options.out)
    marks = score_generated(made.decoded, data, labels, read_json(options.run / SUMMARY)["train_pictures"])
    for name, value in marks.items():
        print(f"{name}: " + (f"{value:.3g}" if isinstance(value, float) else ", ".join(
            f"{part} {share:.3g}" for part, share in value.items())))
    # one pass for each picture: with 16 steps a small part of the decoding
    measured = model_bits(data.val[:min(BITS_PICTURES, max(16, 2 * options.n))], tokenizer, unlabelled)
    print(f"bits: {describe_bits(measured, data)}")
    write_json(options.out / "generate.json",
               _told(options, decoding, data) | {"n": options.n, "order": options.order, "labels": options.labels,
                                                 "code_temperature": options.code_temperature,
                                                 "guidance": options.guidance, "marks": marks | measured})
    print(f"{options.out / 'contact_sheet.png'} shows {options.n} pictures, {options.out / 'film.webp'} their steps.")


def run_report(options):
    from lab3.report.report import report

    for path in report(options.work, options.out, options.run, options.preset, **_decoding(options)):
        print(path)
    print(f"Write your own text in {options.work / 'report.md'} and run the command again.")


def run_sweep(options):
    from lab3.common.files import atomic_path
    from lab3.common.progress import progress_bar
    from lab3.exercises.answers import load_answers
    from lab3.metrics.sweep import Grid, draw, subject, sweep

    chosen = {name: getattr(options, name) for name in Grid.__dataclass_fields__}
    grid = Grid(**{name: tuple(value) if isinstance(value, list) else value
                   for name, value in chosen.items() if value is not None})
    grid.check()
    data, answers = _data(options), load_answers(options.work)
    name = "the kit's model" if options.run.resolve() == SHIPPED else f"the model of {options.run.resolve().name}"
    about = subject(data, *_models(options, data, answers), answers, options.work, name)
    with progress_bar(total=len(grid.decodings()), desc="decodings") as bar:
        for found in sweep(options.out, grid, about, command=options.line):
            bar.update(found.done - bar.n)
    with atomic_path(options.out.with_suffix(".png")) as temporary:
        draw(found).savefig(temporary, format="png")
    print(f"{options.out} holds {found.total} decodings, {options.out.with_suffix('.png')} their heat maps. "
          f"The lowest: {', '.join(f'{name} {value}' for name, value in found.best().items())}.")


def run_page(options):
    from types import SimpleNamespace

    from lab3.exercises.fallbacks import TorchAttention
    from lab3.explorer.browser.write import write_page

    data = _data(options)
    size = write_page(options.out, *_models(options, data, SimpleNamespace(MultiHeadAttention=TorchAttention)), data)
    print(f"{options.out} holds the explorer in {size / 1e6:.1f} MB: open it in a browser. It needs no network.")


def run_check(options):
    from lab3.common.files import InputError, clean
    from lab3.exercises.examine import examine
    from lab3.exercises.table import EXERCISES

    if not options.work.is_dir():
        raise InputError(f"{options.work}: no such folder of answers. The notebooks make it: run their exercise cells "
                         "first.")
    right = 0
    for _, _, report in examine(options.work):
        print(clean(report.message))
        right += report.passed
    print(f"{right} of {len(EXERCISES)} answers pass the public checks.")
    return 0 if right == len(EXERCISES) else 1


def run_handin(options):
    from lab3.exercises.handin import pack_handin

    print(*pack_handin(options.out, options.work, options.predictions).lines(), sep="\n")


def run_fid(options):
    from lab3.common.files import clean, write_json
    from lab3.metrics.distance import fid_folders

    result = fid_folders(*options.folders, options.features, weights=options.weights)
    print(", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in result.items() if name != "left_out"))
    for folder, lines in zip(options.folders, result["left_out"], strict=True):
        for line in lines:
            print(f"{folder}: {clean(line)}", file=sys.stderr)
    if options.json:
        write_json(options.json, result)


def _add_data(parser):
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of pictures; default: the embedded cats")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave unreadable files of DIR out")


def _own_work():
    """A student's answers: what `LAB3_WORK` says, else `work` in the current folder."""
    return work_folder(Path("work"))


def _add_work(parser, named=None, default=None):
    """Where answers are: one folder, with a function that gives its default, or several."""
    parser.set_defaults(default_work=default or answer_folders)
    if default is not None:
        parser.add_argument("--work", type=Path, metavar="DIR", help=f"the folder of answers; default: {named}")
    else:
        parser.add_argument("--work", type=Path, nargs="+", metavar="DIR",
                            help="folders of answers; the first that has an answer gives it; default: the kit's own, "
                                 "made fast, or work in a student's copy")
    parser.add_argument("--trust-code", action="store_true",
                        help="run the answers in a folder that is not your own: they are code, and run as you")


def _check_trust(options):
    """Refuse to run someone else's code. Raises InputError."""
    from lab3.common.files import InputError

    work = getattr(options, "work", [])
    own = {path.resolve() for path in (_own_work(), Path("work"), OWN, *ANSWERS)}
    for folder in work if isinstance(work, list) else [work]:
        if folder.is_dir() and folder.resolve() not in own and not options.trust_code:
            raise InputError(f"{folder}: the answers there are code that would run as you, outside a sandbox. Mark a "
                             "student's with python -m grader grade, or add --trust-code for code that you trust.")


def _check_seed(options):
    """Refuse a seed that PyTorch does not take. Raises InputError."""
    from lab3.common.files import InputError

    if not 0 <= options.seed < 2**63:
        raise InputError(f"seed must lie in 0 ... 2^63 - 1, not {options.seed}.")


def _told(options, decoding, data):
    """What a decoding's JSON says about its settings: a dict."""
    return {"schedule": decoding.schedule, "total_iter": decoding.total_iter, "sweet_spot": decoding.sweet_spot,
            "choice_temperature": decoding.choice_temperature, "sampling": decoding.sampling, "exact": decoding.exact,
            "seed": options.seed, "batch_size": decoding.batch_size, "run": str(options.run), "data": data.name}


def _add_decoding(parser, sampling, steps="the preset's, 8"):
    parser.add_argument("--schedule", help="linear, cosine (default) or square")
    parser.add_argument("--total-iter", type=int, help=f"how many steps the schedule has; default: {steps}")
    parser.add_argument("--sweet-spot", type=int, help="after how many steps to stop; default: total-iter")
    parser.add_argument("--temperature", dest="choice_temperature", type=float, help="choice temperature; default: 4.5")
    parser.add_argument("--sampling", help=f"categorical or argmax; default: {sampling}")
    parser.add_argument("--exact", action="store_const", const=True,
                        help="compute every token in every step; default: only those hidden before the step")


def _decoding(options):
    """The settings of the decoding that were named: a dict by the fields of `DecodingConfig`."""
    names = ("schedule", "total_iter", "sweet_spot", "choice_temperature", "sampling", "exact")
    named = {name: value for name in names if (value := getattr(options, name)) is not None}
    return {"sweet_spot": named["total_iter"]} | named if "total_iter" in named else named


def _data(options, n_train=None):
    from lab3.common.files import clean
    from lab3.data.photos import open_data, say_left_out

    data = open_data(options.data, skip_unreadable=options.skip_unreadable, n_train=n_train)
    for line in say_left_out(data.layout.left_out) if options.data else ():
        print(f"{options.data}: {clean(line)}", file=sys.stderr)
    return data


def _models(options, data, answers):
    """The tokenizer and the transformer of a run."""
    from lab3.common.files import InputError, read_json
    from lab3.common.machine import best_device
    from lab3.common.paths import SUMMARY, WEIGHTS
    from lab3.model.tokens import tokenizer_key
    from lab3.model.transformer import load_transformer
    from lab3.training.runs import tokenizer_of

    transformer = load_transformer(options.run / WEIGHTS, answers.MultiHeadAttention).to(best_device())
    tokenizer = tokenizer_of(options.run, data).to(best_device())
    if read_json(options.run / SUMMARY)["tokenizer_key"] != tokenizer_key(tokenizer):
        raise InputError(f"{options.run}: its transformer was trained on the tokens of another tokenizer. "
                         "Put that tokenizer back, or train the transformer again.")
    return tokenizer, transformer


def _preset(options):
    """The preset of a training. Raises `InputError`, before any work is done, also if no epoch is to be trained."""
    from lab3.common.files import InputError
    from lab3.presets import preset

    if getattr(options, "epochs", None) is not None and options.epochs < 1:
        raise InputError(f"epochs must be at least 1, not {options.epochs}.")
    return preset(options.preset)


COMMANDS = {
    "lab": run_lab, "demo": run_demo, "data": run_data, "train-tokenizer": run_train_tokenizer, "train": run_train,
    "inpaint": run_inpaint, "generate": run_generate, "report": run_report, "sweep": run_sweep, "check": run_check,
    "page": run_page, "handin": run_handin, "fid": run_fid,
}
