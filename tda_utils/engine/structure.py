"""What a model is made of, read from traces of its forward: whether compiled passes can compute it.

`torch.fx` calls a forward with placeholders and writes down what is done to them. A trace is one
way through the model, so it counts only where there is no other: where no Python code on the way
branches, and where training and evaluation, called again, leave the same trace and nothing behind.
What decides is the structure alone. It does not matter which class has it, what its layers are
called, and whether an activation is a layer, a function or a method.
"""

from __future__ import annotations

import dis
import random
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from operator import getitem
from threading import Lock, get_ident
from types import CodeType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules import module as modules_of_torch

from tda_utils.models.states import copied_model

DTYPES = (torch.float32, torch.float64)
# Sides of kernels after the first; for wider ones Winograd's transforms have numbers too large for
# float32. Of the first convolution patches are cut out, whatever their side.
KERNELS = (1, 3, 5)
# What the trace has to be, a letter a step: convolution, GELU or ReLU, pooling, flatten, linear.
FORM = re.compile("((C(GP|RP|PG|PR)){2,})F+((L[GR])*)L")
# Tracing exchanges methods of PyTorch's classes while it lasts, so it is done once at a time.
TRACING = Lock()


@dataclass(frozen=True)
class Convolution:
    """A convolution with its activation and pooling.

    Parameters
    ----------
    layer : str
        Its name in the model.
    activation : {"gelu", "relu", "gelu of largest"}
        The last is GELU after pooling, which is not the same as before it. ReLU never falls, so
        it is the same.
    channels, filters, kernel, padding : int
        Its stride is one.
    """

    layer: str
    activation: str
    channels: int
    filters: int
    kernel: int
    padding: int

    def pooled(self, side: int) -> int:
        """Return the side of what comes out for a map of that side."""
        return (side + 2 * self.padding - self.kernel + 1) // 2


@dataclass(frozen=True)
class Linear:
    """A linear layer; the last one has no activation, which is None."""

    layer: str
    activation: str | None
    inputs: int


@dataclass(frozen=True)
class Structure:
    """Two or more convolutions, each with activation and 2 x 2 pooling, then linear layers.

    Parameters
    ----------
    convolutions : tuple of Convolution
    linear : tuple of Linear
        At least one.
    """

    convolutions: tuple[Convolution, ...]
    linear: tuple[Linear, ...]

    def takes(self, channels: int, side: int) -> bool:
        """Return whether square images of these sizes go through all layers."""
        for layer in self.convolutions:
            if layer.channels != channels:
                return False
            channels, side = layer.filters, layer.pooled(side)
            if side < 1:
                return False
        return channels * side**2 == self.linear[0].inputs


def structure_of(model: nn.Module) -> Structure | None:
    """Return the structure of a model that compiled passes can compute, or None.

    None of what a trace cannot show may be there: frozen, shared or unused parameters, buffers,
    hooks, calls that are not PyTorch's own, branches, random numbers, anything that a call leaves
    behind, and other modes of autograd within. A model that does not trace has no structure.

    Parameters
    ----------
    model : nn.Module

    Examples
    --------
    >>> layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2)]
    >>> layers += [nn.Conv2d(4, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)]
    >>> found = structure_of(nn.Sequential(*layers))
    >>> [layer.activation for layer in found.convolutions], found.takes(channels=1, side=10)
    (['relu', 'relu'], True)
    >>> structure_of(nn.Sequential(*layers, nn.Softmax(dim=1))) is None
    True
    """
    with TRACING:
        if not _is_plain(model):
            return None
        try:
            with _nothing_drawn():
                traces = [_traced(model, training) for training in (True, False)]
        except Exception:  # Whatever a stranger's forward makes of placeholders.
            return None
    return traces[0] if traces[0] == traces[1] else None


# ---------------- what is looked at before


def _is_plain(model: nn.Module) -> bool:
    """Return whether modules and parameters are of kinds of which a trace shows all."""
    named = list(model.named_parameters(remove_duplicate=False))
    parameters = [parameter for _, parameter in named]
    if not parameters or len({id(one) for one in parameters}) != len(parameters):
        return False
    alike = all(
        type(one) is nn.Parameter
        and one.requires_grad
        and one.dtype in DTYPES
        and one.dtype == parameters[0].dtype
        and one.device.type == "cpu"
        and not one._backward_hooks
        for one in parameters
    )
    layers = [one for one in model.modules() if type(one) in (nn.Conv2d, nn.Linear)]
    owned = [name for one in layers for name, _ in one.named_parameters(recurse=False)]
    whole = len(owned) == len(parameters) and {*owned} == {"weight", "bias"}
    whole = whole and not [*model.buffers()]
    return alike and whole and _is_called_as_written(model)


def _is_called_as_written(model: nn.Module) -> bool:
    """Return whether a call of each module is its class's forward, and nothing beside."""
    if modules_of_torch._has_any_global_hook():
        return False
    return all(
        type(one).__call__ is nn.Module.__call__
        and type(one).__getattr__ is nn.Module.__getattr__
        and not {"forward", "_call_impl", "_conv_forward"} & vars(one).keys()
        and not (one._forward_hooks or one._forward_pre_hooks)
        and not (one._backward_hooks or one._backward_pre_hooks)
        for one in model.modules()
    )


