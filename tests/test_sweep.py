"""Sweeps: what is decoded, saved and gone on with, what is refused, the heat maps, and the panel, in this process."""

import json
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest

from lab3.common.files import InputError
from lab3.common.paths import SHIPPED, SOLUTIONS
from lab3.explorer import sweep_panel
from lab3.explorer.sweep_panel import panel
from lab3.metrics import sweep as module
from lab3.metrics.sweep import PRECOMPUTED, Found, Grid, draw, kept, read_sweep, subject, sweep
from lab3.model.transformer import load_transformer

GRID = Grid(schedules=("linear", "cosine"), total_iters=(1, 2), parts=(0.5, 1.0), temperatures=(4.5,), pictures=4,
            seeds=(0,))


@pytest.fixture(scope="module")
def kit(answers, cats, tokenizer):
    """The kit's model with the reference answers."""
    transformer = load_transformer(SHIPPED / "maskgit.safetensors", answers.MultiHeadAttention)
    return subject(cats, tokenizer, transformer, answers, SOLUTIONS, "the kit's model")


@pytest.fixture
def decoded(monkeypatch):
    """The settings of every decoding that is made."""
    made, fill = [], module.fill

    def noted(*args, **options):
        made.append((args[5].schedule, args[5].total_iter, args[6]))
        return fill(*args, **options)

    monkeypatch.setattr(module, "fill", noted)
    return made


@pytest.fixture(scope="module")
def done(kit, tmp_path_factory):
    """A finished sweep's file."""
    path = tmp_path_factory.mktemp("sweep") / "sweep.json"
    *_, found = sweep(path, GRID, kit, command="python -m lab3 sweep")
    assert found.done == found.total == 4
    return path


def test_a_sweep_holds_all_cells_and_says_how_it_was_made(done):
    held = json.loads(done.read_text())
    assert set(held["cells"]) == {f"{schedule}/{cell}/4.5" for schedule in ("linear", "cosine")
                                  for cell in ("1/1", "2/1", "2/2")}
    assert {"n", "model", "machine", "seconds", "command", "distance_floor", "distance_holes"} <= held.keys()
    found = read_sweep(done)
    assert found.grid == GRID and found.done == found.total
    assert all(value > 0 for cell in found.cells for value in found.distances(cell))


def test_a_sweep_that_stops_goes_on_where_it_was(kit, done, decoded, tmp_path):
    path = tmp_path / "sweep.json"
    for found in sweep(path, GRID, kit):
        if found.done == 2:
            break
    assert decoded == [("linear", 1, 0), ("linear", 2, 0)]
    first, *_, last = sweep(path, GRID, kit)
    assert (first.done, last.done) == (2, 4) and len(decoded) == 4
    assert json.loads(path.read_text())["cells"] == json.loads(done.read_text())["cells"]


