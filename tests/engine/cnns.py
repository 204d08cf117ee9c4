"""Convolutional networks as strangers write them: some that compiled passes take, some that not."""

import random
from collections import OrderedDict

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, weight_norm
from torch.utils.checkpoint import checkpoint

SIDE, CLASSES = 16, 3
FLAT = 5 * 3 * 3


class Layers(nn.Module):
    """The layers of all of them, made in one order; each class has a forward of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.second = nn.Conv2d(4, 5, 3, padding=1)
        self.hidden = nn.Linear(FLAT, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, images):
        values = F.max_pool2d(F.relu(self.first(images)), 2)
        values = F.max_pool2d(F.relu(self.second(values)), 2)
        return self.head(F.relu(self.hidden(torch.flatten(values, 1))))


class Methods(Layers):
    """Methods of tensors, the oldest tutorial's view, and steps in methods of its own."""

    def block(self, layer, values):
        return torch.max_pool2d(layer(values), 2, stride=2).relu_()

    def forward(self, x):
        x = self.block(self.first, x)
        x = self.block(self.second, x)
        x = x.view(-1, FLAT)
        return self.head(torch.relu(self.hidden(x)))


class Sizes(Layers):
    """Views by the size of the batch, asked for in several ways, and a loop over layers."""

    def forward(self, images):
        count = images.size(0)
        values = images
        for layer in (self.first, self.second):
            values = F.relu(F.max_pool2d(layer(values), kernel_size=(2, 2)), inplace=True)
        values = values.view(values.shape[0], -1).view(count, -1)
        return self.head(self.hidden(values.reshape(values.size()[0], FLAT)).relu())


class Pooling(Layers):
    """GELU as a layer after pooling, which is another network than with GELU before it."""

    def __init__(self):
        super().__init__()
        self.act, self.pool, self.flat = nn.GELU(), nn.MaxPool2d(2, 2), nn.Flatten()

    def forward(self, images):
        values = self.act(self.pool(self.first(images)))
        values = self.act(self.pool(self.second(values)))
        return self.head(self.act(self.hidden(self.flat(values))))


class Unequal(Layers):
    """Each convolution with another activation, each in its own place."""

    def forward(self, images):
        values = F.max_pool2d(F.gelu(self.first(images)), 2)
        values = F.relu(F.max_pool2d(self.second(values), 2))
        return self.head(F.gelu(self.hidden(values.flatten(1))))