@contextmanager
def _nothing_drawn() -> Iterator[None]:
    """Raise where global random numbers are drawn within, and set them back."""
    states = _global_states()
    before = _as_values(*states)
    try:
        yield
    finally:
        if _as_values(*_global_states()) != before:
            random.setstate(states[0])
            np.random.set_state(states[1])  # noqa: NPY002  (a stranger's model may use it)
            torch.set_rng_state(states[2])
            raise _NoTraceError("random numbers are drawn.")


def _global_states() -> tuple[tuple, tuple, Tensor]:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002


def _as_values(python: tuple, numpy: tuple, pytorch: Tensor) -> tuple:
    kind, keys, *rest = numpy
    return python, kind, keys.tobytes(), *rest, pytorch.numpy().tobytes()


# ---------------- the trace


class _NoTraceError(Exception):
    """The forward does what a trace does not show."""


class _Tracer(fx.Tracer):
    """A tracer that refuses what it would not write down; for one thread, others go on as ever."""

    def __init__(self) -> None:
        super().__init__()
        self._thread, self._autocast = get_ident(), torch.is_autocast_enabled("cpu")

    def call_module(self, m: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        """Write a call of a layer down, or go into it."""
        if get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict) -> Any:
        """Return an attribute of a module, a parameter as a placeholder."""
        if get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, kind: str, *given: Any, **named: Any) -> fx.Node:
        """Write a step down, unless autograd is in another mode or Python code chose it."""
        if torch.is_autocast_enabled("cpu") != self._autocast or not torch.is_grad_enabled():
            raise _NoTraceError("autograd is in another mode.")
        if kind.startswith("call"):
            self._check_callers()
        return super().create_node(kind, *given, **named)

    @staticmethod
    def _check_callers() -> None:
        """Raise if code that is not PyTorch's, and that branches, has asked for a step."""
        frame = sys._getframe(2)
        while frame is not None and frame.f_code is not _traced.__code__:
            place = frame.f_globals.get("__name__", "")
            known = place == __name__ or place.partition(".")[0] == "torch"
            if not known and _branches(frame.f_code):
                raise _NoTraceError(f"{frame.f_code.co_name} branches.")
            frame = frame.f_back


@lru_cache(maxsize=256)
def _branches(code: CodeType) -> bool:
    """Return whether a function has any branch; loops over what is known have none."""
    return any("JUMP" in one.opname and "_IF_" in one.opname for one in dis.get_instructions(code))


def _traced(model: nn.Module, training: bool) -> Structure | None:
    """Return the structure that a copy of the model shows in a mode."""
    own = copied_model(model)
    own.train(training)
    before = _attributes(own)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.enable_grad():
        warnings.simplefilter("ignore")
        graph = _Tracer().trace(own)
    if _attributes(own) != before:
        raise _NoTraceError("a call leaves something behind.")
    return _Reading(own).structure(graph)


def _attributes(model: nn.Module) -> list[dict[str, Any]]:
    """Return what modules keep beside layers and parameters; by value where that is plain."""
    plain = (bool, int, float, str, tuple, list, dict, set)
    return [
        {name: repr(v) if isinstance(v, plain) else id(v) for name, v in vars(one).items()}
        for one in model.modules()
    ]


# ---------------- what a trace says


