"""The report's experiments again, the classic mistakes one by one, and what is best.

    OMP_NUM_THREADS=1 python -m benchmarks.experiments [report] [ablation] [best] [--only CASE ...] [--seeds 5]
        [--pictures 128] [--passes 1] [--data DIR --tokenizer FILE] [--out out/experiments]

A case is a training, a decoding, or both. Cases of decoding alone fill with one model: the shipped one, or, for
pictures of your own, the right training of seed 0. Cases of training train a small transformer with one pass over
12,000 pictures, or `--passes` of them, in 20 epochs, once a seed, and fill with the likeliest codes, as the report
does. Each seed of each case is saved when it is done, so that a run goes on where it stopped. `--only` takes some cases
alone, also in a second process beside the first. Trained weights stay in the folder named by `--out`.

All are scored as the lab scores: whole decoded pictures against the originals, and with the known pixels put back.
"""

import argparse
import math
import statistics
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.report_loop import hide, report_decode, report_loss
from benchmarks.threshold import CASES, answers_with
from benchmarks.timing import table
from lab3.common import plots
from lab3.common.files import InputError, read_json, write_json
from lab3.common.machine import autocast, best_device
from lab3.common.paths import FAST, SHIPPED, SOLUTIONS, TOKENIZER, WEIGHTS
from lab3.common.progress import progress_bar
from lab3.data.masks import hidden_tokens, paste
from lab3.data.photos import open_data
from lab3.decoding.inpaint import Filled, fill
from lab3.exercises.answers import load_answers
from lab3.exercises.fallbacks import TorchAttention
from lab3.metrics.distance import load_extractor
from lab3.metrics.score import reference, score
from lab3.model.tokenizer import load_tokenizer
from lab3.model.tokens import tokens
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, load_transformer, save_transformer
from lab3.presets import CODES, DecodingConfig, TransformerConfig
from lab3.training.fit import Batches
from lab3.training.runs import part_generator

SMALL = TransformerConfig(dim=64, layers=4, hidden=128, heads=2, norm="post", conv=False)
EPOCHS, PICTURES, BATCH, LR, WARM_UP = 20, 600, 8, 1.5e-3, 1  # pictures of an epoch of one pass; epochs of warm-up
EMA = 0.99  # a step
STOPS = (1, 2, 4, 8, 16)  # sweet spots
HALTON = (  # the order of a quasi-random sequence, whatever the model is sure of
    ("confidence[mask] = sure", "confidence[mask] = -halton.expand_as(mask)[mask]"),)


@dataclass(frozen=True)
class Training:
    """One way of training; the defaults are the contracts', the other values the report's or a variant."""

    one_ratio: bool = False
    over_places: bool = False
    hidden_only: bool = True
    rate_by_epoch: bool = False  # the learning rate changes with each epoch, and is 0 in the first
    label_smoothing: float = 0.0
    share: float = 1.0  # of the epochs; the learning rate still falls to its end
    average: bool = False  # fill with the moving average of the weights


@dataclass(frozen=True)
class Case:
    """What is tried: settings and words changed in the decoding, and a training."""

    settings: dict
    words: tuple = ()
    training: Training | None = None
    exact: bool = False  # decode by `report_decode`, picture by picture
    keep_known: bool = False  # then with known tokens left as they are

    @property
    def stops_too(self):
        """Whether it differs from a right decoding by its steps at most: then earlier stops are scored too."""
        return self == Case(self.settings) and self.settings.keys() <= {"total_iter", "sweet_spot"}


REPORT_TRAINING = {"one_ratio": True, "over_places": True, "hidden_only": False, "rate_by_epoch": True}
RIGHT = "right"


def trained(**choices):
    """A case of training. It takes the likeliest codes, as the report does: draws hide what a weak model learned."""
    return Case({"sampling": "argmax"}, training=Training(**choices))


