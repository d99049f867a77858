"""The notebook's `Lab`: what it finds, its fallbacks, and that answers are checked and saved as they run."""

import inspect
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import lab3
from lab3.common import plots, progress
from lab3.common.files import InputError, SaveError, load_tensors, read_json
from lab3.common.paths import SHIPPED, SOLUTIONS
from lab3.exercises.answers import answer_file
from lab3.exercises.fallbacks import FALLBACKS, TorchAttention, all_at_once, straight_line
from lab3.exercises.table import EXERCISES
from lab3.model.transformer import MASK_TOKEN_ID, BidirectionalTransformer, load_transformer
from lab3.notebook import environment
from lab3.notebook import lab as lab_module
from lab3.presets import PRESETS, TransformerConfig
from lab3.training.runs import locked

EARLIER = [name for name, one in EXERCISES.items() if one.notebook < "06"]


@pytest.fixture
def work(tmp_path):
    """A work folder with all reference answers."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in EXERCISES:
        (folder / f"{name}.py").write_text(reference(name))
    return folder


@pytest.fixture
def quick(cats, monkeypatch):
    """The preset smoke with a quarter of its pictures, in smaller batches: as many steps. Cats are composed once."""
    monkeypatch.setattr(lab_module, "Cats", lambda: cats)
    smoke = PRESETS["smoke"]
    training = replace(smoke.training, train_pictures=64, val_pictures=32, batch_size=8)
    monkeypatch.setitem(PRESETS, "smoke", replace(smoke, training=training))


def only(work, *names):
    """Leave these answers alone in a work folder: those that training needs take seconds to check."""
    for path in work.iterdir():
        if path.stem not in names:
            path.unlink()


def reference(name):
    return (SOLUTIONS / f"{name}.py").read_text()


def cell(name):
    """The reference answer as a student's cell."""
    text = reference(name)
    return text[text.index("#| exercise"):]


STUB = """#| exercise: gamma_func
def gamma_func(mode="cosine"):
    raise NotImplementedError  # your code here
"""


def test_start_says_what_it_finds(shell, tmp_path, capsys):
    lab = lab3.start("01", "smoke", tmp_path / "new" / "work")
    said = capsys.readouterr().out
    assert "preset smoke" in said and "FAIL" not in said and "PyTorch" in said
    assert "0 of 11 right; next: 01 multi_head_attention" in said and "TODO" not in said
    assert lab.preset.name == "smoke" and lab.work.is_dir() and list(lab.missing) == ["multi_head_attention"]


