"""Sampling a posterior, and posteriors of one's own checkpoints."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

import tda_utils as tda
from tda_utils import Posterior, Recipe, sample_posterior
from tda_utils.posterior import check_model
from tests.plain import autograd_gradients, losses_on_test, plain_loop
from tests.refusals import refused
from tests.tiny import (
    SHORT,
    build_mlp,
    build_normalised,
    build_tiny_cnn,
    make_task,
    table_task,
    write_folder,
)


def test_seeds_can_be_set_apart(tiny_task, tiny_recipe):
    def members(**seeds):
        return sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, **seeds).states

    both = members(seeds=(1, 2))
    mixed = members(init_seeds=(1, 1, 2), order_seeds=(1, 2, 2))
    assert torch.equal(mixed[0][-1]["0.weight"], both[0][-1]["0.weight"])
    assert torch.equal(mixed[2][-1]["0.weight"], both[1][-1]["0.weight"])
    assert not torch.equal(mixed[1][-1]["0.weight"], mixed[0][-1]["0.weight"])
    assert not torch.equal(mixed[1][-1]["0.weight"], mixed[2][-1]["0.weight"])


def test_the_global_random_state_is_left_alone(tiny_task, tiny_recipe):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    sample_posterior(build_tiny_cnn, tiny_task, tiny_recipe, seeds=(1,))
    assert torch.equal(before, torch.get_rng_state())


def test_frozen_parameters_stay_with_the_model():
    def build():
        model = build_tiny_cnn()
        model[0].requires_grad_(False)
        model[0].weight.data.fill_(0.1)
        model[0].bias.data.zero_()
        return model

    task, recipe = make_task(), Recipe(epochs=2, batch_size=5, keep_last=1)
    posterior = sample_posterior(build, task, recipe, seeds=(1, 2))
    trained = {"4.weight", "4.bias", "6.weight", "6.bias"}
    assert posterior.states[0][0].keys() == posterior.adam[0][0].exp_avg.keys() == trained
    assert torch.equal(posterior.module(1, 0)[0].weight, build()[0].weight)
    kept, _ = plain_loop(build, task, recipe, 2)
    for name in trained:
        np.testing.assert_allclose(posterior.states[1][0][name], kept[0][name], atol=1e-5)
    whole = posterior.module(1, 0).state_dict()
    again = Posterior.from_state_dicts(build(), [[whole]])
    assert again.states[0][0].keys() == trained
    whole["0.bias"] = whole["0.bias"] + 1
    refused(ValueError, lambda: Posterior.from_state_dicts(build(), [[whole]]), "'0.bias'")


def test_a_sample_of_the_posterior_is_a_module_in_evaluation_mode(tiny_task, tiny_posterior):
    one = tiny_posterior.select([1])
    assert (one.members, one.checkpoints, one.member_labels) == (1, 2, (724,))
    assert one.samples == [(0, 0), (0, 1)]
    assert torch.equal(
        one.adam[0][1].exp_avg["0.bias"], tiny_posterior.adam[1][1].exp_avg["0.bias"]
    )
    model = one.module(0, 1)
    assert not model.training
    losses = one.losses(tiny_task)
    np.testing.assert_allclose(losses[0, 1], losses_on_test(model, tiny_task), rtol=1e-5)
    assert losses.test.values.tolist() == tiny_task.test_index.tolist()
    # A copy: what is done to it is not done to the posterior.
    torch.nn.init.zeros_(model[0].weight)
    assert one.losses(tiny_task).identical(losses)


def test_divergence_is_said_with_member_and_epoch():
    task = make_task()
    recipe = Recipe(epochs=3, batch_size=12, lr=1e30, keep_last=1)
    with pytest.warns(RuntimeWarning, match=r"member 446 .* epoch 3"):
        sample_posterior(build_tiny_cnn, task, recipe, seeds=(446,))


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"init_seeds": (1, 2), "order_seeds": (1, 2, 3)}, ["init_seeds", 2, "order_seeds", 3]),
        ({"seeds": ()}, ["init_seeds is ()", "not empty"]),
        ({"seeds": (1,), "weights": torch.ones(1, 3)}, ["weights", (1, 3), (1, 12)]),
    ],
)
def test_bad_calls_of_sample_posterior(options, facts):
    recipe = Recipe(epochs=1, keep_last=1)
    call = partial(sample_posterior, build_tiny_cnn, make_task(), recipe, **options)
    refused(ValueError, call, *facts)


# ---------------- random crops


def test_a_cropped_training_differs_and_depends_on_seeds_alone(tiny_task):
    recipe = replace(SHORT, crop=8)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = sample_posterior(build_tiny_cnn, tiny_task, recipe, seeds=(446,), workers=1)
    assert torch.equal(before, torch.get_rng_state())
    two = sample_posterior(build_tiny_cnn, tiny_task, recipe, seeds=(724, 446), workers=2)
    for name, value in one.states[0][1].items():
        assert torch.equal(value, two.states[1][1][name]), name
    plain = sample_posterior(build_tiny_cnn, tiny_task, SHORT, seeds=(446,))
    assert not torch.equal(one.states[0][1]["6.weight"], plain.states[0][1]["6.weight"])


def test_scores_and_losses_see_the_same_crops(tiny_task):
    recipe = replace(SHORT, crop=8)
    posterior = sample_posterior(build_tiny_cnn, tiny_task, recipe, seeds=(446,))
    seen = posterior.seen(tiny_task, 0, 1)
    assert seen.train_x.shape == (12, 1, 8, 8)
    assert not torch.equal(seen.test_x, posterior.seen(tiny_task, 0, 0).test_x)
    model = posterior.module(0, 1)
    losses = posterior.losses(tiny_task)[0, 1]
    np.testing.assert_allclose(losses, losses_on_test(model, seen), rtol=1e-5)
    train = autograd_gradients(model, seen.train_x, seen.train_y)
    test = autograd_gradients(model, seen.test_x, seen.test_y)
    dots = tda.grad_dot(posterior, tiny_task)[0, 1]
    np.testing.assert_allclose(dots, train @ test.T, rtol=1e-3, atol=1e-5)


# ---------------- checkpoints of one's own


@pytest.mark.parametrize(
    ("states", "seeds", "facts"),
    [
        ([], None, ["states is empty"]),
        ([[]], None, ["states is empty"]),
        (lambda s: [[s], [s, s]], None, ["states", [1, 2], "checkpoints"]),
        (lambda s: [[{"0.weight": s["0.weight"]}]], None, ["states[0][0]", "model", "'0.bias'"]),
        (
            lambda s: [[s], [{n: v * torch.nan for n, v in s.items()}]],
            None,
            ["states[1][0]", "NaN"],
        ),
        (lambda s: [[s]], (1, 2), ["seeds has 2", 1]),
        (lambda s: [[s]], "446", ["seeds is '446'", "integers"]),
    ],
)
def test_from_state_dicts_checks(states, seeds, facts):
    model = build_tiny_cnn()
    states = states(model.state_dict()) if callable(states) else states
    refused(ValueError, lambda: Posterior.from_state_dicts(model, states, seeds=seeds), *facts)


def test_a_state_holds_tensors_alone():
    state = {**build_tiny_cnn().state_dict(), "epoch": 3}
    call = partial(Posterior.from_state_dicts, build_tiny_cnn(), [[state]])
    refused(TypeError, call, "states[0][0]['epoch']", "int", "tensor")


@pytest.mark.parametrize(
    ("states", "facts"),
    [
        (lambda s: s, ["states is a OrderedDict", "[[state]]"]),
        (lambda s: [s, s], ["states[0] is a OrderedDict", "[[a], [b]]", "two members", "[[a, b]]"]),
        (lambda s: [[s], s], ["states[1]", "[[a], [b]]"]),
        (lambda s: build_tiny_cnn(), ["states is a Sequential", "[[state]]"]),
        (lambda s: "runs", ["states is 'runs'", "list of members"]),
        (lambda s: iter([[s]]), ["states is", "list of members"]),
        (lambda s: [[build_tiny_cnn()]], ["states[0][0] is a Sequential", "model.state_dict()"]),
        (lambda s: [[{0: torch.ones(1)}]], ["states[0][0][0]", "name"]),
    ],
)
def test_states_that_are_not_nested_are_told_how_to_be(states, facts):
    """Two states could be two members, or two checkpoints of one: it is not guessed."""
    model = build_tiny_cnn()
    call = partial(Posterior.from_state_dicts, model, states(model.state_dict()))
    refused(TypeError, call, *facts)


def test_states_may_come_from_wrappers_and_the_model_too():
    model = build_mlp()
    wrapped = torch.compile(nn.DataParallel(model))
    for given in (model, wrapped):
        for source in (model, wrapped):
            posterior = Posterior.from_state_dicts(given, [[source.state_dict()]])
            assert type(posterior.model) is nn.Sequential
            assert posterior.states[0][0].keys() == model.state_dict().keys()


def test_from_state_dicts_copies_what_it_gets(tiny_task):
    model = build_tiny_cnn()
    posterior = Posterior.from_state_dicts(model, [[model.state_dict()]])
    before = posterior.losses(tiny_task)
    with torch.no_grad():
        model[0].weight.zero_()
    assert posterior.losses(tiny_task).equals(before)


def test_a_folder_is_what_its_states_are(tmp_path):
    """Names, order, batch normalisation's buffers, and what the folders' names say."""
    files = ["epoch-9.safetensors", "epoch-10.safetensors"]
    states = write_folder(tmp_path, ["seed-2", "seed-10"], files, build_normalised)
    read = Posterior.from_folder(build_normalised(), tmp_path)
    assert (read.init_seeds, read.order_seeds, read.epochs) == ((2, 10), (2, 10), (9, 10))
    own = Posterior.from_state_dicts(build_normalised(), states)
    assert (own.order_seeds, own.epochs, own.member_labels) == (None, (1, 2), (0, 1))
    for posterior in (read, own):
        for member, checkpoint in posterior.samples:
            found = posterior.states[member][checkpoint]
            wanted = states[member][checkpoint]
            assert "1.running_var" in found and found.keys() == wanted.keys()
            assert all(torch.equal(found[name], wanted[name]) for name in wanted)


def test_seeds_and_epochs_that_are_given_come_before_those_of_the_names(tmp_path):
    write_folder(tmp_path, ["seed-1", "seed-2"], ["epoch-3.pt"])
    given = Posterior.from_folder(build_mlp(), tmp_path, seeds=[5, 6], epochs=[30])
    assert (given.order_seeds, given.epochs) == ((5, 6), (30,))
    assert given.coordinates()["checkpoint"].tolist() == [30]


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (
            nn.Linear(4, 6).state_dict(),
            ["2.pt", "lacks", "'0.weight', '0.bias', '2.weight' and 1 more", "['weight', 'bias']"],
        ),
        (nn.Sequential(nn.Linear(5, 6)).state_dict(), ["2.pt", "'0.weight'", (6, 5), (6, 4)]),
        ({n: v * torch.nan for n, v in build_mlp().state_dict().items()}, ["2.pt", "NaN"]),
    ],
)
def test_the_file_whose_state_does_not_fit_the_model_is_named(tmp_path, state, facts):
    write_folder(tmp_path, ["seed-1", "seed-2"], ["1.pt", "2.pt"])
    torch.save(state, tmp_path / "seed-2" / "2.pt")
    refused(ValueError, lambda: Posterior.from_folder(build_mlp(), tmp_path), "seed-2", *facts)


@pytest.mark.parametrize(
    ("wrong", "facts"),
    [
        ({"seeds": [1]}, ["seeds has 1", 2]),
        ({"epochs": [1]}, ["epochs is (1,)", "2 rising"]),
        ({"epochs": [2, 2]}, ["epochs is (2, 2)", "rising"]),
        ({"epochs": [2, 1]}, ["epochs is (2, 1)", "rising"]),
        ({"epochs": "12"}, ["epochs is '12'", "integers"]),
        ({"epochs": [1, 1.5]}, ["epochs is 1.5", "integer"]),
    ],
)
def test_seeds_and_epochs_have_to_count_right(tmp_path, wrong, facts):
    states = write_folder(tmp_path, ["a", "b"], ["1.pt", "2.pt"])
    for make, source in ((Posterior.from_folder, tmp_path), (Posterior.from_state_dicts, states)):
        refused(ValueError, partial(make, build_mlp(), source, **wrong), *facts)


# ---------------- models that do not fit their task


class Scaling(nn.Linear):
    """Scales its inputs in place, wherever they lie."""

    def forward(self, rows):
        return super().forward(rows.mul_(0.5).sub_(0.1))


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (Scaling(4, 3), "the model itself (Scaling)"),
        (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 3)), "layer '0' (ReLU)"),
        (nn.Sequential(nn.Flatten(), nn.Sequential(Scaling(4, 3))), "layer '1.0' (Scaling)"),
    ],
)
def test_a_model_that_overwrites_its_inputs_is_refused_and_the_task_left_alone(model, layer):
    """Members share the inputs: the second would see what the first has made of them."""
    task, same = table_task(), table_task()
    refused(ValueError, lambda: check_model(model, task), "model overwrites", layer, "clone")
    assert torch.equal(task.train_x, same.train_x) and torch.equal(task.test_x, same.test_x)


class Two(nn.Module):
    """Gives its inputs beside the logits."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, rows):
        return self.layer(rows), rows


