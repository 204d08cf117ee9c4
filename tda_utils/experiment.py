"""An experiment: plain values that name a set of scores, and the scores that are finished.

The unit of work is one (method, member): a file each, so that what is finished stays finished, and
an experiment with more members goes on where a smaller one stopped.
"""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xarray as xr

from tda_utils.attribution import METHODS, PROTOCOLS, as_scores, method_of
from tda_utils.data import Task, load_task
from tda_utils.learners import AdamState
from tda_utils.models import MODELS, model_builder
from tda_utils.parallel import chosen_device
from tda_utils.posterior import PAPER_SEEDS, Posterior, sample_posterior
from tda_utils.store import key_of, read_shard, write_shard
from tda_utils.training import Recipe, architecture

# Raise a number when that method gives other numbers than before: old files are then left aside.
VERSIONS = {"posterior": 1, "loo": 1, "ats": 1, "influence": 1, "grad_dot": 1, "grad_cos": 1}
# Give the same numbers under both protocols, and share their files.
PROTOCOL_FREE = ("grad_dot", "grad_cos")


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a set of scores.

    Parameters
    ----------
    task : str
        Name for `load_task`.
    per_class : int, optional
        Training samples per class.
    test_per_class : int, optional
        Test samples per class. Default: the paper's.
    lists : str, optional
        For CIFAR-10, see `load_task`.
    model : {"cnn2", "cnn3"}
        The network.
    members : int
        Number of posterior members: the first so many of `seeds`.
    checkpoints : int
        Checkpoints of each member, after the last epochs.
    protocol : {"paired", "released"}
        See `loo`, `ats` and `influence`.
    epochs : int, optional
        Default: the paper's, 15 for MNIST and 30 for CIFAR-10.
    damping : float
        Of `influence`.
    seeds : tuple of int
        Default: the paper's ten.
    store : path
        Folder of the finished scores.
    device : {"auto", "cpu", "cuda"}
        Where to compute; ``"auto"`` is CUDA where there is a card. Scores agree between devices to
        rounding, so files do not depend on it.

    Raises
    ------
    ValueError
        If a value is not allowed; nothing is computed then.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     experiment = Experiment(
    ...         members=1, checkpoints=1, epochs=1, test_per_class=1, store=folder
    ...     )
    ...     tau = experiment.scores("grad_dot")
    >>> dict(tau.sizes)
    {'member': 1, 'checkpoint': 1, 'train': 30, 'test': 3}
    """

    task: str = "mnist3"
    per_class: int | None = 10
    test_per_class: int | None = None
    lists: str | None = None
    model: str = "cnn2"
    members: int = 10
    checkpoints: int = 5
    protocol: str = "paired"
    epochs: int | None = None
    damping: float = 5e-3
    seeds: Sequence[int] = PAPER_SEEDS
    store: str | Path = "scores"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model is {self.model!r}; it must be one of {sorted(MODELS)}.")
        if self.protocol not in PROTOCOLS:
            raise ValueError(f"protocol is {self.protocol!r}; it must be 'paired' or 'released'.")
        if not isinstance(self.members, int) or not 1 <= self.members <= len(self.seeds):
            raise ValueError(
                f"members is {self.members!r}; it must lie in 1 to {len(self.seeds)}, the number "
                "of seeds."
            )
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; no seed may appear twice.")
        chosen_device(self.device)
        _ = self.recipe, self.data  # Raises on bad epochs, checkpoints, task or numbers of samples.

    @cached_property
    def data(self) -> Task:
        """The task."""
        return load_task(
            self.task,
            per_class=self.per_class,
            test_per_class=self.test_per_class,
            lists=self.lists,
        )

    @property
    def recipe(self) -> Recipe:
        """The training recipe, the paper's for this task."""
        epochs = self.epochs or (30 if self.task == "cifar10" else 15)
        return Recipe(epochs=epochs, keep_last=self.checkpoints)

    def posterior(self) -> Posterior:
        """Return the trained members, computed once and then read.

        Raises
        ------
        ShardError
            If a stored file is damaged; it is named, and no other file is touched.
        """
        missing = [seed for seed in self._seeds if not self._path("posterior", seed).is_file()]
        members = {seed: self._read_member(seed) for seed in self._seeds if seed not in missing}
        if missing:
            trained = sample_posterior(
                self._build_model, self.data, self.recipe, missing, device=self.device
            )
            for position, seed in enumerate(missing):
                members[seed] = (trained.states[position], trained.adam[position])
                self._write_member(seed, *members[seed])
        return Posterior(
            model=architecture(self._build_model),
            states=[members[seed][0] for seed in self._seeds],
            init_seeds=self._seeds,
            order_seeds=self._seeds,
            epochs=self.recipe.checkpoint_epochs,
            recipe=self.recipe,
            build_model=self._build_model,
            adam=[members[seed][1] for seed in self._seeds],
        )

    def scores(self, method: str) -> xr.DataArray:
        """Return the scores of a method, computed once and then read.

        Parameters
        ----------
        method : {"loo", "ats", "influence", "grad_dot", "grad_cos"}

        Returns
        -------
        DataArray, dims (member, checkpoint, train, test)

        Raises
        ------
        ValueError
            If there is no such method, or (ShardError) a stored file is damaged; it is named, and
            no other file is touched.
        """
        compute = method_of(method)
        missing = [seed for seed in self._seeds if not self._path(method, seed).is_file()]
        # Read first: a damaged file is reported before hours are spent on the missing ones.
        found = {
            seed: self._read_scores(method, seed) for seed in self._seeds if seed not in missing
        }
        if missing:
            posterior = self.posterior()
            options: dict[str, object] = {"protocol": self.protocol, "device": self.device}
            if method == "influence":
                options["damping"] = self.damping
            for seed in missing:
                member = posterior.select([self._seeds.index(seed)])
                scores = compute(member, self.data, **options)
                self._write_scores(method, seed, scores)
                found[seed] = scores
        together = xr.concat(
            [found[seed] for seed in self._seeds],
            "member",
            coords="different",
            compat="equals",
            combine_attrs="override",
            join="exact",
        )
        return together.assign_attrs({**together.attrs, "protocol": self.protocol})

    def all_scores(self, methods: Sequence[str] = tuple(METHODS)) -> dict[str, xr.DataArray]:
        """Return ``{method: scores}`` of several methods, by default all five."""
        return {method: self.scores(method) for method in methods}

    @property
    def _seeds(self) -> tuple[int, ...]:
        return tuple(self.seeds[: self.members])

    def _build_model(self) -> torch.nn.Module:
        return model_builder(self.model, channels=self.data.train_x.shape[1])()

    def _values(self, method: str, seed: int) -> dict[str, object]:
        """Return every value that the numbers in one file depend on."""
        values: dict[str, object] = {
            "method": method,
            "version": VERSIONS[method],
            "posterior_version": VERSIONS["posterior"],
            "seed": seed,
            "model": self.model,
            "recipe": dataclasses.asdict(self.recipe),
        }
        if method == "posterior":
            # Training never sees the test images, so experiments that differ in them share it.
            values["data"] = self.data.select(test=[0]).fingerprint()
            return values
        values["data"] = self.data.fingerprint()
        values["protocol"] = "both" if method in PROTOCOL_FREE else self.protocol
        if method == "influence":
            values["damping"] = self.damping
        return values

    def _path(self, method: str, seed: int) -> Path:
        values = self._values(method, seed)
        folder = "-".join(
            str(part)
            for part in (self.task, self.per_class, self.lists, self.model)
            if part is not None
        )
        parts = [method, values.get("protocol"), f"seed{seed}", key_of(values)]
        return Path(self.store) / folder / ("-".join(p for p in parts if p) + ".safetensors")

    def _provenance(self, method: str, seed: int) -> dict[str, object]:
        return {
            "values": self._values(method, seed),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "machine": platform.machine(),
        }

    def _write_member(self, seed: int, states, adam) -> None:
        arrays = {"step": np.array([one.step for one in adam])}
        for checkpoint, (state, memory) in enumerate(zip(states, adam, strict=True)):
            for kind, tensors in (
                ("state", state),
                ("exp_avg", memory.exp_avg),
                ("exp_avg_sq", memory.exp_avg_sq),
            ):
                for name, value in tensors.items():
                    arrays[f"{checkpoint}/{kind}/{name}"] = value.numpy()
        write_shard(self._path("posterior", seed), arrays, self._provenance("posterior", seed))

    def _read_member(self, seed: int):
        arrays, _ = read_shard(self._path("posterior", seed))
        steps = arrays.pop("step")
        parts: list[dict] = [{"state": {}, "exp_avg": {}, "exp_avg_sq": {}} for _ in steps]
        for name, value in arrays.items():
            checkpoint, kind, parameter = name.split("/", 2)
            parts[int(checkpoint)][kind][parameter] = torch.from_numpy(value)
        states = [part["state"] for part in parts]
        adam = [
            AdamState(float(step), part["exp_avg"], part["exp_avg_sq"])
            for step, part in zip(steps, parts, strict=True)
        ]
        return states, adam

    def _write_scores(self, method: str, seed: int, scores: xr.DataArray) -> None:
        # Labels follow from the experiment; only what was computed is stored.
        extra = {
            name: scores.coords[name].values
            for name in ("drift", "residual")
            if name in scores.coords
        }
        metadata = {**self._provenance(method, seed), "attributes": dict(scores.attrs)}
        write_shard(self._path(method, seed), {"tau": scores.values, **extra}, metadata)

    def _read_scores(self, method: str, seed: int) -> xr.DataArray:
        arrays, metadata = read_shard(self._path(method, seed))
        labels = Posterior(
            model=torch.nn.Identity(),
            states=[[{}] * self.checkpoints],
            init_seeds=(seed,),
            order_seeds=(seed,),
            epochs=self.recipe.checkpoint_epochs,
        )
        attributes = metadata["attributes"]
        known = {name: attributes[name] for name in ("method", "protocol", "sign")}
        scores = as_scores(arrays.pop("tau"), labels, self.data, **known)
        scores = scores.assign_attrs(attributes)
        dims = {"drift": ("member", "checkpoint", "test"), "residual": ("member", "checkpoint")}
        return scores.assign_coords({name: (dims[name], value) for name, value in arrays.items()})
