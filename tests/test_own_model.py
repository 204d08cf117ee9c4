"""A user's own model: folders of checkpoints, arrays, inputs that are no images, batch norm."""

import copy
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet18

import tda_utils as tda
from tda_utils import Posterior, Recipe, Task, sample_posterior
from tda_utils.checkpoints import find_checkpoints
from tda_utils.engine.noise import RandomResizedCrops
from tests.faults.test_security import Trap, sprung  # noqa: F401  (a fixture)

RECIPE = Recipe(epochs=3, batch_size=5, lr=1e-2, keep_last=2)


def build_mlp():
    return nn.Sequential(nn.Linear(4, 6), nn.GELU(), nn.Linear(6, 3))


def build_normalised():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(144, 3)
    )


def table_task(n_train=9, n_test=5):
    """Rows of a table, three classes at three places."""
    rng = np.random.default_rng(0)
    labels = np.arange(n_train + n_test) % 3
    rows = rng.normal(size=(len(labels), 4)) + 2 * np.eye(3, 4)[labels]
    return Task.from_arrays(rows[:n_train], labels[:n_train], rows[n_train:], labels[n_train:])


def write_folder(folder, names, files, build=build_mlp):
    """Write a checkpoint to each file of each member, no two alike; return their states."""
    states = []
    for member, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        states.append([])
        for number, file in enumerate(files):
            torch.manual_seed(100 * member + number)
            state = build().state_dict()
            states[-1].append(state)
            write = save_file if file.endswith(".safetensors") else torch.save
            write(state, folder / name / file)
    return states


def same_states(posterior, states):
    return all(
        own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)
        for mine, theirs in zip(posterior.states, states, strict=True)
        for own, state in zip(mine, theirs, strict=True)
    )


# ------------------------------------------------- a folder of checkpoints


@pytest.mark.parametrize("ending", ["safetensors", "pt", "pth"])
def test_a_folder_is_read_in_the_order_of_its_names_numbers_by_their_value(tmp_path, ending):
    files = [f"epoch-{epoch}.{ending}" for epoch in (2, 9, 10)]
    states = write_folder(tmp_path, ["run-2", "run-10"], files)
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / "run-2" / "log.csv").write_text("epoch,loss")
    (tmp_path / "notes.txt").write_text("mine")
    posterior = Posterior.from_folder(build_mlp(), tmp_path)
    assert same_states(posterior, states)
    assert posterior.epochs == (2, 9, 10)
    assert posterior.order_seeds is None and posterior.member_labels == (0, 1)


@pytest.mark.parametrize(
    ("names", "seeds"),
    [
        (["seed-446", "seed-724"], (446, 724)),
        (["mlp_seed_7", "mlp_seed_11"], (7, 11)),
        (["Seed3", "Seed4"], (3, 4)),
        (["seed-446", "second"], None),
        (["unseed-1", "unseed-2"], None),
        (["seed-1-a", "seed-2-a"], None),
    ],
)
def test_seeds_are_known_where_all_names_say_them(tmp_path, names, seeds):
    write_folder(tmp_path, names, ["last.pt"])
    posterior = Posterior.from_folder(build_mlp(), tmp_path)
    assert (posterior.order_seeds, posterior.init_seeds, posterior.epochs) == (seeds, seeds, (1,))
    given = Posterior.from_folder(build_mlp(), tmp_path, seeds=[5, 6], epochs=[30])
    assert (given.order_seeds, given.epochs) == ((5, 6), (30,))
    assert given.coordinates()["checkpoint"].tolist() == [30]


def test_epochs_are_known_where_all_members_say_the_same(tmp_path):
    write_folder(tmp_path, ["a"], ["epoch-4.pt", "epoch-5.pt"])
    assert find_checkpoints(tmp_path).epochs == (4, 5)
    write_folder(tmp_path, ["b"], ["epoch-3.pt", "epoch-5.pt"])
    assert find_checkpoints(tmp_path).epochs is None
    assert Posterior.from_folder(build_mlp(), tmp_path).epochs == (1, 2)
    write_folder(tmp_path / "other", ["a", "b"], ["best-epoch-9.pt", "last-epoch-3.pt"])
    assert find_checkpoints(tmp_path / "other").epochs is None


