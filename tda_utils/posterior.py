"""The posterior: trained parameters stacked as (member, checkpoint, ...).

A member is one training run (one seed of a deep ensemble); its checkpoints are the states after the
last epochs. Together they are the samples of p(theta | D) in the paper's section on posterior
sampling.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import xarray as xr
from torch import Tensor, nn

from tda_utils.checkpoints import find_checkpoints, read_state
from tda_utils.checks import brief, checked_seeds
from tda_utils.data.task import Task
from tda_utils.engine.modes import recording
from tda_utils.engine.noise import LOOK_STREAM, NOISE_STREAM, access_to_images, derived_seed
from tda_utils.engine.recipe import Job, Recipe, architecture, batch_order, initial_state
from tda_utils.engine.training import TRIED, state_losses, train_states
from tda_utils.labels import member_coordinates
from tda_utils.models.probes import check_each_by_itself, layer_of, overwriting_layer
from tda_utils.models.states import (
    AdamState,
    State,
    all_finite,
    check_types,
    copied_model,
    frozen_parameters,
    in_one_type,
    load_state,
    state_of,
    trainable_parameters,
    widened_model,
)
from tda_utils.models.wrappers import renamed, unwrapped
from tda_utils.texts import brief_problem

#: The ten seeds of the paper's released code; one seed sets initialisation and batch order.
PAPER_SEEDS = (446, 724, 571, 296, 854, 968, 245, 374, 829, 470)
#: These ten and ninety more, for what ten are too few for.
HUNDRED_SEEDS = (*PAPER_SEEDS, *range(1000, 1090))


@dataclass(frozen=True, eq=False)
class Posterior:
    """Samples of a trained model: ``states[member][checkpoint]`` and how they came about.

    Parameters
    ----------
    model : nn.Module
        The architecture; of its own parameters only the frozen ones are used.
    states : sequence of sequences of dict
        State dicts, ``states[member][checkpoint]``, all with the same names and shapes; without
        frozen parameters.
    init_seeds, order_seeds : tuple of int, optional
        The seeds of each member's initialisation and batch order.
    epochs : tuple of int
        The epoch of each checkpoint, counted from one.
    recipe : Recipe, optional
        How the members were trained, if that is known.
    build_model : callable, optional
        Builds a fresh model; needed to retrain members from scratch.
    adam : sequence of sequences of AdamState, optional
        The optimiser's state at each checkpoint.
    weights : Tensor, shape (members, n_train), optional
        Weight of each training sample in each member. Default: ones.

    Examples
    --------
    >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    >>> Posterior.from_state_dicts(layer, [[layer.state_dict()], [layer.state_dict()]])
    Posterior(2 members x 1 checkpoints of Sequential, seeds None)
    """

    model: nn.Module
    states: Sequence[Sequence[State]]
    init_seeds: tuple[int, ...] | None = None
    order_seeds: tuple[int, ...] | None = None
    epochs: tuple[int, ...] = ()
    recipe: Recipe | None = None
    build_model: Callable[[], nn.Module] | None = None
    adam: Sequence[Sequence[AdamState]] | None = None
    weights: Tensor | None = None

    def __repr__(self) -> str:
        return (
            f"Posterior({self.members} members x {self.checkpoints} checkpoints of "
            f"{type(self.model).__name__}, seeds {self.order_seeds})"
        )

    @classmethod
    @recording()
    def from_state_dicts(
        cls,
        model: nn.Module,
        states: Sequence[Sequence[Mapping[str, Tensor]]],
        seeds: Sequence[int] | None = None,
        epochs: Sequence[int] | None = None,
    ) -> Posterior:
        """Make a posterior of a user's own checkpoints.

        Parameters
        ----------
        model : nn.Module
            The architecture.
        states : list of lists of state dicts
            ``states[member][checkpoint]``; every member needs the same number of checkpoints.
            Frozen parameters may be left out, and must be the model's where they are not. Of the
            names of a tied parameter one is enough. What `torch.compile`, a wrapper for several
            devices or a class around the model put before all names is taken off. States in float16
            or bfloat16 become float32, in which everything is then computed.
        seeds : sequence of int, optional
            One a member; what continued leave-one-out resets the random state to.
        epochs : sequence of int, optional
            One a checkpoint, rising; they name checkpoints in scores. Default: 1, 2, 3, ...

        Raises
        ------
        ValueError
            If there is no state, members differ in their number of checkpoints, a name or shape
            does not fit the model, a value is not finite, seeds do not count as many as members, or
            epochs not as many as checkpoints, or parameters are of more than one type of float, in
            one state or over all.
        TypeError
            If states are not nested so, a state holds something else than tensors, or a parameter
            is no real float.

        Examples
        --------
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> Posterior.from_state_dicts(layer, [[layer.state_dict()]], seeds=[446]).members
        1
        """
        _check_nested(states)
        model = unwrapped(model)
        counts = {len(member) for member in states}
        if not states or counts == {0}:
            raise ValueError(
                "states is empty; it must hold at least one member with one checkpoint."
            )
        if len(counts) > 1:
            raise ValueError(
                f"states has members with {sorted(counts)} checkpoints; all must have the same "
                "number."
            )
        own = [
            [checked_copy(model, state, f"states[{m}][{c}]") for c, state in enumerate(member)]
            for m, member in enumerate(states)
        ]
        return cls._of_checked(model, own, seeds, epochs, "states asks for")

    @classmethod
    @recording()
    def from_folder(
        cls,
        model: nn.Module,
        folder: str | Path,
        seeds: Sequence[int] | None = None,
        epochs: Sequence[int] | None = None,
    ) -> Posterior:
        """Make a posterior of a folder of one's own checkpoints.

        Parameters
        ----------
        model : nn.Module
            The architecture.
        folder : path
            One folder a member, in each one file or folder a checkpoint, in the order of their
            names (9 before 10), or the checkpoint folders of one run. Understood are
            ``.safetensors``, and state dicts in ``.pt``, ``.pth``, ``.ckpt`` and
            ``pytorch_model.bin``, which are read with ``weights_only=True``, so that nothing in
            them can run; ``docs/checkpoints.md`` shows the layouts of PyTorch, Lightning,
            Accelerate and the Trainer of Transformers. Hidden files and files of other kinds are
            passed over. States in float16 or bfloat16 become float32.
        seeds : sequence of int, optional
            One a member. Default: those of the folders' names, where all end in ``seed-446`` or the
            like; otherwise unknown.
        epochs : sequence of int, optional
            One a checkpoint. Default: those of the files' names, where all say ``epoch-15`` or the
            like and the same in each member; otherwise 1, 2, 3, ...

        Raises
        ------
        FileNotFoundError
            If there is no such folder.
        TypeError, ValueError
            As `from_state_dicts`, and if a member has no checkpoint or a file is damaged.

        Examples
        --------
        >>> import tempfile
        >>> from safetensors.torch import save_file
        >>> layer = nn.Linear(4, 2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for seed in (446, 724):
        ...         Path(folder, f"seed-{seed}").mkdir()
        ...         save_file(layer.state_dict(), f"{folder}/seed-{seed}/epoch-15.safetensors")
        ...     Posterior.from_folder(layer, folder)
        Posterior(2 members x 1 checkpoints of Linear, seeds (446, 724))
        """
        found, model = find_checkpoints(folder), unwrapped(model)
        states = [
            [checked_copy(model, read_state(path), f"the file {path}") for path in member]
            for member in found.paths
        ]
        seeds = found.seeds if seeds is None else seeds
        epochs = found.epochs if epochs is None else epochs
        return cls._of_checked(model, states, seeds, epochs, f"folder {str(folder)!r} has")

    @classmethod
    def _of_checked(
        cls,
        model: nn.Module,
        states: list[list[dict[str, Tensor]]],
        seeds: Sequence[int] | None,
        epochs: Sequence[int] | None,
        source: str,
    ) -> Posterior:
        """Make a posterior of states that fit the model and are shared with nobody."""
        _check_one_type(states)
        if seeds is not None:
            seeds = checked_seeds("seeds", seeds)
            if len(seeds) != len(states):
                raise ValueError(f"seeds has {len(seeds)} values; {source} {len(states)}.")
        checkpoints = len(states[0])
        if epochs is None:
            epochs = range(1, checkpoints + 1)
        epochs = checked_seeds("epochs", list(epochs) if isinstance(epochs, range) else epochs)
        if len(epochs) != checkpoints or list(epochs) != sorted(set(epochs)):
            raise ValueError(
                f"epochs is {brief(epochs)}; it must be {checkpoints} rising integers, one a "
                "checkpoint."
            )
        return cls(widened_model(copy.deepcopy(copied_model(model))), states, seeds, seeds, epochs)

    @property
    def members(self) -> int:
        """Number of members (training runs)."""
        return len(self.states)

    @property
    def checkpoints(self) -> int:
        """Number of checkpoints of each member."""
        return len(self.states[0])

    @property
    def samples(self) -> list[tuple[int, int]]:
        """All pairs (member, checkpoint) of positions, member by member."""
        return [(m, c) for m in range(self.members) for c in range(self.checkpoints)]

    @property
    def member_labels(self) -> tuple[int, ...]:
        """The name of each member in scores, its seed, or its position if seeds repeat or lack."""
        return tuple(self.coordinates()["member"].tolist())

    @recording()
    def module(self, member: int, checkpoint: int) -> nn.Module:
        """Return a copy of the model with the parameters of one sample, in evaluation mode.

        Examples
        --------
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> Posterior.from_state_dicts(layer, [[layer.state_dict()]]).module(0, 0).training
        False
        """
        model = load_state(copied_model(self.model), self.states[member][checkpoint])
        model.eval()  # Which a model of one's own may have return nothing.
        return model

    def select(self, members: Sequence[int]) -> Posterior:
        """Return the posterior with only the members at the given positions.

        Examples
        --------
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
        >>> both = Posterior.from_state_dicts(layer, [[layer.state_dict()]] * 2, seeds=[1, 2])
        >>> both.select([1]).order_seeds
        (2,)
        """

        def pick(values):
            return None if values is None else type(values)(values[m] for m in members)

        return replace(
            self,
            states=pick(list(self.states)),
            init_seeds=pick(self.init_seeds),
            order_seeds=pick(self.order_seeds),
            adam=pick(self.adam),
            weights=None if self.weights is None else self.weights[list(members)],
        )

    @recording()
    def losses(self, task: Task, *, device: str | torch.device = "auto") -> xr.DataArray:
        """Return the loss of each test sample under each posterior sample.

        Or what else the task's objective measures on a test sample.

        Where the recipe crops images at random, each posterior sample sees other crops: see `seen`.

        Returns
        -------
        DataArray, float32, dims (member, checkpoint, test)
            Cross-entropy is in nats.

        Examples
        --------
        >>> from tda_utils import load_task
        >>> task = load_task("mnist3", per_class=10, test_per_class=2)
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> Posterior.from_state_dicts(layer, [[layer.state_dict()]]).losses(task).sizes["test"]
        6
        """
        check_model(self.module(0, 0), task)
        losses = state_losses(
            self.model,
            [self.states[member][checkpoint] for member, checkpoint in self.samples],
            task.test_x,
            task.test_y,
            crop=self._crop,
            objective=task.objective,
            noise_seeds=[self._look_seed(*sample) for sample in self.samples],
            device=device,
        )
        cube = losses.reshape(self.members, self.checkpoints, task.n_test)
        return xr.DataArray(
            cube.numpy(),
            dims=("member", "checkpoint", "test"),
            coords={**self.coordinates(), **task.coordinates("test")},
            name="loss",
        )

    def seen(self, task: Task, member: int, checkpoint: int) -> Task:
        """Return the task as a posterior sample sees it, which differs where the recipe crops.

        Each image is then replaced by a crop of it, drawn once from a stream derived from the
        member's order seed and the epoch. `losses` sees the same crops of the test images.

        Examples
        --------
        >>> from tda_utils import load_task
        >>> task = load_task("mnist3", per_class=10, test_per_class=2)
        >>> layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        >>> posterior = Posterior.from_state_dicts(layer, [[layer.state_dict()]])
        >>> posterior.seen(task, 0, 0) is task
        True
        """
        if self._crop is None:
            return task
        access = access_to_images(self._crop, self._look_seed(member, checkpoint))
        return replace(task, test_x=access(task.test_x), train_x=access(task.train_x))

    @property
    def _crop(self) -> int | None:
        return None if self.recipe is None else self.recipe.crop

    def _look_seed(self, member: int, checkpoint: int) -> int:
        seeds = self.order_seeds or range(self.members)
        return derived_seed(seeds[member], LOOK_STREAM, self.epochs[checkpoint])

    def coordinates(self) -> dict[str, Any]:
        """Return the coordinates of the dims member and checkpoint, as xarray takes them."""
        return member_coordinates(self.epochs, self.members, self.init_seeds, self.order_seeds)


@recording()
def sample_posterior(
    build_model: Callable[[], nn.Module],
    task: Task,
    recipe: Recipe,
    seeds: Sequence[int] = PAPER_SEEDS,
    *,
    init_seeds: Sequence[int] | None = None,
    order_seeds: Sequence[int] | None = None,
    weights: Tensor | None = None,
    workers: int | None = None,
    device: str | torch.device = "auto",
) -> Posterior:
    """Train one member a seed and keep the last checkpoints of each.

    Parameters
    ----------
    build_model : callable
        Returns a fresh `nn.Module` that maps inputs to logits, shape (n, at least
        ``task.classes``), or to what else the task's objective takes. One in float16 or
        bfloat16 is trained in float32.
    task : Task
        The training data.
    recipe : Recipe
        How to train.
    seeds : sequence of int
        One a member; sets initialisation and batch order, consumed as the released code does: seed,
        build the model, then one epoch after another. Default: the ten seeds of the paper.
    init_seeds, order_seeds : sequence of int, optional
        Set the two apart, for example one initialisation with many orders. Each defaults to
        `seeds`.
    weights : Tensor, shape (members, n_train), optional
        Weight of each training sample in each member's loss. Default: ones.
    workers : int, optional
        Members trained at the same time. Default: one a core.
    device : {"auto", "cpu", "cuda"}
        Where to train; ``"auto"`` is CUDA where there is a card. The posterior lies on the CPU.

    Returns
    -------
    Posterior
        With the optimiser's state at each checkpoint.

    Raises
    ------
    ValueError
        If numbers of seeds differ, weights have another shape or are not finite, the model does not
        take the images or a training step of it fails, its frozen parameters differ from one call
        of `build_model` to the next, its parameters are of more than one type of float, or a batch
        of one sample is left for batch normalisation.
    TypeError
        If a parameter of the model is no real float, weights are no float tensor, or `build_model`
        gives no module.

    Warns
    -----
    RuntimeWarning
        If the training of a member diverged; its parameters are not finite from that epoch on.

    Notes
    -----
    Equal to a plain loop over models with ``torch.optim.Adam`` to float32 rounding, and identical
    to the last bit for any number of workers. Dropout masks come from a stream of their own,
    derived from the member's order seed. Source: paper, section on sampling from the posterior
    (deep ensemble and the checkpoints of the last epochs).

    Examples
    --------
    >>> from tda_utils import load_task
    >>> task = load_task("mnist3", per_class=10, test_per_class=2)
    >>> build = lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    >>> sample_posterior(build, task, Recipe(epochs=2, keep_last=1), seeds=[446, 724])
    Posterior(2 members x 1 checkpoints of Sequential, seeds (446, 724))
    """
    init_seeds = checked_seeds("init_seeds", seeds if init_seeds is None else init_seeds)
    order_seeds = checked_seeds("order_seeds", seeds if order_seeds is None else order_seeds)
    if len(init_seeds) != len(order_seeds):
        raise ValueError(
            f"init_seeds has {len(init_seeds)} and order_seeds {len(order_seeds)} values; they "
            "must count the same."
        )
    if weights is not None:
        _check_weights(weights, len(init_seeds), task.n_train)
    model = architecture(build_model)
    check_types(model)
    in_one_type(state_of(model), trainable_parameters(model), "model")
    model = widened_model(model)
    check_model(model, task)
    _check_lone_sample(model, task, recipe)
    jobs = [
        Job(
            initial_state(build_model, init_seed, model),
            batch_order(order_seed, task.n_train, recipe, build_model),
            None if weights is None else weights[member],
            noise_seed=derived_seed(order_seed, NOISE_STREAM),
        )
        for member, (init_seed, order_seed) in enumerate(zip(init_seeds, order_seeds, strict=True))
    ]
    snapshots = train_states(
        model,
        task.train_x,
        task.train_y,
        recipe,
        jobs,
        objective=task.objective,
        workers=workers,
        device=device,
        describe="training",
    )
    posterior = Posterior(
        model=model,
        states=[[state for state, _ in member] for member in snapshots],
        init_seeds=init_seeds,
        order_seeds=order_seeds,
        epochs=recipe.checkpoint_epochs,
        recipe=recipe,
        build_model=build_model,
        adam=[[adam for _, adam in member] for member in snapshots],
        weights=weights,
    )
    _warn_if_diverged(posterior)
    return posterior


def _check_weights(weights: object, members: int, n_train: int) -> None:
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        kind = weights.dtype if isinstance(weights, Tensor) else type(weights).__name__
        raise TypeError(f"weights is of the type {kind}; it must be a float tensor.")
    if tuple(weights.shape) != (members, n_train):
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}; it must be ({members}, {n_train})."
        )
    if not bool(torch.isfinite(weights).all()):
        raise ValueError("weights holds NaN or infinite values; each must be a finite number.")


def _warn_if_diverged(posterior: Posterior) -> None:
    for member, checkpoint in posterior.samples:
        if not all_finite(posterior.states[member][checkpoint]):
            warnings.warn(
                f"the training of member {posterior.member_labels[member]} diverged by epoch "
                f"{posterior.epochs[checkpoint]}: its parameters are not finite.",
                RuntimeWarning,
                stacklevel=3,
            )


def _check_lone_sample(model: nn.Module, task: Task, recipe: Recipe) -> None:
    """Raise a `ValueError` if a batch will be of one sample, and the model cannot train on it."""
    left = task.n_train % recipe.batch_size
    if left != 1 and recipe.batch_size != 1:
        return
    probe = copied_model(model)
    probe.train()
    # As small as a batch of two that it could train on, so that nothing else is to blame.
    inputs = task.train_x[:1].to(next(model.parameters()).dtype)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        for samples in (inputs.repeat_interleave(2, 0), inputs):
            try:
                probe(samples)
            except ValueError as problem:
                if len(samples) == 2 or "more than 1 value" not in str(problem):
                    return
                raise ValueError(
                    f"recipe has batch_size={recipe.batch_size}, which leaves a batch of one of "
                    f"the {task.n_train} training samples; batch normalisation needs at least two "
                    "in each, so batch_size must be another."
                ) from problem


def check_model(model: nn.Module, task: Task) -> None:
    """Raise a `ValueError` unless the model maps the task's inputs, each by itself, to logits.

    Or to what else the task's objective takes.

    Or a `TypeError` if it has parameters of a type that nothing can be computed with.
    """
    check_types(model)
    parameter = next(model.parameters(), None)
    if parameter is None:
        raise ValueError("model has no parameters; it must have some that are trained.")
    shape = tuple(task.train_x.shape[1:])
    for name, layer in model.named_modules():
        if isinstance(layer, nn.modules.batchnorm._BatchNorm) and layer.running_mean is None:
            raise ValueError(
                f"model normalises by the batch in evaluation mode as well (layer {name!r} with "
                "track_running_stats=False), so that a sample has no loss of its own; it must keep "
                "running statistics."
            )
    try:
        with torch.no_grad():
            probe = copied_model(model)
            probe.eval()
            sample = task.train_x[:1].to(parameter.dtype, copy=True)
            logits = probe(sample)
    except Exception as problem:  # Whatever a stranger's forward may raise.
        said = brief_problem(problem)
        raise ValueError(f"model does not take inputs of shape {shape}: {said}.") from problem
    if not isinstance(logits, Tensor):
        raise ValueError(
            f"model gives a {type(logits).__name__}; it must give a tensor of logits, shape (n, at "
            f"least {task.classes})."
        )
    if not logits.is_floating_point():
        raise ValueError(f"model gives outputs of {logits.dtype}; logits must be real numbers.")
    if logits.ndim == 0 or len(logits) != 1:
        raise ValueError(
            f"model gives outputs of shape {tuple(logits.shape)} for one sample; they must be one "
            "row a sample."
        )
    _check_outputs(probe, task)
    if not torch.equal(sample, task.train_x[:1].to(sample)):
        layer = layer_of(model, overwriting_layer(probe, sample))
        raise ValueError(
            f"model overwrites the inputs that it is given, in {layer}, and the same inputs are "
            "given to it again; it must work on a copy, such as images.clone(), or out of place."
        )
    check_each_by_itself(model, task.train_x, task.test_x)


def _check_outputs(model: nn.Module, task: Task) -> None:
    """Raise a `ValueError` unless the outputs of a few samples are what the objective takes.

    A named objective looks at the shape alone, for which one sample will do.
    """
    few = TRIED if task.objective.is_callable else 1
    inputs, targets = task.train_x[:few], task.train_y[:few]
    with torch.no_grad():
        parts = [model(x[None].to(next(model.parameters()).dtype, copy=True)) for x in inputs]
    task.objective.check_outputs(torch.cat(parts), targets, task.classes)


def _check_nested(states: object) -> None:
    """Raise a `TypeError` unless states are members, each of them a list of checkpoints."""
    if isinstance(states, Mapping | nn.Module):
        raise TypeError(
            f"states is a {type(states).__name__}; it must hold members, each of them a list of "
            "checkpoints: for a single state dict write [[state]]."
        )
    if not isinstance(states, list | tuple):
        raise TypeError(
            f"states is {brief(states)}; it must be a list of members, each of them a list of "
            "checkpoints (state dicts)."
        )
    for number, member in enumerate(states):
        if not isinstance(member, list | tuple):
            raise TypeError(
                f"states[{number}] is a {type(member).__name__}; each member must be a list of "
                "its checkpoints: write [[a], [b]] for two members (training runs), [[a, b]] for "
                "two checkpoints of one."
            )


def _check_one_type(states: list[list[dict[str, Tensor]]]) -> None:
    """Raise a `ValueError` unless the floats of all states are of one type."""
    first = None
    for m, member in enumerate(states):
        for c, state in enumerate(member):
            own = next((value.dtype for value in state.values() if value.is_floating_point()), None)
            first = own if first is None else first
            if own != first:
                raise ValueError(
                    f"states are of {first} and, that of member {m} and checkpoint {c}, counted "
                    f"from zero, of {own}; all must be of one type, since scores are."
                )


def checked_copy(model: nn.Module, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return a copy of a state without frozen parameters, or raise one clear error."""
    if not isinstance(state, Mapping):
        raise TypeError(
            f"{name} is a {type(state).__name__}; it must be a state dict, as model.state_dict() "
            "gives it."
        )
    for parameter, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(parameter, str):
            raise TypeError(
                f"{name}[{parameter!r}] is a {type(value).__name__}; it must be a tensor with the "
                "name of a parameter or buffer."
            )
        if value.layout is not torch.strided or value.is_quantized or value.is_meta:
            kind = "quantized" if value.is_quantized else "meta" if value.is_meta else value.layout
            raise ValueError(
                f"{name}[{parameter!r}] is a {kind} tensor; it must be an ordinary one, with a "
                "number for each value."
            )
    state = in_one_type(renamed(model, state), trainable_parameters(model), name)
    try:
        load_state(copied_model(model), state)
    except ValueError as problem:
        raise ValueError(f"{name} does not fit the model: {problem}") from problem
    if not all_finite(state):
        raise ValueError(f"{name} holds NaN or infinite parameters.")
    frozen = frozen_parameters(model)
    return {key: value.detach().clone() for key, value in state.items() if key not in frozen}
