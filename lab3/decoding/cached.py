"""A transformer for decoding that recomputes only what changed: known tokens keep their keys and values.

In: a trained transformer. Out: a callable that replaces it in `iterative_decode`, at a fraction of its cost.
From step to step most tokens stay the same. The first call computes every token; later ones compute the tokens that
were hidden in the call before, and read the others' keys and values from a cache. These were computed while more was
hidden, so logits are close to the transformer's own, not equal to them; the first call's are equal.
"""

import torch
import torch.nn.functional as F

from lab3.exercises.fallbacks import TorchAttention
from lab3.model.transformer import MASK_TOKEN_ID, ROWS


def can_cache(transformer):
    """Whether a transformer can be wrapped: its attention must be PyTorch's, since a student's keeps no keys."""
    layers = getattr(transformer, "layers", ())
    return len(layers) > 0 and all(isinstance(layer.attention, TorchAttention)
                                   and type(layer.attention).mix is TorchAttention.mix for layer in layers)


def for_decoding(transformer, exact):
    """What decodes one batch: the transformer with a cache, or itself where `exact` is set or it cannot be wrapped."""
    return transformer if exact or not can_cache(transformer) else CachedTransformer(transformer)


class CachedTransformer:
    """Stands in for a transformer while one batch is decoded; called like it.

    A call that does more than replace mask tokens by codes (another batch, tokens hidden again) starts over.

    Args:
        transformer: a `BidirectionalTransformer` in eval mode for which `can_cache` holds.
    """

    def __init__(self, transformer):
        self.transformer = transformer
        self.z_indices = None  # (B, T), of the last call
        self.everywhere = None  # (B, T, V + 1), logits, once a call wanted them for every place

    def __call__(self, z_indices, where=None):
        """Logits as of `BidirectionalTransformer.forward`; without `where`, known tokens have the first call's."""
        model, before = self.transformer, self.z_indices
        goes_on = before is not None and before.shape == z_indices.shape and bool(
            ((z_indices == before) | (before == MASK_TOKEN_ID)).all()) and (
            where is not None or self.everywhere is not None)
        if goes_on:
            rows = before == MASK_TOKEN_ID if where is None else (before == MASK_TOKEN_ID) | where
        else:
            rows = torch.ones_like(z_indices, dtype=torch.bool)
            self.caches = [_Cache(layer, z_indices.shape) for layer in model.layers]
        self.z_indices = z_indices.clone()
        packed = _Packed(rows)
        x = packed.pick(model.embed(z_indices))  # (n, D)
        for cache in self.caches:
            x = cache.layer_of(x, packed)
        x, places = x[:packed.n], packed.wanted[:packed.n]
        if where is not None:
            asked = where.flatten()[places]
            return model.logits_at(x[asked], places[asked] % z_indices.shape[1])
        logits = model.logits_at(x, places % z_indices.shape[1])
        if not goes_on:
            self.everywhere = logits.new_empty(*z_indices.shape, logits.shape[-1])
        self.everywhere.flatten(0, 1)[places] = logits
        return self.everywhere.clone()


class _Packed:
    """The n tokens to compute, of rows that have different numbers of them, one after the other.

    The last one is repeated up to a multiple of `ROWS`, which changes nothing but the shapes that are met.
    """

    def __init__(self, rows):
        wanted, counts = rows.flatten().nonzero()[:, 0], rows.sum(1)
        self.shape, self.n = rows.shape, len(wanted)
        self.longest = -(-int(counts.max()) // 16) * 16
        row, starts = wanted // rows.shape[1], counts.cumsum(0) - counts
        padded = row * self.longest + torch.arange(self.n, device=row.device) - starts[row]
        self.wanted, self.padded = (torch.cat([one, one[-1:].expand(-self.n % ROWS)]) for one in (wanted, padded))

    def pick(self, x):
        """(B, T, ...) -> (n, ...)."""
        return x.flatten(0, 1).index_select(0, self.wanted)

    def pad(self, x):
        """(n, D) -> (B, longest, D), zeros where a row has fewer tokens."""
        padded = x.new_zeros(self.shape[0] * self.longest, x.shape[1])
        return padded.index_copy_(0, self.padded, x).unflatten(0, (self.shape[0], self.longest))

    def unpad(self, x):
        """(B, longest, D) -> (n, D)."""
        return x.flatten(0, 1).index_select(0, self.padded)


class _Cache:
    """One layer: what its attention and its convolution know of every token, (B * T, D) each."""

    def __init__(self, layer, shape):
        self.layer, self.shape = layer, shape
        self.inputs = self.keys = self.values = None

    def _keep(self, name, x, packed):
        """Put x (n, D) into the cache of that name; returns all of it, (B, T, D)."""
        if getattr(self, name) is None:
            setattr(self, name, x.new_empty(self.shape[0] * self.shape[1], x.shape[1]))
        return getattr(self, name).index_copy_(0, packed.wanted, x).unflatten(0, self.shape)

    def layer_of(self, x, packed):
        """The layer for packed tokens, (n, D) -> (n, D)."""
        def neighbours(x):
            return packed.pick(self.layer.neighbours(self._keep("inputs", x, packed)))

        def attend(x):
            one = self.layer.attention
            keys, values = self._keep("keys", one.key(x), packed), self._keep("values", one.value(x), packed)
            heads = (part.unflatten(-1, (one.num_heads, -1)).transpose(1, 2)
                     for part in (packed.pad(one.query(x)), keys, values))
            mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
            return one.output(packed.unpad(mixed))

        return self.layer.apply_to(x, neighbours, attend)