def cases():
    """The experiments: a dict, name -> dict, case -> `Case`."""
    drawn = {RIGHT: Case({})}
    report = drawn | {
        "linear": Case({"schedule": "linear"}), "square": Case({"schedule": "square"}),
        **{f"{steps} step{'s' * (steps > 1)}": Case({"total_iter": steps, "sweet_spot": steps})
           for steps in (1, 2, 4, 16, 21)},
        **{f"temperature {value:g}": Case({"choice_temperature": value}) for value in (0.0, 1.0, 9.0, 20.0)},
        "the report's loop": Case({"sampling": "argmax"}, exact=True),
        "the report's loop, 1 step of 5": Case({"total_iter": 5, "sweet_spot": 1, "sampling": "argmax"}, exact=True),
        "the same, known tokens kept": Case({"total_iter": 5, "sweet_spot": 1, "sampling": "argmax"}, exact=True,
                                            keep_known=True),
        "the report's loop, known tokens kept": Case({"sampling": "argmax"}, exact=True, keep_known=True),
        **{f"{share:.0%} of the training": trained(share=share) for share in (0.2, 0.5)}, "trained right": trained()}
    mistakes = {name: Case(*CASES[name]) for name in (
        "noise on probabilities", "temperature grows", "re-encoded at each step", "top-k over the batch",
        "mask token's logit kept", "right, but argmax", "sweet_spot 2 of 8")}
    ablation = drawn | mistakes | {
        "the report's loop": report["the report's loop"],
        "the report's loop, known tokens kept": report["the report's loop, known tokens kept"],
        "trained right": trained(),
        "softmax over places": trained(over_places=True, hidden_only=False),
        "loss on all tokens": trained(hidden_only=False), "one ratio a batch": trained(one_ratio=True),
        "learning rate by epochs": trained(rate_by_epoch=True), "these four": trained(**REPORT_TRAINING),
        "these four and the report's loop": replace(trained(**REPORT_TRAINING), exact=True)}
    best = drawn | {
        "right, but argmax": mistakes["right, but argmax"],
        "argmax, temperature 1": Case({"sampling": "argmax", "choice_temperature": 1.0}),
        "argmax, no noise": Case({"sampling": "argmax", "choice_temperature": 0.0}),
        "temperature 1": report["temperature 1"], "temperature 0": report["temperature 0"],
        "Halton order": Case({}, HALTON), "Halton order, argmax": Case({"sampling": "argmax"}, HALTON),
        "one pass, argmax": Case(*CASES["one pass, argmax"]),
        "trained right": trained(), "trained right, drawn": Case({}, training=Training()),
        "label smoothing 0.1": trained(label_smoothing=0.1), "moving average": trained(average=True),
        "loss on all tokens": trained(hidden_only=False)}
    return {"report": report, "ablation": ablation, "best": best}