def test_scores_of_a_folder_are_those_of_its_states(tmp_path):
    states = write_folder(tmp_path, ["seed-1", "seed-2"], ["a.safetensors", "b.safetensors"])
    task = table_task()
    of_folder = tda.grad_dot(Posterior.from_folder(build_mlp(), tmp_path), task)
    of_states = tda.grad_dot(Posterior.from_state_dicts(build_mlp(), states, seeds=[1, 2]), task)
    assert of_folder.identical(of_states)


def edit(change):
    """A fault of a folder of two members with two checkpoints each."""
    return lambda folder: change(folder / "seed-1", folder / "seed-2")


FAULTS = [
    (lambda f: shutil.rmtree(f), FileNotFoundError, "which is no folder; it must hold one folder"),
    (edit(lambda a, b: [shutil.rmtree(a), shutil.rmtree(b)]), ValueError, "holds nothing, and no"),
    (edit(lambda a, b: [p.unlink() for p in b.iterdir()]), ValueError, "seed-2' has no checkpoint"),
    (
        edit(lambda a, b: (b / "2.pt").unlink()),
        ValueError,
        r"different numbers of checkpoints \(seed-1 2, seed-2 1\); all must have the same",
    ),
    (
        edit(lambda a, b: shutil.copy(b / "2.pt", b / "2.pth")),
        ValueError,
        "two files named '2' with different endings",
    ),
    (edit(lambda a, b: (b / "2.pt").write_bytes(b"")), ValueError, "2.pt is empty or damaged"),
    (
        edit(lambda a, b: (b / "2.pt").write_bytes((a / "2.pt").read_bytes()[:900])),
        ValueError,
        "2.pt is empty or damaged",
    ),
    (edit(lambda a, b: (b / "2.pt").write_text("text")), ValueError, "2.pt is empty or damaged"),
    (
        edit(lambda a, b: (b / "2.pt").write_text("<html>")),
        ValueError,
        "2.pt is not read: it is no",
    ),
    (
        edit(lambda a, b: (b / "2.pt").rename(b / "2.safetensors")),
        ValueError,
        "2.safetensors is no whole safetensors file",
    ),
    (
        edit(lambda a, b: torch.save(torch.ones(3), b / "2.pt")),
        ValueError,
        "2.pt holds a Tensor; it must hold a state dict",
    ),
    (
        edit(lambda a, b: torch.save({"epoch": 3, "model": {}}, b / "2.pt")),
        ValueError,
        "2.pt holds 'epoch', a int, and a state dict holds tensors alone",
    ),
    (
        edit(lambda a, b: torch.save(build_mlp(), b / "2.pt")),
        ValueError,
        "2.pt is not read: .* could run code when they are loaded",
    ),
    (
        edit(lambda a, b: torch.save(nn.Linear(4, 6).state_dict(), b / "2.pt")),
        ValueError,
        r"2.pt does not fit the model: state lacks \['0.weight', '0.bias', '2.weight' and 1 more\] "
        r"and has besides \['weight', 'bias'\]",
    ),
    (
        edit(lambda a, b: torch.save(nn.Sequential(nn.Linear(5, 6)).state_dict(), b / "2.pt")),
        ValueError,
        r"2.pt does not fit the model: state has '0.weight' in the shape \(6, 5\); the model's has "
        r"\(6, 4\)",
    ),
    (
        edit(
            lambda a, b: torch.save(
                {n: v * torch.nan for n, v in build_mlp().state_dict().items()}, b / "2.pt"
            )
        ),
        ValueError,
        "2.pt holds NaN or infinite parameters",
    ),
]


