from lab3.exercises.fallbacks import TorchAttention


#| exercise: multi_head_attention
class MultiHeadAttention(TorchAttention):
    """Self-attention over all tokens by PyTorch's fused one, which never writes the weights down.

    Args:
        dim: D, the width of a token.
        num_heads: H, how many heads; dim must be a multiple of it.
        attn_drop: the share of attention weights that is dropped in training.
    """

    def __init__(self, dim=768, num_heads=16, attn_drop=0.1):
        if dim % num_heads:
            raise ValueError(f"dim ({dim}) must be a multiple of num_heads ({num_heads})")
        super().__init__(dim, num_heads, attn_drop)