class Lab:
    """Pictures, tokens and models that cases share.

    Args:
        data: what `open_data` gives.
        tokenizer: a `Tokenizer`.
        pictures: how many of the test pictures are filled.
        out: a folder for weights and results.
        shipped: fill with the shipped model where a case trains none.
        passes: how many times 12,000 pictures a training takes.
    """

    def __init__(self, data, tokenizer, pictures, out, shipped, passes=1):
        self.data, self.out, self.shipped, self.device = data, Path(out), shipped, best_device()
        self.an_epoch = PICTURES * passes
        self.tokenizer = tokenizer.to(self.device)
        self.test, self.holes, self.masked = data.test[:pictures], data.holes[:pictures], data.masked[:pictures]
        self.compare = reference(self.test, self.holes, self.masked, self.tokenizer, load_extractor("lite0"),
                                 f"{data.key}-{len(self.test)}")
        self.fast = load_answers([FAST, SOLUTIONS])

    def model(self, training, seed):
        """The transformer of a case, and its loss on hidden tokens of the validation pictures (None: not trained)."""
        if training is None and self.shipped:
            return load_transformer(SHIPPED / WEIGHTS, TorchAttention).to(self.device), None
        training = training or Training()
        kept = replace(training, average=False)
        changed = [f"{name}-{value}" for name, value in asdict(kept).items() if value != getattr(Training(), name)]
        path = self.out / "models" / "_".join([*(changed or [RIGHT]), f"{seed}.safetensors"])
        averaged = path.with_name(f"average_{path.name}")
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            model, average = self.train(kept, seed)
            save_transformer(averaged, average)
            save_transformer(path, model)
        model = load_transformer(averaged if training.average else path, TorchAttention).to(self.device)
        return model, self.validation_loss(model)

    def train(self, training, seed):
        """Train a small transformer: (its weights at the end, their moving average)."""
        pictures = tokens(self.data.train[:EPOCHS * PICTURES], self.tokenizer, progress=False).to(self.device)
        torch.manual_seed(seed)
        model = BidirectionalTransformer(SMALL, TorchAttention).to(self.device).train()
        epochs = round(EPOCHS * training.share)
        unit = 1 if training.rate_by_epoch else math.ceil(self.an_epoch / BATCH)
        optimizer, scheduler = self.fast.configure_optimizers(model, LR, epochs * unit, WARM_UP * unit, 0.01)
        average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(EMA))
        order = torch.Generator().manual_seed(seed)
        rounds = math.ceil(EPOCHS * self.an_epoch / len(pictures))
        rows = torch.cat([torch.randperm(len(pictures), generator=order) for _ in range(rounds)])
        generator = torch.Generator(self.device).manual_seed(seed)
        for epoch in progress_bar(range(epochs), desc="training", unit="epoch"):
            wanted = rows[epoch * self.an_epoch:(epoch + 1) * self.an_epoch].to(self.device)
            for z_indices in Batches(pictures, wanted, BATCH):
                mask = hide(*z_indices.shape, one_ratio=training.one_ratio, generator=generator, device=self.device)
                optimizer.zero_grad(set_to_none=True)
                with autocast(self.device):
                    loss = loss_of(model, z_indices, mask, training)
                loss.backward()
                optimizer.step()
                average.update_parameters(model)
                if not training.rate_by_epoch:
                    scheduler.step()
            if training.rate_by_epoch:
                scheduler.step()
        return model.eval(), average.module.eval()

    def validation_loss(self, model):
        """The loss on hidden tokens of 256 validation pictures, in nats."""
        val = tokens(self.data.val[:256], self.tokenizer, progress=False).to(self.device)
        return self.fast.eval_one_epoch(
            model, Batches(val, torch.arange(len(val), device=self.device), 32), mask_token_id=MASK_TOKEN_ID,
            device=self.device, generator=part_generator(0, -1, self.device))

    def measure(self, case, seed):
        """One seed of a case.

        Returns:
            A dict: `scores`, number of steps -> a `Score` as a dict, of a case that `stops_too` after each of `STOPS`
            too; `val_loss`; `seconds` of the filling.
        """
        model, val_loss = self.model(case.training, seed if case.training else 0)
        decoding = replace(DecodingConfig(), **case.settings)
        began = time.perf_counter()
        if case.exact:
            filled = self.fill_exactly(model, decoding, seed, case.keep_known)
        else:
            answers = answers_with(case.words, self.tokenizer) if case.words else self.fast
            filled = fill(self.masked, self.holes, self.tokenizer, model, answers, decoding, seed, progress=False)
        seconds = time.perf_counter() - began
        scores = {decoding.sweet_spot: asdict(score(filled, self.compare))}
        for step in STOPS if case.stops_too else ():
            if step < decoding.sweet_spot:
                scores[step] = asdict(score(self.stopped(filled, step), self.compare))
        return {"scores": scores, "val_loss": val_loss, "seconds": round(seconds, 1)}

    def stopped(self, filled, step):
        """The `Filled` that a sweet spot of `step` would have given."""
        z_indices = filled.predictions[:, step - 1]
        decoded = self.tokenizer.decode(z_indices)
        return Filled(decoded, paste(decoded, self.masked, self.holes), z_indices, filled.masks[:, :step + 1],
                      filled.predictions[:, :step])

    def fill_exactly(self, model, decoding, seed, keep_known):
        """A `Filled` by the report's own loop, without its steps."""
        generator, gamma = torch.Generator(self.device).manual_seed(seed), self.fast.gamma_func(decoding.schedule)
        mask = hidden_tokens(self.holes).to(self.device)
        pictures = [report_decode(
            self.tokenizer, model, picture[None], hidden[None], gamma=gamma, total_iter=decoding.total_iter,
            sweet_spot=decoding.sweet_spot, choice_temperature=decoding.choice_temperature, generator=generator,
            keep_known=keep_known)[-1][0] for picture, hidden in zip(self.masked, mask)]
        decoded = torch.cat(pictures)
        return Filled(decoded, paste(decoded, self.masked, self.holes), None, None, None)