@pytest.mark.parametrize(("fault", "error", "sentence"), FAULTS)
def test_what_is_wrong_with_a_folder_is_said_in_one_sentence(tmp_path, fault, error, sentence):
    folder = tmp_path / "runs"
    write_folder(folder, ["seed-1", "seed-2"], ["1.pt", "2.pt"])
    Posterior.from_folder(build_mlp(), folder)
    fault(folder)
    with pytest.raises(error, match=sentence) as raised:
        Posterior.from_folder(build_mlp(), folder)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400 + 2 * len(str(folder))


def test_files_that_lie_in_no_member_are_named(tmp_path):
    torch.save(build_mlp().state_dict(), tmp_path / "1.pt")
    with pytest.raises(ValueError, match="holds files and no folders; each member"):
        Posterior.from_folder(build_mlp(), tmp_path)


def test_a_malicious_checkpoint_is_refused(sprung, tmp_path):  # noqa: F811
    write_folder(tmp_path / "runs", ["a"], ["1.pt"])
    torch.save({"0.weight": Trap(sprung)}, tmp_path / "runs" / "a" / "2.pt")
    with pytest.raises(ValueError, match="2.pt is not read"):
        Posterior.from_folder(build_mlp(), tmp_path / "runs")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"seeds": [1]}, "seeds has 1 values; folder .* has 2"),
        ({"epochs": [1]}, r"epochs is \(1,\); it must be 2 rising integers"),
        ({"epochs": [2, 2]}, r"epochs is \(2, 2\)"),
        ({"epochs": [2, 1]}, r"epochs is \(2, 1\)"),
        ({"epochs": "12"}, "epochs is '12'; it must be a list of integers"),
        ({"epochs": [1, 1.5]}, "a seed in epochs is 1.5"),
    ],
)
def test_seeds_and_epochs_have_to_count_right(tmp_path, wrong, sentence):
    states = write_folder(tmp_path, ["a", "b"], ["1.pt", "2.pt"])
    with pytest.raises(ValueError, match=sentence):
        Posterior.from_folder(build_mlp(), tmp_path, **wrong)
    with pytest.raises(ValueError, match=sentence.replace("folder .* has", "states asks for")):
        Posterior.from_state_dicts(build_mlp(), states, **wrong)


# ------------------------------------------------- arrays of one's own


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, np.ndarray.tolist])
def test_arrays_of_any_kind_become_a_task(kind):
    rows = np.arange(12.0).reshape(6, 2)
    labels = np.array([0, 1, 2, 0, 1, 2], np.int32)
    task = Task.from_arrays(kind(rows[:4]), kind(labels[:4]), kind(rows[4:]), kind(labels[4:]))
    assert task.train_x.dtype == torch.float32 and task.train_y.dtype == torch.int64
    assert task.train_x.tolist() == rows[:4].tolist() and task.test_y.tolist() == [1, 2]
    assert task.train_index.tolist() == [0, 1, 2, 3] and task.test_index.tolist() == [0, 1]
    assert task.classes == 3 and task.select(train=[3, 1]).train_index.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"train_x": [[1.0], [2.0, 3.0]]}, TypeError, "train_x is .* whose rows differ in length"),
        ({"train_x": [["a"], ["b"]]}, TypeError, "train_x must hold numbers, not <U1"),
        ({"train_x": [1.0, 2.0]}, ValueError, r"train_x has shape \(2,\); it must be"),
        ({"train_x": [[1.0], [np.inf]]}, ValueError, "NaN or infinite values, first in sample 1"),
        ({"train_y": ["x", "y"]}, TypeError, "train_y must hold integers.*np.unique"),
        ({"train_y": [0.0, 1.0]}, TypeError, "train_y must hold integers.*not float64"),
        ({"train_y": [0, 1, 0]}, ValueError, r"train_y has shape \(3,\)"),
        ({"train_y": [[0], [1]]}, ValueError, r"train_y has shape \(2, 1\)"),
        ({"test_x": [[1.0, 2.0]]}, ValueError, "must have the shape of train_x"),
        ({"classes": 1}, ValueError, "labels from 0 to 1; with classes=1"),
        ({"test_x": np.ones((0, 1)), "test_y": np.ones(0, int)}, ValueError, "none of them zero"),
    ],
)
def test_arrays_that_do_not_fit_are_named(changes, error, sentence):
    good = {"train_x": [[1.0], [2.0]], "train_y": [0, 1], "test_x": [[1.5]], "test_y": [1]}
    Task.from_arrays(**good)
    with pytest.raises(error, match=sentence):
        Task.from_arrays(**{**good, **changes})


