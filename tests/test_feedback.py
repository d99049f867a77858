"""What one mistake is called, and what it costs.

In: the reference answers with one mistake each. Out: the likely reasons of the public check and of the probes, and the
share of the points that is left.
"""

from types import SimpleNamespace

import pytest
from probing import TEXTS, failures
from test_checks import changed, run

from grader.kernels.graded_notebook import explain
from grader.probes import PROBES
from grader.probes.attention import ready_made
from lab3.exercises.checks import check, portability

ATTENTION = "multi_head_attention"
CUT = "heads are split one way and joined another"
ROUND = "the residual connection is outside this class"
# (exercise, mistake): the change; what the check says; what some probe says; the least and the largest share that stays
MISTAKES = {
    (ATTENTION, "a residual"): (("return self.output(mixed)", "return x + self.output(mixed)"), ROUND, ROUND, 0.4, 0.6),
    (ATTENTION, "causal"): (
        ("scores.softmax(dim=-1)", "scores.masked_fill(torch.ones(T, T).triu(1) > 0, -1e9).softmax(dim=-1)"),
        "a causal mask", "a causal mask", 0.2, 0.4),
    (ATTENTION, "keys for values"): (("heads(self.value(x))", "heads(self.key(x))"), "the layer value is not used",
                                     "the values are made by the layer key", 0.2, 0.4),
    (ATTENTION, "softmax over the heads"): (("softmax(dim=-1)", "softmax(dim=1)"), "the softmax runs over the heads",
                                            "the softmax runs over the heads", 0.2, 0.4),
    (ATTENTION, "256 written out"): (("y.view(B, T,", "y.view(B, 256,"), "the new shape holds another number", "",
                                     0.1, 0.4),
    (ATTENTION, "heads cut apart"): (
        ("y.view(B, T, self.num_heads, d).transpose(1, 2)", "y.view(B, T, d, self.num_heads).permute(0, 3, 1, 2)"), CUT,
        CUT, 0.5, 0.8),
    (ATTENTION, "no dropout"): (("self.attn_drop(scores.softmax(dim=-1))", "scores.softmax(dim=-1)"),
                                "attn_drop is not used", "attn_drop is not used", 0.7, 0.85),
    ("sample_mask", "bernoulli at one half"): (("return scores < ratio", "return scores < 0.5"), "",
                                               "the share is always the same", 0.3, 0.9),
    ("masked_forward", "no mask"): (("z_indices.masked_fill(mask, mask_token_id)", "z_indices"), "without the mask",
                                    "without the mask", 0, 0.45),
    ("masked_forward", "an inverted mask"): (("masked_fill(mask,", "masked_fill(~mask,"), "the mask is inverted",
                                             "the mask is inverted", 0, 0.45),
    ("train_one_epoch", "one mask for all rows"): (
        ("sample_mask(*z_indices.shape,", "sample_mask(1, z_indices.shape[1],"),
        "one mask for all rows", "", 0, 0.9),
    ("train_one_epoch", "the loss of all tokens"): (("mvtm_loss(logits, targets, mask)", "mvtm_loss(logits, targets)"),
                                                    "hand it the mask", "the loss counts all tokens", 0.3, 0.7),
    ("inpainting", "hides tokens again"): (
        ("return z_predict, (rank < stay[:, None]) & mask",
         "stay = torch.where(hidden_now > 0, stay, torch.floor(float(gamma(ratio)) * n_hidden).long())\n"
         "    return z_predict, rank < stay[:, None] * (ratio < 1)"),
        "hides tokens again", "hides tokens again", 0.5, 0.97),
}


