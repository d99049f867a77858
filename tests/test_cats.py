"""The embedded pictures."""

import pytest
import torch

from lab3.common.files import InputError
from lab3.data import cats as module
from lab3.data.cats import SPLITS, Cats, choices, compose, fresh, layers, pictures


@pytest.fixture(scope="module")
def everything():
    return {split: pictures(split) for split in SPLITS}


def test_splits_have_the_courses_sizes(everything):
    for split, size in (("train", 12_000), ("val", 3_000), ("test", 747)):
        assert everything[split].shape == (size, 3, 64, 64)
        assert everything[split].dtype == torch.uint8


def test_no_cat_stands_in_two_splits_whatever_its_background():
    # A scarf hides the mouth, so cats that differ in their mouth alone can look the same: compare what is seen.
    seen = {}
    for split in SPLITS:
        plain = choices(split).clone()
        plain[:, 5] = 0
        seen[split] = {bytes(picture) for picture in compose(plain).flatten(1).numpy()}
    assert not seen["train"] & seen["val"]
    assert not seen["train"] & seen["test"]
    assert not seen["val"] & seen["test"]


def test_no_picture_stands_twice(everything):
    rows = torch.cat(list(everything.values())).flatten(1)
    assert len(torch.unique(rows, dim=0)) == len(rows)


def test_held_out_cats_wear_pairs_of_body_and_fur_that_training_never_saw():
    pairs = {split: {tuple(row) for row in choices(split)[:, :2].tolist()} for split in SPLITS}
    assert not pairs["train"] & (pairs["val"] | pairs["test"])
    bodies, furs = len(layers()[0]), len(layers()[1])
    assert {body for body, _ in pairs["train"]} == {body for body, _ in pairs["test"]} == set(range(bodies))
    assert {fur for _, fur in pairs["train"]} == {fur for _, fur in pairs["test"]} == set(range(furs))


def test_every_choice_shows():
    for name, stack in zip(module.LAYERS, layers()):
        flat = stack.flatten(1)
        apart = torch.cdist(flat, flat) + 1e9 * torch.eye(len(flat))
        assert apart.min() > 1, f"two choices of {name} look the same"


def test_composition_puts_layers_over_one_another():
    body, fur, eyes, mouth, accessory = (stack[3] for stack in layers())
    expected = module.BACKGROUNDS[5].float().div(255)[:, None, None].expand(3, 64, 64)
    for layer in (body, fur, eyes, mouth, accessory):
        expected = layer[:3] + (1 - layer[3]) * expected
    drawn = compose(torch.tensor([[3, 3, 3, 3, 3, 5]]))[0]
    assert (drawn.float() - 255 * expected).abs().max() <= 0.51


def test_pictures_are_the_same_on_every_machine(cats):
    # It changes with a layer or a choice: the shipped weights then are out of date.
    assert cats.key == "7818aca519ad166d"


def test_masked_pictures_are_grey_in_their_holes_and_untouched_elsewhere(cats):
    holes = cats.holes[:, None].expand_as(cats.test)
    assert (cats.masked[holes] == 128).all()
    assert (cats.masked[~holes] == cats.test[~holes]).all()


def test_an_unknown_split_is_named():
    with pytest.raises(ValueError, match="'dev'"):
        choices("dev")


def test_fresh_cats_are_made_of_as_many_parts_of_each_kind_as_the_first_of_test():
    test, made = choices("test")[:50], fresh(50, 3)
    assert made.shape == (50, 6) and not torch.equal(made, test) and torch.equal(made[:, :2], test[:, :2])
    assert torch.equal(made.sort(dim=0).values, test.sort(dim=0).values)


def test_more_training_cats_begin_with_the_same_ones_and_stay_apart_from_the_others():
    more = choices("train", 20_000)
    assert torch.equal(more[:12_000], choices("train")) and len(torch.unique(more[:, :5], dim=0)) == 20_000
    pairs = {tuple(row) for row in more[:, :2].tolist()}
    assert not pairs & {tuple(row) for row in choices("val")[:, :2].tolist()}
    assert Cats(20_000).key != Cats().key == Cats(12_000).key
    with pytest.raises(InputError, match="1 ... 252000"):
        choices("train", 252_001)
