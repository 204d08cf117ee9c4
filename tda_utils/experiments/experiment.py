"""An experiment: plain values that name a set of scores, and the scores that are finished.

The unit of work is one (method, member): a file each, so that what is finished stays finished, and
an experiment with more members goes on where a smaller one stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass
from functools import cache, cached_property
from pathlib import Path

import torch
import xarray as xr

from tda_utils.attribution import method_of
from tda_utils.attribution.floor import floor
from tda_utils.checks import brief
from tda_utils.data.load import load_task
from tda_utils.data.task import Task
from tda_utils.engine.parallel import chosen_device
from tda_utils.engine.recipe import architecture
from tda_utils.experiments import names, records
from tda_utils.experiments.settings import Run, Settings
from tda_utils.experiments.store import Shard, obtain, write_shard
from tda_utils.files import CannotOpen, is_there
from tda_utils.models import model_builder
from tda_utils.models.states import copied_model
from tda_utils.posterior import Posterior, sample_posterior


@dataclass(frozen=True)
class Experiment(Settings):
    """What determines a set of scores, the folder that keeps them, and what computes them.

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
    dtype : {"float32", "float64"}
        Type of number in training and after. Initialisations are drawn in float32 and are the same
        in both, and so are batch orders.
    draw : {1, 2, 3, 4, 5}, optional
        Other training digits than the paper's, see `load_task`.
    root : path, optional
        Only for ``"mnist"``, and needed there: the folder of its IDX files. Scores are for the
        paper's 100 x 10 pairs. Files of scores do not depend on the folder.
    store : path
        Folder of the finished scores.
    device : {"auto", "cpu", "cuda"}
        Where to compute; ``"auto"`` is CUDA where there is a card. Files do not depend on it,
        though devices round in their own ways. Scores agree between devices only where the floor is
        negligible beside them (see `floor`); elsewhere those of a member are two draws of it.

    Raises
    ------
    ValueError
        If a value is not allowed; nothing is read or computed then. What is wrong with the images
        or a backbone is said where these are first used.

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

    _: KW_ONLY
    root: str | Path | None = None
    store: str | Path = "scores"
    device: str = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = (str, os.PathLike) if self.task == "mnist" else type(None)
        if not isinstance(self.root, wanted):
            raise ValueError(
                f"root is {brief(self.root)} with task={self.task!r}; task 'mnist' needs the "
                "folder of its IDX files, which `make mnist` fetches, and the others take none."
            )
        chosen_device(self.device)

    @cached_property
    def data(self) -> Task:
        """The task."""
        task = load_task(self.task, root=self.root, **self.task_options)
        return task if self.attributed is None else task.attribute_only(self.attributed)

    @cached_property
    def _fingerprints(self) -> names.Fingerprints:
        return names.Fingerprints(self.data.training_fingerprint(), self.data.fingerprint())

    def posterior(self) -> Posterior:
        """Return the trained members, computed once and then read.

        Raises
        ------
        OSError
            If a file cannot be written; the members that are finished stay.
        """
        return self._posterior(self.runs)

    def _posterior(self, runs: Sequence[Run]) -> Posterior:
        shards = self.compute("posterior", runs).values()
        states, adam = zip(*(records.member_of(shard.arrays) for shard in shards), strict=True)
        return Posterior(
            model=copied_model(self._architecture),
            states=list(states),
            init_seeds=tuple(run.initialisation for run in runs),
            order_seeds=tuple(run.order for run in runs),
            epochs=self.recipe.checkpoint_epochs,
            recipe=self.recipe,
            build_model=self._build_model,
            adam=list(adam),
        )

    def scores(self, method: str) -> xr.DataArray:
        """Return the scores of a method, computed once and then read.

        Parameters
        ----------
        method : {"loo", "ats", "influence", "grad_dot", "grad_cos", "unrolled"}
            The last under the paired protocol alone.

        Returns
        -------
        DataArray, dims (member, checkpoint, train, test)
            Or, with `orders`, (initialisation, order, checkpoint, train, test).

        Raises
        ------
        ValueError
            If there is no such method, or not under this protocol.
        OSError
            If a file cannot be written; the scores that are finished stay.
        """
        method_of(method)
        epochs, samples = self.recipe.checkpoint_epochs, self.data.coordinates()
        parts = [
            records.scores_of(shard, run, epochs, samples)
            for run, shard in self.compute(method).items()
        ]
        how = {"coords": "different", "compat": "equals", "join": "exact"}
        together = xr.concat(parts, "member", combine_attrs="override", **how)
        together.attrs["protocol"] = self.protocol
        return self._crossed(together)

    def _crossed(self, together: xr.DataArray) -> xr.DataArray:
        if self.orders is None:
            return together
        return records.crossed(together, self.seeds[: self.members], self.seeds[: self.orders])

    def floor(self) -> xr.DataArray:
        """Return what rounding alone does to the members' losses, computed once and then read.

        Returns
        -------
        DataArray, dims (member, draw, checkpoint, test)
            See `tda_utils.attribution.floor`; four draws a member. With `orders`, the first dims
            are (initialisation, order) instead of member.

        Raises
        ------
        OSError
            If a file cannot be written; the members that are finished stay.
        """
        epochs, samples = self.recipe.checkpoint_epochs, self.data.coordinates()
        parts = [
            records.floor_of(shard, run, epochs, samples)
            for run, shard in self.compute("floor").items()
        ]
        how = {"coords": "different", "compat": "equals", "join": "exact"}
        together = xr.concat(parts, "member", combine_attrs="override", **how)
        return self._crossed(together)

    def compute(self, method: str, runs: Sequence[Run] | None = None) -> dict[Run, Shard]:
        """Compute the files of these runs that are missing, and return the content of all.

        Parameters
        ----------
        method : str
            ``"posterior"``, ``"floor"``, or a method. Scores of a run, and its floor, need that
            run's posterior, which is computed where it is missing, too.
        runs : sequence of Run, optional
            Of `runs`. Default: all.

        Raises
        ------
        ValueError
            If there is no such method or run, or no such method under this protocol.
        OSError
            If a file cannot be written; what is finished stays. If one is there that cannot be
            opened: it stays, too, and the others are computed before.

        Notes
        -----
        Processes that want the same files at the same time share the work. A file that is damaged
        or holds something else than it should is set aside, named in a warning, and computed again.
        """
        if method in names.PAIRED_ONLY and self.protocol == "released":
            raise ValueError(
                f"method is {method!r} under protocol='released'; the released code has no "
                "counterpart of it, and 'paired' is the protocol that has it."
            )
        runs = self.runs if runs is None else tuple(runs)
        if unknown := [run for run in runs if run not in self.runs]:
            raise ValueError(f"runs has {unknown[0]}, which this experiment lacks; see its runs.")
        paths = {self.file(method, run): run for run in runs}

        @cache
        def train_for_missing() -> None:
            # All at once, which is faster; but a member whose scores are there is not needed.
            # One that cannot be opened is said where its scores are computed.
            with suppress(CannotOpen):
                self.compute("posterior", [run for path, run in paths.items() if _lacks(path)])

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
        shards = obtain(wanted, make, at_once, self._check(method))
        return {paths[path]: shard for path, shard in shards.items()}

    def _check(self, method: str) -> Callable[[Path, Shard], None]:
        """Return what makes sure that a file holds what it should."""
        checkpoints = len(self.recipe.checkpoint_epochs)
        if method == "posterior":
            layout = cache(lambda: records.member_layout(self._architecture, checkpoints))
            return lambda path, shard: records.check_member(path, shard, layout())
        sizes = {"train": self.data.n_attributed, "test": self.data.n_test}
        sizes |= {"member": 1, "checkpoint": checkpoints, "draw": names.FLOOR_DRAWS}
        return lambda path, shard: records.check_scores(path, shard, sizes)

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
            arrays = records.member_arrays(trained.states[position], trained.adam[position])
            self._write("posterior", run, arrays)

    def _attribute(self, method: str, runs: list[Run]) -> None:
        for run in runs:
            member = self._posterior([run])
            if method == "floor":
                found = floor(member, self.data, draws=names.FLOOR_DRAWS, device=self.device)
                arrays = {"floor": found.values}
            else:
                found = method_of(method)(member, self.data, **self._options(method))
                arrays = records.score_arrays(found)
            self._write(method, run, arrays, attributes=dict(found.attrs))

    def _write(self, method: str, run: Run, arrays: records.Arrays, **more: object) -> None:
        metadata = records.metadata_of(self._values(method, run), chosen_device(self.device))
        write_shard(self.file(method, run), arrays, metadata | more)

    def _options(self, method: str) -> dict[str, object]:
        """What a method is called with."""
        options: dict[str, object] = {"protocol": self.protocol, "device": self.device}
        if method == "influence":
            options |= {"damping": self.damping, "solver": self.influence_solver}
        if method == "loo" and self.model == "vit":
            options["released"] = "unpaired"
        return options

    def all_scores(self, methods: Sequence[str] = names.STUDY_METHODS) -> dict[str, xr.DataArray]:
        """Return ``{method: scores}`` of several methods, by default the study's five."""
        return {method: self.scores(method) for method in methods}

    @cached_property
    def _architecture(self) -> torch.nn.Module:
        return architecture(self._build_model)

    def _build_model(self) -> torch.nn.Module:
        frozen = {"backbone": self.backbone, "image_size": self.image_size}
        model = model_builder(self.model, self.data.train_x.shape[1], **frozen)()
        return model.to(getattr(torch, self.dtype))

    def _values(self, method: str, run: Run) -> dict[str, object]:
        return names.values_of(self, method, run, self._fingerprints)

    def _name(self, method: str, run: Run) -> str:
        return names.file_name(self, run, self._values(method, run))

    def file(self, method: str, run: Run) -> Path:
        """Return the file of a run's scores, or with method ``"posterior"`` of its training.

        Raises
        ------
        ValueError
            If there is no such method.

        Examples
        --------
        >>> experiment = Experiment(members=1)
        >>> experiment.file("loo", experiment.runs[0]).name.rpartition("-")[0]
        'loo-paired-seed446'
        """
        return Path(self.store) / self._name(method, run)

    @property
    def study_scores(self) -> list[str]:
        """Folder and name of the files of scores that a study of this experiment sums up."""
        return [self._name(method, run) for method in names.STUDY_METHODS for run in self.runs]

    def floor_scores(self, floor: bool = True) -> list[str]:
        """Return folder and name of the files of the floor that a study sums up.

        There are none under the released protocol, or where the study is to have no floor.
        """
        if self.protocol == "released" or not floor:
            return []
        return [self._name("floor", run) for run in self.runs]

    @property
    def study_methods(self) -> tuple[str, ...]:
        """What a study of this experiment takes, as `compute` names it: the floor, too."""
        return (*names.STUDY_METHODS, "floor") if self.floor_scores() else names.STUDY_METHODS

    @property
    def study_key(self) -> str:
        """A short name for all that the numbers of a study of this experiment depend on."""
        return names.study_key(self.protocol, self.study_scores, self.floor_scores())

    def study_file(self, folder: str | Path, floor: bool = True) -> Path:
        """Return the file of a study of this experiment in a folder; it need not be there.

        Its name ends in a key for all that the numbers depend on, the `floor` too.

        Examples
        --------
        >>> Experiment(members=2).study_file("studies").name.rpartition("-")[0]
        'mnist3-10-cnn2-paired'
        """
        images_and_model = self.study_scores[0].partition("/")[0]
        key = names.study_key(self.protocol, self.study_scores, self.floor_scores(floor))
        return Path(folder) / f"{images_and_model}-{self.protocol}-{key}.json"


def _lacks(path: Path) -> bool:
    """Whether a file has to be made; one of which that cannot be told has not."""
    with suppress(CannotOpen):
        return not is_there(path)
    return False
