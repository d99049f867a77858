"""Naming cats: clean ones, with holes and noise, redrawn and torn; sets of them; the exact posterior of a hole."""

from types import SimpleNamespace

import pytest
import torch

from lab3.common.files import InputError
from lab3.data.cats import choices, compose, layers
from lab3.data.masks import random_holes
from lab3.metrics.nearest_cat import SIZES, _bank, _coat_errors, _face_errors, draw
from lab3.metrics.truth import (
    LIMITS,
    N_VALUES,
    PARTS,
    VALUES,
    Named,
    agreeing,
    calibration,
    consistent,
    draw_values,
    entropy,
    hide,
    identify,
    labels_of,
    novel,
    obedience,
    posterior,
    require_cats,
    residual_limits,
    shares,
    summary,
    true_shares,
    words,
)

BODY, FUR, EYES, MOUTH, ACCESSORY, BACKGROUND = range(6)
PLAIN, RED_SCARF, BRUSH, NOTHING = 2, 0, 9, 15
FACE = torch.zeros(64, 64, dtype=torch.bool)
FACE[14:62, 14:64] = True


def random_cats(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (n,), generator=generator) for size in SIZES], 1)


def changed(cats, part, seed):
    """The same cats, each with another value of one part."""
    other, generator = cats.clone(), torch.Generator().manual_seed(seed)
    other[:, part] += torch.randint(1, SIZES[part], (len(cats),), generator=generator)
    other[:, part] %= SIZES[part]
    return other


def distance(pictures, cats):
    return (pictures.float() - compose(cats)).square().flatten(1).sum(1)


def by_hand(cats, valid=True):
    n = len(cats)
    hidden = hide(cats)
    return Named(cats, hidden >= 0, torch.zeros(n, 6), torch.full((n,), valid), torch.zeros(n, 6, dtype=torch.bool))


def test_every_value_has_one_name():
    assert SIZES == (*map(len, layers()), 12) == tuple(map(len, VALUES.values()))
    assert max(SIZES) < N_VALUES
    assert all(len(set(names)) == len(names) for names in VALUES.values())


def test_single_pixels_are_those_of_the_pictures():
    cats, pixels = random_cats(40, 1), torch.arange(4096)
    expected = compose(cats).flatten(2).transpose(1, 2)
    assert torch.equal(draw(cats[:, None], pixels), expected)
    assert torch.equal(draw(cats, pixels[1000:1040]), expected[range(40), range(1000, 1040)])


def test_tables_hold_the_errors_of_composed_cats():
    pictures, known = compose(random_cats(16, 30)), (~random_holes(16, seed=30)).float()
    cats = random_cats(16, 31)
    cats[:8, ACCESSORY], cats[8:, EYES] = RED_SCARF, 4  # a scarf over mouths; a monocle, which reaches the wall
    body, fur, eyes, mouth, accessory, wall = cats.T
    coat, face, i = body * SIZES[1] + fur, eyes * SIZES[3] + mouth, range(16)
    expected = ((pictures.float() - compose(cats)).square().sum(1) * known).flatten(1).sum(1)
    x, known = pictures.flatten(2) / 255, known.flatten(1)
    by_coat = _coat_errors(x, known, _bank().faces[face])[i, accessory, coat, wall]
    by_face = _face_errors(x, known, coat, wall, accessory)[i, face]
    for table in (by_coat, by_face):
        assert torch.allclose(table * 255**2, expected, rtol=1e-3)  # composed cats are rounded


# ---------------------------------------------------------------------------------------------- naming

def check_names(n, seed):
    cats = random_cats(n, seed)
    named = identify(compose(cats))
    assert torch.equal(named.values, hide(cats))
    assert named.valid.all() and not named.torn.any()
    assert named.residual.max() < 1


def test_composed_cats_are_named_without_an_error():
    check_names(600, 2)


@pytest.mark.nightly
def test_ten_thousand_composed_cats_are_named_without_an_error():
    check_names(10_000, 3)


def test_no_picture_at_all_is_named_too():
    assert identify(torch.empty(0, 3, 64, 64, dtype=torch.uint8)).choices.shape == (0, 6)