def test_a_larger_sweep_goes_on_from_a_smaller_one(kit, done, decoded, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_bytes(done.read_bytes())
    *_, found = sweep(path, replace(GRID, schedules=("linear", "cosine", "square"), total_iters=(1,)), kit)
    assert decoded == [("square", 1, 0)]
    assert len(read_sweep(path).cells) == 7 and found.total == 3


def test_a_finished_sweep_is_only_read(kit, done, decoded):
    [found] = sweep(done, GRID, kit)
    assert found.done == found.total and not decoded


def test_a_file_of_another_sweep_is_refused_and_kept(kit, done, tmp_path):
    path = tmp_path / "sweep.json"
    path.write_bytes(done.read_bytes())
    (tmp_path / "work").mkdir()
    others = subject(kit.data, kit.tokenizer, kit.transformer, kit.answers, tmp_path / "work", "other answers")
    for about, grid in ((others, GRID), (kit, replace(GRID, pictures=5)), (kit, replace(GRID, sampling="argmax"))):
        with pytest.raises(InputError, match="holds a sweep of another model"):
            list(sweep(path, grid, about))
    assert path.read_bytes() == done.read_bytes()


@pytest.mark.parametrize("content", [
    "", "[]", "{}", '{"cells": {"cosine": 1}}', '{"cells": {"cosine/1/1/x": {"0": 1}}}'])
def test_a_file_that_is_no_sweep_is_refused(kit, tmp_path, content):
    path = tmp_path / "notes.json"
    path.write_text(content)
    with pytest.raises(InputError, match="notes.json"):
        list(sweep(path, GRID, kit))
    assert path.read_text() == content


@pytest.mark.parametrize("changes, named", [
    ({"schedules": ("cubic",)}, "schedule"), ({"total_iters": (0,)}, "total-iter"),
    ({"total_iters": ()}, "total_iters"), ({"parts": (1.5,)}, "parts"), ({"parts": (0.3,)}, "parts"),
    ({"temperatures": (-1.0,)}, "temperature"),
    ({"temperatures": (float("nan"),)}, "temperature"), ({"temperatures": (float("inf"),)}, "temperature"),
    ({"sampling": "best"}, "sampling"), ({"pictures": 1}, "pictures"), ({"pictures": 748}, "pictures"),
    ({"seeds": ()}, "seeds"), ({"seeds": (0, 0)}, "seeds"), ({"seeds": (-1,)}, "seeds")])
def test_grids_that_cannot_be_are_refused(kit, tmp_path, changes, named):
    with pytest.raises(InputError, match=named):
        list(sweep(tmp_path / "sweep.json", replace(GRID, **changes), kit))
    assert not (tmp_path / "sweep.json").exists()


def test_the_kits_own_sweep_is_about_what_is_shipped(kit):
    found = read_sweep(PRECOMPUTED)
    assert found.done == found.total and list(kept([PRECOMPUTED], kit))
    assert len(found.grid.seeds) > 1 and found.grid.pictures >= 64
    assert found.about["command"].startswith("python -m lab3 sweep") and found.about["seconds"] > 0
    assert found.about["distance_floor"] < min(map(found.distances, found.cells))[0] < found.about["distance_holes"]


@pytest.mark.nightly
def test_the_kits_own_sweep_can_be_made_again(kit, tmp_path):
    shipped = read_sweep(PRECOMPUTED)
    grid = replace(shipped.grid, schedules=("cosine",), total_iters=(1,), temperatures=(4.5,), seeds=(0,))
    *_, found = sweep(tmp_path / "sweep.json", grid, kit)
    cell = ("cosine", 1, 1, 4.5)
    # other machines multiply in other precisions, which moves single draws
    assert found.distances(cell) == pytest.approx(shipped.distances(cell)[:1], rel=0.05)


def test_only_finished_sweeps_of_the_same_subject_are_kept(kit, done, tmp_path):
    half = json.loads(done.read_text())
    del half["cells"]["cosine/2/2/4.5"]
    (tmp_path / "half.json").write_text(json.dumps(half))
    (tmp_path / "damaged.json").write_text("{")
    paths = [done, tmp_path / "half.json", tmp_path / "damaged.json", tmp_path / "none.json"]
    assert [found.total for found in kept(paths, kit)] == [4]


def found_of(cells, grid=GRID):
    return Found(grid, {"features": "lite0", "n": 4, "model": "a <model>"}, cells, 0, 4)


def test_heat_maps_show_means_and_frame_the_lowest():
    grid = replace(GRID, seeds=(0, 1))
    found = found_of({("linear", 2, 1, 4.5): {0: 3.0, 1: 5.0}, ("cosine", 1, 1, 4.5): {0: 2.0, 1: 2.5},
                      ("cosine", 2, 2, 4.5): {0: 9.0}}, grid)
    page = draw(found)
    linear, cosine = page.axes[:2]
    assert [text.get_text() for text in linear.texts] == ["4.0\n± 1.4"]
    assert [text.get_text() for text in cosine.texts] == ["2.2\n± 0.4", "9.0"]
    assert (len(linear.patches), len(cosine.patches)) == (0, 1)
    assert linear.images[0].get_clim() == cosine.images[0].get_clim() == (2.25, 9.0)
    assert found.best() == {"schedule": "cosine", "total_iter": 1, "sweet_spot": 1, "temperature": 4.5}


def test_heat_maps_can_be_empty():
    assert not any(axes.texts for axes in draw(found_of({})).axes)
    assert found_of({}).best() is None


# The panel.

@pytest.fixture
def lab(monkeypatch, tmp_path, kit):
    """As in a notebook that somebody looks at; its sweeps are made up."""
    monkeypatch.delenv("LAB3_STATIC", raising=False)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    (tmp_path / "maskgit.safetensors").touch()
    return SimpleNamespace(data=kit.data, tokenizer=kit.tokenizer, answers=kit.answers, work=tmp_path,
                           shipped=lambda: kit.transformer, trained=lambda: kit.transformer)


def controls(box):
    model, pictures, start, stop, bar = box.children[0].children
    return SimpleNamespace(model=model, pictures=pictures, start=start, stop=stop, bar=bar, said=box.children[1],
                           picture=box.children[2])


def test_the_panel_opens_with_the_kits_own_sweep(lab):
    now = controls(panel(lab))
    assert now.picture.value.startswith("<img alt=") and "the kit&#x27;s model" in now.said.value
    assert now.bar.value == now.bar.max and now.start.disabled and now.stop.disabled
    assert all(control.description for control in (now.model, now.pictures, now.start, now.stop, now.bar))


def test_the_panel_offers_a_model_of_yours_only_where_there_is_one(lab):
    assert "your model, your decoding" in controls(panel(lab)).model.options
    (lab.work / "maskgit.safetensors").unlink()
    assert controls(panel(lab)).model.options[1:] == ("the kit's model, your decoding",)


def test_the_panel_takes_another_models_map_away(lab):
    now = controls(panel(lab))
    now.model.value = "the kit's model, your decoding"
    assert now.picture.value == "" and now.bar.value == 0
    now.model.value = now.model.options[0]
    assert now.picture.value.startswith("<img") and now.bar.value == now.bar.max


def test_the_panel_sweeps_beside_other_work_and_stops(lab, monkeypatch):
    seen, go_on, started = [], threading.Event(), threading.Event()

    def made_up(path, grid, about):
        seen.append((path, grid, about.name))
        for done in range(1, 5):
            yield Found(grid, {"features": "lite0", "n": 16, "model": about.name},
                        {("linear", 2, 1, 4.5): {0: float(done)}}, done, 4)
            started.set()
            assert go_on.wait(10)

    monkeypatch.setattr(sweep_panel, "sweep", made_up)
    box = panel(lab, GRID)
    now = controls(box)
    now.model.value = "your model, your decoding"
    assert not now.start.disabled
    now.pictures.value = 16
    now.start.click()
    assert started.wait(10) and now.start.disabled and now.model.disabled and not now.stop.disabled
    assert now.bar.value == 1 and "1 of 4 decodings" in now.said.value
    now.stop.click()
    go_on.set()
    box.thread.join(10)
    assert now.bar.value == 2 and not now.start.disabled and now.stop.disabled
    [(path, grid, name)] = seen
    assert path.parent == lab.work / "sweeps" and grid == replace(GRID, pictures=16)
    assert name == "your model, your decoding"


def test_the_panel_really_sweeps(lab):
    box = panel(lab, replace(GRID, total_iters=(1,)))
    now = controls(box)
    now.model.value = "the kit's model, your decoding"
    now.start.click()
    box.thread.join(60)
    assert now.bar.value == now.bar.max == 2 and "2 of 2 decodings" in now.said.value
    assert len(list((lab.work / "sweeps").glob("*.json"))) == 1


def test_the_panel_says_what_goes_wrong(lab):
    def broken():
        raise RuntimeError("the model is <lost>")

    lab.trained = broken
    box = panel(lab, GRID)
    now = controls(box)
    now.model.value = "your model, your decoding"
    now.start.click()
    box.thread.join(10)
    assert now.said.value == "RuntimeError: the model is &lt;lost&gt;" and not now.start.disabled


def test_where_nobody_looks_it_is_a_figure(lab, monkeypatch):
    monkeypatch.setenv("LAB3_STATIC", "1")
    assert len(panel(lab).axes) > 12
