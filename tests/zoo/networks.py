"""The zoo: architectures that strangers bring, each with a few hundred parameters at most.

All map images of 1 x 4 x 4 pixels to three logits, unless the name says what is odd about them.
"""

import math
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from tda_utils import Task

SIDE, PIXELS, CLASSES = 4, 16, 3


def zoo_task(n_train: int = 6, n_test: int = 3, seed: int = 0) -> Task:
    """Return a few images between 0 and 1, in each class another column is brighter."""
    generator = torch.Generator().manual_seed(seed)

    def split(n: int) -> tuple[Tensor, Tensor, Tensor]:
        labels = torch.arange(n) % CLASSES
        images = 0.7 * torch.rand(n, 1, SIDE, SIDE, generator=generator)
        images[torch.arange(n), :, :, labels] += 0.3
        return images, labels, torch.arange(n) * 10 + 3

    return Task("zoo", *split(n_train), *split(n_test), classes=CLASSES)


def built(name: str, seed: int = 5) -> nn.Module:
    """Return a network of the zoo with seeded parameters, in float32."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return NETWORKS[name]()


def as_rows(images: Tensor) -> Tensor:
    """Return images as sequences of four rows of four pixels."""
    return images.flatten(0, 1) if images.ndim == 4 else images


# ---------------- layers called in unusual ways


class TiedEmbedding(nn.Module):
    """The first layer's weight, transposed, is the decoder's, as in language models."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Linear(PIXELS, 4, bias=False), nn.Linear(PIXELS, CLASSES)

    def forward(self, images):
        hidden = torch.tanh(self.embed(images.flatten(1)))
        return self.head(torch.tanh(F.linear(hidden, self.embed.weight.T)))


class TiedParameter(nn.Module):
    """Two layers hold one and the same parameter."""

    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, images):
        hidden = torch.tanh(self.stem(images.flatten(1)))
        return self.head(torch.tanh(self.second(torch.tanh(self.first(hidden)))))


class CalledTwice(nn.Module):
    """One layer is called twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 1, 3, padding=1), nn.Linear(PIXELS, CLASSES)

    def forward(self, images):
        return self.head(self.conv(torch.tanh(self.conv(images))).flatten(1))


class Keyword(nn.Module):
    """A layer is called by keyword."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 5), nn.Linear(5, CLASSES)

    def forward(self, images):
        return self.head(input=torch.tanh(self.first(input=images.flatten(1))))


class Functional(nn.Module):
    """A layer is called, and its weight used once more behind its back, where a unit is awake."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(PIXELS, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images):
        hidden = self.second(torch.tanh(self.first(images.flatten(1))))
        return self.head(hidden + F.relu(F.linear(hidden, self.second.weight)))


class Flipped(nn.Module):
    """Samples change places inside, and change back: no logit shows it, each layer's rows do."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(torch.tanh(self.first(images.flatten(1).flip(0))).flip(0))


class StepsFirst(nn.Module):
    """The batch is the second dimension within."""

    def __init__(self):
        super().__init__()
        self.mix, self.head = nn.Linear(SIDE, 5), nn.Linear(5, CLASSES)

    def forward(self, images):
        return self.head(torch.tanh(self.mix(as_rows(images).transpose(0, 1))).mean(0))


class InPlace(nn.Module):
    """Activations overwrite what a layer gave."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(1, 2, 2), nn.Linear(18, CLASSES)

    def forward(self, images):
        hidden = self.conv(images)
        hidden += 0.1
        return self.head(F.leaky_relu_(hidden, 0.2).flatten(1))


class Overwriting(nn.Module):
    """An activation is overwritten that the way back needs."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(torch.tanh(self.first(images.flatten(1))).mul_(0.5))


class Residual(nn.Module):
    """A residual block."""

    def __init__(self):
        super().__init__()
        self.stem, self.block = nn.Conv2d(1, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.head = nn.Linear(2, CLASSES)

    def forward(self, images):
        hidden = torch.tanh(self.stem(images))
        return self.head((hidden + F.gelu(self.block(hidden))).mean((2, 3)))


class SqueezeExcite(nn.Module):
    """Channels are scaled by what the whole image says."""

    def __init__(self):
        super().__init__()
        self.conv, self.gate = nn.Conv2d(1, 3, 3, padding=1), nn.Linear(3, 3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, images):
        hidden = torch.tanh(self.conv(images))
        scale = torch.sigmoid(self.gate(hidden.mean((2, 3))))
        return self.head((hidden * scale[:, :, None, None]).amax((2, 3)))


class LowRank(nn.Module):
    """A frozen layer with a trained correction of low rank."""

    def __init__(self):
        super().__init__()
        self.base = nn.Linear(PIXELS, 6).requires_grad_(False)
        self.down, self.up = nn.Linear(PIXELS, 2, bias=False), nn.Linear(2, 6, bias=False)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images):
        flat = images.flatten(1)
        return self.head(torch.tanh(self.base(flat) + self.up(self.down(flat))))