def test_cats_are_named_from_what_a_hole_leaves(cats):
    original, holes = choices("test")[:200], cats.holes[:200]
    named = identify(cats.masked[:200], holes)
    assert ((named.values == original) | ~named.seen).all()
    assert named.seen.float().mean() > 0.9 and named.valid.all()
    noise = torch.randint(0, 256, (200, 3, 64, 64), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    other = identify(torch.where(holes[:, None], noise, cats.masked[:200]), holes)
    assert torch.equal(named.values, other.values) and torch.equal(named.residual, other.residual)


def test_what_a_hole_hides_is_not_seen():
    cats = random_cats(30, 5)
    cats[:, ACCESSORY], cats[:, EYES] = NOTHING, cats[:, EYES] % 4  # neither glasses nor monocle: they reach further
    everything = torch.ones(30, 64, 64, dtype=torch.bool)
    assert not identify(compose(cats), everything).seen.any()
    face = identify(compose(cats), FACE.expand(30, -1, -1))
    assert not face.seen[:, [EYES, MOUTH]].any() and face.seen[:, [BODY, BACKGROUND]].all()
    skin_only = identify(compose(cats), ~FACE.expand(30, -1, -1))
    assert torch.equal(skin_only.choices[:, [BODY, EYES, MOUTH]], cats[:, [BODY, EYES, MOUTH]])


def test_cats_are_named_through_noise():
    cats = random_cats(200, 6)
    noise = 25 * torch.randn(200, 3, 64, 64, generator=torch.Generator().manual_seed(6))
    named = identify((compose(cats) + noise).round().clamp(0, 255).to(torch.uint8))
    cats = hide(cats)
    wrong = (named.values != cats) & (cats >= 0)
    assert not wrong[:, [BODY, EYES, ACCESSORY, BACKGROUND]].any()
    assert wrong.any(1).float().mean() < 0.05
    assert not named.valid.any()


def test_no_cat_that_differs_in_one_part_is_nearer():
    first, second = random_cats(12, 7), random_cats(12, 8)
    pictures = torch.cat([compose(first)[:, :, :32], compose(second)[:, :, 32:]], 2)
    named = identify(pictures)
    least = distance(pictures, named.choices)
    for part, size in enumerate(SIZES):
        for value in range(size):
            other = named.choices.clone()
            other[:, part] = value
            assert (distance(pictures, other) >= least - 3 * 4096).all()  # cats are rounded, the search is not


# ---------------------------------------------------------------------------------------------- reconstructions

def test_redrawn_cats_are_named_and_valid(cats, tokenizer):
    named = identify(tokenizer.decode(tokenizer.encode(cats.val[:64])))
    hidden = hide(choices("val")[:64])
    right = (named.values == hidden) | ((hidden < 0) & ~named.seen)
    assert right[:, [BODY, EYES, MOUTH, ACCESSORY, BACKGROUND]].all() and right.all(1).sum() >= 62
    assert named.valid.sum() >= 61
    assert 0.3 < (named.residual / LIMITS).amax(1).median() < 1
    assert "on pink" in words(named)[0] and "torn" not in words(named)[0]


@pytest.mark.nightly
def test_the_limits_are_those_of_the_shipped_tokenizer(cats, tokenizer):
    redrawn = tokenizer.decode(tokenizer.encode(cats.val))
    assert (residual_limits(redrawn) - LIMITS).abs().max() < 0.3
    assert 0.988 < identify(redrawn).valid.float().mean() < 0.992


@pytest.mark.nightly
def test_of_ten_thousand_redrawn_cats_99_in_100_are_named(tokenizer):
    original = random_cats(10_000, 9)
    named = identify(tokenizer.decode(tokenizer.encode(compose(original))))
    assert (named.values == hide(original)).all(1).float().mean() >= 0.99


# ---------------------------------------------------------------------------------------------- what is not a cat

def test_noise_is_not_a_cat_and_shows_no_part():
    noise = torch.randint(0, 256, (20, 3, 64, 64), generator=torch.Generator().manual_seed(10), dtype=torch.uint8)
    named = identify(noise)
    assert not named.valid.any() and not named.torn.any()
    assert all(text.endswith("; not a composable cat") for text in words(named))


@pytest.mark.parametrize("part", range(6), ids=PARTS)
def test_a_torn_part_is_named_and_no_other(part):
    cats = random_cats(40, 11)
    cats[:, ACCESSORY] = NOTHING  # it would cover what is torn
    if part == ACCESSORY:
        cats[:, ACCESSORY] = torch.tensor([3, 5, 6, 11])[torch.arange(40) % 4]  # those that reach across the middle
    other, middle = changed(cats, part, 12), 44 if part in (EYES, MOUTH) else 32
    pictures = torch.cat([compose(cats)[..., :middle], compose(other)[..., middle:]], 3)
    named = identify(pictures)
    # the other halves look alike: faint furs, equal corners of mouths, neighbouring hues
    at_least = {BODY: 0.95, FUR: 0.5, EYES: 0.95, MOUTH: 0.8, ACCESSORY: 0.9, BACKGROUND: 0.7}[part]
    assert named.torn[:, part].float().mean() >= at_least
    rest = [p for p in range(6) if p != part]
    assert named.torn[:, rest].float().mean() < 0.08
    torn = named.torn[:, part].nonzero()[0, 0]
    assert f"; {PARTS[part]} torn" in words(named)[torn]


def test_a_cat_of_two_halves_is_torn_in_body_and_background():
    first, second = random_cats(60, 13), random_cats(60, 14)
    named = identify(torch.cat([compose(first)[:, :, :32], compose(second)[:, :, 32:]], 2))
    assert not named.valid.any()
    differ = first != second
    assert named.torn[differ[:, BODY], BODY].float().mean() > 0.9
    assert named.torn[differ[:, BACKGROUND], BACKGROUND].float().mean() > 0.7


def test_a_mouth_pasted_from_another_cat():
    cats = random_cats(60, 15)
    cats[:, ACCESSORY], cats[:, EYES] = NOTHING, 6
    mouth = torch.zeros(64, 64, dtype=torch.bool)
    mouth[38:56, 34:60] = True
    same_coat = changed(cats, MOUTH, 16)
    named = identify(torch.where(mouth, compose(same_coat), compose(cats)))
    assert torch.equal(named.choices, same_coat) and named.valid.all()
    named = identify(torch.where(mouth, compose(changed(cats, BODY, 17)), compose(cats)))
    assert named.valid.sum() <= 1 and named.torn[:, BODY].float().mean() > 0.8


# ---------------------------------------------------------------------------------------------- sets of pictures

def test_training_cats_are_not_novel_and_held_out_cats_are():
    assert not novel(choices("train")).any() and not novel(choices("train", 15_000), 15_000).any()
    assert novel(choices("train", 15_000)).float().mean() > 0.1  # 3,000 of them in no picture of the first 12,000
    assert novel(choices("val")).all() and novel(choices("test")).all()


def test_a_background_or_a_hidden_mouth_makes_no_new_cat():
    train = choices("train")
    assert not novel(changed(train, BACKGROUND, 18)).any()
    scarf = train[train[:, ACCESSORY] == RED_SCARF]
    assert not novel(changed(scarf, MOUTH, 19)).any()
    assert novel(changed(train, EYES, 20)).float().mean() > 0.5


def test_the_embedded_cats_cover_every_value_with_the_true_entropy():
    for split in ("train", "val"):
        numbers = summary(by_hand(choices(split)), split)
        assert numbers["validity"] == 1 and numbers["novelty"] == (split == "val")
        assert set(numbers["coverage"].values()) == {1.0}
        for part in PARTS:
            assert numbers["entropy"][part] == pytest.approx(numbers["true_entropy"][part], abs=0.01)
    assert numbers["true_entropy"]["accessory"] == 4
    assert numbers["true_entropy"]["background"] == pytest.approx(3.585, abs=0.001)


def test_one_cat_over_and_over_covers_one_value():
    cats = choices("train")[:1].repeat(50, 1)
    cats[:, ACCESSORY] = BRUSH
    numbers = summary(by_hand(cats))
    assert numbers["coverage"]["eyes"] == pytest.approx(1 / 15)
    assert set(numbers["entropy"].values()) == {0.0}


def test_invalid_pictures_and_hidden_parts_do_not_count():
    cats = choices("train")[:50].clone()
    cats[:, ACCESSORY] = RED_SCARF
    assert summary(by_hand(cats))["coverage"]["mouth"] == 0
    numbers = summary(by_hand(cats, valid=False))
    assert numbers["validity"] == 0 and numbers["coverage"]["eyes"] == 0
    assert numbers["novelty"] != numbers["novelty"]  # NaN


def test_entropy_of_a_few_pictures_is_corrected():
    cats, true = choices("train"), entropy(true_shares("train"))
    few = [shares(hide(some)) for some in cats.split(60)]
    plain = torch.stack([entropy(each) for each in few]).mean(0)
    corrected = torch.stack([entropy(each, 60) for each in few]).mean(0)
    assert (plain < true - 0.05).all() and ((corrected - true).abs() < 0.03).all()


# ---------------------------------------------------------------------------------------------- holes

def world(cat, *parts):
    """All cats that differ from one in these parts."""
    values = [torch.arange(size) if part in parts else cat[part:part + 1] for part, size in enumerate(SIZES)]
    return torch.cartesian_prod(*values)


@pytest.mark.parametrize("tolerance", [0, 8])
@pytest.mark.parametrize("parts, hole", [
    ((EYES, MOUTH, ACCESSORY), (slice(10, 64), slice(10, 64))),
    ((BODY, FUR, ACCESSORY), (slice(0, 44), slice(0, 58))),
    ((FUR, EYES, BACKGROUND), (slice(0, 64), slice(0, 62)))], ids=["face", "top", "all but an edge"])
def test_the_posterior_is_that_of_brute_force(parts, hole, tolerance):
    for cat in random_cats(3, 21):
        picture, hidden = compose(cat[None])[0], torch.zeros(64, 64, dtype=torch.bool)
        hidden[hole] = True
        candidates = world(cat, *parts)
        difference = (compose(candidates).short() - picture).abs().amax(1)
        expected = candidates[(difference.masked_fill(hidden, 0) <= tolerance).flatten(1).all(1)]
        found = agreeing(picture, hidden, split=None, tolerance=tolerance)
        rest = [part for part in range(6) if part not in parts]
        inside = found[(found[:, rest] == cat[rest]).all(1)]
        assert 1 <= len(expected) < len(candidates)
        assert set(map(tuple, inside.tolist())) == set(map(tuple, expected.tolist()))
        assert len(found) == len(found.unique(dim=0))


def test_all_that_agree_look_alike_outside_the_hole(cats):
    holes = random_holes(6, seed=22)
    holes[:, 24:, 10:] = True
    for picture, hole, cat in zip(cats.test, holes, choices("test")):
        found = agreeing(picture, hole)
        assert (found == cat).all(1).any()
        assert ((compose(found[:500]) == picture).all(1) | hole).all()
        assert not (torch.isin((found[:, 0] + found[:, 1]) % 9, torch.tensor([0, 4])) == 0).any()


def test_where_nothing_is_known_the_posterior_is_what_cats_are_drawn_from(cats):
    everything = torch.ones(1, 64, 64, dtype=torch.bool)
    assert len(agreeing(cats.test[0], everything[0])) == 30 * 15 * 10 * 16 * 12
    for split in ("train", "test"):
        assert torch.allclose(posterior(cats.test[:1], everything, split)[0], true_shares(split), atol=1e-6)


def test_a_mouth_beneath_a_scarf_is_hidden_and_a_torn_picture_agrees_with_no_cat():
    cats = random_cats(2, 23)
    cats[:, ACCESSORY] = RED_SCARF
    pictures, nothing = compose(cats), torch.zeros(2, 64, 64, dtype=torch.bool)
    pictures[1, :, :32] = 255 - pictures[1, :, :32]
    found = posterior(pictures, nothing, split=None)
    assert found[0, MOUTH, -1] == 1 and found[0, EYES, cats[0, EYES]] == 1
    assert found[1].isnan().all()


def test_a_filling_agrees_with_the_known_pixels_or_does_not(cats):
    holes = cats.holes[:40]
    assert consistent(identify(cats.test[:40]), cats.masked[:40], holes).all()
    other = compose(changed(choices("test")[:40], BODY, 24))
    assert not consistent(identify(other), cats.masked[:40], holes).any()


def error(curve):
    """The expected calibration error: the distance of shares, weighted by count."""
    return sum(abs(predicted - true) * count for predicted, true, count in curve) / sum(count for *_, count in curve)


def test_calibration_tells_an_exact_model_from_an_overconfident_one(cats):
    true = posterior(cats.test[:100], FACE.expand(100, -1, -1), tolerance=8)
    exact, few = (calibration(draw_values(true, n, seed=25), true) for n in (300, 4))
    assert error(exact) < 0.02 < error(few)  # few draws are extreme by chance
    assert exact[-1][1] > 0.99 and few[-1][1] > 0.99
    likeliest = true.argmax(2)
    never, always = calibration(likeliest.where(likeliest < N_VALUES - 1, -1)[None], true)
    assert never[0] == 0 and never[1] > 0.05
    assert always[0] == 1 and always[1] < 0.8


def test_calibration_counts_impossible_values_and_leaves_torn_pictures_out():
    true = torch.zeros(2, 6, N_VALUES)
    true[0, :, 1], true[1] = 1, torch.nan
    wrong = torch.zeros(4, 2, 6, dtype=torch.long)
    assert calibration(wrong, true) == [(0, 1, 6), (1, 0, 6)]


# ---------------------------------------------------------------------------------------------- a user's own

def test_a_users_own_pictures_have_no_truth(cats):
    require_cats(cats)
    with pytest.raises(InputError, match="holiday: the parts of your own pictures are not known"):
        require_cats(SimpleNamespace(name="holiday"))


def test_words_name_what_is_seen():
    cats = torch.tensor([[7, 1, 12, 8, 1, 5], [7, PLAIN, 12, 8, NOTHING, 5], [7, 1, 12, 8, RED_SCARF, 5]])
    assert words(identify(compose(cats))) == [
        "brown, striped, glasses, grin, bell, on mint", "brown, glasses, grin, on mint",
        "brown, striped, glasses, red scarf, on mint"]


def test_a_text_becomes_labels():
    assert labels_of("body=blue, eyes=glasses").tolist() == [[8, -1, 12, -1, -1, -1]]
    spaced = labels_of(" accessory = red scarf mouth=any,fur=dark patch ")
    assert spaced.tolist() == [[-1, 4, -1, -1, 0, -1]]
    for number, part in enumerate(PARTS):
        for value, name in enumerate(VALUES[part]):
            assert labels_of(f"{part}={name}")[0, number] == value


@pytest.mark.parametrize("text, message", [
    ("", "'' names no part of a cat"), ("glasses", "'glasses' names no part.*body=blue"),
    ("tail=long", "names no part of a cat. Write part=value with one of the parts body, fur"),
    ("fur=brown", "fur cannot be 'brown', which is a value of body. Choose one of tabby"),
    ("body=purple", "body cannot be 'purple'. Choose one of maroon"), ("body=", "body cannot be ''"),
    ("body=blue body=red", "body is named twice")])
def test_a_text_that_asks_for_no_cat_is_refused(text, message):
    with pytest.raises(InputError, match=message):
        labels_of(text)


def test_obedience_counts_what_was_asked_for():
    cats = choices("val")[:40]
    named, own = identify(compose(cats)), hide(cats)
    assert obedience(named, own)["together"] == 1
    other = own.clone()
    other[:10, 0] = (other[:10, 0] + 1) % 15
    assert obedience(named, other) == dict.fromkeys(PARTS, 1.0) | {"body": 0.75, "together": 0.75}
    one = torch.full((1, 6), -1)
    assert obedience(named, one) == {"together": 1.0}
    one[0, 5] = cats[0, 5]
    share = (cats[:, 5] == cats[0, 5]).float().mean().item()
    assert obedience(named, one) == {"background": share, "together": share}