def loss_of(model, z_indices, mask, training):
    """The loss of one batch, a scalar."""
    shown = z_indices.masked_fill(mask, MASK_TOKEN_ID)
    if training.over_places:
        return report_loss(model(shown)[..., :CODES], z_indices, mask, hidden_only=training.hidden_only)
    counted = mask if training.hidden_only else torch.ones_like(mask)
    logits = model(shown, counted)[:, :CODES].float()
    if not len(logits):  # a ratio so low that nothing is hidden
        return logits.sum()
    return F.cross_entropy(logits, z_indices[counted], label_smoothing=training.label_smoothing)


def run(lab, chosen, seeds, path):
    """Measure what a file lacks, seed by seed, so that all cases have one before any has two; gives all rows.

    A decoding that ends in an error, as a mistake's may, is named and has no row.
    """
    for seed in range(seeds):
        for name, case in chosen.items():
            rows = kept(path)
            if str(seed) in rows.get(name, {}):
                continue
            try:
                row = lab.measure(case, seed)
            except InputError as error:
                print(f"{name}, seed {seed}: {error}", flush=True)
                continue
            rows = kept(path)  # another process may have added to it
            rows.setdefault(name, {})[str(seed)] = row
            write_json(path, {"floor": lab.compare.distance_floor, "holes": lab.compare.distance_holes,
                              "pictures": len(lab.test), "data": lab.data.name, "rows": rows})
            last = row["scores"][max(row["scores"])]
            print(f"{name}, seed {seed}: {last['distance']:.2f}, pasted {last['distance_pasted']:.2f}, "
                  f"{row['seconds']:.0f} s", flush=True)
    return kept(path)


def kept(path):
    """The rows of a file, {} where there is none."""
    try:
        return read_json(path)["rows"]
    except InputError:
        return {}


def spread(values, digits=2):
    """Mean and standard deviation as text. NaN, the mark of cats where none is valid, does not count."""
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return ""
    text = f"{statistics.mean(known):.{digits}f}"
    return f"{text} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else text


def columns(rows, stop=None):
    """A dict, name of a score -> its values over the seeds of a case, after `stop` steps (None: the last)."""
    found = [row["scores"][str(stop) if stop else max(row["scores"], key=int)] for row in rows.values()]
    return {name: [one[name] for one in found] for name in found[0]}


def show(rows, chosen, floor):
    """Print a table in Markdown."""
    lines = []
    for name in chosen:
        if name in rows:
            found, losses = columns(rows[name]), [row["val_loss"] for row in rows[name].values()]
            lines.append((name, spread(found["distance"]), f"{statistics.mean(found['distance']) - floor:.2f}",
                          spread(found["distance_pasted"]), spread(found["kid"], 4), f"{len(losses)}",
                          spread(losses) if None not in losses else ""))
    print(table(("case", "FD-Lite0", "above the floor", "pasted", "KID", "seeds", "validation loss"), lines))


def show_stops(rows, names):
    """Print the distance over number of steps and sweet spot."""
    stops, lines = (*STOPS, 21), []
    for name in names:
        if name in rows:
            have = next(iter(rows[name].values()))["scores"]
            lines.append(("8 steps" if name == RIGHT else name, *(
                spread(columns(rows[name], stop)["distance"]) if str(stop) in have else "" for stop in stops)))
    print(table(("total_iter", *(f"sweet spot {stop}" for stop in stops)), lines))


