"""Single runs against all others: what is foretold where it is known, and what is kept."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

import tda_utils as tda
from tda_utils.experiments import one_run
from tda_utils.experiments.one_run import DRAWS, file_of, one_run_of
from tda_utils.reliability.one_run import own_confidence, ranked_above, verdicts_without
from tests.refusals import refused

METHODS = ("loo", "ats", "influence", "grad_dot")
FEW = {"measured": 1, "tried": 4, "tuned": 2, "around": 3}
#: Of Laplace the second precision makes draws that know how noisy a pair is.
SETTINGS = {
    "laplace": ({"precision": 1.0}, {"precision": 2.0}, {"precision": 3.0}),
    "langevin": ({"step": 1.0, "temperature": 1.0},),
}
GOOD = SETTINGS["laplace"][1]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Pairs of which half have an effect, in runs and draws of known noise; none is trained."""
    own = tda.Experiment(
        members=12,
        checkpoints=2,
        test_per_class=2,
        seeds=tda.HUNDRED_SEEDS,
        store=tmp_path_factory.mktemp("store"),
    )
    generator = np.random.default_rng(0)
    signal = 3 * generator.normal(size=(30, 6)) * (generator.random((30, 6)) < 0.5)
    coordinates = {**own.data.coordinates(), "member": list(own.seeds[:12]), "checkpoint": [14, 15]}
    cubes = {
        method: xr.DataArray(
            signal
            + generator.normal(size=(12, 1, 30, 6)) * np.ones((2, 1, 1))
            + 0.1 * generator.normal(size=(12, 2, 30, 6)),
            coordinates,
            ("member", "checkpoint", "train", "test"),
            attrs={"method": method},
        )
        for method in METHODS
    }
    drawn, signal = [], xr.DataArray(signal, dims=("train", "test"))

    def draws(small, run, kind, setting):
        drawn.append((kind, run.order, tuple(setting.items())))
        return kind, setting

    def attributed(small, posterior, method):
        rows = np.isin(own.data.test_index, small.data.test_index)
        spread = 1 / (0.1 + np.abs(signal.values[:, rows]))
        noise = np.random.default_rng(len(drawn)).normal(size=(DRAWS, *spread.shape))
        return noise * (spread if posterior[1] == GOOD else 1.0)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tda.Experiment, "scores", lambda _, method: cubes[method])
        patch.setattr(one_run, "SETTINGS", SETTINGS)
        patch.setattr(one_run, "_drawn", draws)
        patch.setattr(one_run, "_attributed", attributed)
        yield own, cubes, drawn


@pytest.fixture(scope="module")
def summary(experiment):
    return one_run_of(experiment[0], **FEW)


def test_it_says_how_well_size_and_three_runs_foretell(experiment, summary):
    own, cubes, _ = experiment
    rows = replace(own, test_per_class=1).data.test_index.numpy()
    tau = cubes["ats"].sel(test=rows)
    verdicts = verdicts_without(tau, [[0], [1], [2], [3]])
    sizes, mean = own_confidence(tau).values, tau.mean("checkpoint").values
    auc = [
        ranked_above(sizes[m], (np.sign(mean[m]) == verdicts[m]) & (verdicts[m] != 0))
        for m in range(4)
    ]
    found = summary.warnings("repeats").sel(by="ats")
    assert float(found["auc"].sel(warning="size")) == pytest.approx(np.mean(auc), rel=1e-3)
    # t of three degrees of freedom, of a table.
    reach = 3.1824 * np.std(auc, ddof=1) / 2
    assert float(found["high"].sel(warning="size")) == pytest.approx(np.mean(auc) + reach, rel=1e-3)
    spread = own_confidence(tau, "spread").values
    gains = [
        ranked_above(spread[m], (np.sign(mean[m]) == verdicts[m]) & (verdicts[m] != 0)) - auc[m]
        for m in range(4)
    ]
    gain = float(found["gain"].sel(warning="checkpoints"))
    assert gain == pytest.approx(np.mean(gains), rel=1e-3)
    (three,) = verdicts_without(tau, [[3, 0, 1]])
    together = mean[[3, 0, 1]]
    confidence = np.abs(together.mean(0)) / together.std(0, ddof=1)
    last = ranked_above(confidence, (np.sign(together.mean(0)) == three) & (three != 0))
    everyone = one_run._sure(tau, {}, 4)["three"]
    assert everyone.own[3] == [3, 0, 1]
    np.testing.assert_allclose(everyone.confidence[3], confidence)
    assert 0.5 < last <= 1