def sequential():
    """The same as a list of layers."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding="same"),
        nn.ReLU(),
        nn.MaxPool2d((2, 2), stride=2),
        nn.Flatten(),
        nn.Linear(FLAT, 6),
        nn.ReLU(),
        nn.Linear(6, CLASSES),
    )


def nested():
    """Lists of layers in lists of layers, with names, and no hidden linear layer."""
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(
                nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.MaxPool2d(2)),
                nn.Sequential(nn.Conv2d(4, 5, 5, padding=2), nn.GELU(), nn.MaxPool2d(2)),
            ),
            classifier=nn.Sequential(nn.Flatten(), nn.Linear(FLAT, CLASSES)),
        )
    )


def deep():
    """Three convolutions, the first of a wide and even kernel, and three linear layers."""
    return nn.Sequential(
        nn.Conv2d(1, 3, 4, padding=3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(3, 4, 1),
        nn.MaxPool2d(2),
        nn.GELU(),
        nn.Conv2d(4, 5, 3, padding=1, padding_mode="zeros"),
        nn.GELU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(5 * 2 * 2, 6),
        nn.GELU(),
        nn.Linear(6, 7),
        nn.ReLU(),
        nn.Linear(7, CLASSES),
    )


#: What is taken, with the activations of convolutions and hidden layers.
TAKEN = {
    "class": (Layers, ["relu", "relu", "relu"]),
    "methods": (Methods, ["relu", "relu", "relu"]),
    "sizes": (Sizes, ["relu", "relu", "relu"]),
    "GELU after pooling": (Pooling, ["gelu of largest", "gelu of largest", "gelu"]),
    "unequal": (Unequal, ["gelu", "relu", "gelu"]),
    "sequential": (sequential, ["relu", "relu", "relu"]),
    "nested": (nested, ["gelu", "gelu"]),
    "deep": (deep, ["relu", "gelu of largest", "gelu", "gelu", "relu"]),
}

# ---------------- what is not taken


def with_forward(forward, prepare=None, base=Layers):
    """Return a function that makes such a network with another forward, and more layers."""

    class Other(base):
        def __init__(self):
            super().__init__()
            if prepare is not None:
                prepare(self)

    Other.forward = forward
    return Other


def changed(change, base=Layers):
    """Return a function that makes such a network and changes it."""

    def build():
        model = base()
        return change(model) or model

    return build


def by_training(self, images):
    logits = Layers.forward(self, images)
    return logits if self.training else 2 * logits


def other_pool_in_training(self, images):
    pools = (F.max_pool2d, F.avg_pool2d)
    values = pools[self.training](F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    return self.head(F.relu(self.hidden(torch.flatten(values, 1))))


def by_counter(self, images):
    self.calls += 1
    return Layers.forward(self, images)


def by_list(self, images):
    self.seen.append(1)
    return Layers.forward(self, images)


CALLS = []


def by_global(self, images):
    CALLS.append(1)
    return Layers.forward(self, images) if len(CALLS) % 7 else 2 * Layers.forward(self, images)


def by_helper(self, images):
    return choose(self, images)


def choose(model, images):
    return Layers.forward(model, images) if model.flag else images


def by_python_random(self, images):
    random.choice([0, 1])
    return Layers.forward(self, images)


def by_numpy_random(self, images):
    np.random.random()  # noqa: NPY002
    return Layers.forward(self, images)


def by_torch_random(self, images):
    torch.rand(1)
    return Layers.forward(self, images)


def by_values(self, images):
    logits = Layers.forward(self, images)
    return logits if images.sum() > 0 else -logits


@torch.no_grad()
def without_gradient(layer, values):
    return layer(values)


def partly_without_gradient(self, images):
    values = F.max_pool2d(F.relu(without_gradient(self.first, images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    return self.head(F.relu(self.hidden(torch.flatten(values, 1))))


def detached(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2).detach()
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    return self.head(F.relu(self.hidden(torch.flatten(values, 1))))


@torch.autocast("cpu", torch.bfloat16)
def in_few_bits(self, images):
    return Layers.forward(self, images)


def twice(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    values = F.relu(self.hidden(torch.flatten(values, 1)))
    return self.head(F.relu(self.middle(F.relu(self.middle(values)))))


def add_middle(self):
    self.middle = nn.Linear(6, 6)


def beside(self, images):
    """An activation in place that is thrown away changes what it was called on."""
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    values = self.hidden(torch.flatten(values, 1))
    F.relu(values, inplace=True)
    return self.head(values)


def skip(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    values = F.relu(self.hidden(torch.flatten(values, 1)))
    return self.head(values) + values[:, :CLASSES]


def weight_behind_its_layer(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    values = F.relu(self.hidden(torch.flatten(values, 1)))
    return F.linear(values, self.head.weight, self.head.bias)


def mixed_samples(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    return self.head(F.relu(self.hidden(values.view(-1, 2 * FLAT))))


def fixed_batch(self, images):
    values = F.max_pool2d(F.relu(self.first(images)), 2)
    values = F.max_pool2d(F.relu(self.second(values)), 2)
    return self.head(F.relu(self.hidden(values.view(4, -1))))


def with_step(step):
    """Return a forward with another step in the place of the second pooling."""

    def forward(self, images):
        values = F.max_pool2d(F.relu(self.first(images)), 2)
        values = step(F.relu(self.second(values)))
        return self.head(F.relu(self.hidden(torch.flatten(values, 1))))

    return forward


def with_gelu(**options):
    def forward(self, images):
        values = F.max_pool2d(F.gelu(self.first(images), **options), 2)
        values = F.max_pool2d(F.gelu(self.second(values)), 2)
        return self.head(F.relu(self.hidden(torch.flatten(values, 1))))

    return forward


def put(name, layer):
    def change(model):
        setattr(model, name, layer())

    return change


def freeze(model):
    model.first.weight.requires_grad_(False)


def tie(model):
    model.first.bias = nn.Parameter(torch.zeros(3))
    model.first = nn.Conv2d(1, 3, 3)
    model.second = nn.Conv2d(3, 5, 3, padding=1)
    model.head.bias = model.first.bias


def hook(kind):
    def change(model):
        getattr(model.hidden, kind)(lambda *_: None)

    return change


def hook_on_the_model(model):
    model.register_forward_hook(lambda own, given, output: 2 * output)


def hook_on_a_parameter(model):
    model.head.bias.register_hook(lambda gradient: 2 * gradient)


def double_the_head(model):
    forward = model.head.forward
    model.head.forward = lambda values: 2 * forward(values)


class Doubled(nn.Linear):
    def forward(self, values):
        return 2 * super().forward(values)


class CalledOtherwise(Layers):
    def __call__(self, *given, **named):
        return 2 * super().__call__(*given, **named)


class Checkpointed(Layers):
    def forward(self, images):
        return checkpoint(super().forward, images, use_reentrant=False)


class TwoInputs(Layers):
    def forward(self, images, scale=1):
        return super().forward(images)


class Dictionary(Layers):
    def forward(self, images):
        return {"logits": super().forward(images)}


def convolutions(*kinds):
    """Return a change of the second convolution."""
    return [changed(put("second", lambda kind=kind: nn.Conv2d(4, 5, **kind))) for kind in kinds]


def of_layers(*layers):
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(4, 5, 3, padding=1),
        nn.ReLU(),
        *layers,
    )


def add_counter(self):
    self.calls = 0


def add_list(self):
    self.seen = []


def add_flag(self):
    self.flag = True


NO_BIAS, STRIDED, DILATED, REFLECTING, OBLONG, EVEN, WIDE, CIRCULAR = convolutions(
    {"kernel_size": 3, "padding": 1, "bias": False},
    {"kernel_size": 3, "padding": 4, "stride": 2},
    {"kernel_size": 3, "padding": 2, "dilation": 2},
    {"kernel_size": 3, "padding": 1, "padding_mode": "reflect"},
    {"kernel_size": (3, 1), "padding": (1, 0)},
    {"kernel_size": 2, "padding": "same"},
    {"kernel_size": 7, "padding": 3},
    {"kernel_size": 3, "padding": 1, "padding_mode": "circular"},
)

#: What is not taken. Some of it would be the same by compiled passes; most would not.
LEFT = {
    # other functions, or the same at another time
    "training": with_forward(by_training),
    "another pooling in training": with_forward(other_pool_in_training),
    "a counter": with_forward(by_counter, add_counter),
    "a list": with_forward(by_list, add_list),
    "a global list": with_forward(by_global),
    "a helper that branches": with_forward(by_helper, add_flag),
    "random numbers of Python": with_forward(by_python_random),
    "random numbers of NumPy": with_forward(by_numpy_random),
    "random numbers of PyTorch": with_forward(by_torch_random),
    "a branch by values": with_forward(by_values),
    "no gradient for a layer": with_forward(partly_without_gradient),
    "detached": with_forward(detached),
    "autocast": with_forward(in_few_bits),
    # other steps
    "a layer twice": with_forward(twice, add_middle),
    "in place beside": with_forward(beside),
    "a skip connection": with_forward(skip),
    "a weight behind its layer": with_forward(weight_behind_its_layer),
    "a view over samples": with_forward(mixed_samples),
    "a view of a fixed batch": with_forward(fixed_batch),
    "average pooling": with_forward(with_step(lambda x: F.avg_pool2d(x, 2))),
    "overlapping pooling": with_forward(with_step(lambda x: F.max_pool2d(x, 3, 2))),
    "pooling one apart": with_forward(with_step(lambda x: F.max_pool2d(x, 2, 1))),
    "padded pooling": with_forward(with_step(lambda x: F.max_pool2d(x, 2, 2, padding=1))),
    "pooling rounded up": with_forward(with_step(lambda x: F.max_pool2d(x, 2, ceil_mode=True))),
    "adaptive pooling": with_forward(with_step(lambda x: F.adaptive_max_pool2d(x, 3))),
    "no pooling": with_forward(with_step(lambda x: x)),
    "dropout": with_forward(with_step(lambda x: F.dropout(F.max_pool2d(x, 2), 0.5))),
    "dropout of none": changed(lambda model: nn.Sequential(*sequential(), nn.Dropout(0.0))),
    "GELU by tanh": with_forward(with_gelu(approximate="tanh")),
    "leaky ReLU": changed(lambda model: of_layers(nn.LeakyReLU())),
    "softmax": changed(lambda model: nn.Sequential(*sequential(), nn.Softmax(1))),
    "activation at the end": changed(lambda model: nn.Sequential(*sequential(), nn.ReLU())),
    "flattened too far": changed(lambda model: of_layers(nn.MaxPool2d(2), nn.Flatten(0))),
    "no linear layer": changed(lambda model: of_layers(nn.MaxPool2d(2), nn.Flatten())),
    "linear alone": changed(lambda model: nn.Sequential(nn.Flatten(), nn.Linear(256, 3))),
    "one convolution": changed(lambda model: nn.Sequential(*sequential()[:3], nn.Flatten())),
    # other layers
    "no bias": NO_BIAS,
    "no bias at the end": changed(put("head", lambda: nn.Linear(6, CLASSES, bias=False))),
    "strides": STRIDED,
    "dilation": DILATED,
    "groups": changed(put("second", lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2))),
    "reflecting padding": REFLECTING,
    "an oblong kernel": OBLONG,
    "an even kernel": EVEN,
    "a wide kernel": WIDE,
    "circular padding": CIRCULAR,
    "a layer of its own class": changed(put("head", lambda: Doubled(6, CLASSES))),
    "batch norm": changed(lambda model: of_layers(nn.BatchNorm2d(5), nn.MaxPool2d(2))),
    # other parameters
    "frozen": changed(freeze),
    "tied": changed(tie),
    "a spare layer": changed(put("spare", lambda: nn.Linear(2, 2))),
    "a spare parameter": changed(put("scale", lambda: nn.Parameter(torch.ones(())))),
    "a parameter in a layer": changed(
        lambda model: model.head.register_parameter("scale", nn.Parameter(torch.ones(1)))
    ),
    "a buffer": changed(lambda model: model.register_buffer("calls", torch.zeros(()))),
    "16 bits": changed(lambda model: model.half()),
    "two types": changed(lambda model: model.head.double() and None),
    "spectral norm": changed(lambda model: parametrizations.spectral_norm(model.head) and None),
    "weight norm": changed(lambda model: parametrizations.weight_norm(model.head) and None),
    "weight norm by hooks": changed(lambda model: weight_norm(model.head) and None),
    # other calls
    "a forward hook": changed(hook("register_forward_hook")),
    "a hook before": changed(hook("register_forward_pre_hook")),
    "a hook backwards": changed(hook("register_full_backward_hook")),
    "a hook on the model": changed(hook_on_the_model),
    "a hook on a parameter": changed(hook_on_a_parameter),
    "a forward of one layer": changed(double_the_head),
    "a call of its own": CalledOtherwise,
    "two inputs": TwoInputs,
    "a dict": Dictionary,
    "a forward that cannot be": changed(put("first", nn.Identity)),
    "no module in it": nn.Flatten,
}
