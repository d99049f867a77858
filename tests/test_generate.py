"""Whole pictures from nothing, and the order in which tokens are kept."""

import json

import pytest
import torch
from PIL import Image

from lab3 import cli
from lab3.common.files import InputError, load_tensors, sha256
from lab3.common.paths import ANSWERS, LABELLED, SHIPPED, SOLUTIONS
from lab3.decoding.generate import (
    HALTON,
    ORDERS,
    PRECOMPUTED,
    RANDOM,
    STEPS,
    Tempered,
    contact_sheet,
    first_pictures,
    generate,
    halton_rank,
    in_order,
    steps_of,
)
from lab3.decoding.guidance import Guided
from lab3.exercises.answers import load_answers
from lab3.exercises.table import ALL_EXERCISES, EXERCISES
from lab3.metrics.score import score_generated
from lab3.metrics.truth import identify, labels_of, obedience
from lab3.model.transformer import load_transformer
from lab3.presets import DecodingConfig

DECODING = DecodingConfig(total_iter=4, sweet_spot=4)


def answers_in(order):
    return load_answers(SOLUTIONS, changed={"inpainting": lambda answer: in_order(answer, order)})


def made_in(order, tokenizer, n=3, seed=0):
    answers = answers_in(order)
    transformer = load_transformer(SHIPPED / "maskgit.safetensors", answers.MultiHeadAttention)
    return generate(n, tokenizer, transformer, answers, DECODING, seed, progress=False)


@pytest.mark.parametrize("order", ORDERS)
def test_every_order_keeps_as_many_tokens_and_no_other_ones_than_it_says(order, tokenizer):
    made = made_in(order, tokenizer)
    assert made.masks[:, 0].all() and not made.masks[:, -1].any()
    hidden = made.masks.sum(2)
    assert hidden[0].tolist() == [256, 236, 181, 97, 0] and (hidden == hidden[0]).all()
    for step in range(4):
        kept = ~made.masks[:, step]
        assert torch.equal(made.predictions[:, step][kept], made.predictions[:, max(0, step - 1)][kept])
    first = ~made.masks[:, 1]
    if order == HALTON:
        assert torch.equal(first, (halton_rank() < 20).expand(3, -1))
    else:
        assert not torch.equal(first[0], first[1]), "rows have orders of their own"


def test_a_seed_fixes_what_is_drawn(tokenizer):
    assert torch.equal(made_in(RANDOM, tokenizer).tokens, made_in(RANDOM, tokenizer).tokens)
    assert not torch.equal(made_in(RANDOM, tokenizer).tokens, made_in(RANDOM, tokenizer, seed=1).tokens)


def test_another_order_needs_an_answer_that_calls_inpainting(tokenizer):
    answers = answers_in(HALTON)
    answers.iterative_decode = lambda transformer, z_indices, mask, **_: (
        torch.zeros_like(z_indices), [(torch.zeros_like(z_indices), torch.zeros_like(mask))])
    with pytest.raises(InputError, match="does not call inpainting"):
        generate(2, tokenizer, load_transformer(SHIPPED / "maskgit.safetensors", answers.MultiHeadAttention), answers,
                 DECODING, 0, progress=False)


def test_an_order_that_does_not_exist_is_named():
    with pytest.raises(InputError, match="order must be one of confidence, random, halton, not 'spiral'"):
        in_order(None, "spiral")


