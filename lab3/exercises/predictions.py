"""Predictions: what a student expects before a cell runs, kept in `work/predictions/`, one file a notebook.

In: a question's id and a guess. Out: the guess and the result, kept side by side. To add a question: a row here, and
`lab.predict` and `lab.observe` in its notebook.
"""

import math
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from lab3.common.files import InputError, read_json, write_json

FOLDER = "predictions"  # in the folder of answers
UNKNOWN = ...  # a guess that is not made yet


@dataclass(frozen=True)
class Question:
    """One question.

    Attributes:
        id: names it in its notebook.
        notebook: the number of the notebook that asks it.
        asks: the question, a sentence.
        unit: of a number, such as "%".
        least, most: between which a number lies.
        choices: the words to choose from; empty where a number is asked for.
    """

    id: str
    notebook: str
    asks: str
    unit: str = ""
    least: float = 0
    most: float = math.inf
    choices: tuple = ()

    def checked(self, value):
        """A guess or a result: a float, or one of the choices. Raises `InputError`."""
        if self.choices:
            if isinstance(value, str) and value in self.choices:
                return value
            raise InputError(f"{self.id}: a prediction is one of {', '.join(map(repr, self.choices))}, not {value!r}.")
        inside = f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"of {self.least:g} or more"
        asked = f"{self.id}: a prediction is a number {inside}{f', in {self.unit}' if self.unit else ''}"
        if not isinstance(value, Real) or isinstance(value, bool):
            raise InputError(f"{asked}, not {value!r}.")
        if not self.least <= value <= self.most or math.isinf(value):
            raise InputError(f"{asked}, not {value}.")
        return float(value)

    def shown(self, value):
        """A guess or a result as text, with its unit."""
        return value if self.choices else f"{value:,.2f}".rstrip("0").rstrip(".") + (f" {self.unit}" * bool(self.unit))


QUESTIONS = {one.id: one for one in (
    Question("hidden_tokens", "00", "Holes cover 21 % of the pixels. What share of the tokens do they hide?",
             "%", 0, 100),
    Question("known_tokens", "00", "What share of the known tokens is the same with a hole in the picture?",
             "%", 0, 100),
    Question("scrambled_heads", "01", "What share of the hidden tokens is right when the heads are scrambled?",
             "%", 0, 100),
    Question("seen_tokens", "02", "What share of the tokens that it sees does the model get right?", "%", 0, 100),
    Question("first_loss", "03", "What is the first loss of a new model, with 1,024 codes?", "nats"),
    Question("first_step", "04", "Which schedule reveals most in its first of eight steps?",
             choices=("linear", "cosine", "square")),
    Question("taken_at_once", "04", "85 tokens, cosine, stopped after 4 of 8 steps: how many are taken all at once?",
             "tokens", 0, 85),
    Question("torn_mouths", "05", "Both halves of a mouth are drawn at once. What share of the mouths is torn?",
             "%", 0, 100),
    Question("encoded_again", "05", "What share of the known tokens is still the same after eight rounds?",
             "%", 0, 100),
    Question("eigenvalues", "06", "20 pictures, 50 features: how many of the 50 eigenvalues are not 0 on paper?",
             "eigenvalues", 0, 50),
    Question("one_step", "06", "One step, argmax: how many tokens change with a linear schedule instead of cosine?",
             "tokens"),
    Question("one_pass", "07", "What share of the pictures drawn from nothing in one step is a valid cat?",
             "%", 0, 100),
    Question("torn_part", "07", "Which part of a cat is torn most often?",
             choices=("body", "fur", "eyes", "mouth", "accessory")),
)}


def question(name):
    """The `Question` of an id. Raises `InputError`."""
    if name not in QUESTIONS:
        raise InputError(f"question {name!r} does not exist. The questions are: {', '.join(QUESTIONS)}.")
    return QUESTIONS[name]


def file_of(work, notebook):
    """The file with a notebook's predictions."""
    return Path(work) / FOLDER / f"{notebook}.json"


def predict(work, name, guess):
    """Keep a guess, unless its result is known already.

    Args:
        work: the folder of answers.
        name: the question's id.
        guess: a number or one of the question's choices; `UNKNOWN` keeps nothing.

    Returns:
        A sentence where an earlier guess stays, else "".

    Raises:
        InputError: no such question, a guess that it does not take, or a file that cannot be read.
        SaveError: it cannot be written.
    """
    asked = question(name)
    if guess is UNKNOWN:
        return ""
    guess, kept = asked.checked(guess), read(work, asked.notebook)
    earlier = kept.get(name, {})
    if "result" in earlier:
        first = earlier["prediction"]
        return "" if guess == first else f"{name}: your first prediction, {asked.shown(first)}, stays."
    write_json(file_of(work, asked.notebook), kept | {name: {"prediction": guess}})
    return ""


def observe(work, name, result):
    """Put the result beside the guess that was kept.

    Args:
        work, name: as `predict` takes them.
        result: a number, or one of the question's choices.

    Returns:
        A sentence with both; "" without a guess.

    Raises:
        InputError, SaveError: as `predict`.
    """
    asked = question(name)
    result, kept = asked.checked(result), read(work, asked.notebook)
    if name not in kept:
        return ""
    write_json(file_of(work, asked.notebook), kept | {name: kept[name] | {"result": result}})
    return f"{name}: you predicted {asked.shown(kept[name]['prediction'])}, the result is {asked.shown(result)}."


def read(work, notebook):
    """The predictions of a notebook: a dict, question -> a dict with `prediction` and perhaps `result`.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    path = file_of(work, notebook)
    return checked(read_json(path), path) if path.is_file() else {}


def checked(found, path):
    """What a file of predictions holds, as `read` gives it; unknown questions are left out. Raises `InputError`."""
    try:
        return {name: {key: QUESTIONS[name].checked(one[key]) for key in ("prediction", "result") if key in one}
                for name, one in found.items() if name in QUESTIONS and "prediction" in one}
    except (InputError, AttributeError, TypeError) as error:
        raise InputError(f"{path}: holds no predictions ({error}). Delete it and predict again.") from None
