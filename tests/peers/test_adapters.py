"""Each adapter with what the real library gives: axes, signs, members, and a report on its file.

The oracle is this package's Grad-Dot in removal sign. Libraries that estimate influence get so
much damping that their inverse Hessian is a multiple of the identity, and give Grad-Dot, too.
"""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import tda_utils as tda
from tda_utils.report.adapters import bergson, captum, dattri, kronfluence, pydvl, quanda, trak
from tda_utils.reproduce.cli import main
from tests.tiny import build_mlp, table_task

DAMPING = 1e4
TASK = table_task(12, 5)
LOSS = nn.CrossEntropyLoss(reduction="sum")


@pytest.fixture(scope="module")
def trained():
    """Three models, and Grad-Dot of each, (member, train, test)."""
    recipe = tda.Recipe(epochs=20, keep_last=1, lr=0.02)
    posterior = tda.sample_posterior(build_mlp, TASK, recipe, [1, 2, 3])
    return posterior, tda.grad_dot(posterior, TASK).isel(checkpoint=0)


@pytest.fixture
def ours(trained):
    """The scores, and models of a test's own: some libraries change those that they are given."""
    posterior, dot = trained
    modules = [posterior.module(member, 0) for member in range(3)]
    return SimpleNamespace(dot=dot, modules=modules)


def check(scores, ours, tmp_path, least=0.999):
    """Hold scores against ours, member by member, and judge their file."""
    assert scores.dims == ("member", "train", "test")
    assert scores.shape == ours.dot.shape and scores.attrs["sign"] == "removal"
    for mine, theirs in zip(ours.dot.values, scores.values, strict=True):
        assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > least
    path = tda.save_scores(scores, tmp_path / "theirs.nc")
    page = tmp_path / "theirs.html"
    assert main(["judge", str(path), "-o", str(page), "--train", "12", "--test", "5"]) == 0
    assert scores.attrs["method"] in page.read_text(encoding="utf-8")


def loaders():
    return (
        DataLoader(TensorDataset(TASK.train_x, TASK.train_y), batch_size=12),
        DataLoader(TensorDataset(TASK.test_x, TASK.test_y), batch_size=5),
    )


def load_state(model, path):
    model.load_state_dict(torch.load(path, weights_only=True))
    return 1.0


def kept(model, tmp_path):
    """Write a checkpoint, for libraries that read one."""
    torch.save(model.state_dict(), tmp_path / "model.pt")
    return str(tmp_path / "model.pt")


def test_captum(ours, tmp_path):
    from captum.influence import TracInCP

    def explain(model):
        tracin = TracInCP(
            model,
            TensorDataset(TASK.train_x, TASK.train_y),
            [kept(model, tmp_path)],
            checkpoints_load_func=load_state,
            loss_fn=LOSS,
            batch_size=12,
            sample_wise_grads_per_batch=True,
        )
        return tracin.influence((TASK.test_x, TASK.test_y))

    check(captum.scores([explain(model) for model in ours.modules], train=12), ours, tmp_path)


def dattri_task(model):
    from dattri.task import AttributionTask

    def loss(parameters, data):
        inputs, labels = data
        if inputs.ndim == 1:
            inputs, labels = inputs[None], labels[None]
        outputs = torch.func.functional_call(model, parameters, inputs)
        return nn.functional.cross_entropy(outputs, labels)

    return AttributionTask(loss_func=loss, model=model, checkpoints=model.state_dict())


@pytest.mark.parametrize("name", ["TracInAttributor", "IFAttributorExplicit"])
def test_dattri(name, ours, tmp_path):
    from dattri import algorithm

    def explain(model):
        kind = getattr(algorithm, name)
        if name == "TracInAttributor":
            attributor = kind(
                task=dattri_task(model), weight_list=torch.ones(1), normalized_grad=False
            )
            attributor.projector_kwargs = None
        else:
            attributor = kind(task=dattri_task(model), regularization=DAMPING)
            attributor.cache(loaders()[0])
        with torch.no_grad():
            return attributor.attribute(*loaders())

    found = dattri.scores([explain(model) for model in ours.modules], name)
    check(found, ours, tmp_path)


