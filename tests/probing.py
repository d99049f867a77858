"""What the tests of the grader share: probes without kernels, and submissions."""

import json
import re
from functools import cache

from conftest import ROOT

from grader.probes import PROBES, inside
from grader.probes.probe import Wrong, decode
from lab3.exercises.answers import answer_file, defined, link, run_answer
from lab3.exercises.table import EXERCISES

WORK = ROOT / "solutions" / "work"
TEXTS = {exercise: (WORK / f"{exercise}.py").read_text() for exercise in EXERCISES}
LAST = ("defaults", "nothing_ready_made", "validation_loss")  # the probes that take longest, the last one two seconds


def namespaces(exercise, text):
    """Each answer in a namespace of its own: `text` for this exercise, the reference answers for the others."""
    answers = {}
    for name in EXERCISES:
        text_of = text if name == exercise else TEXTS[name]
        answers[name] = run_answer(name, answer_file(text_of), f"{name}.py", defined(answers))
    link(answers)
    return answers


@cache
def right(exercise, probe, seed):
    """What a probe sees of the reference answer."""
    one = next(one for one in PROBES[exercise] if one.name == probe)
    found = inside.observe(one.look, exercise, seed, namespaces(exercise, TEXTS[exercise]))
    assert "seen" in found, found
    return decode(inside.encode(found["seen"]))


def each_failure(exercise, text, seed, probes):
    """What is wrong with an answer, probe by probe in the order given: yields (name of the probe, `Wrong`)."""
    answers = namespaces(exercise, text)
    for one in probes:
        seen = decode(inside.encode(inside.observe(one.look, exercise, seed, answers)))
        try:
            if "error" in seen:
                raise Wrong("no exception", f"{seen['error']['type']}: {seen['error']['text'][:300]}")
            one(seen["seen"], right(exercise, one.name, seed))
        except Wrong as wrong:
            yield one.name, wrong


def first_failure(exercise, text, seed):
    """The `Wrong` of the first probe that fails, None where all pass. What takes longest comes last."""
    probes = sorted(PROBES[exercise], key=lambda one: LAST.index(one.name) if one.name in LAST else -1)
    return next((wrong for _, wrong in each_failure(exercise, text, seed, probes)), None)


def failures(exercise, text, seed, only=None):
    """What is wrong with an answer: a dict, name of the probe -> `Wrong`; empty where it is right."""
    return dict(each_failure(exercise, text, seed, [one for one in PROBES[exercise] if not only or one.name in only]))


def notebook_of(*cells, kind="code"):
    """The JSON of a notebook with these cells."""
    return json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [
        {"cell_type": kind, "id": f"c{i}", "metadata": {}, "source": text, "outputs": [], "execution_count": None}
        for i, text in enumerate(cells)]})


def is_short(wrong):
    """Whether a message is short, and spells no number of the grader's in full."""
    told = wrong.expected + wrong.likely
    return len(told + wrong.got) < 700 and not re.search(r"\d\.\d{4}", told)


def hand_in(folder, texts, helpers=(), notebook="lab.ipynb"):
    """A submission: a notebook with the code of answers, by exercise, after cells of helpers."""
    cells = [*helpers, *(f"#| exercise: {name}\n{text}" for name, text in texts.items())]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / notebook).write_text(notebook_of(*cells))
    return folder