def test_right_is_said_of_the_pairs_that_leave_one_out_decides(experiment, summary):
    own, cubes, _ = experiment
    found = summary.warnings("right")
    rows = replace(own, test_per_class=1).data.test_index.numpy()
    truth, tau = cubes["loo"].sel(test=rows), cubes["grad_dot"].sel(test=rows)
    shares = []
    for member in range(4):
        (verdict,) = verdicts_without(truth, [[member]])
        sign = np.sign(tau.isel(member=member).mean("checkpoint").values)
        shares.append((sign == verdict)[verdict != 0].mean())
    share = found["all"].sel(by="grad_dot", warning="size")
    assert float(share) == pytest.approx(np.mean(shares), rel=1e-3)
    assert float(found["surest"].sel(by="grad_dot", warning="size")) >= float(share)


def test_settings_are_chosen_on_members_that_are_not_tried(experiment, summary):
    _, _, drawn = experiment
    assert drawn
    assert summary.content["chosen"]["laplace"] == GOOD
    tried = set(tda.HUNDRED_SEEDS[:4])
    chosen = {kind: tuple(one.items()) for kind, one in summary.content["chosen"].items()}
    for kind, seed, setting in drawn:
        assert seed not in tried or setting == chosen[kind]
        assert seed != tda.HUNDRED_SEEDS[3]
        assert seed in tda.HUNDRED_SEEDS[:6]
    found = summary.warnings("repeats")["auc"].sel(by="influence")
    assert float(found.sel(warning="laplace")) > float(found.sel(warning="langevin"))
    assert found.sel(warning="langevin").notnull()
    runs = summary.warnings("repeats")["runs"].sel(by="influence")
    assert runs.sel(warning=["size", "laplace", "langevin", "three"]).values.tolist() == [
        4,
        3,
        3,
        4,
    ]


def test_leave_one_out_has_no_draws_and_costs_a_training_a_sample(summary):
    costs = summary.trainings()
    assert costs.sel(warning="size").values.tolist() == [31, 1, 1, 1]
    assert costs.sel(warning="three").values.tolist() == [93, 3, 3, 3]
    # Thirty steps are two trainings of fifteen.
    assert float(costs.sel(by="ats", warning="langevin")) == 3
    assert np.isnan(summary.warnings("right")["auc"].sel(by="loo", warning="laplace"))


def test_it_goes_on_where_it_stopped_and_what_is_kept_is_read(
    experiment, summary, tmp_path, monkeypatch
):
    own, _, drawn = experiment
    before = len(drawn)
    made = one_run_of(own, tmp_path / "one", **FEW)
    assert len(drawn) == before and made.content["warnings"] == summary.content["warnings"]
    monkeypatch.setattr(tda.Experiment, "scores", lambda *_: pytest.fail("scores were read"))
    assert one_run_of(own, tmp_path / "one", **FEW) == made
    (file,) = (tmp_path / "one").iterdir()
    assert file == file_of(own, tmp_path / "one", **FEW)
    assert file.stat().st_size < 60_000


@pytest.mark.parametrize(
    ("change", "options", "facts"),
    [
        ({"members": 5}, {}, ["members", "5", "6"]),
        ({"checkpoints": 1}, {}, ["checkpoints", "1", "2"]),
        ({"orders": 2}, {}, ["orders", "2"]),
        ({}, {"tried": 2}, ["tried", "2", "3"]),
        ({}, {"tuned": 0}, ["tuned", "0"]),
        ({}, {"around": 5}, ["around", "5", "4"]),
        ({}, {"measured": 3}, ["measured", "3"]),
    ],
)
def test_what_cannot_be_asked_gets_one_clear_sentence(change, options, facts, experiment):
    own = replace(experiment[0], **change)
    refused(ValueError, lambda: one_run_of(own, **FEW | options), *facts)
