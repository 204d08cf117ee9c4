"""The e-value against integrals, and how rarely it errs whenever one looks."""

import numpy as np
import pytest
from scipy import integrate, stats

from tda_utils.reliability import sequential, significant
from tda_utils.reliability.sequential import BET, decided_by, log_e
from tests.refusals import refused
from tests.reliability.scores import labelled, noise


@pytest.mark.parametrize("members", [3, 10])
@pytest.mark.parametrize("snr", [0.0, 0.6, -2.0])
def test_the_e_value_is_a_ratio_of_probabilities(members: int, snr: float) -> None:
    """Of the t statistic under normal effects, and without any, by direct integration."""
    t, dof = np.sqrt(members) * snr, members - 1
    with_effects = integrate.quad(
        lambda effect: (
            stats.nct.pdf(t, dof, np.sqrt(members) * effect)
            * stats.norm.pdf(effect, scale=np.sqrt(BET))
        ),
        -8,
        8,
        limit=200,
    )[0]
    wanted = with_effects / stats.t.pdf(t, dof)
    assert np.exp(log_e(np.array([snr]), members))[0] == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize("members", [3, 8])
def test_its_mean_is_one_without_effect(members: int) -> None:
    mean, _ = integrate.quad(
        lambda t: (
            np.exp(log_e(np.array([t / np.sqrt(members)]), members)[0])
            * stats.t.pdf(t, members - 1)
        ),
        -np.inf,
        np.inf,
        limit=400,
    )
    assert mean == pytest.approx(1, abs=1e-3)


def test_it_errs_as_rarely_as_promised_whenever_one_looks() -> None:
    """Of 5,000 pairs of noise few ever have an e-value beyond 20; by p-values many do."""
    flat = np.random.default_rng(0).normal(size=(40, 5000))
    ever = {"e": np.zeros(5000, bool), "p": np.zeros(5000, bool)}
    for count in range(3, 41):
        snr = flat[:count].mean(0) / flat[:count].std(0, ddof=1)
        ever["e"] |= log_e(snr, count) >= np.log(20)
        ever["p"] |= 2 * stats.t.sf(np.sqrt(count) * abs(snr), count - 1) <= 0.05
    assert ever["e"].mean() <= 0.05
    assert ever["p"].mean() > 0.2


@pytest.mark.parametrize("bound", ["e", "bh"])
def test_a_walk_is_a_look_after_each_member(bound: str) -> None:
    scores = labelled(noise(1, (12, 2, 5, 7)) + 2 * noise(2, (1, 1, 5, 7)))
    found = sequential(scores, share=0.4, bound=bound)
    flat = scores.mean("checkpoint").values.reshape(12, -1)
    shares = []
    for count in range(3, 13):
        mean, std = flat[:count].mean(0), flat[:count].std(0, ddof=1)
        shares.append(decided_by(mean / std, count, 0.05, bound).mean())
    np.testing.assert_allclose(found["share"], shares)
    stop = 3 + int(np.argmax(np.array(shares) >= 0.4))
    assert found["stop"] == stop and max(shares) >= 0.4
    early = scores.isel(member=slice(stop))
    np.testing.assert_array_equal(sequential(early, 0.4, bound=bound)["sign"], found["sign"])
    means = early.mean(("member", "checkpoint"))
    np.testing.assert_array_equal(found["sign"], np.sign(means) * found["decided"])
    if bound == "bh":
        np.testing.assert_array_equal(found["decided"], significant(early))


def test_where_a_share_is_not_reached_there_is_no_stop() -> None:
    found = sequential(labelled(noise(3)))
    assert np.isnan(found["stop"]) and not found["decided"].any()


def test_false_discoveries_stay_rare_however_pairs_hang_together() -> None:
    """Half of the pairs have an effect; nearly all noise is shared, and one stops early."""
    generator, shares = np.random.default_rng(4), []
    effects = np.where(np.arange(60) % 2, 2.0, 0.0)
    for _ in range(150):
        noises = 0.95 * generator.normal(size=(15, 2)) @ generator.normal(size=(2, 60))
        flat = effects + noises / np.sqrt(2) + 0.3 * generator.normal(size=(15, 60))
        found = sequential(labelled(flat.reshape(15, 1, 6, 10)), share=0.3)
        named = found["decided"].values.ravel()
        shares.append((named & (effects == 0)).sum() / max(named.sum(), 1))
    assert np.mean(shares) <= 0.05


def test_pairs_with_nan_are_never_decided_and_change_no_other() -> None:
    scores = labelled(noise(5, (9, 1, 4, 6)) + 3)
    wanted = sequential(scores.isel(train=slice(-1)))
    scores[3, 0, -1] = np.nan
    found = sequential(scores)
    assert not found["decided"][-1].any()
    assert found["stop"] == wanted["stop"]
    np.testing.assert_array_equal(found["sign"][:-1], wanted["sign"])


@pytest.mark.parametrize(
    ("options", "facts"),
    [
        ({"share": 1.5}, ["share", "0 and 1", "1.5"]),
        ({"alpha": 0}, ["alpha", "0 and 1", "0"]),
        ({"bound": "p"}, ["bound", "'p'", "'e'", "'bh'"]),
    ],
)
def test_bad_input_gets_one_clear_sentence(options, facts) -> None:
    refused(ValueError, lambda: sequential(labelled(noise()), **options), *facts)
    few = labelled(noise()).isel(member=[0, 1])
    refused(ValueError, lambda: sequential(few), "2 members", "at least 3")
