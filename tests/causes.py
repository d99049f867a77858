"""The true cause of each wrong answer of the corpus, as a pattern that what feedback says first must hold.

In: the corpus. Out: `CAUSES`, name -> pattern. Where the test of the public checks has a pattern for a mistake, it is
that one. The others are here by exercise; some are the rule of the contract that is broken, where no sentence says how.
"""

from corpus import WRONG
from test_checks import MISTAKES

REFUSED = r"is not checked|names {}.*\n(no error|an? \w+|a ValueError that)"
IN_PLACE = "changes it for the caller|changed in place"
GENERATOR = "re-seed|re-seeded|generator itself|generator is not used|global one"
DEFAULT = "defined as the text says|by default|default is"
OWN = {
    "multi_head_attention": {
        "without-bias": "no key.bias", "one-layer-for-three": "query: nn.Linear",
        "shared-key-and-value": "the layer key",
        "values-and-keys-exchanged": "layer value is not used|made by the layer key",
        "places-counted-in": r"another number of elements[\s\S]*256|another number of elements",
        "squeezed": "squeezed away", "residual": "input is added",
        "heads-averaged": "mean of|average of the heads|each head the softmax of its own",
        "renormalised": "last thing that happens to the weights", "other-defaults": DEFAULT, "dropout-default": DEFAULT,
        "assert-for-heads": "another exception: raise a ValueError", "drop-as-a-number": "attn_drop: an nn.Dropout",
        "scale-of-the-whole": "root of dim", "fused-in-another-order": "another order|made by the layer"},
    "sample_mask": {
        "float-as-float32": "float32", "bernoulli-by-default": DEFAULT, "zero-means-none": "ratio of 0 is a ratio",
        "zero-refused": r"takes a ratio in \[0, 1\]", "one-refused": r"takes a ratio in \[0, 1\]",
        "negative-accepted": "ratio is not checked", "first-row-looked-at": "ratio is not checked",
        "block": "places of a row hang together", "with-replacement": "drawn more than once",
        "rounded-up-by-one": "one too many where", "one-always-known": "at ratio 1 every token",
        "bernoulli-with-one-hidden": "not drawn on their own", "bernoulli-one-ratio": "one ratio was drawn",
        "half-and-more": r"uniform over \(0, 1\)", "seeded-inside": GENERATOR, "ratio-in-place": IN_PLACE,
        "bernoulli-transposed": "two shapes do not fit", "rounded": "rounded to the nearest",
        "tensor-in-float32": "float32"},
    "masked_forward": {
        "targets-of-known-ignored": "targets are the real tokens", "targets-as-floats": "targets of type|targets: a",
        "targets-as-int32": "targets of type|targets are the real tokens", "exchanged": "exchanged",
        "flattened": "axes where 3|2 axes", "codes-in-the-middle": "axes are swapped|another order",
        "hidden-only": "logits.*\n.*axes", "no-grad": "detached, or made without",
        "v-is-1024": "must hold mask_token_id", "minus-infinity": "logit is kept", "as-bert": "must hold mask_token_id",
        "needs-a-module": r"parameters\(\)", "mask-passed-on": "differ in their arguments",
        "squeezed": r"\(1, .*\n2 axes"},
    "mvtm_loss": {
        "smoothing-over-others": "own share of the smoothing",
        "smoothing-with-a-mask-only": "label_smoothing is not used",
        "smoothing-without-a-mask-only": "label_smoothing is not used", "smoothing-by-default": DEFAULT,
        "plain-zero": "make the 0 from the logits", "nothing-hidden-all-counted": "no token is hidden it is 0",
        "code-zero-ignored": "token 0 is left out", "one-more-in-the-mean": "one more than there are",
        "base-two": "base 2", "mask-owed": "argument that may be None", "known-logits-zeroed": "known tokens count too",
        "logits-written": IN_PLACE, "clamped-probabilities": "overflows or is cut",
        "rows-means": "mean of the rows' means"},
    "configure_optimizers": {
        "warmup-to-the-end": "total_steps on it is eta_min", "floor": "as a floor", "straight-line": "straight line",
        "betas-exchanged": "betas are 0.95, 0.9", "other-scheduler": "LambdaLR", "exchanged": "are exchanged",
        "last-step-early": "one step too early", "p-from-nought": "starts when warm-up ends",
        "whole-division": "// would round", "all-warmup-refused": "may be all steps|may be total_steps",
        "long-warmup-accepted": REFUSED.format("warmup_steps"),
        "negative-warmup-accepted": REFUSED.format("warmup_steps"),
        "one-step-refused": "ValueError\nraise ValueError.*total_steps", "biases-forgotten": "holds them all",
        "stepped-inside": "counted from 1", "another-default": DEFAULT, "eta-min-in-warmup": "0 at step 0"},
    "train_one_epoch": {
        "last-batch-dropped": "batches are left out", "first-batch-only": "batches are left out",
        "every-second-step": "one step a batch", "weighted-mean": "weighted by batch size",
        "bernoulli-masks": "not called with its defaults", "mask-drawn-once": "drawn for each batch|drawn once",
        "not-scaled": "scaled loss", "seeded-for-each-batch": GENERATOR, "loss-divided": "divided before backward",
        "scheduler-without-scaler-only": "branches|where a scaler is given",
        "scheduler-by-batch-number": "scheduler.*\n3", "smoothed-value": "mean of the batch losses",
        "clipped-with-scaler": "branches|where a scaler is given", "empty-loader": REFUSED.format("loader"),
        "eval-mode": "train mode must be set", "every-token": "counts hidden tokens only",
        "fixed-half": "one ratio for the whole batch",
        "cleared-without-scaler-only": "branches|where a scaler is given",
        "autocast-without-scaler-only": "with statement in one of the branches",
        "scheduler-first-with-scaler": "branches|where a scaler is given", "seeded-without-generator": GENERATOR,
        "smoothed-with-scaler": "branches|where a scaler is given",
        "all-counted-with-scaler": "branches|where a scaler is given",
        "eval-mode-with-scaler": "train mode set in one of the branches"},
    "eval_one_epoch": {
        "fixed-half": "one ratio for the whole batch", "own-seed": GENERATOR, "weighted-by-hidden": "mean is weighted",
        "every-token": "counts hidden tokens only", "children-only": "eval mode of every part|dropout would disturb",
        "perplexity": "perplexity", "frozen": "requires_grad", "first-batch-only": "first batch|left out",
        "noted-too-late": "eval mode stays on", "modes-by-class": "each module's mode",
        "empty-loader": REFUSED.format("loader"), "smoothed": "label smoothing|smoothed",
        "autocast-for-the-loss": "autocast", "mask-token-kept": "logit is kept", "nothing-masked": "without the mask",
        "all-counted": "all tokens", "loss-inverted": "inverted", "divided-by-nothing": REFUSED.format("loader"),
        "seeded-again": GENERATOR},
    "gamma_func": {
        "late-binding": "this is the schedule square", "refused-late": REFUSED.format("mode"),
        "key-error": "checked before it is used", "arrays-only": "same kind is wanted",
        "list-back": "same kind is wanted", "floats-only": "takes one number", "cosine-squared": "along its own curve",
        "root": "along its own curve", "rounded": "along its own curve", "in-place": IN_PLACE},
    "inpainting": {
        "one-stays-hidden": "a single hidden token must come to 0", "none-revealed": "reveal at least one",
        "noise-for-each-row": "one draw for all its tokens", "noise-for-each-place": "rows or tokens share|rows share",
        "uniform-noise": "no Gumbel noise|another distribution", "exponential-noise": "must be a Gumbel draw",
        "temperature-of-logits": "changes the draw", "known-count-as-zero": "known tokens compete",
        "argmax-without-noise": "generator is not used", "one-draw-a-row": "one draw serves",
        "two-passes": "One forward pass", "largest-row-counts": "each row has its own n_hidden",
        "mask-in-place": IN_PLACE, "best-three": "shares of the softmax", "temperature-squared": "counts twice",
        "inverted-result": "most confident are hidden|exchanged|inverted", "nothing-hidden-fails": r"log_p.max\(\)",
        "zero-accepted": REFUSED.format("ratio"), "above-one-accepted": REFUSED.format("ratio"),
        "noise-used-twice": "must be a Gumbel draw", "known-predicted": "only hidden tokens take",
        "int32-tokens": "type torch.long", "first-row-only": "drawn from the softmax",
        "last-step-by-argmax": "argmax is taken", "seeded-without-generator": GENERATOR},
    "iterative_decode": {
        "same-list-entries": "same tensor, which later steps", "last-pass-over-all": "z_final as the last step left",
        "one-step-short": "one entry for each step", "revealed-lost": "starts from the first tokens",
        "zero-sweet-spot": REFUSED.format("sweet_spot"), "sweet-spot-capped": REFUSED.format("sweet_spot"),
        "temperature-default": "default is 4.5", "argmax-by-default": DEFAULT, "masks-before": "mask before its step",
        "count-of-all-rows": "one number for the whole batch", "faded-twice": "scale of the noise|fades with progress",
        "seeded-for-each-step": GENERATOR, "input-overwritten": IN_PLACE, "first-row-for-all": "first row",
        "history-masked": "no mask token", "forced-to-the-end": r"after step t, gamma|gamma\(\(t \+ 1\) / total_iter\)",
        "hidden-as-given": "take the last prediction", "counted-in-the-loop": "counted again",
        "finished-hides-again": "hides nothing any more", "noise-grows": "grows|1 - ratio",
        "history-of-one": "one entry for each step", "start-in-history": "start is not a step",
        "last-step-by-argmax": "argmax is taken", "seeded-without-generator": GENERATOR},
    "frechet_distance": {
        "root-of-all": "root is taken of the whole", "diagonals": "root was taken of each entry",
        "cholesky": "singular", "means-averaged": "averaged, not added", "always-offset": "something added",
        "float32": "float32", "rounded": "is rounded", "covariances-unlooked": "does not name mu or sigma",
        "means-unlooked": "does not name mu or sigma|mu or sigma is not checked",
        "assert-for-shapes": "another exception: raise", "sigma-in-place": IN_PLACE,
        "small-ones-dropped": "eigenvalues", "absolute": "real part|eigenvalues",
        "nuclear-of-product": "trace|product"},
}
# Where the sentence of the public check holds a number or a name of the answer's own, which feedback does not repeat
AS_FEEDBACK_SAYS = {
    "dropout acts on the output": "acts on the output", "dropout acts on the scores": "acts on the scores",
    "(?s)the mask of type": "of type bool\nint64",
    "(?s)NameError": "must hold the helpers", "z_indices was changed in place": IN_PLACE,
    "got       \\(0.9": "betas are 0.9",
    "(?s)ZeroDivisionError": "a number that may be 0", "expected  AdamW": "another than AdamW",
    "label_smoothing 0.1": "label smoothing",
    "mode='linear'": "defined as the text says|schedule linear", "(?s)loader": REFUSED,
    "in each entry of history": "return is missing or short|entry of history",
}


def _sentence(pattern):
    return next((said for begins, said in AS_FEEDBACK_SAYS.items() if pattern.startswith(begins)), pattern)


MISTAKEN = [name for name in WRONG if "-mistake-" in name]
CAUSES = dict(zip(MISTAKEN, (_sentence(one[1]) for one in MISTAKES), strict=True))
CAUSES |= {f"{exercise}-{name}": pattern for exercise, one in OWN.items() for name, pattern in one.items()}
