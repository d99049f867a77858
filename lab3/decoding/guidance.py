"""Guidance: a transformer that knows labels is called twice a step, and what the labels change is taken further.

In: such a transformer, labels, a scale, the answer `guided_logits`. Out: a callable that `iterative_decode` takes for a
transformer. Ho and Salimans (2022), "Classifier-Free Diffusion Guidance"; with masked tokens Chang et al. (2023),
"Muse".
"""

from torch import nn

from lab3.decoding.cached import for_decoding


class Guided(nn.Module):
    """Stands in for a transformer: (B, T) -> guided logits (B, T, V + 1), float32.

    Args:
        transformer: a `BidirectionalTransformer` in eval mode that knows labels.
        labels: (1, P) or (B, P) long on its device, -1 for "any".
        scale: how far to go; 0 gives the conditional logits.
        guided_logits: an answer, `guided_logits(conditional, unconditional, scale)`.
        exact: as in `DecodingConfig`.
    """

    def __init__(self, transformer, labels, scale, guided_logits, *, exact=False):
        super().__init__()
        self.transformer, self.scale, self.guided_logits = transformer, scale, guided_logits
        self.passes = [for_decoding(transformer.with_labels(known), exact) for known in (labels, None)]

    def forward(self, z_indices):
        conditional, unconditional = (logits_of(z_indices).float() for logits_of in self.passes)
        return self.guided_logits(conditional, unconditional, self.scale)