def test_kronfluence(ours, tmp_path):
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import ScoreArguments
    from kronfluence.task import Task

    class Classification(Task):
        def compute_train_loss(self, batch, model, sample=False):
            logits, labels = model(batch[0]), batch[1]
            if sample:
                labels = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            return nn.functional.cross_entropy(logits, labels, reduction="sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    def explain(member, model, by_module):
        analyzer = Analyzer(
            f"{member}{by_module}",
            prepare_model(model, Classification()),
            Classification(),
            cpu=True,
            output_dir=str(tmp_path),
            disable_tqdm=True,
        )
        train, test = (loader.dataset for loader in loaders())
        analyzer.fit_all_factors("ekfac", train, per_device_batch_size=12)
        analyzer.compute_pairwise_scores(
            "scores",
            "ekfac",
            test,
            train,
            per_device_query_batch_size=5,
            per_device_train_batch_size=12,
            score_args=ScoreArguments(damping_factor=DAMPING, compute_per_module_scores=by_module),
        )
        return analyzer.load_pairwise_scores("scores")

    for by_module in (False, True):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found = [explain(at, one, by_module) for at, one in enumerate(ours.modules)]
        check(kronfluence.scores(found), ours, tmp_path)


def test_trak_keeps_its_models_apart(ours, tmp_path):
    """With as many projections as parameters the kernel of TRAK is that of its own gradients."""
    from trak import TRAKer
    from trak.projectors import NoOpProjector

    model = build_mlp()
    traker = TRAKer(
        model,
        "image_classification",
        train_set_size=12,
        save_dir=str(tmp_path / "trak"),
        device="cpu",
        projector=NoOpProjector(grad_dim=0, proj_dim=0, seed=0, proj_type="normal", device="cpu"),
        proj_dim=sum(parameter.numel() for parameter in model.parameters()),
        logging_level=logging.ERROR,
        use_half_precision=False,
        lambda_reg=DAMPING,
    )
    states = [one.state_dict() for one in ours.modules]
    for model_id, state in enumerate(states):
        traker.load_checkpoint(state, model_id=model_id)
        traker.featurize(batch=(TASK.train_x, TASK.train_y), num_samples=12)
    traker.finalize_features()
    for model_id, state in enumerate(states):
        traker.start_scoring_checkpoint("tests", state, model_id=model_id, num_targets=5)
        traker.score(batch=(TASK.test_x, TASK.test_y), num_samples=5)
    found = trak.scores(traker, "tests", test=5)
    assert found["member"].values.tolist() == [0, 1, 2]
    # TRAK divides each model's kernel by its mean size, so that scales are its own.
    for theirs, module in zip(found.values, ours.modules, strict=True):
        assert np.corrcoef(theirs.ravel(), by_hand(module).ravel())[0, 1] > 0.9999
    # The margin of a test sample falls where a training sample that helps is left out.
    for mine, theirs in zip(ours.dot.values, found.values, strict=True):
        assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.3
    check(found, ours, tmp_path, least=0.3)


def by_hand(model):
    """TRAK without projection: margins' gradients, a regularised kernel, and 1 - p."""

    def margins(inputs, labels):
        logits = model(inputs)
        own = logits.gather(1, labels[:, None])[:, 0]
        others = logits.clone()
        others[torch.arange(len(labels)), labels] = -torch.inf
        return own - others.logsumexp(1)

    def gradients(inputs, labels):
        rows = []
        for at in range(len(labels)):
            margin = margins(inputs[at : at + 1], labels[at : at + 1])[0]
            parts = torch.autograd.grad(margin, list(model.parameters()))
            rows.append(torch.cat([part.flatten() for part in parts]))
        return torch.stack(rows)

    train, test = gradients(TASK.train_x, TASK.train_y), gradients(TASK.test_x, TASK.test_y)
    kernel = train.T @ train + DAMPING * torch.eye(train.shape[1])
    with torch.no_grad():
        p = model(TASK.train_x).softmax(1).gather(1, TASK.train_y[:, None])
        return (train @ torch.linalg.solve(kernel, test.T) * (1 - p)).numpy()


class Images(Dataset):
    """The training samples as quanda takes them."""

    def __len__(self):
        return 12

    def __getitem__(self, at):
        return TASK.train_x[at], int(TASK.train_y[at])


def test_quanda(ours, tmp_path):
    from quanda.explainers.wrappers import CaptumTracInCP

    def explain(model):
        explainer = CaptumTracInCP(
            model,
            Images(),
            [kept(model, tmp_path)],
            checkpoints_load_func=load_state,
            loss_fn=LOSS,
            batch_size=12,
            sample_wise_grads_per_batch=True,
        )
        return explainer.explain(TASK.test_x, TASK.test_y)

    check(quanda.scores([explain(model) for model in ours.modules]), ours, tmp_path)


def test_pydvl_influence(ours, tmp_path):
    from pydvl.influence.torch import DirectInfluence

    def explain(model):
        influence = DirectInfluence(model, nn.functional.cross_entropy, regularization=DAMPING)
        influence.fit(loaders()[0])
        return influence.influences(TASK.test_x, TASK.test_y, TASK.train_x, TASK.train_y)

    check(pydvl.scores([explain(model) for model in ours.modules]), ours, tmp_path)


def test_pydvl_values(tmp_path):
    from pydvl.valuation.result import ValuationResult

    true = np.array([0.5, -1.0, 2.0, 0.0])
    noise = 0.01 * np.random.default_rng(0).normal(size=(3, 4))
    runs = [ValuationResult(values=true + one, indices=np.arange(4)) for one in noise]
    runs[1].sort(inplace=True)
    found = pydvl.values(runs)
    np.testing.assert_allclose(found.mean("member")[:, 0], true + noise.mean(0))
    assert found.sizes == {"member": 3, "train": 4, "test": 1}
    path = tda.save_scores(found, tmp_path / "values.csv")
    assert main(["judge", str(path), "-o", str(tmp_path / "values.html")]) == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_bergsons_folder(dtype, ours, tmp_path):
    from bergson.data import load_scores
    from bergson.score.score_writer import save_sequence_scores

    folders = [tmp_path / str(member) for member in range(3)]
    for folder, own in zip(folders, ours.dot.values, strict=True):
        save_sequence_scores(folder, own, dtype=dtype)
    found = bergson.scores(folders)
    for folder, own in zip(folders, found.values, strict=True):
        np.testing.assert_array_equal(own, np.asarray(load_scores(folder)[:]))
    check(found, ours, tmp_path)
    info = json.loads((folders[0] / "info.json").read_text())
    assert {"dtype", "num_rows", "num_scores"} <= info.keys()