@pytest.mark.parametrize("exercise, name", MISTAKES)
def test_a_mistake_is_called_by_its_name_and_costs_what_it_is_worth(exercise, name):
    change, said, likely, least, most = MISTAKES[exercise, name]
    text = changed(exercise, change)
    message = check(exercise, run(exercise, text)).message
    assert "FAIL" in message and said in message
    found = failures(exercise, text, 1)
    assert any(likely in wrong.likely for wrong in found.values()), [wrong.likely for wrong in found.values()]
    passed = [one for one in PROBES[exercise] if one.name not in found]
    assert any(not one.guessable for one in passed)  # else nothing would count
    assert not any(one.decisive for one in PROBES[exercise] if one.name in found)
    assert least <= sum(one.weight for one in passed) / sum(one.weight for one in PROBES[exercise]) <= most
    assert exercise != ATTENTION or ready_made(text) == ([], [])


def test_layers_without_bias_cost_their_own_probe_and_say_so():
    text = changed(ATTENTION, ("nn.Linear(dim, dim)", "nn.Linear(dim, dim, bias=False)"))
    found = failures(ATTENTION, text, 1)
    assert "key.bias" in found["parts"].got and found.keys() == {"parts", "neighbouring_columns"}
    assert not any("return" in str(wrong) for wrong in found.values())


def test_an_input_that_is_changed_in_place_is_no_dropout():
    text = changed(ATTENTION, ("        return self.output(mixed)",
                               "        mixed = self.output(mixed)\n        x.data.zero_()\n        return mixed"))
    found = failures(ATTENTION, text, 1)
    assert "changed in place" in found["averages"].got
    assert not any("dropout" in wrong.likely for wrong in found.values())
    assert "changed in place" in check(ATTENTION, run(ATTENTION, text)).message


@pytest.mark.parametrize("error, likely", [
    ("RuntimeError: expected m1 and m2 to have the same dtype, but got: float != BFloat16", "bfloat16 under autocast"),
    ("RuntimeError: Index put requires the source and destination dtypes match", "bfloat16 under autocast"),
    ("NotImplementedError: raw_input was called, but this frontend does not support input requests.", "input()"),
    ("AssertionError: Torch not compiled with CUDA enabled", "without a GPU"),
    ("ModuleNotFoundError: No module named 'einops'", "the packages of the course alone"),
])
def test_causes_outside_the_answer_are_named(error, likely):
    kind, _, text = error.partition(": ")
    outcome = explain({"type": kind, "text": text, "line": 11}, "import einops")
    assert likely in outcome.likely and outcome.likely != "not written yet"


@pytest.mark.parametrize("tokens, newer", [
    (["FSTRING_START f'", "OP {", 'STRING "k"', "OP }", "FSTRING_END '"], False),
    (["FSTRING_START f'", "OP {", "STRING 'k'", "OP }", "FSTRING_END '"], True),
    (["FSTRING_START f'", "OP {", 'STRING "\\n"', "OP }", "FSTRING_END '"], True),
    (["FSTRING_START f\"\"\"", "OP {", 'STRING "k"', "OP }", 'FSTRING_END """', "STRING '\\n'"], False),
])
def test_f_strings_of_newer_pythons_are_seen(tokens, newer, monkeypatch):
    """As the tokenizer of Python 3.12 splits them."""
    pairs = [SimpleNamespace(type=kind, string=text) for kind, text in (one.split(" ") for one in tokens)]
    monkeypatch.setattr(portability.sys, "version_info", (3, 12))
    monkeypatch.setattr(portability.tokenize, "generate_tokens", lambda _: pairs)
    monkeypatch.setattr(portability.tokenize, "tok_name", {one.type: one.type for one in pairs})
    assert portability.newer_syntax("") == newer


def test_a_starters_own_error_is_not_written_yet():
    error = {"type": "NotImplementedError", "text": "", "line": 12}
    assert explain(error, "def f():\n    raise NotImplementedError").likely == "not written yet"
    assert explain(error, "def f():\n    return torch.zeros(1).foo()").likely != "not written yet"


def test_the_reference_is_untouched_by_all_this():
    assert not failures(ATTENTION, TEXTS[ATTENTION], 7)