def test_start_says_how_long_the_cells_take_where_that_is_long(shell, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("lab3.notebook.environment.training_seconds", lambda *_: 100)
    monkeypatch.setattr("lab3.notebook.environment.decoding_seconds", lambda preset, device, pictures: 20)
    for notebook, says in [("03", "about 2 min in all, the training 2 min of it."), ("06", "about 20 s in all.")]:
        lab3.start(notebook, "smoke", tmp_path)
        assert says in capsys.readouterr().out
    lab3.start("01", "smoke", tmp_path)
    assert "Expected here" not in capsys.readouterr().out


@pytest.mark.parametrize("arguments, message", [
    (("08",), "notebook must be one of 00, 01"), (("1",), "notebook"), (("01", "big"), "preset must be one of smoke")])
def test_start_refuses_what_does_not_exist(shell, tmp_path, arguments, message):
    with pytest.raises(InputError, match=message):
        lab3.start(*arguments, work=tmp_path)


def test_settings_come_from_the_environment(shell, tmp_path, monkeypatch):
    monkeypatch.setenv("LAB3_PRESET", "smoke")
    monkeypatch.setenv("LAB3_WORK", str(tmp_path / "elsewhere"))
    lab = lab3.start("00")
    assert lab.preset.name == "smoke" and lab.work == tmp_path / "elsewhere"


def test_a_place_that_cannot_be_written_is_named(shell, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    lab3.start("01", work=tmp_path / "file" / "work")
    assert re.search(r"\[FAIL\] .*file/work.*LAB3_WORK", capsys.readouterr().out)


def test_answers_travel_from_one_notebook_to_the_next(shell, tmp_path, capsys):
    lab3.start("01", "smoke", tmp_path)
    shell.run_cell("import torch\nfrom torch import nn")
    shell.run_cell(cell("multi_head_attention"))
    assert "[OK]   multi_head_attention" in capsys.readouterr().out
    lab3.start("02", "smoke", tmp_path)
    assert "[OK]   multi_head_attention (notebook 01): yours" in capsys.readouterr().out
    assert shell.user_ns["MultiHeadAttention"] is not TorchAttention


def test_an_answer_is_saved_and_checked_once_when_its_cell_runs(shell, tmp_path, capsys):
    lab3.start("04", "smoke", tmp_path)
    lab = lab3.start("04", "smoke", tmp_path)  # the first cell run twice
    shell.run_cell("import numpy as np")
    capsys.readouterr()
    shell.run_cell(cell("gamma_func"))
    assert capsys.readouterr().out.count("[OK]   gamma_func") == 1
    assert (tmp_path / "gamma_func.py").read_text() == reference("gamma_func")
    lab.check("gamma_func")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("above", [
    "# | exercise: gamma_func\n", "%%time\n#|exercise: gamma_func\n", "import itertools\n#| exercise: gamma_func\n"])
def test_a_marker_counts_as_formatters_write_it_and_below_other_lines(shell, tmp_path, capsys, above):
    lab = lab3.start("04", "smoke", tmp_path)
    shell.run_cell("import numpy as np")
    shell.run_cell(above + cell("gamma_func").partition("\n")[2])
    assert "[OK]   gamma_func" in capsys.readouterr().out
    saved = (tmp_path / "gamma_func.py").read_text()
    assert "\n#| exercise: gamma_func\n" in saved and "%%time" not in saved
    shell.run_cell(above + "def gamma_func(mode='cosine'):\n    return lambda r: r\n")
    assert "[FAIL] gamma_func" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="gamma rises"):
        lab.check("gamma_func")


SLIPS = {  # a cell, and what the student is told of it
    "a SyntaxError": ("#| exercise: gamma_func\ndef gamma_func(mode:", "stopped with SyntaxError"),
    "a SyntaxError below a magic": ("%%time\n#| exercise: gamma_func\ndef gamma_func(:", "stopped with SyntaxError"),
    "an exception at the end": (cell("gamma_func") + "\ngamma_func('cube')", "stopped with ValueError"),
    "an interrupt": (cell("gamma_func") + "\nraise KeyboardInterrupt", "stopped with KeyboardInterrupt"),
    "no marker": (cell("gamma_func").partition("\n")[2], "lacks the line  #| exercise: gamma_func"),
    "a marker with a slip": (cell("gamma_func").replace("exercise", "exercice", 1), "lacks the line"),
    "another value": ("gamma_func = lambda mode: None", "lacks the line"),
}


@pytest.mark.parametrize("first", ["right", "wrong"])
@pytest.mark.parametrize("slip", SLIPS)
def test_a_cell_that_is_not_checked_ends_an_earlier_report(shell, tmp_path, capsys, slip, first):
    lab, (text, told) = lab3.start("04", "smoke", tmp_path), SLIPS[slip]
    shell.run_cell("import numpy as np")
    shell.run_cell(cell("gamma_func") if first == "right" else cell("gamma_func").replace("1 - r,", "r,"))
    saved = (tmp_path / "gamma_func.py").read_text()
    capsys.readouterr()
    shell.run_cell(text)
    said = capsys.readouterr().out
    assert "[OK]" not in said, said
    assert re.search(rf"\[FAIL\] gamma_func: this cell {re.escape(told)}.*not checked", said), said
    assert (tmp_path / "gamma_func.py").read_text() == saved and "kept      the earlier answer" in said
    with pytest.raises(AssertionError, match=re.escape(told)):
        lab.check("gamma_func")
    shell.run_cell(cell("gamma_func"))
    lab.check("gamma_func")


def test_cells_that_define_other_names_say_nothing(shell, tmp_path, capsys):
    lab3.start("04", "smoke", tmp_path)
    capsys.readouterr()
    shell.run_cell("def helper():\n    gamma_func = 1\n\n%timeit -n1 -r1 helper()")
    assert "gamma_func" not in capsys.readouterr().out


def test_what_an_exercise_cell_prints_comes_once(shell, tmp_path, capsys):
    lab3.start("04", "smoke", tmp_path)
    shell.run_cell(cell("gamma_func") + "\nprint('hello')")
    assert capsys.readouterr().out.count("hello") == 1


def test_a_right_answer_is_not_lost_to_a_wrong_one(shell, work, capsys):
    """Such as that of a copy of the notebook, in another kernel."""
    only(work, "gamma_func")
    lab3.start("04", "smoke", work)
    wrong = "#| exercise: gamma_func\ndef gamma_func(mode='cosine'):\n    return lambda r: r\n"
    for _ in range(2):
        shell.run_cell(wrong)
    assert capsys.readouterr().out.count("work/earlier/gamma_func.py") == 1
    assert (work / "gamma_func.py").read_text() == answer_file(wrong)
    assert (work / "earlier" / "gamma_func.py").read_text() == reference("gamma_func")


def test_saved_answers_of_the_notebook_itself_are_used(shell, work, capsys):
    lab = lab3.start("01", "smoke", work)
    assert "[OK]   multi_head_attention (notebook 01): yours\n       11 of 11 right\n" in capsys.readouterr().out
    assert shell.user_ns["MultiHeadAttention"].__module__ == "lab3_answers.multi_head_attention"
    assert lab.label("multi_head_attention", "your attention") == "your attention"
    assert "sample_mask" not in shell.user_ns, "no answers of later notebooks"


def test_an_exercise_that_is_not_written_does_not_block_its_own_notebook(shell, tmp_path, capsys):
    lab = lab3.start("01", "smoke", tmp_path)
    shell.run_cell("from torch import nn\n#| exercise: multi_head_attention\nclass MultiHeadAttention(nn.Module):\n"
                   "    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):\n        raise NotImplementedError")
    assert re.search(r"not written yet.*PyTorch's own attention is used instead", capsys.readouterr().out)
    assert lab.shipped().layers and lab.label("multi_head_attention", "your attention") == "PyTorch's own attention"
    with pytest.raises(NotImplementedError):
        lab.check("multi_head_attention")


def test_the_fallback_attention_shows_its_weights_to_a_hook():
    torch.manual_seed(0)
    attention, kept = TorchAttention(24, 3, 0.1).eval(), []
    attention.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    x = torch.randn(2, 5, 24)
    q, k = (layer(x).view(2, 5, 3, 8).transpose(1, 2) for layer in (attention.query, attention.key))
    attention(x)
    torch.testing.assert_close(kept[0], (q @ k.mT / 8**0.5).softmax(dim=-1))


def test_status_says_how_far_it_is(shell, work, capsys):
    (work / "mvtm_loss.py").unlink()
    (work / "gamma_func.py").write_text(BROKEN["wrong"])
    lab = lab3.start("05", "smoke", work)
    assert "       9 of 11 right; next: 02 mvtm_loss\n" in capsys.readouterr().out
    assert list(lab.missing) == ["mvtm_loss", "gamma_func"], "right answers are used beside them"
    lab.status()
    said = capsys.readouterr().out
    assert said.count("[OK]") == 9 and "[TODO] mvtm_loss" in said and "[FAIL] gamma_func" in said
    assert "9 of 11 right; next: 02 mvtm_loss" in said


def test_figures_have_a_caption_as_text_and_an_alternative_text(shell, tmp_path):
    lab3.start("04", "smoke", tmp_path)
    page = plots.figure(4, 2, "What to see: a < b.")
    assert "text/html" not in shell.display_formatter.format(page)[0], "nothing is drawn"
    for axes, title in zip(page.subplots(1, 2), ("left", "right")):
        axes.set(title=title, xlabel="step", ylabel='"loss"')
        axes.plot([1], label="mine")
    shown = shell.display_formatter.format(page)[0]["text/html"]
    assert "<figcaption>What to see: a &lt; b.</figcaption>" in shown
    assert 'alt="Figure: left; &quot;loss&quot;; step; mine; right"' in shown
    assert not page.texts and page.get_supxlabel() == "", "the caption is not drawn as well"
    page.set_label("")
    assert "text/html" not in shell.display_formatter.format(page)[0], "a student's own figure is shown as ever"


def test_verdicts_are_coloured_in_a_notebook_alone(monkeypatch, capsys):
    environment.say("[OK]   one\ntwo")
    monkeypatch.setattr(environment, "in_notebook", lambda: True)
    monkeypatch.delenv("LAB3_STATIC", raising=False)
    environment.say("[FAIL] one\ntwo")
    assert capsys.readouterr().out == "[OK]   one\ntwo\n\x1b[31m[FAIL] one\x1b[0m\ntwo\n"


def test_a_wrong_answer_is_told_and_kept(shell, tmp_path, capsys):
    lab = lab3.start("04", "smoke", tmp_path)
    rising = "#| exercise: gamma_func\ndef gamma_func(mode='cosine'):\n    return lambda r: r\n"
    shell.run_cell(rising)
    assert "[FAIL] gamma_func" in capsys.readouterr().out
    assert (tmp_path / "gamma_func.py").read_text() == answer_file(rising)
    with pytest.raises(AssertionError, match="gamma_func"):
        lab.check("gamma_func")
    shell.run_cell(cell("gamma_func"))
    lab.check("gamma_func")


def test_an_answer_that_cannot_be_saved_is_not_ok_until_it_is(shell, tmp_path, capsys, monkeypatch):
    def full(path, text):
        raise SaveError(f"{path}: could not be saved (No space left on device).")

    lab = lab3.start("04", "smoke", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(lab_module, "write_text", full)
        shell.run_cell(cell("gamma_func"))
    said = capsys.readouterr().out
    assert "[OK]   gamma_func" not in said and "[FAIL] gamma_func" in said and "No space left" in said
    lab.check("gamma_func")  # checks and saves it again
    assert (tmp_path / "gamma_func.py").read_text() == reference("gamma_func")


def test_a_stub_never_replaces_an_answer(shell, work, capsys):
    only(work, "gamma_func")
    lab = lab3.start("04", "smoke", work)
    shell.run_cell(STUB)
    assert re.search(r"not written yet.*keeps an earlier answer", capsys.readouterr().out)
    assert (work / "gamma_func.py").read_text() == reference("gamma_func")
    with pytest.raises(NotImplementedError, match="gamma_func"):
        lab.check("gamma_func")


def test_an_answer_that_waits_for_another_is_saved(shell, tmp_path, capsys):
    lab3.start("05", "smoke", tmp_path)
    shell.run_cell("import torch")
    shell.run_cell("#| exercise: inpainting\ndef inpainting(*args, **options):\n    raise NotImplementedError\n")
    shell.run_cell(cell("iterative_decode"))
    assert "[TODO] iterative_decode: waits for inpainting" in capsys.readouterr().out
    assert (tmp_path / "iterative_decode.py").read_text() == reference("iterative_decode")
    assert not (tmp_path / "inpainting.py").exists()


def test_a_cell_that_fails_is_not_saved(shell, tmp_path, capsys):
    lab3.start("04", "smoke", tmp_path)
    shell.run_cell("#| exercise: gamma_func\nraise RuntimeError('half written')")
    assert not (tmp_path / "gamma_func.py").exists()


def test_an_answer_that_needs_another_cell_is_found_out_at_once(shell, tmp_path, capsys):
    lab3.start("04", "smoke", tmp_path)
    shell.run_cell("def line(r):\n    return 1 - r")
    capsys.readouterr()
    shell.run_cell("#| exercise: gamma_func\ndef gamma_func(mode='cosine'):\n    return {'linear': line}[mode]\n")
    said = capsys.readouterr().out
    assert "[FAIL] gamma_func" in said and "line" in said


def test_an_unknown_exercise_is_named(shell, tmp_path, capsys):
    lab = lab3.start("04", "smoke", tmp_path)
    shell.run_cell("#| exercise: gama_func\nx = 1")
    assert "'gama_func' does not exist" in capsys.readouterr().out
    with pytest.raises(InputError, match="does not exist"):
        lab.check("gama_func")
    with pytest.raises(InputError, match="has not run yet"):
        lab.check("gamma_func")


def test_missing_answers_are_replaced_or_explained(shell, tmp_path, capsys):
    lab = lab3.start("06", "smoke", tmp_path)
    said = capsys.readouterr().out
    told = re.findall(r"\[TODO\] (\w+) \(notebook \d\d\): not there yet; .+ is used instead", said)
    assert tuple(told) == lab_module.USES["06"] and said.count("[TODO]") == len(told), "told of those it uses alone"
    assert set(lab.missing) == {*EARLIER, "frechet_distance"}
    for name, (answer, _) in FALLBACKS.items():
        assert shell.user_ns[EXERCISES[name].defines] is answer
    with pytest.raises(NotImplementedError, match="sample_mask of notebook 02"):
        shell.user_ns["sample_mask"](1, 2)


BROKEN = {
    "syntax": "def gamma_func(:",
    "raises": "raise RuntimeError('no')",
    "exits": "import sys\nsys.exit(3)",
    "empty": "",
    "other name": "def gama_func(mode):\n    return None",
    "wrong": "def gamma_func(mode='cosine'):\n    return lambda r: r",
    "endless": "while True:\n    pass",
    "endless when called": "def gamma_func(mode='cosine'):\n    while True:\n        pass",
    "not text": b"\xff\xfe\x00\x80",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_answer_never_stops_a_later_notebook(shell, tmp_path, capsys, monkeypatch, text):
    monkeypatch.setattr("lab3.exercises.examine.CHECK_LIMIT", 1)
    (tmp_path / "gamma_func.py").write_bytes(text if isinstance(text, bytes) else text.encode())
    lab = lab3.start("05", "smoke", tmp_path)
    said = capsys.readouterr().out
    assert "[FAIL] gamma_func (notebook 04): fails its check; a straight line is used instead" in said
    assert lab.missing["gamma_func"] == "fails its check" and lab.answers.gamma_func is straight_line
    assert (tmp_path / "gamma_func.py").is_file(), "what the student wrote is not lost"


def test_right_answers_find_one_another(shell, work):
    lab = lab3.start("06", "smoke", work)
    assert not lab.missing
    for name in ("sample_mask", "masked_forward", "mvtm_loss"):
        assert lab.answers.train_one_epoch.__globals__[name] is getattr(lab.answers, name)
    assert inspect.unwrap(lab.answers.iterative_decode).__globals__["inpainting"] is lab.answers.inpainting


def test_training_is_kept_and_goes_on(shell, work, quick, capsys, monkeypatch):
    monkeypatch.setattr(lab_module, "_curve", lambda shell: lambda run: None)  # the next test draws it
    lab = lab3.start("04", "smoke", work)
    lab.train()
    kept = load_tensors(work / "maskgit.safetensors")[0]
    steps = read_json(lab.run / "maskgit.json")["steps"]
    assert lab.metrics()[-1]["step"] == steps
    assert list(lab.milestones()) == ["20 %", "50 %"]
    capsys.readouterr()

    again = lab3.start("04", "smoke", work)
    again.train()
    assert "changed" not in capsys.readouterr().out
    assert all(torch.equal(kept[name], value) for name, value in load_tensors(work / "maskgit.safetensors")[0].items())

    (work / "mvtm_loss.py").write_text(reference("mvtm_loss") + "# another thought\n")
    again.train()
    assert "Your answers have changed" in capsys.readouterr().out
    record = load_tensors(work / "maskgit.safetensors")[1]["record"]
    assert record["curve"][-1][0] == steps and [percent for percent, _ in record["held_out"]] == [20, 50, 100]
    seed = read_json(lab.run / "maskgit.json")["training"]["seed"]
    again.train(fresh=True)
    assert seed != read_json(lab.run / "maskgit.json")["training"]["seed"], "other answers train another model"
    assert "Your answers have changed" not in capsys.readouterr().out
    assert [path for path in work.glob("run-smoke-until-*") if (path / "maskgit.safetensors").is_file()]
    assert again.trained().config == lab.preset.transformer


def test_a_training_that_is_stopped_says_so_in_a_line_and_goes_on(shell, work, quick, capsys):
    lab, calls = lab3.start("04", "smoke", work), []
    train = lab.answers.train_one_epoch

    def stopped(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(*args, **options)

    shell.user_ns.update(lab=lab, train_one_epoch=stopped)
    capsys.readouterr()
    shell.run_cell("lab.train()")
    said = capsys.readouterr().out
    assert "Traceback" not in said
    assert "Training stopped. It was last saved after batch 4: run this cell again to go on from there." in said
    lab.train()
    assert lab.metrics()[-1]["step"] == 16 and lab.metrics()[0]["step"] == 4


def test_two_trainings_never_share_a_folder(shell, work):
    lab = lab3.start("04", "smoke", work)
    with locked(lab.run), pytest.raises(InputError, match="another process is training here.*opened twice"):
        lab.train()
    with locked(lab.run):
        """It was given back."""


def test_training_without_answers_gives_the_kits_model(shell, tmp_path, capsys):
    lab = lab3.start("03", "smoke", tmp_path)
    transformer = lab.train()
    assert "Training needs sample_mask, masked_forward, mvtm_loss, configure_optimizers" in capsys.readouterr().out
    assert transformer.config == lab.shipped().config
    assert lab.metrics()[-1]["val_loss"] < 1 and lab.milestones() == {}
    assert lab.trained().config == lab.shipped().config
    assert "No model of yours yet" in capsys.readouterr().out


def test_torch_attention_is_the_answers_attention(answers):
    torch.manual_seed(0)
    theirs, ours = answers.MultiHeadAttention(24, 3, 0.0), TorchAttention(24, 3, 0.0)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(ours(x), theirs(x))
    with_ours, with_theirs = (load_transformer(SHIPPED / "maskgit.safetensors", attention)
                              for attention in (TorchAttention, answers.MultiHeadAttention))
    z_indices = torch.randint(1025, (2, 256))
    with torch.no_grad():
        torch.testing.assert_close(with_ours(z_indices), with_theirs(z_indices), rtol=1e-3, atol=1e-3)


def test_torch_attention_drops_weights_in_training_only():
    attention, x = TorchAttention(24, 3, 0.5), torch.randn(2, 5, 24)
    assert not torch.equal(attention(x), attention(x))
    attention.eval()
    torch.testing.assert_close(attention(x), attention(x))


def test_a_straight_line_keeps_the_kind():
    gamma = straight_line("square")
    assert gamma(0.25) == 0.75 and type(gamma(0.25)) is float
    assert np.allclose(gamma(np.array([0, 0.5, 1])), [1, 0.5, 0])


def test_all_at_once_fills_everything_and_nothing_else():
    transformer = BidirectionalTransformer(TransformerConfig(dim=16, layers=1, hidden=16, heads=2), TorchAttention)
    z_indices = torch.randint(1024, (3, 256))
    mask = torch.rand(3, 256) < torch.tensor([[0.0], [0.5], [1.0]])
    filled, history = all_at_once(transformer, z_indices, mask, gamma=math.cos, total_iter=4, sweet_spot=2,
                                  mask_token_id=MASK_TOKEN_ID, generator=None)
    assert torch.equal(filled[~mask], z_indices[~mask]) and filled.max() < MASK_TOKEN_ID
    assert len(history) == 2 and not history[0][1].any()


def test_a_check_sees_what_was_fixed_since(shell, tmp_path, capsys):
    lab = lab3.start("05", "smoke", tmp_path)
    shell.run_cell("import torch\n#\ndef inpainting(*_, **__):\n    raise NotImplementedError")
    shell.run_cell(cell("iterative_decode"))
    with pytest.raises(AssertionError, match="waits for inpainting"):
        lab.check("iterative_decode")
    shell.run_cell(cell("inpainting"))
    lab.check("iterative_decode")


@pytest.mark.parametrize("kernel", [True, False])
def test_bars_go_where_jupyter_does_not_paint_them_red(kernel, monkeypatch, capsys):
    monkeypatch.setattr(progress, "in_notebook", lambda: kernel)
    assert list(progress.progress_bar(range(3), desc="counting")) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert "counting" in (out if kernel else err) and not (err if kernel else out)


@pytest.mark.nightly
def test_milestones_are_copies_of_the_weights_on_the_way(shell, work, quick):
    lab = lab3.start("04", "smoke", work)
    last = lab.train().state_dict()
    found = [one.state_dict() for one in lab.milestones().values()]
    steps = [row["step"] for row in lab.metrics()]
    assert steps[-1] == 16 and 4 in steps and 8 in steps, "parts end where milestones are due"
    assert not torch.equal(found[0]["bias"], found[1]["bias"]) and not torch.equal(found[1]["bias"], last["bias"])
