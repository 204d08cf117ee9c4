"""Switches of PyTorch that a caller may have set, and which gradients need to be otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def recording() -> Iterator[None]:
    """Let autograd record, in full precision, whatever the caller's ``no_grad`` or the like.

    Examples
    --------
    >>> with torch.inference_mode(), recording():
    ...     torch.ones(2, requires_grad=True).sum().requires_grad
    True
    """
    with torch.inference_mode(False), torch.enable_grad(), ExitStack() as stack:
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


@contextmanager
def recurrent_on(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let recurrent layers be differentiated in evaluation mode, which cuDNN's kernels cannot.

    Examples
    --------
    >>> with recurrent_on(nn.GRU(2, 2), torch.device("cpu")):
    ...     pass
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    with ExitStack() as stack:
        if recurrent and device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=False))
        yield


@contextmanager
def twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Let kernels be chosen that have a second derivative: attention and recurrent ones.

    The switches are the process's, so they are set around worker threads, not in them.

    Examples
    --------
    >>> with twice_differentiable(nn.Linear(2, 2)):
    ...     pass
    """
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    enabled = torch.backends.mkldnn.enabled
    with sdpa_kernel(SDPBackend.MATH):
        try:
            # The other flags stay: to set them again makes PyTorch warn.
            torch.backends.mkldnn.set_flags(enabled and not recurrent, _fp32_precision=None)
            yield
        finally:
            torch.backends.mkldnn.set_flags(enabled, _fp32_precision=None)