class _Reading:
    """The steps of a trace as letters of `FORM`, with the layers that they call."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self._letters, self._layers, self._lengths = "", [], []
        # The sizes of a batch, and its number of samples among them.
        self._shapes: set[fx.Node] = set()
        self._counts: set[fx.Node] = set()

    def structure(self, graph: fx.Graph) -> Structure | None:
        """Return the structure if each step takes what the one before gave, and all fit."""
        value = None
        for node in graph.nodes:
            if node.op == "placeholder" and value is None:
                value = node
            elif node.op == "output":
                return self._whole() if node.args == (value,) else None
            elif not self._is_of_shape(node):
                letter = self._letter(node, value)
                if not letter:
                    return None
                self._letters, value = self._letters + letter, node
        return None

    def _is_of_shape(self, node: fx.Node) -> bool:
        """Return whether a step asks for a size only, and remember which."""
        if node.op == "call_module" or node.kwargs or not node.args:
            return False
        if (node.target, *node.args[1:]) in ((getattr, "shape"), ("size",)):
            self._shapes.add(node)
        elif node.target is getitem and node.args[0] in self._shapes:
            if node.args[1] == 0:
                self._counts.add(node)
        elif (node.target, *node.args[1:]) == ("size", 0):
            self._counts.add(node)
        else:
            return False
        return True

    def _letter(self, node: fx.Node, value: fx.Node | None) -> str:
        """Return the letter of a step that takes the value, else ''."""
        named = dict(node.kwargs)
        taken, *others = node.args or (named.pop("input", None),)
        if taken is not value:
            return ""
        if node.op == "call_module":
            return "" if others or named else self._letter_of_layer(node.target)
        function = CALLS.get(node.target)
        if function is None or (node.op == "call_method") != isinstance(node.target, str):
            return ""
        if function is _view:
            return self._letter_of_view(*others, **named)
        return function(*others, **named)

    def _letter_of_layer(self, name: str) -> str:
        layer = self._modules[name]
        if type(layer) in (nn.Conv2d, nn.Linear):
            self._layers.append(name)
            return "L" if type(layer) is nn.Linear else "C"
        if type(layer) is nn.Flatten:
            return _flatten(layer.start_dim, layer.end_dim)
        if type(layer) is nn.MaxPool2d:
            return _pool(
                layer.kernel_size,
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.ceil_mode,
                layer.return_indices,
            )
        if type(layer) is nn.GELU:
            return _gelu(layer.approximate)
        return "R" if type(layer) is nn.ReLU else ""

    def _letter_of_view(self, *sizes: Any, **named: Any) -> str:
        """Return the letter of a view with a row a sample; which length it gives is kept."""
        sizes = named.get("shape", sizes)
        sizes = sizes[0] if len(sizes) == 1 else sizes
        if not isinstance(sizes, tuple | list) or len(sizes) != 2:
            return ""
        rows, length = sizes
        if type(length) is not int or (type(rows) is int and (rows != -1 or length == -1)):
            return ""
        if type(rows) is not int and rows not in self._counts:
            return ""
        self._lengths += [length] * (length != -1)
        return "F"

    def _whole(self) -> Structure | None:
        found = FORM.fullmatch(self._letters)
        if not found or len(set(self._layers)) != len(self._layers):
            return None
        steps = [found[1][at + 1 : at + 3] for at in range(0, len(found[1]), 3)]
        kinds = ["relu" if "R" in s else "gelu" if s == "GP" else "gelu of largest" for s in steps]
        convolutions = [
            _convolution(name, self._modules[name], kind, KERNELS if number else ())
            for number, (name, kind) in enumerate(zip(self._layers, kinds, strict=False))
        ]
        hidden = [*("relu" if letter == "R" else "gelu" for letter in found[4][1::2]), None]
        names = self._layers[len(kinds) :]
        linear = [
            _linear(name, self._modules[name], kind)
            for name, kind in zip(names, hidden, strict=True)
        ]
        unused = len(list(self._modules[""].parameters())) - 2 * len(self._layers)
        if None in convolutions or None in linear or unused:
            return None
        # A view of another length would put samples together, or take them apart.
        if {*self._lengths} - {linear[0].inputs}:
            return None
        return Structure(tuple(convolutions), tuple(linear))


def _convolution(
    name: str, layer: nn.Conv2d, activation: str, kernels: tuple[int, ...]
) -> Convolution | None:
    """Return a convolution of the kind that passes compute; of its weight, not of what it says."""
    filters, channels, *sides = layer.weight.shape
    padding = {"same": (sides[0] // 2,) * 2, "valid": (0, 0)}.get(str(layer.padding), layer.padding)
    plain = (
        layer.bias is not None
        and layer.bias.shape == (filters,)
        and layer.stride == layer.dilation == (1, 1)
        and (layer.groups, layer.padding_mode) == (1, "zeros")
        and sides == [sides[0]] * 2
        and (not kernels or sides[0] in kernels)
        # An even kernel has no middle, and is padded by more on one side.
        and (layer.padding != "same" or sides[0] % 2 == 1)
        and isinstance(padding, tuple)
        and padding == (padding[0],) * 2
    )
    if not plain:
        return None
    return Convolution(name, activation, channels, filters, sides[0], padding[0])


def _linear(name: str, layer: nn.Linear, activation: str | None) -> Linear | None:
    if layer.bias is None or layer.bias.shape != layer.weight.shape[:1]:
        return None
    return Linear(name, activation, layer.weight.shape[1])


# Arguments are named as PyTorch names them; what has others raises, and has no structure.


def _gelu(approximate: str = "none") -> str:
    return "G" if approximate == "none" else ""


def _relu(inplace: bool = False) -> str:
    return "R"


def _pool(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> str:
    windows = all(one in (2, (2, 2), [2, 2]) for one in (kernel_size, stride or kernel_size))
    inside = padding in (0, (0, 0), [0, 0]) and dilation in (1, (1, 1), [1, 1])
    return "P" if windows and inside and not (ceil_mode or return_indices) else ""


def _flatten(start_dim: int = 0, end_dim: int = -1) -> str:
    return "F" if start_dim == 1 and end_dim in (-1, 3) else ""


def _view() -> str:
    raise NotImplementedError  # Read where the sizes of the batch are known.


CALLS: dict[Any, Callable[..., str]] = {
    F.relu: _relu,
    F.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    "relu": _relu,
    "relu_": _relu,
    F.gelu: _gelu,
    F.max_pool2d: _pool,
    torch.max_pool2d: _pool,
    torch.flatten: _flatten,
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    torch.reshape: _view,
}
