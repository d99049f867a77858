"""The settings of the whole lab, in one place: `smoke` for tests, `cpu` for a laptop, `report` for the course's scale.

In: a preset's name. Out: dataclasses of plain numbers; nothing is set elsewhere.
"""

from dataclasses import dataclass, field, replace

from lab3.common.files import InputError

CODES = 1024  # V: how many entries the codebook has
TOKENS = 256  # T: tokens of a picture, 16 x 16
SCHEDULES = ("linear", "cosine", "square")
SAMPLINGS = ("categorical", "argmax")


@dataclass(frozen=True)
class TokenizerConfig:
    """A VQGAN: widths of its residual blocks at 64x64, 32x32 and 16x16 pixels, and how it is trained.

    The decoder's widths run back, from 16x16 to 64x64. A stage without blocks is an empty tuple.
    """

    encoder: tuple = ((), (64,), (128, 128))
    decoder: tuple = ((128, 128), (64,), (32,))
    stem: int = 32  # channels that the picture is turned into before the first block
    code_dim: int = 256
    disc_width: int = 48
    epochs: int = 9
    batch_size: int = 32
    lr: float = 8e-4
    beta: float = 0.25  # weight of the commitment loss
    perceptual_weight: float = 0.5
    adversarial_weight: float = 0.1
    adversarial_from: float = 0.6  # the share of the training after which the discriminator joins
    seed: int = 42


@dataclass(frozen=True)
class TransformerConfig:
    """The bidirectional transformer: tokens in, one logit a code and one for the mask token out."""

    dim: int = 192
    layers: int = 4
    hidden: int = 384
    heads: int = 4
    attn_drop: float = 0.0
    dropout: float = 0.0
    norm: str = "pre"  # "post", after each sum, is MaskGIT's
    conv: bool = True  # a 3x3 convolution over the places in each layer
    labels: tuple = ()  # how many values each part of a picture's label has; empty: the model knows no labels


@dataclass(frozen=True)
class TrainingConfig:
    """How the transformer is trained. An epoch is cut in parts of `part_steps` batches, saved after each."""

    epochs: int = 1
    batch_size: int = 8  # small ones learn more from as many pictures, and a processor does not need large ones
    lr: float = 4e-3
    warmup_epochs: float = 0.1
    eta_min: float = 0.01  # the learning rate at the end, as a factor of lr
    part_steps: int = 100
    milestones: tuple = (20, 50)  # per cent of the training after which a copy of the weights is kept
    train_pictures: int | None = None  # None: all of them
    val_pictures: int | None = 747
    seed: int = 42


@dataclass(frozen=True)
class DecodingConfig:
    """How holes are filled."""

    schedule: str = "cosine"
    total_iter: int = 8
    sweet_spot: int = 8
    choice_temperature: float = 4.5
    sampling: str = "categorical"
    test_pictures: int | None = None  # None: all of them
    batch_size: int = 32  # larger ones outgrow a processor's cache and take longer
    exact: bool = False  # compute every token in every step, known ones too (see `lab3.decoding.cached`)
    seeds: tuple = (0, 1, 2, 3, 4)

    def drawn(self):
        """The same with codes drawn, as the contracts' functions do by default and the notebooks teach."""
        return replace(self, sampling="categorical")

    def check(self):
        """Raise `InputError` for a setting that no decoding can have."""
        if self.schedule not in SCHEDULES:
            raise InputError(f"schedule must be one of {', '.join(SCHEDULES)}, not {self.schedule!r}.")
        if self.sampling not in SAMPLINGS:
            raise InputError(f"sampling must be one of {', '.join(SAMPLINGS)}, not {self.sampling!r}.")
        if self.total_iter < 1:
            raise InputError(f"total-iter must be at least 1, not {self.total_iter}.")
        if not 1 <= self.sweet_spot <= self.total_iter:
            raise InputError(f"sweet-spot must lie in 1 ... total-iter ({self.total_iter}), not {self.sweet_spot}.")
        if not self.choice_temperature >= 0:
            raise InputError(f"temperature must be 0 or more, not {self.choice_temperature}.")


@dataclass(frozen=True)
class Preset:
    """All settings of one scale."""

    name: str
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    decoding: DecodingConfig = field(default_factory=DecodingConfig)


PRESETS = {
    preset.name: preset
    for preset in (
        Preset(
            "smoke",
            tokenizer=TokenizerConfig(
                encoder=((), (), (16,)), decoder=((16,), (), ()), stem=8, disc_width=8, epochs=1,
            ),
            transformer=TransformerConfig(dim=64, layers=2, hidden=128, heads=4),
            training=TrainingConfig(
                epochs=2, batch_size=32, lr=2e-3, part_steps=4, train_pictures=256, val_pictures=64),
            decoding=DecodingConfig(total_iter=4, sweet_spot=4, test_pictures=32, seeds=(0, 1)),
        ),
        Preset("cpu", decoding=DecodingConfig(sampling="argmax")),  # closer to the originals than drawn codes
        Preset(  # a small model that knows the cats' parts: body, fur, eyes, mouth, accessory, background
            "labels", transformer=TransformerConfig(dim=128, hidden=256, labels=(15, 9, 15, 10, 16, 12)),
            training=TrainingConfig(epochs=3),
        ),
        Preset(
            "report",
            tokenizer=TokenizerConfig(
                encoder=((128, 128), (128, 256), (256, 512)), decoder=((512, 256), (256, 128), (128,)),
                stem=128, disc_width=64, epochs=50, batch_size=64, lr=2e-4,
            ),
            transformer=TransformerConfig(dim=768, layers=15, hidden=1536, heads=16, attn_drop=0.1, dropout=0.1,
                                          norm="post", conv=False),
            training=TrainingConfig(
                epochs=100, batch_size=150, lr=5e-5, warmup_epochs=10, eta_min=1e-6, part_steps=80, val_pictures=None,
            ),
        ),
    )
}


def preset(name):
    """The preset of that name. Raises `InputError` for another name."""
    if name not in PRESETS:
        raise InputError(f"preset must be one of {', '.join(PRESETS)}, not {name!r}.")
    return PRESETS[name]
