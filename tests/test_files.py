"""Files are whole or not there, and unusable ones are named."""

import errno
import os

import pytest
import torch
from torch import nn

from lab3.common import files
from lab3.common.files import InputError, SaveError, load_tensors, load_weights, read_json, save_tensors, write_text


def test_tensors_come_back_with_what_was_said_about_them(tmp_path):
    path = tmp_path / "deep" / "a.safetensors"
    save_tensors(path, {"x": torch.arange(6).view(2, 3).T}, {"step": 3})
    tensors, about = load_tensors(path)
    assert torch.equal(tensors["x"], torch.arange(6).view(2, 3).T) and about == {"step": 3}


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_file_and_leaves_nothing_behind(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(1)})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, failing, full)
    with pytest.raises(SaveError, match=r"a\.safetensors.*No space left.*Free some space"):
        save_tensors(path, {"x": torch.ones(1)})
    monkeypatch.undo()
    assert load_tensors(path)[0]["x"] == 0
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_files_are_synced_as_windows_wants_it(tmp_path, monkeypatch):
    """Windows refuses to sync a file that is open for reading alone."""
    fcntl, real, synced = pytest.importorskip("fcntl"), os.fsync, []

    def fsync(handle):
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY:
            raise OSError(errno.EBADF, "Bad file descriptor")
        synced.append(handle)
        real(handle)

    monkeypatch.setattr(files.os, "fsync", fsync)
    write_text(tmp_path / "a.txt", "new")
    save_tensors(tmp_path / "a.safetensors", {"x": torch.ones(1)})
    assert len(synced) == 2 and load_tensors(tmp_path / "a.safetensors")[0]["x"] == 1


def test_an_interrupted_write_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("keep", [0, 4, 20, 0.5, 0.99])
def test_a_truncated_checkpoint_is_named(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"x": torch.zeros(1000)})
    content = path.read_bytes()
    path.write_bytes(content[:int(keep * len(content)) if isinstance(keep, float) else keep])
    with pytest.raises(InputError, match=r"a\.safetensors.*truncated or damaged"):
        load_tensors(path)


def test_a_checkpoint_of_another_shape_is_named(tmp_path):
    with pytest.raises(InputError, match=r"model\.safetensors: weight has shape \(3, 2\).*expects \(2, 2\)"):
        load_weights(nn.Linear(2, 2), {"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, "model.safetensors")
    with pytest.raises(InputError, match="lacks tensor 'bias'"):
        load_weights(nn.Linear(2, 2), {"weight": torch.zeros(2, 2)}, "model.safetensors")
    with pytest.raises(InputError, match="unknown tensor 'scale'"):
        load_weights(nn.Linear(2, 2, bias=False), {"weight": torch.zeros(2, 2), "scale": torch.ones(1)}, "m")
    with pytest.raises(InputError, match="not finite"):
        load_weights(nn.Linear(2, 1, bias=False), {"weight": torch.tensor([[1, torch.nan]])}, "m")


def test_json_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json: not readable as JSON"):
        read_json(tmp_path / "a.json")
