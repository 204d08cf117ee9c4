"""The same scores by captum, dattri and kronfluence at their best: no projection, one train batch.

What each has for this work was read in its source. captum 0.8 computes Grad-Dot over all parameters
with `TracInCP` only; `TracInCPFast` looks at the last linear layer. Neither captum 0.8 nor dattri
0.3 has a Nystroem influence. dattri's CG and LiSSA solve once for each of the 900 test samples, and
its DataInf holds the product of training samples, test samples and parameters in memory (110 GB
at 150 x 900), so they are left out; so is its EK-FAC, of linear layers only. bergson's
MAGIC goes back for one test sample at a time.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import tda_utils as tda
from benchmarks.work import SEED
from tda_utils.engine.recipe import batch_order, initial_state
from tda_utils.models.convolutional import CNN2L

DAMPING = 5e-3


def captum_grad_dot(model: nn.Module, task: tda.Task, test_batch: int) -> np.ndarray:
    """Return Grad-Dot by captum's TracInCP with gradients of all samples of a batch at once."""
    from captum.influence import TracInCP

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder, "checkpoint.pt"))
        torch.save(model.state_dict(), checkpoint)
        tracin = TracInCP(
            model,
            TensorDataset(task.train_x, task.train_y),
            [checkpoint],
            # One checkpoint: its weight in the sum over checkpoints, a learning rate, is one.
            checkpoints_load_func=_captum_load,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=task.n_train,
            sample_wise_grads_per_batch=True,
        )
        return tracin.influence(_loaders(task, test_batch)[1], show_progress=False).T.numpy()


def captum_grad_dot_last_layer(model: nn.Module, task: tda.Task, test_batch: int) -> np.ndarray:
    """Return Grad-Dot of the last layer alone, which is all that captum's TracInCPFast computes."""
    from captum.influence import TracInCPFast

    with tempfile.TemporaryDirectory() as folder:
        checkpoint = str(Path(folder, "checkpoint.pt"))
        torch.save(model.state_dict(), checkpoint)
        tracin = TracInCPFast(
            model,
            model.fc2,
            TensorDataset(task.train_x, task.train_y),
            [checkpoint],
            checkpoints_load_func=_captum_load,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=task.n_train,
        )
        # Unlike the others of captum it takes no loader of test samples.
        batches = zip(task.test_x.split(test_batch), task.test_y.split(test_batch), strict=True)
        scores = [tracin.influence(batch, show_progress=False) for batch in batches]
        return torch.cat(scores).T.numpy()


def _captum_load(model: nn.Module, path: str) -> float:
    model.load_state_dict(torch.load(path, weights_only=True))
    return 1.0


def _dattri_task(model: nn.Module):
    from dattri.task import AttributionTask

    def loss(params, data):
        image, label = data
        if image.ndim == 3:  # Some attributors pass one sample, some a batch.
            image, label = image.unsqueeze(0), label.unsqueeze(0)
        outputs = torch.func.functional_call(model, params, image)
        return nn.functional.cross_entropy(outputs, label)

    return AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())


def _loaders(task: tda.Task, test_batch: int) -> tuple[DataLoader, DataLoader]:
    return (
        DataLoader(TensorDataset(task.train_x, task.train_y), batch_size=task.n_train),
        DataLoader(TensorDataset(task.test_x, task.test_y), batch_size=test_batch),
    )


