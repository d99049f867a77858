"""The transformer and the run's settings."""

from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from lab3.common.files import InputError, save_tensors
from lab3.common.paths import ANSWERS
from lab3.decoding.cached import CachedTransformer, for_decoding
from lab3.exercises.answers import load_answers
from lab3.model.transformer import BidirectionalTransformer, load_transformer, save_transformer
from lab3.presets import PRESETS, DecodingConfig, preset


def test_the_report_model_has_the_courses_size(answers):
    with torch.device("meta"):
        transformer = BidirectionalTransformer(PRESETS["report"].transformer, answers.MultiHeadAttention)
    assert sum(p.numel() for p in transformer.parameters()) == 72_745_472  # the course says 72.75 M


def test_the_report_preset_has_the_reports_settings():
    report = preset("report")
    assert (report.training.batch_size, report.training.lr, report.training.epochs) == (150, 5e-5, 100)
    assert (report.training.warmup_epochs, report.training.eta_min, report.training.seed) == (10, 1e-6, 42)


def test_logits_for_every_place_and_every_id(answers):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention)
    logits = transformer(torch.randint(0, 1025, (3, 256)))
    assert logits.shape == (3, 256, 1025)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_logits_of_some_places_are_those_of_all(answers, share):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention).eval()
    torch.nn.init.normal_(transformer.bias)
    z_indices, where = torch.randint(0, 1025, (3, 256)), torch.rand(3, 256) < share
    some, rest = transformer(z_indices, where), transformer(z_indices)[where]
    assert some.shape == (where.sum(), 1025)
    torch.testing.assert_close(some, rest)
    gradients = [torch.autograd.grad(one.square().sum(), list(transformer.parameters())) for one in (some, rest)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_any_attention_of_the_contract_will_do():
    class Mean(nn.Module):
        def __init__(self, dim, num_heads, attn_drop):
            super().__init__()
            self.dim = dim

        def forward(self, x):
            assert x.shape[1:] == (256, self.dim)
            return x.mean(dim=1, keepdim=True).expand_as(x)

    assert BidirectionalTransformer(PRESETS["smoke"].transformer, Mean)(torch.zeros(1, 256).long()).isfinite().all()


def test_an_untrained_layer_gives_its_input(answers):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention).eval()
    x = torch.randn(2, 256, 64)
    for layer in transformer.layers:
        assert torch.equal(layer(x), x)


def test_every_place_sees_every_other(answers):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention).eval()
    for weights in transformer.parameters():
        weights.data += 0.05 * torch.randn(weights.shape)
    z_indices = torch.randint(0, 1024, (1, 256))
    changed = z_indices.clone()
    changed[0, 255] = (changed[0, 255] + 1) % 1024
    assert (transformer(z_indices) - transformer(changed)).abs().amax(dim=2).gt(0).all()


@pytest.mark.parametrize("half", [False, True])
def test_a_saved_transformer_comes_back(answers, tmp_path, half):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention).eval()
    save_transformer(tmp_path / "m.safetensors", transformer, half=half)
    again = load_transformer(tmp_path / "m.safetensors", answers.MultiHeadAttention)
    z_indices = torch.randint(0, 1025, (1, 256))
    assert torch.allclose(again(z_indices), transformer(z_indices), atol=0.02 if half else 0)


def test_another_models_checkpoint_is_named(answers, tmp_path):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention)
    tensors = {name: tensor[:5] if name == "bias" else tensor for name, tensor in transformer.state_dict().items()}
    transformer.state_dict = lambda: tensors
    save_transformer(tmp_path / "m.safetensors", transformer)
    with pytest.raises(InputError, match=r"m\.safetensors: bias has shape \(5, 1025\)"):
        load_transformer(tmp_path / "m.safetensors", answers.MultiHeadAttention)


def test_an_unknown_preset_is_named():
    with pytest.raises(InputError, match="smoke, cpu, labels, report, not 'huge'"):
        preset("huge")