@pytest.mark.parametrize(
    ("model", "task", "facts"),
    [
        (Two(), table_task(), ["model gives a tuple", "tensor", "at least 3"]),
        (nn.Linear(4, 2), table_task(), ["model", (1, 2), "at least 3"]),
        (nn.Linear(3, 3), make_task(), ["model", "(1, 8, 8)"]),
        (build_tiny_cnn(), make_task(channels=3), ["model", "(3, 8, 8)"]),
        (tda.model_builder("cnn2", 1)(), table_task(), ["model", "(4,)"]),
        (build_normalised(), table_task(), ["model", "(4,)"]),
        (
            nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4, track_running_stats=False)),
            table_task(),
            ["model", "layer '1'", "track_running_stats=False"],
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused_in_one_line(model, task, facts):
    with pytest.raises(ValueError, match=facts[0]) as raised:
        check_model(model, task)
    said = str(raised.value)
    # What PyTorch says of a shape comes last, so the sentence may end without a full stop.
    assert "\n" not in said and all(str(fact) in said for fact in facts)


METHODS = [
    (tda.grad_dot, {}),
    (tda.grad_cos, {}),
    (tda.ats, {}),
    (tda.ats, {"protocol": "released"}),
    (tda.influence, {"damping": 50.0}),
    (tda.influence, {"solver": "hessian", "damping": 50.0}),
    (tda.influence, {"solver": "ekfac"}),
    (tda.influence, {"protocol": "released"}),
    (tda.loo, {"released": "continued", "protocol": "released", "recipe": SHORT}),
]


@pytest.mark.parametrize("nested", [lambda a, b: [[a], [b]], lambda a, b: [[a, b]]])
def test_states_of_two_types_make_no_posterior(nested, tmp_path):
    """Scores have one type, and say in one word in which the members were trained."""
    one = build_mlp().state_dict()
    two = {name: value.double() for name, value in one.items()}
    for first, second in ((one, two), (two, one)):
        states, facts = nested(first, second), [s["0.weight"].dtype for s in (first, second)]
        refused(ValueError, partial(Posterior.from_state_dicts, build_mlp(), states), *facts)
        for member, kept in enumerate(states):
            (tmp_path / f"seed-{member}").mkdir(exist_ok=True)
            for epoch, state in enumerate(kept):
                torch.save(state, tmp_path / f"seed-{member}" / f"epoch-{epoch}.pt")
        refused(ValueError, partial(Posterior.from_folder, build_mlp(), tmp_path), *facts)
    half = {name: value.half() for name, value in one.items()}
    assert Posterior.from_state_dicts(build_mlp(), nested(one, half)).samples[1:]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("method", METHODS, ids=lambda pair: f"{pair[0].__name__} {pair[1]}")
def test_scores_of_states_of_16_bits_are_those_of_the_same_numbers_in_float32(
    method, dtype, tiny_task, tiny_posterior
):
    score, options = method
    states = [
        [{name: value.to(dtype) for name, value in state.items()} for state in member]
        for member in tiny_posterior.states[:1]
    ]
    model = build_tiny_cnn().to(dtype)
    half = Posterior.from_state_dicts(model, states, seeds=[446])
    single = Posterior.from_state_dicts(
        build_tiny_cnn(), [[{n: v.float() for n, v in s.items()} for s in m] for m in states], [446]
    )
    found, wanted = (score(posterior, tiny_task, **options) for posterior in (half, single))
    assert found.dtype in (np.float32, np.float64) and found.identical(wanted)
    assert model[0].weight.dtype == dtype, "the user's own model is left as it is"
    assert half.losses(tiny_task).identical(single.losses(tiny_task))


def test_a_folder_of_states_of_16_bits_is_read_as_float32(tmp_path):
    def build():
        return build_normalised().half()

    write_folder(tmp_path, ["seed-1"], ["epoch-1.safetensors", "epoch-2.pt"], build)
    posterior = Posterior.from_folder(build(), tmp_path)
    types = {name: value.dtype for name, value in posterior.states[0][1].items()}
    assert types.pop("1.num_batches_tracked") == torch.int64
    assert set(types.values()) == {torch.float32}
    assert tda.grad_cos(posterior, make_task()).dtype == np.float32


def test_a_model_of_16_bits_is_trained_in_float32(tiny_task):
    found = sample_posterior(lambda: build_tiny_cnn().bfloat16(), tiny_task, SHORT, seeds=[1])
    assert {value.dtype for value in found.states[0][0].values()} == {torch.float32}
    # From the rounded start on, as a model of float32 is.
    plain = sample_posterior(
        lambda: build_tiny_cnn().bfloat16().float(), tiny_task, SHORT, seeds=[1]
    )
    for name, value in plain.states[0][1].items():
        assert torch.equal(found.states[0][1][name], value)
    assert tda.loo(found, tiny_task.attribute_only([0])).identical(
        tda.loo(plain, tiny_task.attribute_only([0]))
    )


def test_models_of_mixed_types_are_refused_at_the_door():
    task, state = table_task(), build_mlp().state_dict()
    for odd in ("double", "half", "bfloat16"):
        for layer in (0, 2):
            model = build_mlp()
            getattr(model[layer], odd)()
            call = partial(sample_posterior, lambda model=model: model, task, SHORT, [1])
            refused(ValueError, call, "model['2.weight']", "'0.weight'", "one type")
    for odd in ("double", "long", "bool", "cfloat"):
        mixed = {**state, "2.bias": getattr(state["2.bias"], odd)()}
        call = partial(Posterior.from_state_dicts, build_mlp(), [[mixed]])
        refused((TypeError, ValueError), call, "states[0][0]['2.bias']", mixed["2.bias"].dtype)


@pytest.mark.parametrize("seed", [2**64, -1, 1.5, True, None])
@pytest.mark.parametrize("name", ["seeds", "init_seeds", "order_seeds"])
def test_seeds_that_nothing_takes_are_refused(name, seed):
    call = partial(sample_posterior, build_mlp, table_task(), SHORT, **{name: [seed]})
    refused(ValueError, call, "seeds is", seed, "an integer")


def test_the_largest_seed_is_taken():
    largest = 2**64 - 1
    posterior = sample_posterior(build_mlp, table_task(), SHORT, seeds=[largest, 1])
    scores = tda.loo(posterior, table_task().attribute_only([0]))
    assert scores.init_seed.values.tolist() == [largest, 1]


def build_flat_normalised():
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Linear(5, 3))


