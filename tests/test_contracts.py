"""Every sentence of the exercises' contracts is asked for by a probe, and every probe asks for a sentence.

In: the contracts in short, in the order of the exercises' texts. Out: nothing. What no probe asks for is in `UNASKED`.
"""

from grader.probes import PROBES
from lab3.exercises.table import EXERCISES

CONTRACTS = {
    "multi_head_attention": {
        "the arguments dim=768, num_heads=16, attn_drop=0.1": "defaults",
        "(B, T, dim) becomes (B, T, dim), for any B and layout, the input unchanged": "averages",
        "query, key, value, output are nn.Linear(dim, dim), attn_drop an nn.Dropout": "parts",
        "the state has the eight weights and biases of the layers, no more": "parts",
        "each head has neighbouring columns, so that checkpoints fit": "neighbouring_columns",
        "softmax over the keys of q k^T / sqrt(dim / num_heads)": "one_head several_heads",
        "dropout on the attention weights, in training alone": "dropout_in_training no_dropout_in_evaluation",
        "it can be trained": "gradients",
        "float32 and autocast": "autocast_and_large_scores",
        "a dim that is no multiple of num_heads: ValueError": "refuses_heads",
        "no ready-made attention": "nothing_ready_made",
    },
    "sample_mask": {
        "a bool mask (batch, tokens); topk, the default: exactly max(1, ceil(ratio * tokens)) in each row": "counts",
        "a float ratio for all rows, or a tensor with one for each row": "counts ratio_for_each_row",
        "no ratio: one a row from U(0, 1)": "a_ratio_drawn_for_each_row",
        "uniformly random places": "uniform_places",
        "bernoulli: each token on its own with probability ratio": "bernoulli",
        "the product is taken in float64": "products_in_float64",
        "the same generator state, the same mask": "follows_generator",
        "a tensor ratio stays as it is": "ratio_for_each_row",
        "an unknown prob_type, a ratio outside [0, 1]: ValueError": "refuses",
    },
    "masked_forward": {
        "the transformer sees mask_token_id where hidden, the tokens elsewhere": "hides",
        "logits (B, T, V), without the mask token's": "codes_logits",
        "targets (B, T): the real tokens, long": "real_targets",
        "any callable is a transformer, also under autocast": "any_transformer",
        "logits with a gradient": "gradients",
        "z_indices and mask stay as they are": "forward_inputs",
    },
    "mvtm_loss": {
        "mean cross-entropy over the codes, over all tokens without a mask": "over_the_codes",
        "over hidden tokens with a mask, all of them alike": "over_hidden_tokens tokens_count_alike",
        "a scalar with a gradient": "loss_gradient",
        "no hidden token: 0 with a gradient, never NaN": "nothing_hidden",
        "label_smoothing as in F.cross_entropy, 0 by default": "smoothing",
        "float32 and autocast": "large_logits",
        "logits, targets and mask stay as they are": "loss_inputs",
    },
    "configure_optimizers": {
        "AdamW with betas (0.9, 0.95), over all parameters": "adamw",
        "a LambdaLR": "lambda_lr",
        "s / warmup_steps during warm-up": "warmup",
        "then half a cosine down to eta_min, a factor of lr": "cosine",
        "exactly eta_min from total_steps on, 0 by default": "end",
        "warmup_steps may be 0": "edges",
        "the factor is a function of the step": "resumed",
        "total_steps < 1, warmup_steps < 0, warmup_steps > total_steps: ValueError": "impossible_steps",
    },
    "train_one_epoch": {
        "train mode": "train_mode",
        "masks from sample_mask, found by name: its defaults, the generator, the device; no fixed ratio": "masks",
        "masked_forward and mvtm_loss, found by name": "names",
        "forward under lab3.autocast(device)": "autocast",
        "the loss on hidden tokens, without smoothing": "hidden_tokens",
        "backward through the scaler where one is given": "scaler",
        "for each batch a step of the optimizer, then of the scheduler": "steps",
        "gradients are cleared and not clipped; those left from before never count": "own_gradients",
        "the mean of the batch losses, a float": "mean",
        "the model learns": "validation_loss",
        "the same generator state, the same training": "generator",
        "the batches stay as they are": "hidden_tokens",
        "a loader without a batch: ValueError": "empty_loader",
    },
    "eval_one_epoch": {
        "the mean over batches, a float": "batch_mean",
        "the loss on hidden tokens": "hidden_loss",
        "masks from sample_mask, as in training": "eval_masks",
        "forward under lab3.autocast(device)": "eval_autocast",
        "eval mode": "eval_mode",
        "no gradients; parameters and buffers stay as they are": "untouched",
        "the mode of each submodule is put back, also after an exception": "modes_back modes_back_after_errors",
        "the same generator state, the same value": "eval_generator",
        "a loader without a batch: ValueError": "eval_empty_loader",
    },
    "gamma_func": {
        "linear: 1 - r": "linear_curve", "cosine: cos(pi r / 2), the default": "cosine_curve default_curve",
        "square: 1 - r^2": "square_curve",
        "a float gives a float, an array an array": "same_kind",
        "the array stays as it is": "input_kept",
        "each gamma is its own schedule": "schedules_apart",
        "another mode: ValueError": "mode_refused",
    },
    "inpainting": {
        "one forward pass, with hidden tokens masked out": "one_pass",
        "hidden tokens are drawn from the softmax over codes, or its maximum": "choice_of_tokens mask_token_left_out",
        "known tokens and the arguments stay as they are": "known_tokens",
        "confidence: log p(chosen)": "least_sure",
        "plus choice_temperature * (1 - ratio) * Gumbel noise, for each token on its own": "gumbel_noise noise_fades",
        "floor(gamma(ratio) * n_hidden) of the tokens hidden now stay hidden, row by row": "counts",
        "at least one fewer than now, none at ratio 1": "at_least_one",
        "a row that hides nothing stays as it is, whatever its n_hidden": "at_least_one known_tokens",
        "rows do not influence one another": "least_sure",
        "products in float64, counts exact whatever the ties, also under autocast": "exact_counts",
        "the same generator state, the same result": "generator_decides",
        "a ratio outside (0, 1], an unknown sampling: ValueError; any callable will do": "impossible_arguments",
    },
    "iterative_decode": {
        "total_iter steps, or sweet_spot of them": "schedule stops_at_sweet_spot",
        "revealed tokens are known, and the same, at every later step": "carried_forward",
        "tokens still hidden at the end take the last prediction": "stops_at_sweet_spot",
        "history: (z_predict, next_mask) for each step, also when nothing is left to hide": "history_has_each_step",
        "choice_temperature=4.5 and sampling reach every step": "temperature_reaches sampling_reaches",
        "what stands in hidden places does not matter, and the arguments stay as they are": "hidden_content",
        "the same generator state, the same result": "decode_generator",
        "any callable is a transformer, also under autocast": "any_callable",
        "total_iter < 1, sweet_spot outside 1 ... total_iter, an unknown sampling: ValueError": "decode_refuses",
    },
    "frechet_distance": {
        "a float": "gives_a_float",
        "|mu1 - mu2|^2": "means_alone",
        "tr(sigma1 + sigma2 - 2 (sigma1 sigma2)^(1/2)), to 1e-6": "shared_axes regular",
        "real and finite for singular covariances, to 1e-3": "singular",
        "the arguments stay as they are": "leaves_its_inputs",
        "shapes that do not match: ValueError": "refuses_shapes",
    },
}
UNASKED = ("everything works on CUDA: answers are graded without a GPU",)


def test_each_sentence_has_its_probes_and_each_probe_its_sentence():
    assert CONTRACTS.keys() == EXERCISES.keys()
    for exercise, sentences in CONTRACTS.items():
        asked = {name for names in sentences.values() for name in names.split()}
        assert asked == {one.name for one in PROBES[exercise]}, exercise