def test_notebooks_draw_with_the_defaults_of_the_contracts():
    assert preset("cpu").decoding.drawn() == DecodingConfig()


@pytest.mark.parametrize("settings, named", [
    ({"schedule": "cubic"}, "schedule"), ({"sampling": "top"}, "sampling"), ({"total_iter": 0}, "total-iter"),
    ({"sweet_spot": 9}, "sweet-spot"), ({"sweet_spot": 0}, "sweet-spot"), ({"choice_temperature": -1.0}, "temperature"),
    ({"choice_temperature": float("nan")}, "temperature"),
])
def test_impossible_decodings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        DecodingConfig(**settings).check()


def test_the_shapes_of_products_do_not_grow_with_the_numbers_of_hidden_tokens(answers):
    """oneDNN keeps memory for each shape: 1.6 GB after 200 batches whose masks hide other numbers of tokens."""
    transformer, seen = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention), set()
    transformer.head.register_forward_hook(lambda _, given, __: seen.add(len(given[0])))
    for n in range(1, 256, 5):
        where = torch.arange(512).view(2, 256) < n
        assert transformer(torch.zeros(2, 256).long(), where).shape == (n, 1025)
    assert seen == {64, 128, 192, 256}


def labelled(answers):
    config = replace(PRESETS["smoke"].transformer, labels=(3, 2))
    transformer = BidirectionalTransformer(config, answers.MultiHeadAttention)
    for layer in transformer.layers:
        nn.init.normal_(layer.perceptron[2].weight)
    return transformer.eval()


def test_labels_change_logits_row_by_row_and_any_is_none_at_all(answers):
    transformer, z_indices = labelled(answers), torch.randint(0, 1025, (3, 256))
    plain = transformer(z_indices)
    mixed = transformer.with_labels(torch.tensor([[-1, -1], [2, 1], [2, -1]]))(z_indices)
    torch.testing.assert_close(mixed[0], plain[0])
    assert not any(torch.allclose(a, b) for a, b in ((mixed[1], plain[1]), (mixed[2], plain[2]), (mixed[1], mixed[2])))
    alike = transformer.with_labels(torch.tensor([[2, 1]]))(z_indices)
    torch.testing.assert_close(alike[1], mixed[1])
    assert transformer.labels is None and torch.equal(transformer(z_indices), plain), "the original keeps its labels"


def test_the_cache_knows_labels(answers):
    transformer = labelled(load_answers(ANSWERS)).with_labels(torch.tensor([[0, 1]]))
    z_indices = torch.full((2, 256), 1024)
    torch.testing.assert_close(for_decoding(transformer, False)(z_indices), transformer(z_indices))
    assert isinstance(for_decoding(transformer, False), CachedTransformer)


def test_weights_saved_before_there_were_labels_load_as_they_are(answers, tmp_path):
    transformer = BidirectionalTransformer(PRESETS["smoke"].transformer, answers.MultiHeadAttention).eval()
    path, old = tmp_path / "old.safetensors", asdict(transformer.config)
    del old["labels"]
    save_tensors(path, transformer.state_dict(), {"kind": "transformer", "config": old})
    z_indices = torch.randint(0, 1025, (1, 256))
    loaded = load_transformer(path, answers.MultiHeadAttention)
    assert loaded.config.labels == () and torch.equal(loaded(z_indices), transformer(z_indices))


def test_a_transformer_keeps_its_labels_in_its_file(answers, tmp_path):
    transformer = labelled(answers)
    save_transformer(tmp_path / "new.safetensors", transformer)
    loaded = load_transformer(tmp_path / "new.safetensors", answers.MultiHeadAttention)
    labels, z_indices = torch.tensor([[1, 1]]), torch.zeros(1, 256).long()
    assert torch.equal(loaded.with_labels(labels)(z_indices), transformer.with_labels(labels)(z_indices))
