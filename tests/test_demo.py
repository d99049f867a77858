"""The whole lab in one command."""

import json
import time

import pytest
from conftest import lab3
from PIL import Image

FIELDS = {
    "features", "protocol", "n", "distance", "distance_pasted", "distance_floor", "distance_holes", "kid", "psnr_known",
    "psnr_hole", "bits", "bits_error", "train_seconds", "inpaint_seconds", "seconds", "stage_seconds", "peak_memory_gb",
    "preset", "seeds"}
OF_THIS_RUN = {"seconds": 0, "stage_seconds": {}, "peak_memory_gb": 0}


@pytest.mark.nightly
def test_the_demo_writes_its_summary_and_page_and_reuses_them(tmp_path):
    done = lab3("demo", "--preset", "smoke", "--out", tmp_path)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert FIELDS <= summary.keys()
    assert summary["features"] == "lite0" and summary["protocol"] == "course" and summary["n"] == 32
    shipped = summary["shipped"]["distance"]
    assert summary["distance_floor"] < shipped < summary["distance"]
    assert shipped < summary["distance_holes"]
    assert summary["shipped"]["bits"] < summary["bits"] < 2700 and "bits a picture" in done.stdout
    page = (tmp_path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 6 and "http" not in page
    assert len(list((tmp_path / "shipped" / "pasted").glob("*.png"))) == 32
    assert list(summary["stage_seconds"]) == [
        "pictures", "tokenizer", "first look", "training", "filling", "figures"]
    assert sum(summary["stage_seconds"].values()) == pytest.approx(summary["seconds"], abs=3)
    assert 0.2 < summary["peak_memory_gb"] < 4
    before = done.stdout[:done.stdout.index("Training")]
    assert str(tmp_path / "first.png") in before and Image.open(tmp_path / "first.png").width > 600

    weights = (tmp_path / "run" / "maskgit.safetensors").stat().st_mtime
    scores = (tmp_path / "scores-shipped.json").stat().st_mtime
    time.sleep(0.01)
    again = lab3("demo", "--preset", "smoke", "--out", tmp_path)
    assert again.returncode == 0, again.stderr
    repeated = json.loads((tmp_path / "summary.json").read_text())
    assert repeated | OF_THIS_RUN == summary | OF_THIS_RUN
    assert (tmp_path / "scores-shipped.json").stat().st_mtime == scores, "scores were computed again"
    assert (tmp_path / "run" / "maskgit.safetensors").stat().st_mtime >= weights


@pytest.mark.nightly
def test_the_demo_on_pictures_of_ones_own_trains_a_tokenizer_on_them(cats, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, picture in enumerate(cats.val[:200]):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{number}.png")
    done = lab3("demo", "--preset", "smoke", "--data", folder, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert FIELDS <= summary.keys() and "shipped" not in summary
    assert (tmp_path / "out" / "run" / "tokenizer" / "tokenizer.safetensors").is_file()
