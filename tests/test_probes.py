"""What holds for every hidden probe: the reference passes, kernels have its names, it says what it asks of an answer.

In: `PROBES`, the reference answers. Out: nothing; right and wrong answers are in test_corpus.py and the files by topic.
"""

import re
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from probing import TEXTS, failures, namespaces, right

from grader.probes import PROBES, inside
from grader.probes.probe import Wrong, decode
from lab3.exercises.table import EXERCISES

ALL = [(exercise, one.name) for exercise in EXERCISES for one in PROBES[exercise]]
FORGED = (None, True, 3, -1, [], {}, "text", [None] * 7, {"found": 3}, np.zeros(2), np.zeros((0, 3), bool), [[1e400]],
          [{"value": 1}], {"error": 3}, [[[[]]]])


def probe_of(exercise, name):
    return next(one for one in PROBES[exercise] if one.name == name)


def test_with_ready_made_attention_nothing_else_is_taken_away():
    """A case: `dataclass`, which a module of PyTorch's attention imports, went too: right answers lost 15 points."""
    done = subprocess.run([sys.executable, "-c", """
import sys, types, warnings
import torch.nn.attention.flex_attention
from grader.probes import inside

warnings.simplefilter("ignore")
modules = [getattr(module, "__dict__", {}) for module in list(sys.modules.values())]
known = {one: one.__code__ for names in modules for one in list(names.values()) if isinstance(one, types.FunctionType)}
inside.take_attention_away()
print(*{f"{one.__module__}.{one.__qualname__}" for one, code in known.items() if one.__code__ is not code}, sep="\\n")
try:
    torch.nn.functional.scaled_dot_product_attention(*torch.ones(3, 1, 2, 4))
except RuntimeError as error:
    print(error)
"""], cwd=ROOT, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    *functions, said = done.stdout.splitlines()
    assert said == "ready-made attention is not allowed in this exercise" and len(functions) > 50
    assert not [name for name in functions if not re.match(r"torch\..*attention", name)]


@pytest.mark.parametrize("exercise", EXERCISES)
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 10))])
def test_the_reference_passes(exercise, seed):
    assert not failures(exercise, TEXTS[exercise], seed)


@pytest.mark.parametrize("exercise, name", ALL)
def test_a_kernel_has_all_names_that_a_probe_uses(exercise, name):
    one, scope = probe_of(exercise, name), dict(vars(inside))
    exec(compile(one.source, f"<{name}>", "exec"), scope)
    text = inside.encode(inside.observe(scope[name], exercise, 3, namespaces(exercise, TEXTS[exercise])))
    assert len(text) < 2_000_000
    one(decode(text)["seen"], right(exercise, name, 3))


@pytest.mark.parametrize("exercise", EXERCISES)
def test_probes_are_described_and_weighed(exercise):
    probes = PROBES[exercise]
    assert 5 <= len(probes) <= 12 and all(one.weight in range(1, 9) for one in probes)
    assert all(one.title.endswith(".") and not re.search(r"\d{3}", one.title.replace("768", "")) for one in probes)
    assert len({one.title for one in probes}) == len(probes)
    assert [one.name for one in probes if one.decisive] == ["nothing_ready_made"] * (exercise == "multi_head_attention")


@pytest.mark.parametrize("exercise, name", ALL)
def test_forged_observations_are_wrong_and_nothing_else(exercise, name):
    one, wanted = probe_of(exercise, name), right(exercise, name, 3)
    for seen in FORGED:
        try:
            one(seen, wanted)
        except Wrong as wrong:
            assert len(str(wrong)) < 1000
        else:
            assert one.guessable or name == "nothing_ready_made", seen


@pytest.mark.parametrize("text", [
    "", "{", '{"array": ["float32", [-1], ""]}', '{"array": ["object", [1], "AAAAAAAAAAA="]}', '{"array": [1]}',
    '{"array": ["float32", [2], "AAAA"]}', '{"array": ["float32", [1000000, 1000000], ""]}', "[" * 100_000,
    f'{{"array": ["float32", [{", ".join(["9" * 4000] * 1500)}], ""]}}', '{"array": ["bool", [1, true], "AA=="]}',
    '{"array": ["float32", [0, 1, 1, 1, 1, 1, 1, 1, 1], ""]}'])
def test_what_is_no_observation_cannot_be_decoded(text):
    with pytest.raises(Wrong):
        decode(text)


def test_shapes_are_named_where_their_axes_fit_alone():
    from grader.probes.probe import array

    with pytest.raises(Wrong, match=r"shape \(2, 4\)"):
        array(np.zeros((2, 4)), (2, 3), "float", "logits")
    with pytest.raises(Wrong, match="5 axes") as caught:
        array(np.zeros((0, 83, 69, 67, 82)), (2, 3), "float", "logits")
    assert "83" not in str(caught.value)
