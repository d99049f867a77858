"""Sweeps: the distance over schedule, total_iter, sweet_spot and temperature, for one model.

In: a model, answers, test pictures, a grid of settings. Out: a file of distances that grows with each decoding, so that
a sweep resumes where it stopped; its heat maps; and in a notebook a panel that runs one beside other work.
"""

import itertools
import math
import time
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from lab3.common import plots
from lab3.common.files import InputError, content_key, read_json, write_json
from lab3.common.machine import machine_kind
from lab3.common.paths import ROOT
from lab3.decoding.inpaint import fill
from lab3.exercises.table import DECODING
from lab3.metrics.distance import NAMES, distance, features, load_extractor
from lab3.metrics.score import reference
from lab3.model.tokens import weights_key
from lab3.presets import SCHEDULES, DecodingConfig

PRECOMPUTED = ROOT / "data" / "sweep.json"  # of the shipped model, with the reference answers
CELL = ("schedule", "total_iter", "sweet_spot", "temperature")


@dataclass(frozen=True)
class Grid:
    """The settings that a sweep tries: every schedule with every total_iter, sweet spot and temperature.

    `parts` are sweet spots as shares of total_iter; those that are no whole number of steps are left out.
    """

    schedules: tuple = SCHEDULES
    total_iters: tuple = (1, 2, 4, 8, 12)
    parts: tuple = (0.25, 0.5, 0.75, 1.0)
    temperatures: tuple = (0.0, 1.0, 4.5, 9.0)
    sampling: str = "categorical"
    pictures: int = 128  # the first so many test pictures
    seeds: tuple = (0, 1)

    def check(self):
        """Raise `InputError` for a grid that no sweep can have."""
        for name, value in asdict(self).items():
            if isinstance(value, tuple) and (not value or len(set(value)) < len(value)):
                raise InputError(f"{name} must name one value or more, each once, not {value}.")
        if self.pictures < 2:
            raise InputError(f"pictures must be at least 2, not {self.pictures}: a distance compares sets.")
        if not all(0 < part <= 1 for part in self.parts):
            raise InputError(f"parts must lie in (0, 1], as shares of total_iter, not {self.parts}.")
        if not all(0 <= seed < 2**63 for seed in self.seeds):
            raise InputError(f"seeds must lie in 0 ... 2^63 - 1, not {self.seeds}.")
        for schedule, total_iter, temperature in itertools.product(
                self.schedules, self.total_iters, self.temperatures):
            if not math.isfinite(temperature):
                raise InputError(f"temperature must be a finite number, not {temperature}.")
            DecodingConfig(schedule, total_iter, max(1, total_iter), temperature, self.sampling).check()
        if not any(self.sweet_spots(total_iter) for total_iter in self.total_iters):
            raise InputError(f"parts {self.parts} give no whole number of steps for any total_iter of "
                             f"{self.total_iters}.")

    def sweet_spots(self, total_iter):
        """The sweet spots of a total_iter: a dict, part -> a whole number of steps."""
        steps = {part: round(part * total_iter, 9) for part in self.parts}
        return {part: int(number) for part, number in steps.items() if number == int(number)}

    def decodings(self):
        """What there is to decode: (seed, temperature, schedule, total_iter). One holds all its sweet spots."""
        return [(seed, temperature, schedule, total_iter) for seed, temperature, schedule, total_iter
                in itertools.product(self.seeds, self.temperatures, self.schedules, self.total_iters)
                if self.sweet_spots(total_iter)]


@dataclass(frozen=True)
class Found:
    """A sweep as far as it has come.

    `about`: what it was made with. `cells`: (schedule, total_iter, sweet_spot, temperature) -> a dict, seed ->
    distance. `done` of `total` decodings are there.
    """

    grid: Grid
    about: dict
    cells: dict
    done: int
    total: int

    def distances(self, cell):
        """The distances of a cell, one for each of the grid's seeds that is there."""
        return [self.cells[cell][seed] for seed in self.grid.seeds if seed in self.cells.get(cell, {})]

    def best(self):
        """The setting with the smallest mean among those with all seeds, as a dict; None where there is none yet."""
        whole = {cell: np.mean(self.distances(cell)) for cell in self.cells
                 if len(self.distances(cell)) == len(self.grid.seeds)}
        return dict(zip(CELL, min(whole, key=whole.get))) if whole else None