class Checkpointed(nn.Module):
    """Activations are computed again on the way back."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 5), nn.Linear(5, CLASSES)

    def forward(self, images):
        return self.head(checkpoint(self.start, images.flatten(1), use_reentrant=False))

    def start(self, flat):
        return torch.tanh(self.first(flat))


class Bilinear(nn.Module):
    """A bilinear layer of the two halves of an image."""

    def __init__(self):
        super().__init__()
        self.bilinear, self.head = nn.Bilinear(8, 8, 2), nn.Linear(2, CLASSES)

    def forward(self, images):
        return self.head(torch.tanh(self.bilinear(*images.flatten(1).chunk(2, dim=1))))


class WeightsOfInputs(nn.Module):
    """A network gives the weights of another, for each sample its own."""

    def __init__(self):
        super().__init__()
        self.generator, self.head = nn.Linear(PIXELS, 8), nn.Linear(8, CLASSES)

    def forward(self, images):
        weights = self.generator(images.flatten(1)).view(-1, 2, SIDE)
        return self.head(torch.tanh(torch.bmm(weights, as_rows(images))).flatten(1))


class Spectrum(nn.Module):
    """Complex numbers on the way."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.rand(SIDE, 3) + 0.5), nn.Linear(12, CLASSES)

    def forward(self, images):
        spectrum = torch.fft.rfft2(images) * self.scale
        return self.head(torch.view_as_real(spectrum).square().sum(-1).sqrt().flatten(1))


# ---------------- odd parameters


class Scaled(nn.Module):
    """A parameter without dimensions."""

    def __init__(self):
        super().__init__()
        self.scale, self.head = nn.Parameter(torch.tensor(1.5)), nn.Linear(PIXELS, CLASSES)

    def forward(self, images):
        return torch.tanh(self.head(images.flatten(1))) * self.scale


class Unused(nn.Module):
    """A parameter and a layer that forward never touches."""

    def __init__(self):
        super().__init__()
        self.first, self.spare = nn.Linear(PIXELS, 4), nn.Linear(4, 2)
        self.head = nn.Linear(4, CLASSES)
        self.forgotten = nn.Parameter(torch.rand(3))

    def forward(self, images):
        return self.head(torch.tanh(self.first(images.flatten(1))))


class Discarded(nn.Module):
    """A layer is called, and what it gives thrown away."""

    def __init__(self):
        super().__init__()
        self.first, self.aside = nn.Linear(PIXELS, 4), nn.Linear(4, 2)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images):
        hidden = torch.tanh(self.first(images.flatten(1)))
        self.aside(hidden)
        return self.head(hidden)


class PartlyFrozen(nn.Module):
    """One layer is frozen, and of another the bias."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(PIXELS, 5).requires_grad_(False)
        self.second, self.head = nn.Linear(5, 4), nn.Linear(4, CLASSES)
        self.second.bias.requires_grad_(False)

    def forward(self, images):
        return self.head(torch.tanh(self.second(torch.tanh(self.first(images.flatten(1))))))


class Lists(nn.Module):
    """Parameters in a list and in a dictionary."""

    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([torch.randn(PIXELS, 4) / 4, torch.randn(4, CLASSES) / 2])
        self.biases = nn.ParameterDict({"hidden": torch.zeros(4), "out": torch.zeros(CLASSES)})

    def forward(self, images):
        hidden = torch.tanh(images.flatten(1) @ self.weights[0] + self.biases["hidden"])
        return hidden @ self.weights[1] + self.biases["out"]


class WithoutParameters(nn.Module):
    """Nothing to train."""

    def forward(self, images):
        return images.flatten(1)[:, :CLASSES]


# ---------------- sequences


class Recurrent(nn.Module):
    """The last state of a recurrent layer that reads an image row by row."""

    def __init__(self, kind: type[nn.RNNBase], **options):
        super().__init__()
        self.cell = kind(SIDE, 2, batch_first=True, **options)
        width = (options.get("proj_size") or 2) * (1 + options.get("bidirectional", False))
        self.head = nn.Linear(width, CLASSES)

    def forward(self, images):
        return self.head(self.cell(as_rows(images))[0][:, -1])


class Encoder(nn.Module):
    """A layer of a transformer, with dropout that evaluation turns off."""

    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(SIDE, 2, dim_feedforward=5, batch_first=True)
        self.head = nn.Linear(SIDE, CLASSES)

    def forward(self, images):
        return self.head(self.layer(as_rows(images)).mean(1))


class SelfAttention(nn.Module):
    """PyTorch's multi-head attention."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(SIDE, 2, batch_first=True)
        self.head = nn.Linear(SIDE, CLASSES)

    def forward(self, images):
        rows = as_rows(images)
        return self.head(self.attention(rows, rows, rows)[0].mean(1))