def dattri_dot_and_cos(
    model: nn.Module, task: tda.Task, test_batch: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return Grad-Dot and Grad-Cos by dattri's TracIn without projection."""
    from dattri.algorithm import TracInAttributor

    scores = []
    for normalized in (False, True):
        attributor = TracInAttributor(
            task=_dattri_task(model), weight_list=torch.ones(1), normalized_grad=normalized
        )
        # Given as an argument, None means a projection to 512 dimensions.
        attributor.projector_kwargs = None
        with torch.no_grad():
            scores.append(attributor.attribute(*_loaders(task, test_batch)).numpy())
    return scores[0], scores[1]


def dattri_arnoldi(model: nn.Module, task: tda.Task, test_batch: int) -> np.ndarray:
    """Return influence by dattri's Arnoldi approximation.

    It keeps the eigenvalues of the Hessian that are largest in size and takes their roots. Of 20 or
    more one is negative, and no score is a number, also with a regularization of 10; of 10 none is.
    """
    from dattri.algorithm import IFAttributorArnoldi

    train, test = _loaders(task, test_batch)
    attributor = IFAttributorArnoldi(
        task=_dattri_task(model),
        proj_dim=10,
        max_iter=50,
        regularization=DAMPING,
    )
    attributor.cache(train)
    with torch.no_grad():
        return attributor.attribute(train, test).numpy()


def captum_arnoldi(model: nn.Module, task: tda.Task, test_batch: int) -> np.ndarray:
    """Return influence by captum's Arnoldi approximation."""
    from captum.influence._core.arnoldi_influence_function import ArnoldiInfluenceFunction

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpoint = str(Path(folder, "checkpoint.pt"))
        torch.save(model.state_dict(), checkpoint)
        arnoldi = ArnoldiInfluenceFunction(
            model,
            TensorDataset(task.train_x, task.train_y),
            checkpoint,
            checkpoints_load_func=_captum_load,
            loss_fn=nn.CrossEntropyLoss(reduction="sum"),
            batch_size=task.n_train,
            sample_wise_grads_per_batch=True,
            projection_dim=50,
            arnoldi_dim=50,
            hessian_reg=DAMPING,
        )
        return arnoldi.influence(_loaders(task, test_batch)[1]).T.numpy()


def kronfluence_ekfac(model: nn.Module, task: tda.Task, test_batch: int) -> np.ndarray:
    """Return EK-FAC influence by kronfluence: fit the factors, then the pairwise scores."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):
        """Cross-entropy, for training and for measurement."""

        def compute_train_loss(self, batch, model, sample=False):
            logits, labels = model(batch[0]), batch[1]
            if sample:
                labels = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            return nn.functional.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    job = Classification()
    # The factors are fitted to labels drawn from the model, from the global random state.
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        analyzer = Analyzer(
            "bench",
            prepare_model(model, job),
            job,
            cpu=True,
            output_dir=folder,
            disable_tqdm=True,
        )
        train = TensorDataset(task.train_x, task.train_y)
        test = TensorDataset(task.test_x, task.test_y)
        analyzer.fit_all_factors(
            "ekfac",
            train,
            per_device_batch_size=task.n_train,
            # The default is float64, which takes longer.
            factor_args=FactorArguments(strategy="ekfac", eigendecomposition_dtype=torch.float32),
        )
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            test,
            train,
            per_device_query_batch_size=test_batch,
            per_device_train_batch_size=task.n_train,
            score_args=ScoreArguments(damping_factor=DAMPING),
        )
        return analyzer.load_pairwise_scores("scores")["all_modules"].numpy().T


def dattri_retrain_loo(task: tda.Task, recipe: tda.Recipe, positions: list[int]) -> np.ndarray:
    """Return test losses of models retrained without each position by dattri's `retrain_loo`."""
    from dattri.model_util.retrain import retrain_loo

    def train_model(loader, seed=None):
        torch.manual_seed(SEED if seed is None else seed)
        model = CNN2L()
        optimizer = torch.optim.Adam(
            model.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
        )
        for _ in range(recipe.epochs):
            for images, labels in loader:
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(images), labels).backward()
                optimizer.step()
        return model.eval()

    loader = DataLoader(TensorDataset(task.train_x, task.train_y), recipe.batch_size)
    with tempfile.TemporaryDirectory() as folder:
        retrain_loo(train_model, loader, folder, indices=positions, seed=SEED)
        losses = []
        for position in positions:
            # dattri stores whole modules; the file was written by the line above, by this process.
            path = Path(folder, f"index_{position}", "model_weights.pt")
            with torch.serialization.safe_globals(_module_classes()):
                model = torch.load(path, weights_only=True)
            with torch.no_grad():
                losses.append(
                    nn.functional.cross_entropy(model(task.test_x), task.test_y, reduction="none")
                )
    return torch.stack(losses).numpy()