def subject(data, tokenizer, transformer, answers, work, name):
    """What a sweep is about: a model with its tokenizer, the answers that decode, and test pictures.

    Args:
        data: with `.test`, `.masked`, `.holes`, `.key`, `.name`.
        tokenizer, transformer: on one device.
        answers: with `gamma_func` and `iterative_decode`.
        work: the folder of the answers' files: other answers are another sweep.
        name: what to call the model.

    Returns:
        A namespace with all of it and with `key`, which changes with anything that the distances depend on.
    """
    files = [Path(work) / f"{answer}.py" for answer in ("multi_head_attention", *DECODING)]
    texts = [path.read_bytes() if path.is_file() else b"" for path in files]
    keys = (weights_key(transformer), weights_key(tokenizer), data.key)
    key = content_key([*(part.encode() for part in keys), *texts])
    return SimpleNamespace(data=data, tokenizer=tokenizer, transformer=transformer, answers=answers, name=name, key=key)


def sweep_key(subject, grid):
    """The key of a sweep's file: what its distances depend on, but for the settings and seeds that each names."""
    return content_key([subject.key.encode(), grid.sampling.encode(), str(grid.pictures).encode(),
                        str(DecodingConfig().batch_size).encode()])


def sweep(path, grid, subject, command=None):
    """Decode with every setting of a grid, or go on with it.

    Saves `path` after each decoding. What it holds of this grid is not decoded again, and a sweep with a larger grid
    goes on from a smaller one.

    Args:
        path: a JSON file.
        grid: a `Grid`.
        subject: what `subject` gives.
        command: what the file is to say it was made with.

    Yields:
        `Found`, at first what the file has, then one more after each decoding.

    Raises:
        InputError: a grid that cannot be, too few pictures, or a file that belongs to another sweep.
        SaveError: the file cannot be written.
    """
    grid.check()
    data, key = subject.data, sweep_key(subject, grid)
    test, masked, holes = data.test[:grid.pictures], data.masked[:grid.pictures], data.holes[:grid.pictures]
    if len(test) < grid.pictures:
        raise InputError(f"pictures must be at most {len(test)}, which is what {data.name} has, not {grid.pictures}.")
    about, cells = None, {}
    if Path(path).is_file():
        about, cells = _read(path)
        if about["key"] != key:
            raise InputError(f"{path}: holds a sweep of another model, of other answers, pictures or sampling. "
                             "Name another file, or delete this one.")
    found = _found(grid, about, cells)
    if found.done:
        yield found
    if found.done == found.total:
        return
    compared = reference(test, holes, masked, subject.tokenizer, load_extractor("lite0"),
                         f"{data.key}-{len(test)}")
    if about is None:
        about = {
            "key": key, "model": subject.name, "data": data.name, "n": len(test), "features": compared.extractor.kind,
            "sampling": grid.sampling, "distance_floor": compared.distance_floor,
            "distance_holes": compared.distance_holes, "machine": machine_kind(), "seconds": 0.0}
    about |= {"command": command} if command else {}
    measured = {}  # where nothing is left to choose, settings give the same tokens: they are scored once
    for seed, temperature, schedule, total_iter in grid.decodings():
        names = {steps: (schedule, total_iter, steps, temperature) for steps in grid.sweet_spots(total_iter).values()}
        if all(seed in cells.get(name, {}) for name in names.values()):
            continue
        began = time.perf_counter()
        decoding = DecodingConfig(schedule, total_iter, total_iter, temperature, grid.sampling)
        filled = fill(masked, holes, subject.tokenizer, subject.transformer, subject.answers, decoding, seed,
                      progress=False)
        for steps, name in names.items():
            tokens = filled.predictions[:, steps - 1]  # (n, 256): what a decoding that stops here ends with
            content = tokens.numpy().tobytes()
            if content not in measured:
                measured[content] = distance(
                    features(subject.tokenizer.decode(tokens), compared.extractor), compared.features)
            cells.setdefault(name, {})[seed] = round(measured[content], 4)
        about["seconds"] = round(about["seconds"] + time.perf_counter() - began, 1)
        _write(path, about, cells)
        yield _found(grid, about, cells)