class ScaledDotProduct(nn.Module):
    """Attention by the kernel, which has no second derivative unless it is written out."""

    def __init__(self):
        super().__init__()
        self.project, self.head = nn.Linear(SIDE, 12), nn.Linear(SIDE, CLASSES)

    def forward(self, images):
        parts = self.project(as_rows(images)).unflatten(2, (3, 2, 2)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(*parts, is_causal=True)
        return self.head(mixed.transpose(1, 2).flatten(2).mean(1))


class Quantised(nn.Module):
    """Pixels are rounded to one of five levels, each of which has an embedding."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(5, 2), nn.Linear(32, CLASSES)

    def forward(self, images):
        levels = (images.flatten(1) * 5).long().clamp(0, 4)
        return self.head(torch.tanh(self.embed(levels)).flatten(1))


# ---------------- weights that are computed


class Normed(nn.Module):
    """A layer whose weight is computed from others before each call."""

    def __init__(self, norm: Callable[[nn.Module], nn.Module]):
        super().__init__()
        self.first, self.head = norm(nn.Linear(PIXELS, 4)), nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(torch.tanh(self.first(images.flatten(1))))


class Standardised(nn.Conv2d):
    """A convolution that standardises its weight, in a class of its own."""

    def forward(self, images):
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return self._conv_forward(images, weight / (weight.std() + 1e-5), self.bias)


class Square(torch.autograd.Function):
    """``x ** 2``, with a backward pass of its own that can be differentiated again."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.square()

    @staticmethod
    def backward(ctx, error):
        (values,) = ctx.saved_tensors
        return 2 * values * error


class CustomFunction(nn.Module):
    """An activation with its own backward pass."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(Square.apply(self.first(images.flatten(1))))


class OnceSquare(torch.autograd.Function):
    """``x ** 2``, whose backward pass says that it cannot be differentiated again."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values.square()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, error):
        (values,) = ctx.saved_tensors
        return 2 * values * error


class OnceActivation(nn.Module):
    """An activation without a second derivative."""

    def forward(self, values):
        return OnceSquare.apply(values)


class AlwaysDropout(nn.Module):
    """Dropout by a function, which forgets to ask whether the model is trained."""

    def forward(self, values):
        return F.dropout(values, 0.3)


# ---------------- control flow


class Branching(nn.Module):
    """Each sample by itself goes one way or another, as its pixels say."""

    def __init__(self):
        super().__init__()
        self.bright, self.dark = nn.Linear(PIXELS, 4), nn.Linear(PIXELS, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, images):
        hidden = [
            self.bright(image) if image.mean() > 0.45 else self.dark(image).square()
            for image in images.flatten(1)
        ]
        return self.head(torch.tanh(torch.stack(hidden)))


class Looping(nn.Module):
    """Each sample goes through a layer as often as its pixels say."""

    def __init__(self):
        super().__init__()
        self.first, self.again = nn.Linear(PIXELS, 4), nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def one(self, image):
        hidden = torch.tanh(self.first(image))
        for _ in range(int(image.sum()) % 3):
            hidden = hidden + torch.tanh(self.again(hidden))
        return hidden

    def forward(self, images):
        return self.head(torch.stack([self.one(image) for image in images.flatten(1)]))


class BatchBranch(nn.Module):
    """One way for a whole batch, as its mean says: written with one sample in mind."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)

    def forward(self, images):
        hidden = self.first(images.flatten(1))
        return self.head(hidden.tanh() if images.mean() > 0.45 else hidden.sigmoid())


class Experts(nn.Module):
    """Each sample goes to the expert that a gate chooses."""

    def __init__(self):
        super().__init__()
        self.gate = nn.Linear(PIXELS, 2)
        self.experts = nn.ModuleList(nn.Linear(PIXELS, CLASSES) for _ in range(2))

    def forward(self, images):
        flat = images.flatten(1)
        weights = self.gate(flat).softmax(1)
        chosen = weights.argmax(1)
        logits = flat.new_zeros(len(flat), CLASSES)
        for number, expert in enumerate(self.experts):
            rows = chosen == number
            logits[rows] = expert(flat[rows]) * weights[rows, number, None]
        return logits


class Gathered(nn.Module):
    """All experts work, and what the gate chooses is taken."""

    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(PIXELS, 2), nn.Linear(PIXELS, 2 * CLASSES)

    def forward(self, images):
        flat = images.flatten(1)
        weights = self.gate(flat).softmax(1)
        chosen = weights.argmax(1)[:, None, None].expand(-1, 1, CLASSES)
        logits = self.experts(flat).view(-1, 2, CLASSES) * weights[:, :, None]
        return logits.gather(1, chosen)[:, 0]


# ---------------- buffers that change


class Counting(nn.Module):
    """A buffer counts the calls, in evaluation as well; no logit depends on it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(PIXELS, CLASSES)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.register_buffer("level", torch.zeros(PIXELS))

    def forward(self, images):
        self.calls += 1
        self.level = 0.9 * self.level + 0.1 * images.detach().flatten(1).mean(0)
        return self.head(images.flatten(1))


class Remembering(nn.Module):
    """A buffer remembers earlier calls, and the logits depend on it."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(PIXELS, CLASSES)
        self.register_buffer("level", torch.zeros(PIXELS))

    def forward(self, images):
        flat = images.flatten(1)
        logits = self.head(flat - self.level)
        self.level = 0.9 * self.level + 0.1 * flat.detach().mean(0)
        return logits


# ---------------- models that mix a batch


class Centring(nn.Module):
    """Subtracts the batch's mean."""

    def forward(self, values):
        return values - values.mean(0)


class Attending(nn.Module):
    """A softmax over the samples of a batch."""

    def __init__(self):
        super().__init__()
        self.first, self.head = nn.Linear(PIXELS, 4), nn.Linear(4, CLASSES)

    def forward(self, images):
        return self.head(self.first(images.flatten(1)).softmax(dim=0))


def flat_mlp(*between: nn.Module, width: int = 4) -> nn.Module:
    """Return an MLP with layers between its two linear ones."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(PIXELS, width), *between, nn.Linear(width, CLASSES)
    )


def convolved(*layers: nn.Module, features: int) -> nn.Module:
    """Return layers for images with a linear head."""
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, CLASSES))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES)),
    "mlp": lambda: flat_mlp(nn.GELU()),
    "more logits than classes": lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 5)),
    "cnn": lambda: convolved(nn.Conv2d(1, 3, 3), nn.GELU(), nn.MaxPool2d(2), features=3),
    "strided convolution": lambda: convolved(
        nn.Conv2d(1, 2, 2, stride=2, bias=False), nn.SiLU(), features=8
    ),
    "grouped, dilated convolution": lambda: convolved(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.Tanh(),
        nn.Conv2d(4, 4, 2, groups=2, dilation=2),
        features=16,
    ),
    "depthwise convolution": lambda: convolved(
        nn.Conv2d(1, 3, 1), nn.Conv2d(3, 3, 3, groups=3), nn.Tanh(), nn.Conv2d(3, 2, 1), features=8
    ),
    "circular, reflected, replicated padding": lambda: convolved(
        nn.Conv2d(1, 2, 3, padding=1, padding_mode="circular"),
        nn.Tanh(),
        nn.Conv2d(2, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="replicate"),
        features=16,
    ),
    "padding 'same'": lambda: convolved(
        nn.Conv2d(1, 2, (2, 3), padding="same", dilation=(2, 1)),
        nn.Tanh(),
        nn.AvgPool2d(2),
        features=8,
    ),
    "transposed convolution": lambda: convolved(
        nn.Conv2d(1, 2, 2, stride=2), nn.Tanh(), nn.ConvTranspose2d(2, 1, 2, stride=2), features=16
    ),
    "convolution in one dimension": lambda: nn.Sequential(
        nn.Flatten(2), nn.Conv1d(1, 3, 4, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(21, CLASSES)
    ),
    "convolution in three dimensions": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 1)),
        nn.Conv3d(1, 2, (1, 2, 2)),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(18, CLASSES),
    ),
    "upsampling": lambda: convolved(
        nn.Conv2d(1, 2, 3),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.AdaptiveAvgPool2d(2),
        features=8,
    ),
    "tied embedding": TiedEmbedding,
    "tied parameter": TiedParameter,
    "layer called twice": CalledTwice,
    "layer called by keyword": Keyword,
    "layer's weight used by a function": Functional,
    "samples change places within": Flipped,
    "batch in the second dimension": StepsFirst,
    "in-place activations": InPlace,
    "activation overwritten": Overwriting,
    "residual block": Residual,
    "squeeze and excite": SqueezeExcite,
    "low-rank adapter": LowRank,
    "activation checkpointing": Checkpointed,
    "bilinear layer": Bilinear,
    "weights made of inputs": WeightsOfInputs,
    "complex numbers within": Spectrum,
    "parameter of no dimension": Scaled,
    "unused parameters": Unused,
    "layer whose output is thrown away": Discarded,
    "partly frozen": PartlyFrozen,
    "lists of parameters": Lists,
    "PReLU": lambda: flat_mlp(nn.PReLU(4)),
    "no parameters": WithoutParameters,
    "frozen parameters only": lambda: flat_mlp(nn.Tanh()).requires_grad_(False),
    "RNN": lambda: Recurrent(nn.RNN),
    "GRU": lambda: Recurrent(nn.GRU),
    "LSTM": lambda: Recurrent(nn.LSTM),
    "LSTM, both ways, projected": lambda: Recurrent(nn.LSTM, bidirectional=True, proj_size=1),
    "transformer encoder layer": Encoder,
    "multi-head attention": SelfAttention,
    "scaled dot-product attention": ScaledDotProduct,
    "embedding of quantised inputs": Quantised,
    "spectral norm": lambda: Normed(parametrizations.spectral_norm),
    "spectral norm by hooks": lambda: Normed(nn.utils.spectral_norm),
    "weight norm": lambda: Normed(parametrizations.weight_norm),
    "weight norm by hooks": lambda: Normed(_weight_norm_by_hooks),
    "convolution of a class of its own": lambda: convolved(
        Standardised(1, 2, 2), nn.Tanh(), features=18
    ),
    "batch norm": lambda: convolved(
        nn.Conv2d(1, 2, 3), _with_statistics(nn.BatchNorm2d(2)), nn.Tanh(), features=8
    ),
    "group norm": lambda: convolved(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.Tanh(), features=16),
    "layer norm": lambda: flat_mlp(nn.LayerNorm(4), nn.Tanh()),
    "instance norm": lambda: convolved(
        nn.Conv2d(1, 2, 2), nn.InstanceNorm2d(2, affine=True), nn.Tanh(), features=18
    ),
    "dropout": lambda: flat_mlp(nn.Tanh(), nn.Dropout(0.3)),
    "own backward pass": CustomFunction,
    "own backward pass, once only": lambda: flat_mlp(OnceActivation()),
    "dropout in evaluation": lambda: flat_mlp(AlwaysDropout()),
    "branches by sample": Branching,
    "loops by sample": Looping,
    "branch by batch": BatchBranch,
    "experts by argmax": Experts,
    "experts gathered": Gathered,
    "buffers that change": Counting,
    "logits that remember earlier calls": Remembering,
    "scripted": lambda: torch.jit.script(flat_mlp(nn.Tanh())),
    "compiled": lambda: torch.compile(flat_mlp(nn.Tanh()), backend="eager"),
    "one logit": lambda: nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, 1)),
    "centred by the batch": lambda: flat_mlp(nn.Tanh(), Centring()),
    "softmax over the batch": Attending,
    "batch norm without statistics": lambda: convolved(
        nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2, track_running_stats=False), features=8
    ),
}


def _weight_norm_by_hooks(layer: nn.Module) -> nn.Module:
    with warnings.catch_warnings():  # Deprecated, and in many a checkpoint.
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


def _with_statistics(norm: nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm.running_mean.copy_(torch.linspace(-0.1, 0.2, norm.num_features))
    norm.running_var.copy_(torch.linspace(0.1, math.e, norm.num_features))
    return norm