def draw(rows, chosen, floor, name, folder):
    """Save the figures of an experiment: a dot a seed, decodings of one model and small models apart."""
    kinds = {"decoding": [one for one, case in chosen.items() if case.training is None],
             "training": [one for one, case in chosen.items() if case.training is not None]}
    for kind, names in kinds.items():
        found = {one: columns(rows[one])["distance"] for one in names if one in rows}
        if found:
            least = min(map(min, found.values()))
            near = {one: values for one, values in found.items() if max(values) < 4 * least}
            far = "; ".join(f"{one}: {statistics.mean(found[one]):.0f}" for one in found if one not in near)
            page = plots.dots(near, f"FD-Lite0, lower is better; floor {floor:.1f}"
                                    + (f"\nbeyond the axis: {far}" if far else ""), CAPTIONS[name, kind])
            (folder / f"{name}_{kind}.png").write_bytes(plots.png(page))


def draw_stops(rows, folder):
    """Save the curves of distance over sweet spot, one for each number of steps."""
    series = {}
    for name in STEPS:
        if name in rows and (name == RIGHT or "steps" in name):
            stops = sorted(map(int, next(iter(rows[name].values()))["scores"]))
            means = [statistics.mean(columns(rows[name], stop)["distance"]) for stop in stops]
            series["8 steps" if name == RIGHT else name] = stops, means
    if len(series) > 1:
        page = plots.curves({"FD-Lite0": series}, "sweet spot", "Stopping early costs; more steps gain little.")
        (folder / "report_steps.png").write_bytes(plots.png(page))


STEPS = ("2 steps", "4 steps", RIGHT, "16 steps", "21 steps")
CAPTIONS = {
    ("report", "decoding"): "What the report varies, with the shipped model.",
    ("report", "training"): "A small model after less training.",
    ("ablation", "decoding"): "Classic mistakes of decoding, with the shipped model.",
    ("ablation", "training"): "Classic mistakes of training, alone and together: small models, one budget.",
    ("best", "decoding"): "Variants of a right decoding, with the shipped model.",
    ("best", "training"): "Variants of a right training: small models of one budget."}


if __name__ == "__main__":
    experiments = cases()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="*", metavar="NAME", help=", ".join(experiments))
    parser.add_argument("--only", nargs="+", metavar="CASE", help="some cases alone")
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 0 on")
    parser.add_argument("--pictures", type=int, default=128, help="the first so many test pictures")
    parser.add_argument("--passes", type=int, default=1, help="over 12,000 pictures, of a training")
    parser.add_argument("--data", type=Path, help="a folder of pictures; default: the embedded cats")
    parser.add_argument("--tokenizer", type=Path, default=SHIPPED / TOKENIZER, help="default: the shipped one")
    parser.add_argument("--out", type=Path, default=Path("out/experiments"))
    parser.add_argument("--show", action="store_true", help="measure nothing, show what there is")
    options = parser.parse_args()
    data, names = open_data(options.data), options.experiments or list(experiments)
    wanted = {name: {case: how for case, how in experiments[name].items() if not options.only or case in options.only}
              for name in names}
    lab_folder = options.out / (data.name if options.passes == 1 else f"{data.name}-{options.passes}-passes")
    results = lab_folder.with_name(f"{lab_folder.name}-{options.pictures}.json")
    lab_folder.mkdir(parents=True, exist_ok=True)
    if not options.show:
        lab = Lab(data, load_tokenizer(options.tokenizer), options.pictures, lab_folder, options.data is None,
                  options.passes)
        run(lab, {case: how for some in wanted.values() for case, how in some.items()}, options.seeds, results)
    rows, floor = kept(results), read_json(results)["floor"]
    for name, chosen in wanted.items():
        print(f"\n{name}: {data.name}, {options.pictures} pictures, floor {floor:.2f}\n")
        show(rows, chosen, floor)
        if name == "report":
            print()
            show_stops(rows, STEPS)
            draw_stops(rows, lab_folder)
        draw(rows, chosen, floor, name, lab_folder)
