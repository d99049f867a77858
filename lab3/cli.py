"""The command line: `python -m lab3 ...`.

In: arguments. Out: folders of results; exit status 0 done, 1 the work itself failed, 2 unusable input, each error one
line. Every command is a few calls of the modules beside this one.
"""

import argparse
import sys
import traceback
from dataclasses import asdict, replace
from pathlib import Path

from lab3.files import InputError, SaveError, read_json, write_json
from lab3.places import SHIPPED, SOLUTIONS, keep_tokenizer, open_data, tokenizer_of

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
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    debug = argparse.ArgumentParser(add_help=False)
    debug.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error")

    demo = commands.add_parser("demo", parents=[debug], help="the whole lab: train, fill, score, figures, a page")
    demo.add_argument("--preset", default="cpu", help="smoke, cpu (default) or report")
    _add_data(demo)
    demo.add_argument("--out", type=Path, default=Path("out/demo"))

    data = commands.add_parser("data", help="look through a folder of pictures, or make a clean copy of it")
    actions = data.add_subparsers(dest="action", required=True, metavar="audit|import")
    audit = actions.add_parser("audit", parents=[debug], help="name what is wrong with it")
    audit.add_argument("folder", type=Path, metavar="DIR")
    audit.add_argument("--json", type=Path, metavar="FILE", help="write the findings here too")
    copy = actions.add_parser("import", parents=[debug], help="make a clean copy of 64x64 PNGs")
    copy.add_argument("folder", type=Path, metavar="DIR")
    copy.add_argument("--out", type=Path, required=True)
    copy.add_argument("--drop-duplicates", action="store_true")
    copy.add_argument("--skip-unreadable", action="store_true", help="leave unreadable files out")

    for name, text in (("train-tokenizer", "train a VQGAN on pictures"), ("train", "train a transformer on tokens")):
        train = commands.add_parser(name, parents=[debug], help=text)
        train.add_argument("--preset", default="cpu", help="smoke, cpu (default) or report")
        _add_data(train)
        train.add_argument("--out", type=Path, required=True, metavar="RUN")
        train.add_argument("--resume", action="store_true", help="go on where the folder's training stopped")
        train.add_argument("--epochs", type=int, help="train longer or shorter than the preset says")
        if name == "train":
            train.add_argument("--work", type=Path, default=SOLUTIONS, help="the folder of answers")
            train.add_argument("--tokenizer", type=Path, metavar="FILE", help="default: the run's own, or the shipped")

    inpaint = commands.add_parser("inpaint", parents=[debug], help="fill the holes of the test pictures")
    inpaint.add_argument("--run", type=Path, default=SHIPPED, help="a folder of train; default: the shipped model")
    _add_data(inpaint)
    inpaint.add_argument("--work", type=Path, default=SOLUTIONS, help="the folder of answers")
    inpaint.add_argument("--schedule", default="cosine")
    inpaint.add_argument("--total-iter", type=int, default=8)
    inpaint.add_argument("--sweet-spot", type=int, help="default: total-iter")
    inpaint.add_argument("--temperature", type=float, default=4.5, help="choice temperature")
    inpaint.add_argument("--sampling", default="categorical", help="categorical or argmax")
    inpaint.add_argument("--seed", type=int, default=0)
    inpaint.add_argument("--out", type=Path, required=True)

    fid = commands.add_parser("fid", parents=[debug], help="the distance between two folders of pictures")
    fid.add_argument("folders", type=Path, nargs=2, metavar="DIR")
    fid.add_argument("--features", required=True, help="inception (FID) or lite0 (FD-Lite0, needs no download)")
    fid.add_argument("--weights", type=Path, metavar="FILE", help="Inception weights of your own")
    fid.add_argument("--json", type=Path, metavar="FILE", help="write the result here too")
    return parser


def main(arguments=None):
    """Run one command; returns the exit status."""
    options = make_parser().parse_args(arguments)
    try:
        COMMANDS[options.command](options)
    except KeyboardInterrupt:
        resumable = options.command in ("train", "train-tokenizer")
        print("stopped." + " What was saved is kept; --resume goes on from there." * resumable, file=sys.stderr)
        return STOPPED
    except Exception as error:
        if options.debug:
            traceback.print_exc()
        unusable = isinstance(error, (InputError, SaveError))
        text = str(error) if unusable else f"failed: {type(error).__name__}: {error} (--debug shows where)"
        print(f"lab3 {options.command}: {' '.join(text.split())}", file=sys.stderr)
        return 2 if unusable else 1
    return 0


def run_demo(options):
    from lab3.demo import demo

    demo(_preset(options), _data(options), options.out)


