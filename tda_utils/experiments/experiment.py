"""An experiment: plain values that name a set of scores, and the scores that are finished.

The unit of work is one (method, member): a file each, so that what is finished stays finished, and
an experiment with more members goes on where a smaller one stopped.
"""

from __future__ import annotations

import dataclasses
import itertools
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from tda_utils.attribution import method_of
from tda_utils.checks import check_choice, check_count, check_number, checked_seeds
from tda_utils.data.load import load_task
from tda_utils.data.task import Task
from tda_utils.engine.parallel import chosen_device
from tda_utils.engine.recipe import Recipe, architecture
from tda_utils.experiments.names import PROTOCOL_FREE, STUDY_METHODS, VERSIONS, Run, study_key
from tda_utils.experiments.store import Shard, key_of, obtain, write_shard
from tda_utils.labels import as_scores, member_coordinates
from tda_utils.models import MODELS, model_builder
from tda_utils.models.states import AdamState
from tda_utils.models.vision_transformer import (
    PAPER_BACKBONE,
    backbone_identity,
    default_image_size,
)
from tda_utils.posterior import PAPER_SEEDS, Posterior, sample_posterior
from tda_utils.terms import PROTOCOLS

DEFAULT_PER_CLASS = 10


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a set of scores.

    Parameters
    ----------
    task : str
        Name for `load_task`.
    per_class : int, optional
        Training samples per class. Default: 10; for ``"mnist"``, which takes no other, all.
    test_per_class : int, optional
        Test samples per class. Default: the paper's.
    lists : str, optional
        For CIFAR-10, see `load_task`.
    root : path, optional
        Only for ``"mnist"``, and needed there: the folder of its IDX files. Scores are for the
        paper's 100 x 10 pairs. Files of scores do not depend on the folder.
    attributed : int, optional
        Number of training samples that get scores, drawn at random; all are trained on. See
        `Task.attribute_only`. Default: all; for ``"mnist"`` the 100, from which is drawn too.
    model : {"cnn2", "cnn3", "vit"}
        The network. ``"vit"`` is trained with a learning rate that falls linearly, as in the paper.
    backbone, image_size : optional
        Only for ``"vit"``, see `model_builder`.
    members : int
        Number of posterior members: the first so many of `seeds`.
    checkpoints : int
        Checkpoints of each member, after the last epochs.
    protocol : {"paired", "released"}
        See `loo`, `ats` and `influence`. Released leave-one-out is unpaired for ``"vit"`` and
        continued for the others, and ``"vit"`` then sees random crops, in training and after.
    epochs : int, optional
        Default: the paper's, 15 for MNIST and 30 for CIFAR-10.
    damping : float
        Of `influence`.
    solver : {"ggn", "ekfac"}, optional
        Of `influence`, under the paired protocol. Default: ``"ggn"``; for ``"mnist"``, whose
        samples are too many for it, ``"ekfac"``.
    orders : int, optional
        Crosses the two sources of noise of a member: each of the first `members` seeds as
        initialisation with each of the first `orders` seeds as batch order. Scores then have the
        dims (initialisation, order, checkpoint, train, test). Default: one seed sets both.
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
    per_class: int | None = None
    test_per_class: int | None = None
    lists: str | None = None
    root: str | Path | None = None
    attributed: int | None = None
    model: str = "cnn2"
    backbone: str | None = None
    image_size: int | None = None
    members: int = 10
    checkpoints: int = 5
    protocol: str = "paired"
    epochs: int | None = None
    damping: float = 5e-3
    solver: str | None = None
    orders: int | None = None
    seeds: Sequence[int] = PAPER_SEEDS
    store: str | Path = "scores"
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.per_class is None and self.task != "mnist":
            object.__setattr__(self, "per_class", DEFAULT_PER_CLASS)
        if (self.root is None) == (self.task == "mnist"):
            raise ValueError(
                f"root is {self.root!r} with task={self.task!r}; task 'mnist' needs the folder of "
                "its IDX files, which `make mnist` fetches, and the others take none."
            )
        check_choice("model", self.model, sorted(MODELS))
        for name in ("backbone", "image_size"):
            if self.model != "vit" and getattr(self, name) is not None:
                raise ValueError(f"{name} is {getattr(self, name)!r}; only model 'vit' has one.")
        check_choice("protocol", self.protocol, PROTOCOLS)
        self._check_numbers()
        if self.solver not in (None, "ggn", "ekfac"):
            raise ValueError(f"solver is {self.solver!r}; it must be 'ggn', 'ekfac' or left out.")
        if self.solver is not None and self.protocol == "released":
            raise ValueError(
                f"solver is {self.solver!r} under protocol='released', which has its own; leave it "
                "out."
            )
        chosen_device(self.device)
        _ = (
            self.recipe,
            self.data,
        )  # Raises on what does not fit together.

    def _check_numbers(self) -> None:
        object.__setattr__(self, "seeds", checked_seeds("seeds", self.seeds))
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds is {self.seeds}; no seed may appear twice.")
        check_count("members", self.members, most=len(self.seeds))
        check_count("checkpoints", self.checkpoints)
        for name in ("orders", "epochs", "attributed", "test_per_class"):
            if (value := getattr(self, name)) is not None:
                check_count(name, value, most=len(self.seeds) if name == "orders" else None)
        check_number("damping", self.damping)

    @cached_property
    def data(self) -> Task:
        """The task."""
        whole_set = {"pairs": "paper", "source": "idx", "root": self.root}
        task = load_task(
            self.task,
            per_class=self.per_class,
            test_per_class=self.test_per_class,
            lists=self.lists,
            **(whole_set if self.task == "mnist" else {}),
        )
        return task if self.attributed is None else task.attribute_only(self.attributed)

    @cached_property
    def _fingerprints(self) -> tuple[str, str]:
        """Of the training samples, and of all."""
        return self.data.training_fingerprint(), self.data.fingerprint()

    @property
    def recipe(self) -> Recipe:
        """The training recipe, the paper's for this task."""
        epochs = self.epochs or (30 if self.task == "cifar10" else 15)
        recipe = Recipe(epochs=epochs, keep_last=self.checkpoints)
        if self.model != "vit":
            return recipe
        crop = self._frozen["image_size"] if self.protocol == "released" else None
        return dataclasses.replace(recipe, schedule="linear", crop=crop)

    @property
    def _default_solver(self) -> str:
        return "ekfac" if self.task == "mnist" else "ggn"

    @property
    def influence_solver(self) -> str | None:
        """What solves for influence: ``"ggn"`` or ``"ekfac"``; None under the released protocol.

        Examples
        --------
        >>> Experiment().influence_solver, Experiment(protocol="released").influence_solver
        ('ggn', None)
        """
        if self.protocol == "released":
            return None
        return self.solver or self._default_solver

    def posterior(self) -> Posterior:
        """Return the trained members, computed once and then read.

        Raises
        ------
        OSError
            If a file cannot be written; the members that are finished stay.
        """
        return self._posterior(self.runs)

    def _posterior(self, runs: Sequence[Run]) -> Posterior:
        members = [self._read_member(shard) for shard in self.compute("posterior", runs).values()]
        return Posterior(
            model=architecture(self._build_model),
            states=[states for states, _ in members],
            init_seeds=tuple(run.initialisation for run in runs),
            order_seeds=tuple(run.order for run in runs),
            epochs=self.recipe.checkpoint_epochs,
            recipe=self.recipe,
            build_model=self._build_model,
            adam=[adam for _, adam in members],
        )

    def scores(self, method: str) -> xr.DataArray:
        """Return the scores of a method, computed once and then read.

        Parameters
        ----------
        method : {"loo", "ats", "influence", "grad_dot", "grad_cos"}

        Returns
        -------
        DataArray, dims (member, checkpoint, train, test)
            Or, with `orders`, (initialisation, order, checkpoint, train, test).

        Raises
        ------
        ValueError
            If there is no such method.
        OSError
            If a file cannot be written; the scores that are finished stay.
        """
        method_of(method)
        together = xr.concat(
            [self._read_scores(run, shard) for run, shard in self.compute(method).items()],
            "member",
            coords="different",
            compat="equals",
            combine_attrs="override",
            join="exact",
        )
        together = together.assign_attrs({**together.attrs, "protocol": self.protocol})
        return together if self.orders is None else self._crossed(together)

    def compute(self, method: str, runs: Sequence[Run] | None = None) -> dict[Run, Shard]:
        """Compute the files of these runs that are missing, and return the content of all.

        Parameters
        ----------
        method : str
            ``"posterior"``, or a method. Scores of a run need that run's posterior, which is
            computed where it is missing, too.
        runs : sequence of Run, optional
            Of `runs`. Default: all.

        Returns
        -------
        dict of Run to Shard
            See `tda_utils.experiments.store`; `scores` and `posterior` make sense of it.

        Raises
        ------
        ValueError
            If there is no such method or run.
        OSError
            If a file cannot be written; what is finished stays.

        Notes
        -----
        Processes that want the same files at the same time share the work. A file that is damaged
        is set aside, named in a warning, and computed again.
        """
        runs = self.runs if runs is None else tuple(runs)
        if unknown := [run for run in runs if run not in self.runs]:
            raise ValueError(f"runs has {unknown[0]}, which this experiment lacks; see its runs.")
        paths = {self.file(method, run): run for run in runs}

        @cache
        def train_for_missing() -> None:
            # All at once, which is faster; but a member whose scores are there is not needed.
            self.compute("posterior", [run for path, run in paths.items() if not path.is_file()])

        def make(missing: list[Path]) -> None:
            mine = [paths[path] for path in missing]
            if method == "posterior":
                self._train(mine)
            else:
                train_for_missing()
                self._attribute(method, mine)

        # Members are trained together, which fills the cores; scores of one member fill them.
        at_once = len(runs) if method == "posterior" else 1
        wanted = {path: self._values(method, run) for path, run in paths.items()}
        shards = obtain(wanted, make, at_once)
        return {paths[path]: shard for path, shard in shards.items()}

    def _train(self, runs: list[Run]) -> None:
        trained = sample_posterior(
            self._build_model,
            self.data,
            self.recipe,
            init_seeds=[run.initialisation for run in runs],
            order_seeds=[run.order for run in runs],
            device=self.device,
        )
        for position, run in enumerate(runs):
            self._write_member(run, trained.states[position], trained.adam[position])

    def _attribute(self, method: str, runs: list[Run]) -> None:
        for run in runs:
            member = self._posterior([run])
            scores = method_of(method)(member, self.data, **self._options(method))
            self._write_scores(method, run, scores)

    def _options(self, method: str) -> dict[str, object]:
        """What a method is called with."""
        options: dict[str, object] = {"protocol": self.protocol, "device": self.device}
        if method == "influence":
            options["damping"] = self.damping
            if self.influence_solver is not None:
                options["solver"] = self.influence_solver
        if method == "loo" and self.model == "vit":
            options["released"] = "unpaired"
        return options

    def all_scores(self, methods: Sequence[str] = STUDY_METHODS) -> dict[str, xr.DataArray]:
        """Return ``{method: scores}`` of several methods, by default all five."""
        return {method: self.scores(method) for method in methods}

    @property
    def runs(self) -> tuple[Run, ...]:
        """The seeds of each training run, in the order of the posterior's members."""
        initialisations = self.seeds[: self.members]
        if self.orders is None:
            return tuple(Run(seed, seed) for seed in initialisations)
        pairs = itertools.product(initialisations, self.seeds[: self.orders])
        return tuple(itertools.starmap(Run, pairs))

    def _crossed(self, scores: xr.DataArray) -> xr.DataArray:
        """Turn the member dimension into one of initialisations and one of orders."""
        levels = {
            "initialisation": list(self.seeds[: self.members]),
            "order": list(self.seeds[: self.orders]),
        }
        index = pd.MultiIndex.from_product(levels.values(), names=levels)
        bare = scores.drop_vars(["member", "init_seed", "order_seed"])
        labelled = bare.assign_coords(xr.Coordinates.from_pandas_multiindex(index, "member"))
        # In the order of the seeds, which unstack sorts.
        unstacked = labelled.unstack("member").sel(levels)
        return unstacked.transpose("initialisation", "order", "checkpoint", "train", "test")

    def _build_model(self) -> torch.nn.Module:
        channels = self.data.train_x.shape[1]
        return model_builder(
            self.model, channels, backbone=self.backbone, image_size=self.image_size
        )()

    @cached_property
    def _frozen(self) -> dict[str, object]:
        """What the frozen part of the model is, beside its name."""
        if self.model != "vit":
            return {}

        backbone = self.backbone or PAPER_BACKBONE
        return {
            "backbone": backbone_identity(backbone),
            "image_size": self.image_size or default_image_size(backbone),
        }

    @cached_property
    def _recipe_values(self) -> dict[str, object]:
        """The recipe's values, without those that came later and are not made use of.

        The names of files that were written before have to stay.
        """
        later = {"schedule": "constant", "crop": None}
        values = dataclasses.asdict(self.recipe)
        return {
            name: value
            for name, value in values.items()
            if name not in later or value != later[name]
        }

    def _values(self, method: str, run: Run) -> dict[str, object]:
        """Return every value that the numbers in one file depend on."""
        values: dict[str, object] = {
            "method": method,
            "version": VERSIONS[method],
            "posterior_version": VERSIONS["posterior"],
            "seed": run.initialisation if run.initialisation == run.order else list(run),
            "model": self.model,
            "recipe": self._recipe_values,
            **self._frozen,
        }
        if method == "posterior":
            # Training never sees the test images, so experiments that differ in them share it.
            values["data"] = self._fingerprints[0]
            return values
        values["data"] = self._fingerprints[1]
        values["protocol"] = "both" if method in PROTOCOL_FREE else self.protocol
        if method == "influence":
            values["damping"] = self.damping
            # Named where it is not the default, so that files from before there were two are found.
            if self.solver not in (None, self._default_solver):
                values["solver"] = self.solver
        return values

    def file(self, method: str, run: Run) -> Path:
        """Return the file of a run's scores, or with method ``"posterior"`` of its training.

        Raises
        ------
        ValueError
            If there is no such method.
        """
        if method != "posterior":
            method_of(method)
        values = self._values(method, run)
        parts = [self.task, self.per_class, self.lists, self.model]
        if self.model == "vit":
            # A hub name or a path stands for its last part; the key tells backbones apart.
            parts += [Path(self.backbone or PAPER_BACKBONE).name, values["image_size"]]
        folder = "-".join(str(part) for part in parts if part is not None)
        seed = f"seed{run.initialisation}"
        if run.order != run.initialisation:
            seed += f"-order{run.order}"
        parts = [method, values.get("protocol"), seed, key_of(values)]
        return Path(self.store) / folder / ("-".join(p for p in parts if p) + ".safetensors")

    @property
    def study_scores(self) -> list[str]:
        """Folder and name of the files of scores that a study of this experiment sums up."""
        files = [self.file(method, run) for method in STUDY_METHODS for run in self.runs]
        return [f"{file.parent.name}/{file.name}" for file in files]

    @property
    def study_key(self) -> str:
        """A short name for all that the numbers of a study of this experiment depend on."""
        return study_key(self.protocol, self.study_scores)

    def study_file(self, folder: str | Path) -> Path:
        """Return the file of a study of this experiment in a folder; it need not be there.

        Examples
        --------
        >>> Experiment(members=2).study_file("studies").name.rpartition("-")[0]
        'mnist3-10-cnn2-paired'
        """
        study = Path(self.study_scores[0]).parent.name
        return Path(folder) / f"{study}-{self.protocol}-{self.study_key}.json"

    def _provenance(self, method: str, run: Run) -> dict[str, object]:
        on_card = chosen_device(self.device).type == "cuda"
        return {
            "values": self._values(method, run),
            "torch": str(torch.__version__),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": torch.cuda.get_device_name() if on_card else "cpu",
        }

    def _write_member(self, run: Run, states, adam) -> None:
        arrays = {"step": np.array([one.step for one in adam])}
        for checkpoint, (state, memory) in enumerate(zip(states, adam, strict=True)):
            for kind, tensors in (
                ("state", state),
                ("exp_avg", memory.exp_avg),
                ("exp_avg_sq", memory.exp_avg_sq),
            ):
                for name, value in tensors.items():
                    arrays[f"{checkpoint}/{kind}/{name}"] = value.numpy()
        write_shard(self.file("posterior", run), arrays, self._provenance("posterior", run))

    @staticmethod
    def _read_member(shard: Shard) -> tuple[list[dict], list[AdamState]]:
        arrays = dict(shard.arrays)
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

    def _write_scores(self, method: str, run: Run, scores: xr.DataArray) -> None:
        # Labels follow from the experiment; only what was computed is stored.
        extra = {
            name: scores.coords[name].values
            for name in ("drift", "residual")
            if name in scores.coords
        }
        metadata = {**self._provenance(method, run), "attributes": dict(scores.attrs)}
        write_shard(self.file(method, run), {"tau": scores.values, **extra}, metadata)

    def _read_scores(self, run: Run, shard: Shard) -> xr.DataArray:
        arrays, metadata = dict(shard.arrays), shard.metadata
        members = member_coordinates(
            self.recipe.checkpoint_epochs, 1, (run.initialisation,), (run.order,)
        )
        scores = as_scores(
            arrays.pop("tau"), members, self.data.coordinates(), metadata["attributes"]
        )
        dims = {"drift": ("member", "checkpoint", "test"), "residual": ("member", "checkpoint")}
        return scores.assign_coords({name: (dims[name], value) for name, value in arrays.items()})