@pytest.mark.parametrize("batch_size", [1, 4, 8])
def test_a_lone_sample_for_batch_normalisation_is_refused(batch_size):
    """Of nine samples."""
    recipe = replace(SHORT, batch_size=batch_size)
    call = partial(sample_posterior, build_flat_normalised, table_task(), recipe, [1])
    refused(ValueError, call, f"batch_size={batch_size}", "9 training samples", "normalisation")


def test_a_lone_sample_is_taken_where_it_can_be_normalised():
    recipe = replace(SHORT, batch_size=4)
    fits = replace(SHORT, batch_size=5)
    assert sample_posterior(build_flat_normalised, table_task(), fits, [1]).members == 1
    # Without batch normalisation, and over the places of an image.
    assert sample_posterior(build_mlp, table_task(), recipe, [1]).members == 1
    assert sample_posterior(build_normalised, make_task(9), recipe, [1]).members == 1


def test_the_hundred_seeds_are_the_papers_ten_and_ninety_more():
    assert len(set(tda.HUNDRED_SEEDS)) == 100
    assert tda.HUNDRED_SEEDS[:10] == tda.PAPER_SEEDS
    many = tda.Experiment(seeds=tda.HUNDRED_SEEDS, members=100)
    assert many.runs[:10] == tda.Experiment().runs and many.runs[99].order == 1089