def run_data(options):
    from lab3.audit import audit, format_audit
    from lab3.photo_import import import_photos

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
              f"left out. {options.out / 'import.json'} names them.")


def run_train_tokenizer(options):
    from lab3.tokenizer_training import train_tokenizer

    preset, data = _preset(options), _data(options)
    config = preset.tokenizer if options.epochs is None else replace(preset.tokenizer, epochs=options.epochs)
    run = options.out / "tokenizer"
    train_tokenizer(data.train, config, run, resume=options.resume, about={"data": data.name, "data_key": data.key})
    print(f"{run / 'tokenizer.safetensors'} is ready. python -m lab3 train --out {options.out} uses it.")


def run_train(options):
    from lab3.exercises import load_answers
    from lab3.fit import WEIGHTS, fit
    from lab3.machine import best_device
    from lab3.tokens import tokenizer_key, training_tokens

    preset, data = _preset(options), _data(options)
    if options.epochs is not None:
        preset = replace(preset, training=replace(preset.training, epochs=options.epochs))
    answers = load_answers(options.work)
    tokenizer = tokenizer_of(options.out, data, options.tokenizer).to(best_device())
    fit(*training_tokens(data, tokenizer, preset.training), preset, answers, options.out, resume=options.resume,
        about={"data": data.name, "data_key": data.key, "tokenizer_key": tokenizer_key(tokenizer)})
    keep_tokenizer(options.out, tokenizer)
    print(f"{options.out / WEIGHTS} is ready. python -m lab3 inpaint --run {options.out} --out DIR fills holes.")


def run_inpaint(options):
    from lab3.exercises import load_answers
    from lab3.fit import SUMMARY, WEIGHTS
    from lab3.inpaint import fill, save_pictures
    from lab3.machine import best_device
    from lab3.presets import DecodingConfig
    from lab3.tokens import tokenizer_key
    from lab3.transformer import load_transformer

    total = options.total_iter
    decoding = DecodingConfig(
        schedule=options.schedule, total_iter=total, choice_temperature=options.temperature,
        sweet_spot=total if options.sweet_spot is None else options.sweet_spot, sampling=options.sampling)
    decoding.check()
    if not 0 <= options.seed < 2**63:
        raise InputError(f"seed must lie in 0 ... 2^63 - 1, not {options.seed}.")
    data, answers = _data(options), load_answers(options.work)
    transformer = load_transformer(options.run / WEIGHTS, answers.MultiHeadAttention).to(best_device())
    tokenizer = tokenizer_of(options.run, data).to(best_device())
    if read_json(options.run / SUMMARY)["tokenizer_key"] != tokenizer_key(tokenizer):
        raise InputError(f"{options.run}: its transformer was trained on the tokens of another tokenizer. "
                         "Put that tokenizer back, or train the transformer anew.")
    filled = fill(data.masked, data.holes, tokenizer, transformer, answers, decoding, options.seed)
    for folder, pictures in (("masked", data.masked), ("decoded", filled.decoded), ("pasted", filled.pasted)):
        save_pictures(pictures, options.out / folder)
    if data.has_originals:
        save_pictures(data.test, options.out / "original")
    write_json(options.out / "inpaint.json", {
        "schedule": decoding.schedule, "total_iter": total, "sweet_spot": decoding.sweet_spot,
        "choice_temperature": decoding.choice_temperature, "sampling": decoding.sampling, "seed": options.seed,
        "batch_size": decoding.batch_size, "run": str(options.run), "data": data.name, "n": len(data.masked)})
    print(f"{options.out / 'decoded'} (whole decoded pictures) and {options.out / 'pasted'} (known pixels put back) "
          f"hold {len(data.masked)} pictures.")


def run_fid(options):
    from lab3.distance import fid_folders

    result = fid_folders(*options.folders, options.features, weights=options.weights)
    print(", ".join(f"{name} {value:.6g}" if isinstance(value, float) else f"{name} {value}"
                    for name, value in result.items()))
    if options.json:
        write_json(options.json, result)


def _add_data(parser):
    parser.add_argument("--data", type=Path, metavar="DIR", help="a folder of pictures; default: the embedded cats")
    parser.add_argument("--skip-unreadable", action="store_true", help="leave unreadable files of DIR out")


def _data(options):
    return open_data(options.data, skip_unreadable=options.skip_unreadable)


def _preset(options):
    from lab3.presets import preset

    return preset(options.preset)


COMMANDS = {
    "demo": run_demo, "data": run_data, "train-tokenizer": run_train_tokenizer, "train": run_train,
    "inpaint": run_inpaint, "fid": run_fid,
}
