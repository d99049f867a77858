"""Turn a run's folder into the weights that ship: half precision, and beside each a JSON that says how it was made.

In: a folder that `train-tokenizer` and `train` filled. Out: tokenizer and maskgit, .safetensors and .json, and the
cats' tokens, beside this file. A transformer that knows labels goes into the folder `labels`. The first pictures of
README and notebook 00 are drawn by `python -m benchmarks.from_nothing`, after the transformer has changed.

    python -m lab3 train-tokenizer --preset cpu --out runs/shipped   # leave out to keep the tokenizer
    python -m lab3 train --preset cpu --epochs 14 --out runs/shipped
    python data/checkpoints/ship.py runs/shipped --machine "two cores"

    python -m lab3 train-tokenizer --decoder-of data/checkpoints/tokenizer.safetensors --train-pictures 40000 \
        --epochs 1 --out runs/decoder  # tokens, and with them the transformer, stay
    python data/checkpoints/ship.py runs/decoder --machine "two cores"

    python -m lab3 train --preset labels --out runs/labels
    python data/checkpoints/ship.py runs/labels --machine "two cores"
"""

import argparse
import sys
from pathlib import Path

from lab3.common.files import read_json, sha256, write_json
from lab3.common.paths import LABELLED, SOLUTIONS, SUMMARY, TOKENIZER, WEIGHTS
from lab3.data.photos import open_data
from lab3.exercises.answers import load_answers
from lab3.model.tokenizer import load_tokenizer, save_tokenizer
from lab3.model.tokens import ship_tokens
from lab3.model.transformer import load_transformer, save_transformer
from lab3.presets import preset
from lab3.training.runs import read_metrics

HERE = Path(__file__).resolve().parent


def provenance(path, command, about, curve, machine):
    """Write the JSON beside `path`."""
    write_json(path.with_suffix(".json"), about | {
        "command": command, "machine": machine, "licence": "CC BY 4.0, after David Revoy: see data/cats/LICENSE.md",
        "seed": about.get("training", about.get("config"))["seed"], "sha256": sha256(path),
        "bytes": path.stat().st_size, "curve": curve})


def main(run, machine):
    if (run / "tokenizer" / "tokenizer.json").is_file():  # trained in this run, not the shipped one
        ship_tokenizer(run, machine)
    if (run / WEIGHTS).is_file():
        ship_transformer(run, machine)


def ship_transformer(run, machine):
    """Write the transformer, of labels too."""
    transformer = load_transformer(run / WEIGHTS, load_answers(SOLUTIONS).MultiHeadAttention)
    folder = LABELLED if transformer.config.labels else HERE
    save_transformer(folder / WEIGHTS, transformer, half=True)
    about = read_json(run / SUMMARY)
    about.pop("weights_sha256")
    named = ("step", "epoch", "epoch_loss", "val_loss", "val_bits", "val_bits_error")
    curve = [{name: row[name] for name in named if name in row} for row in read_metrics(run) if "val_loss" in row]
    pictures = about["training"]["train_pictures"]
    provenance(folder / WEIGHTS, f"python -m lab3 train --preset {about['preset']} --epochs "
               f"{about['training']['epochs']} {f'--train-pictures {pictures} ' if pictures else ''}"
               f"--out runs/{run.name}", about, curve, machine)


def ship_tokenizer(run, machine):
    """Write the tokenizer and the cats' tokens."""
    tokenizer = load_tokenizer(run / "tokenizer" / TOKENIZER)
    save_tokenizer(HERE / TOKENIZER, tokenizer)
    about = read_json(run / "tokenizer" / "tokenizer.json")
    curve = [{name: row[name] for name in ("step", "l1", "perceptual", "commitment", "codes_used")}
             for row in read_metrics(run / "tokenizer")][::4]
    command = f"python -m lab3 train-tokenizer --preset cpu --epochs {about['config']['epochs']} "
    if "decoder_of" in about:  # the tokens stay
        before = read_json((HERE / TOKENIZER).with_suffix(".json"))
        about["encoder"] = {name: value for name, value in before.items() if name not in ("sha256", "bytes")}
        command += f"--decoder-of data/checkpoints/{TOKENIZER} --train-pictures {about['train_pictures']} "
    provenance(HERE / TOKENIZER, f"{command}--out runs/{run.name}", about, curve, machine)
    if "decoder_of" not in about:
        ship_tokens(open_data(None), load_tokenizer(HERE / TOKENIZER), preset("cpu").training, HERE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--machine", required=True, help="what kind of machine the run was made on")
    options = parser.parse_args()
    sys.exit(main(options.run, options.machine))