# ------------------------------------------------- inputs that are no images


class Recurrent(nn.Module):
    """Takes sequences, (n, steps, features)."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(2, 5), nn.Linear(5, 3)

    def forward(self, sequences):
        return self.out(torch.tanh(self.mix(sequences)).mean(1))


def sequence_task():
    task = table_task()
    return Task.from_arrays(
        task.train_x.reshape(-1, 2, 2), task.train_y, task.test_x.reshape(-1, 2, 2), task.test_y
    )


INPUTS = [(build_mlp, table_task), (Recurrent, sequence_task)]


@pytest.mark.parametrize(("build", "make"), INPUTS)
@pytest.mark.parametrize("protocol", ["paired", "released"])
@pytest.mark.parametrize("method", tda.METHODS)
def test_every_method_takes_inputs_that_are_no_images(build, make, protocol, method):
    """The oracle: the same numbers as flattened images of one row, to a model that undoes that."""
    task = make()
    shape = task.train_x.shape[1:]

    def build_for_images():
        return nn.Sequential(nn.Flatten(), nn.Unflatten(1, shape), build())

    def as_images(tensor):
        return tensor.reshape(len(tensor), 1, 1, -1)

    images = Task.from_arrays(
        as_images(task.train_x), task.train_y, as_images(task.test_x), task.test_y
    )
    scores = [
        getattr(tda, method)(
            sample_posterior(model, data, RECIPE, seeds=[1, 2]), data, protocol=protocol
        )
        for model, data in ((build, task), (build_for_images, images))
    ]
    assert dict(scores[0].sizes) == {"member": 2, "checkpoint": 2, "train": 9, "test": 5}
    assert float(abs(scores[0]).max()) > 0
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore:influence. the largest curvature")
@pytest.mark.parametrize(("build", "make"), INPUTS)
def test_ekfac_takes_inputs_that_are_no_images(build, make):
    task = make()
    posterior = sample_posterior(build, task, RECIPE, seeds=[1])
    fine = tda.influence(posterior, task, solver="ekfac", damping=1e3)
    exact = tda.influence(posterior, task, solver="ggn", damping=1e3)
    np.testing.assert_allclose(fine, exact, rtol=1e-2, atol=1e-3 * float(abs(exact).max()))


def test_grad_dot_of_a_table_is_the_product_of_autograds_gradients():
    task = table_task()
    posterior = sample_posterior(build_mlp, task, RECIPE, seeds=[1])
    model = posterior.module(0, 1)

    def gradient(x, y):
        loss = nn.functional.cross_entropy(model(x[None]), y[None])
        return torch.cat([g.flatten() for g in torch.autograd.grad(loss, model.parameters())])

    expected = float(
        gradient(task.train_x[2], task.train_y[2]) @ gradient(task.test_x[3], task.test_y[3])
    )
    found = float(tda.grad_dot(posterior, task).isel(member=0, checkpoint=1, train=2, test=3))
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("build", [tda.model_builder("cnn2", 1), build_normalised])
def test_a_model_for_images_refuses_a_table_in_one_sentence(build):
    model = build()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    with pytest.raises(ValueError, match=r"model does not take inputs of shape \(4,\)") as raised:
        tda.grad_dot(posterior, table_task())
    assert "\n" not in str(raised.value)


def test_only_images_can_be_cropped():
    with pytest.raises(ValueError, match=r"crop is 2, and inputs have shape \(4,\)"):
        RandomResizedCrops(2, seed=0)(torch.ones(3, 4))


def test_outputs_that_are_no_logits_are_named():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, rows):
            return self.layer(rows), rows

    model = Two()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    with pytest.raises(ValueError, match="model gives a tuple; it must give a tensor of logits"):
        tda.grad_dot(posterior, table_task())


# ------------------------------------------------- leave-one-out of checkpoints of one's own


def test_loo_warns_where_the_recipe_does_not_lead_to_the_checkpoints():
    task = table_task()
    trained = sample_posterior(build_mlp, task, RECIPE, seeds=[1, 2])
    own = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[1, 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        same = tda.loo(own, task, RECIPE, build_model=build_mlp)
    np.testing.assert_array_equal(same, tda.loo(trained, task))
    other = Posterior.from_state_dicts(build_mlp(), trained.states, seeds=[2, 1])
    with pytest.warns(RuntimeWarning, match="nats away.*not of these checkpoints"):
        tda.loo(other, task, RECIPE, build_model=build_mlp)


# ------------------------------------------------- batch normalisation


@pytest.fixture(scope="module")
def normalised(tiny_task):
    return sample_posterior(build_normalised, tiny_task, RECIPE, seeds=[1, 2])


def without_normalisation(model):
    """The same function of one image in evaluation mode, with the statistics as constants."""
    conv, norm, *rest = copy.deepcopy(model).eval()

    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight, self.bias = norm.weight, norm.bias
            self.mean, self.var, self.eps = norm.running_mean, norm.running_var, norm.eps

        def forward(self, x):
            scale = self.weight / (self.var + self.eps).sqrt()
            return (x - self.mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]

    return nn.Sequential(conv, Constant(), *rest)


@pytest.mark.parametrize("method", ["grad_dot", "grad_cos", "influence"])
def test_gradients_take_running_statistics_as_constants(normalised, tiny_task, method):
    scores = getattr(tda, method)(normalised, tiny_task)
    for member, checkpoint in normalised.samples:
        plain = without_normalisation(normalised.module(member, checkpoint))
        assert not list(plain.buffers())
        one = Posterior.from_state_dicts(plain, [[plain.state_dict()]])
        expected = getattr(tda, method)(one, tiny_task)[0, 0]
        found = scores[member, checkpoint]
        np.testing.assert_allclose(
            found, expected, rtol=1e-3, atol=1e-4 * float(abs(expected).max())
        )


def test_a_samples_scores_do_not_depend_on_the_others_in_the_task(normalised, tiny_task):
    whole = tda.grad_dot(normalised, tiny_task)
    few = tda.grad_dot(normalised, tiny_task.select(train=[3, 7], test=[2]))
    np.testing.assert_allclose(few, whole[:, :, [3, 7]][..., [2]], rtol=1e-4, atol=1e-6)


def test_buffers_come_back_from_a_folder(normalised, tiny_task, tmp_path):
    for member, states in enumerate(normalised.states):
        (tmp_path / f"seed-{member}").mkdir()
        for number, state in enumerate(states):
            save_file(state, tmp_path / f"seed-{member}" / f"epoch-{number}.safetensors")
    read = Posterior.from_folder(build_normalised(), tmp_path)
    assert "1.running_var" in read.states[0][0]
    np.testing.assert_array_equal(
        tda.grad_dot(read, tiny_task).values, tda.grad_dot(normalised, tiny_task).values
    )


def test_a_sample_of_weight_zero_is_still_in_the_statistics(tiny_task):
    """Why leave-one-out is refused: the weight leaves the sample in its batch."""
    weights = torch.ones(1, tiny_task.n_train)
    weights[0, 4] = 0
    images = tiny_task.train_x.clone()
    images[4] += 5
    changed = replace(tiny_task, train_x=images)

    def build_without():
        conv, _, *rest = build_normalised()
        return nn.Sequential(conv, *rest)

    for build, left_out in ((build_normalised, False), (build_without, True)):
        with_it, without = (
            sample_posterior(build, task, RECIPE, seeds=[1], weights=weights).losses(task)
            for task in (tiny_task, changed)
        )
        assert np.allclose(with_it, without, atol=1e-5) is left_out


@pytest.mark.parametrize("released", ["continued", "unpaired"])
@pytest.mark.parametrize("protocol", ["paired", "released"])
def test_loo_with_batch_norm_is_refused(normalised, tiny_task, protocol, released):
    with pytest.raises(ValueError, match=r"batch normalisation \(layer '1'\).*LOO is not defined"):
        tda.loo(normalised, tiny_task, protocol=protocol, released=released)


def test_a_step_of_adam_with_batch_norm_is_refused_and_a_plain_step_is_not(normalised, tiny_task):
    for protocol in ("paired", "released"):
        with pytest.raises(ValueError, match="a step of Adam on one sample in training mode"):
            tda.ats(normalised, tiny_task, protocol=protocol)
    own = Posterior.from_state_dicts(build_normalised(), normalised.states)
    with pytest.raises(ValueError, match="a step of Adam"):
        tda.ats(own, tiny_task, protocol="released")
    # To first order, a plain step of length lr changes the loss by lr times Grad-Dot.
    scores, dots = tda.ats(own, tiny_task, lr=1e-4), tda.grad_dot(own, tiny_task)
    assert np.corrcoef(scores.values.ravel(), dots.values.ravel())[0, 1] > 0.999
    assert scores.attrs["step"] == "plain gradient step"


def test_batch_norm_that_stays_in_evaluation_mode_is_no_hindrance(tiny_task):
    class Fixed(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(False)

    def build():
        conv, _, *rest = build_normalised()
        return nn.Sequential(conv, Fixed(4), *rest)

    posterior = sample_posterior(build, tiny_task, RECIPE, seeds=[1])
    few = tiny_task.attribute_only([0, 1])
    assert np.isfinite(tda.loo(posterior, few)).all() and np.isfinite(tda.ats(posterior, few)).all()


def test_batch_norm_without_running_statistics_is_refused(tiny_task):
    model = build_normalised()
    model[1] = nn.BatchNorm2d(4, track_running_stats=False)
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    for method in ("grad_dot", "influence", "ats"):
        with pytest.raises(ValueError, match="normalises by the batch in evaluation mode as well"):
            getattr(tda, method)(posterior, tiny_task)


def test_the_notebook_needs_ten_lines_from_the_folder_to_trusted_pairs():
    source = Path(__file__).parent.parent / "notebooks" / "10_your_own_model.py"
    cells = source.read_text(encoding="utf-8").split("# %%")
    (lines,) = [cell.strip().splitlines() for cell in cells if "from_folder(model" in cell]
    assert lines[0] == "import tda_utils as tda" and "clearest_pairs" in "".join(lines)
    assert len([line for line in lines if line.strip()]) <= 10


@pytest.mark.slow
def test_resnet18_of_torchvision_from_end_to_end():
    torch.manual_seed(0)
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    task = Task.from_arrays(images, labels, images[:2], labels[:2])
    models = [resnet18(num_classes=2) for _ in range(2)]
    posterior = Posterior.from_state_dicts(models[0], [[model.state_dict()] for model in models])
    scores = tda.grad_cos(posterior, task)
    assert scores.sizes["member"] == 2 and abs(scores).max() <= 1 + 1e-6
    # An image has the cosine one with itself.
    np.testing.assert_allclose(np.diagonal(scores[0, 0]), 1, rtol=1e-4)