def read_sweep(path):
    """A sweep's file as `Found`, its grid being all that the file holds. Raises `InputError`."""
    about, cells = _read(path)
    names = list(cells)
    parts = sorted({Fraction(steps, total_iter) for _, total_iter, steps, _ in names})
    seeds = sorted(set.intersection(*(set(by_seed) for by_seed in cells.values())))
    grid = Grid(
        schedules=tuple(dict.fromkeys(name[0] for name in names)),
        total_iters=tuple(sorted({name[1] for name in names})), parts=tuple(map(float, parts)),
        temperatures=tuple(sorted({name[3] for name in names})), sampling=about["sampling"],
        pictures=about["n"], seeds=tuple(seeds) or (0,))
    return _found(grid, about, cells)


def kept(paths, subject):
    """The finished sweeps of a subject among some files, as `Found`; files about anything else are left out."""
    for path in paths:
        try:
            found = read_sweep(path)
        except InputError:
            continue
        if found.done == found.total and found.about["key"] == sweep_key(subject, found.grid):
            yield found


def draw(found, caption=None):
    """Heat maps of a sweep, one for each schedule and temperature; empty where nothing is decoded yet.

    Each place holds the mean over seeds and, where there are several, their standard deviation; the smallest mean is
    framed.
    """
    grid, means, spreads = found.grid, {}, {}
    for temperature, schedule in itertools.product(grid.temperatures, grid.schedules):
        title = f"{schedule}, temperature {temperature:g}"
        shape = len(grid.total_iters), len(grid.parts)
        means[title], spreads[title] = np.full(shape, np.nan), np.full(shape, np.nan)
        for row, total_iter in enumerate(grid.total_iters):
            for part, steps in grid.sweet_spots(total_iter).items():
                values = found.distances((schedule, total_iter, steps, temperature))
                place = row, grid.parts.index(part)
                if values:
                    means[title][place] = np.mean(values)
                if len(values) > 1:
                    spreads[title][place] = np.std(values, ddof=1)
    several = any(not np.isnan(spread).all() for spread in spreads.values())
    parts = ["all" if part == 1 else str(Fraction(part).limit_denominator(100)) for part in grid.parts]
    return plots.heat_maps(
        means, grid.total_iters, parts, ("total_iter", "sweet_spot / total_iter"),
        describe(found) if caption is None else caption, across=len(grid.schedules),
        spreads=spreads if several else None, best=True)


def describe(found):
    """One line on what a sweep's numbers are."""
    seeds = len(found.grid.seeds)
    return (f"{NAMES[found.about['features']]} of {found.about['n']} pictures, {found.about['model']}, "
            f"{seeds} {'seed' if seeds == 1 else 'seeds'}; lower is better, the lowest is framed.")


def _found(grid, about, cells):
    wanted = grid.decodings()
    done = sum(all(seed in cells.get((schedule, total_iter, steps, temperature), {})
                   for steps in grid.sweet_spots(total_iter).values())
               for seed, temperature, schedule, total_iter in wanted)
    return Found(grid, dict(about or {}), {name: dict(by_seed) for name, by_seed in cells.items()}, done, len(wanted))


def _read(path):
    held = read_json(path)
    try:
        cells = {}
        for name, by_seed in held.pop("cells").items():
            schedule, total_iter, steps, temperature = name.split("/")
            cells[schedule, int(total_iter), int(steps), float(temperature)] = {
                int(seed): float(value) for seed, value in by_seed.items()}
        if not cells or not {"key", "n", "model", "features", "sampling", "seconds"} <= held.keys():
            raise ValueError("something is missing")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: holds no sweep ({error}). Name another file.") from None
    return held, cells


def _write(path, about, cells):
    write_json(path, about | {"cells": {
        "/".join(map(str, name)): {str(seed): value for seed, value in by_seed.items()}
        for name, by_seed in cells.items()}})