def test_halton_visits_every_place_once_and_spreads_out():
    rank = halton_rank()
    assert sorted(rank.tolist()) == list(range(256))
    first = rank.argsort()[:16]
    quarters = (first // 16 // 8) * 2 + first % 16 // 8
    assert torch.bincount(quarters).max() <= 5


def test_a_contact_sheet_holds_every_picture_once():
    pictures = torch.arange(1, 6, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 4, 4)
    sheet = contact_sheet(pictures, columns=3)
    assert sheet.shape == (3, 10, 16)
    assert torch.equal(sheet[:, 6:, 6:10], pictures[4]) and (sheet[:, :, 4:6] == 255).all()
    assert (sheet[:, 6:, 12:] == 255).all(), "nothing stands where there is no picture"
    assert contact_sheet(pictures, columns=3, scale=2).shape == (3, 20, 32)


def test_a_step_shows_hidden_tokens_half_grey(tokenizer):
    made = made_in("confidence", tokenizer, n=2)
    frames = steps_of(made, tokenizer, 2)
    assert frames.shape == (5, 2, 3, 64, 64) and (frames[0] == 128).all()
    assert torch.equal(frames[-1], made.decoded)
    first = tokenizer.decode(made.predictions[:, 0])
    hidden = made.masks[:, 1].view(2, 1, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3).expand_as(first)
    assert torch.equal(frames[1][~hidden], first[~hidden])
    assert (frames[1][hidden].int() - 128).abs().max() <= 64


def test_the_first_pictures_are_those_of_the_shipped_weights(tokenizer, cats):
    _, about = load_tensors(PRECOMPUTED)
    assert about["weights"] == sha256(SHIPPED / "maskgit.safetensors"), "run python -m benchmarks.from_nothing"
    rows = first_pictures(tokenizer, cats)
    assert list(rows) == ["1 step", *(f"{steps} steps" for steps in (2, 4, 8, 16, 64)), "a hole"]
    assert all(pictures.shape == (9, 3, 64, 64) for pictures in rows.values())
    assert torch.equal(rows["a hole"][0], cats.masked[0]) and rows["a hole"][-1].float().std() > 20
    valid = [identify(rows[f"{steps} steps"]).valid.sum() for steps in (2, 64)]
    assert valid[0] < valid[1], "more steps give more cats"


def test_a_code_temperature_below_1_draws_likely_codes(tokenizer):
    answers = load_answers(ANSWERS)
    transformer = load_transformer(SHIPPED / "maskgit.safetensors", answers.MultiHeadAttention)
    nothing = torch.full((1, 256), 1024)
    torch.testing.assert_close(Tempered(transformer, 0.5, exact=True)(nothing), 2 * transformer(nothing))
    made = [generate(8, tokenizer, transformer, answers, DECODING, 0, code_temperature=value, progress=False).tokens
            for value in (1.0, 0.3)]
    with torch.no_grad():
        sure = [transformer(tokens).log_softmax(-1).gather(2, tokens[..., None]).mean() for tokens in made]
    assert sure[0] < sure[1]


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf"])
def test_a_code_temperature_that_no_logits_can_have_is_refused(value, tmp_path, capsys):
    assert cli.main(["generate", "--n", "1", f"--code-temperature={value}", "--out", str(tmp_path / "out")]) == 2
    assert f"code temperature must be more than 0, not {value}" in capsys.readouterr().err


def test_real_cats_get_the_best_marks(cats):
    some, noise = cats.train[-40:], torch.randint(0, 256, (40, 3, 64, 64), dtype=torch.uint8)
    real, wrong = score_generated(some, cats), score_generated(noise, cats)
    assert real["validity"] == 1 and real["novelty"] == 0 and wrong["validity"] == 0
    assert real["distance"] < wrong["distance"] / 2


def test_the_command(tmp_path, capsys, smoke_run):
    arguments = ["generate", "--run", str(smoke_run), "--n", "3", "--total-iter", "2", "--order", "halton",
                 "--out", str(tmp_path)]
    assert cli.main(arguments) == 0
    said = capsys.readouterr().out
    assert "validity: 0" in said and "bits a picture" in said and "contact_sheet.png" in said
    about = json.loads((tmp_path / "generate.json").read_text())
    assert about["order"] == "halton" and about["n"] == 3 and about["sampling"] == "categorical"
    assert set(about["marks"]) >= {"distance", "validity", "torn", "coverage", "novelty", "bits", "bits_error"}
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 3
    film = Image.open(tmp_path / "film.webp")
    assert film.n_frames == 3 and film.size == (2 * 66 * 3 - 6, 2 * 66 * 3 - 6)
    assert cli.main([*arguments[:-4], "--order", "spiral", "--out", str(tmp_path)]) == 2
    assert "order must be one of" in capsys.readouterr().err


def test_help_names_the_default_number_of_steps(capsys):
    with pytest.raises(SystemExit):
        cli.main(["generate", "--help"])
    assert f"how many steps the schedule has; default: {STEPS} --" in " ".join(capsys.readouterr().out.split())


@pytest.fixture(scope="module")
def labelled():
    """The shipped transformer that knows labels, and answers with `guided_logits`."""
    answers = load_answers(ANSWERS, ALL_EXERCISES)
    return load_transformer(LABELLED / "maskgit.safetensors", answers.MultiHeadAttention), answers


def test_guided_logits_are_those_of_two_passes(labelled):
    transformer, answers = labelled
    labels, z_indices = labels_of("body=blue"), torch.full((2, 256), 1024)
    c, u = transformer.with_labels(labels)(z_indices), transformer(z_indices)
    assert not torch.allclose(c, u, atol=1e-2)
    guided = Guided(transformer, labels, 2.0, answers.guided_logits, exact=True)
    torch.testing.assert_close(guided(z_indices), 3 * c - 2 * u)
    cached = Guided(transformer, labels, 2.0, answers.guided_logits)
    torch.testing.assert_close(cached(z_indices), guided(z_indices), rtol=1e-3, atol=1e-3)


def test_guidance_makes_cats_what_was_asked_for(labelled, tokenizer):
    transformer, answers = labelled
    labels = labels_of("body=blue, eyes=glasses")
    shares = []
    for model in (transformer, transformer.with_labels(labels),
                  Guided(transformer, labels, 2.0, answers.guided_logits)):
        made = generate(16, tokenizer, model, answers, DECODING, 0, progress=False)
        found = obedience(identify(made.decoded), labels)
        shares.append(found["body"] + found["eyes"])  # by chance 2 in 15
    assert shares[0] < 1 < shares[1] <= shares[2] and shares[2] > 1.75, shares  # of 2; labels alone nearly suffice


@pytest.mark.parametrize("arguments, message", [
    (["--labels", "body=purple"], "body cannot be 'purple'"), (["--guidance", "2"], "guidance needs labels"),
    (["--labels", "body=blue", "--guidance", "-1"], "guidance must be 0 or more, not -1.0"),
    (["--labels", "body=blue", "--guidance", "nan"], "guidance must be 0 or more, not nan"),
    (["--labels", "body=blue", "--run", str(SHIPPED)], "its transformer knows no labels")])
def test_labels_that_cannot_be_drawn_are_refused(arguments, message, tmp_path, capsys):
    assert cli.main(["generate", *arguments, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_guidance_needs_its_answer(tmp_path, capsys):
    for name in EXERCISES:
        (tmp_path / f"{name}.py").write_text((SOLUTIONS / f"{name}.py").read_text())
    assert cli.main(["generate", "--labels", "body=blue", "--guidance", "2", "--work", str(tmp_path), "--trust-code",
                     "--out", str(tmp_path / "out")]) == 2
    assert "no answer to guided_logits yet. Run its cell in notebook 07" in capsys.readouterr().err


def test_the_command_with_labels(tmp_path, capsys):
    assert cli.main(["generate", "--labels", "body=blue, eyes=glasses", "--guidance", "2", "--n", "3", "--total-iter",
                     "2", "--out", str(tmp_path)]) == 0
    assert "obedience: body" in capsys.readouterr().out
    about = json.loads((tmp_path / "generate.json").read_text())
    assert about["labels"] == "body=blue, eyes=glasses" and about["guidance"] == 2 and "labels" in about["run"]
    assert set(about["marks"]["obedience"]) == {"body", "eyes", "together"}