class _Pictures(nn.Module):
    """CNN2-L as bergson's trainer calls a model: with a batch by keyword, for a weighted loss."""

    def __init__(self) -> None:
        super().__init__()
        self.network = CNN2L()

    def forward(self, input_ids: Tensor, classes: Tensor, example_weight: Tensor) -> Tensor:
        logits = self.network(input_ids.unflatten(1, (1, 28, 28)))
        losses = nn.functional.cross_entropy(logits, classes, reduction="none")
        return (losses * example_weight).mean()


class _Batches:
    """The batches of a run as bergson's trainer asks for them, with the weights that it wants."""

    device = torch.device("cpu")

    def __init__(self, task: tda.Task, recipe: tda.Recipe) -> None:
        order = batch_order(SEED, task.n_train, recipe, CNN2L)
        self.batches = [batch for epoch in order for batch in epoch]
        self.pictures, self.classes = task.train_x.flatten(1), task.train_y
        self.weights = nn.Parameter(torch.ones(task.n_train))
        self.requires_grad = True

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> dict[str, Tensor]:
        batch = self.batches[number]
        return {
            "input_ids": self.pictures[batch],
            "classes": self.classes[batch],
            "example_weight": self.weights[batch],
        }


def bergson_magic(task: tda.Task, recipe: tda.Recipe) -> np.ndarray:
    """Return the derivative of each test loss through training by bergson's MAGIC, (train, test).

    Its trainer differentiates one loss at a time, so there is a way back for each test sample; the
    run itself is trained once, with checkpoints on disk.
    """
    import torchopt
    from bergson.magic.trainer import BackwardState, Trainer

    data, model = _Batches(task, recipe), _Pictures()
    start = initial_state(CNN2L, SEED)
    model.network.load_state_dict(start)
    # Its own default for the number under the root, which has no derivative at zero.
    optimizer = torchopt.adam(
        recipe.lr, weight_decay=recipe.weight_decay, eps_root=1e-17, moment_requires_grad=True
    )
    trainer, state = Trainer.initialize(model, optimizer)
    columns = []
    # Its progress bars cannot be turned off.
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        end = trainer.train(state, data, save_dir=folder)
        for test in range(task.n_test):
            gradient = _loss_gradient(end.params, task, test)
            zeros = [
                torch.zeros_like(leaf)
                for leaf in torchopt.pytree.tree_iter(end.opt_state)
                if isinstance(leaf, Tensor) and leaf.is_floating_point()
            ]
            back = BackwardState(gradient, zeros, torch.zeros(task.n_train))
            found = trainer.backward(folder, data, back, end.to("cpu"), cleanup=False)
            columns.append(-found.weight_grads)
    return torch.stack(columns, dim=1).detach().numpy()


def _loss_gradient(parameters: dict[str, Tensor], task: tda.Task, test: int) -> dict[str, Tensor]:
    """Return the gradient of one test loss by the parameters of `_Pictures`."""
    place = {name: p.detach().clone().requires_grad_() for name, p in parameters.items()}
    batch = (task.test_x[[test]].flatten(1), task.test_y[[test]], torch.ones(1))
    loss = torch.func.functional_call(_Pictures(), place, batch)
    return dict(zip(place, torch.autograd.grad(loss, list(place.values())), strict=True))


def _module_classes() -> list:
    return [CNN2L, nn.Conv2d, nn.Linear, set]


# Fewer iterations than by default (200 in captum, 100 in dattri), in their favour.
APPROXIMATE_INFLUENCE: dict[str, Callable[[nn.Module, tda.Task, int], np.ndarray]] = {
    "kronfluence EK-FAC": kronfluence_ekfac,
    "captum Arnoldi, 50 iterations": captum_arnoldi,
    "dattri Arnoldi, 50 iterations": dattri_arnoldi,
}
