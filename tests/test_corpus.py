"""The corpus against the checks and the hidden probes: right answers pass whatever the seed, wrong ones never do.

In: `corpus.RIGHT` and `corpus.WRONG`, answers that compute nothing. Out: the probes that fail, in this process.
"""

import contextlib
import io

import pytest
from causes import CAUSES
from corpus import REASONS, RIGHT, WRONG
from probing import failures, first_failure, is_short
from test_checks import run

from benchmarks.diagnoses import grade, named
from grader.probes import PROBES
from lab3.exercises.answers import answer_file
from lab3.exercises.checks import check
from lab3.exercises.table import EXERCISES


def seeds(count):
    """One seed a day, and all others of so many a night."""
    return pytest.mark.parametrize("seeds", [
        pytest.param(range(1), id="daily"), pytest.param(range(1, count), id="nightly", marks=pytest.mark.nightly)])


LONG = "validation_loss"  # a training of two seconds: right answers make it once, wrong ones where nothing else fails
SLOW = {"inpainting-rows-in-numpy": 2, "inpainting-gumbel-max-and-inf": 3, "inpainting-multinomial-and-topk": 3,
        "iterative_decode-self-contained": 3}  # loops over rows: so many seeds


def quietly(work, *arguments):
    """What `work` returns; what it prints goes nowhere."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return work(*arguments)


@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_the_checks(name):
    exercise, text = RIGHT[name]
    report = check(exercise, run(exercise, answer_file(text)))
    assert report.passed, report.message


@seeds(10)
@pytest.mark.parametrize("name", RIGHT)
def test_right_answers_pass_the_probes_whatever_the_seed(name, seeds):
    exercise, text = RIGHT[name]
    names = [one.name for one in PROBES[exercise]]
    for seed in seeds[:SLOW.get(name)]:
        failed = quietly(failures, exercise, text, seed, [one for one in names if one != LONG or seed == 0])
        assert not failed, (seed, failed)


@seeds(3)
@pytest.mark.parametrize("name", [name for name, (exercise, _) in WRONG.items() if exercise in EXERCISES])
def test_wrong_answers_fail_a_probe(name, seeds):
    exercise, text = WRONG[name]
    for seed in seeds:
        wrong = quietly(first_failure, exercise, text, seed)
        assert wrong, (seed, REASONS[name])
        assert is_short(wrong), wrong


@pytest.mark.nightly
@pytest.mark.parametrize("exercise", EXERCISES)
def test_feedback_names_the_true_cause_first_and_no_other(exercise):
    wrong = {name: text for name, (one, text) in WRONG.items() if one == exercise}
    missed = [name for name, text in wrong.items() if not named(CAUSES[name], quietly(grade, exercise, text))]
    assert len(missed) <= 0.1 * len(wrong), missed


def test_every_wrong_answer_has_a_true_cause():
    graded = {name for name, (exercise, _) in WRONG.items() if exercise in EXERCISES}
    assert CAUSES.keys() >= graded and CAUSES.keys() <= WRONG.keys()


@pytest.mark.parametrize("name", ["gamma_func-root", "masked_forward-exchanged", "frechet_distance-root-of-all"])
def test_one_slip_has_one_diagnosis(name):
    exercise, text = WRONG[name]
    assert named(CAUSES[name], grade(exercise, text))


def test_the_corpus_is_large_and_has_every_exercise():
    for answers, most in ((RIGHT, 3), (WRONG, 2)):
        counts = {exercise: sum(one == exercise for one, _ in answers.values()) for exercise in EXERCISES}
        assert min(counts.values()) >= most, counts
    assert len(RIGHT) >= 40 and len(WRONG) - sum("-mistake-" in name for name in WRONG) >= 60
    assert WRONG.keys() == REASONS.keys() and len({text for _, text in RIGHT.values()}) == len(RIGHT)


# Answers that compute nothing

MODULE = """
class MultiHeadAttention(nn.Module):
    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        super().__init__()
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.attn_drop = nn.Dropout(attn_drop)

    def forward(self, x):
        return {}
"""
HEADS = {
    "sample_mask": 'sample_mask(batch, tokens, prob_type="topk", ratio=None, *, generator=None, device=None)',
    "masked_forward": "masked_forward(transformer, z_indices, mask, mask_token_id)",
    "mvtm_loss": "mvtm_loss(logits, targets, mask=None, label_smoothing=0.0)",
    "configure_optimizers": "configure_optimizers(model, lr, total_steps, warmup_steps, eta_min=0.0)",
    "train_one_epoch": "train_one_epoch(transformer, loader, optimizer, scheduler, *, mask_token_id, device, "
                       "scaler=None, generator=None)",
    "eval_one_epoch": "eval_one_epoch(transformer, loader, *, mask_token_id, device, generator=None)",
    "gamma_func": 'gamma_func(mode="cosine")',
    "inpainting": "inpainting(transformer, z_indices, mask, ratio, n_hidden, **options)",
    "iterative_decode": "iterative_decode(transformer, z_indices, mask, *, total_iter, sweet_spot=None, **options)",
    "frechet_distance": "frechet_distance(mu1, sigma1, mu2, sigma2)",
}
RESULTS = {
    "multi_head_attention": ["x", "0 * x", "None", "torch.ones_like(x)"],
    "sample_mask": ["torch.zeros(batch, tokens, dtype=torch.bool)", "torch.ones(batch, tokens, dtype=torch.bool)",
                    "torch.arange(tokens).expand(batch, -1) < tokens // 2"],
    "masked_forward": ["(torch.zeros(*z_indices.shape, mask_token_id), z_indices)", "(None, z_indices)",
                       "(torch.zeros(*z_indices.shape, mask_token_id, requires_grad=True), z_indices)"],
    "mvtm_loss": ["0.0", "torch.tensor(1.0, requires_grad=True)", "logits.sum() * 0", "logits.sum() * 0 + 2.3"],
    "configure_optimizers": ["(None, None)", "(torch.optim.SGD(model.parameters(), lr), None)"],
    "train_one_epoch": ["0.0", "2.0", "math.nan"],
    "eval_one_epoch": ["0.0", "2.0", "math.nan"],
    "gamma_func": ["lambda r: r", "lambda r: 0 * r + 0.5", "lambda r: 1.0", "np.sin"],
    "inpainting": ["(z_indices, mask)", "(z_indices, torch.zeros_like(mask))", "(z_indices * 0, mask)", "(None, None)",
                   "(z_indices.masked_fill(mask, 0), torch.zeros_like(mask))"],
    "iterative_decode": ["(z_indices, [])", "(z_indices, [(z_indices, mask)] * (sweet_spot or total_iter))",
                         "(z_indices.masked_fill(mask, 0), [(z_indices, mask & False)] * (sweet_spot or total_iter))"],
    "frechet_distance": ["0.0", "1.0", "math.nan", "float(len(mu1))"],
}


def nothing(exercise, result):
    """The text of an answer that gives a result without computing one."""
    if exercise in HEADS:
        return f"def {HEADS[exercise]}:\n    return {result}\n"
    return MODULE.format(result)


@seeds(2)
@pytest.mark.parametrize("exercise, result", [(one, result) for one in EXERCISES
                                              for result in ["None", *RESULTS[one]]])
def test_answers_that_compute_nothing_get_no_probe_that_counts_alone(exercise, result, seeds):
    names = [one.name for one in PROBES[exercise] if not one.guessable]
    for seed in seeds:
        passed = set(names) - set(quietly(failures, exercise, nothing(exercise, result), seed, names))
        assert not passed, (seed, passed)
