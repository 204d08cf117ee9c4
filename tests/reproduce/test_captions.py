"""Captions: templates that take values by name, and nothing else."""

import pytest

from tda_utils.data import load_task
from tda_utils.reproduce.captions import CLASSES, caption_values, fill, names_in, of_studies
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tests.reproduce.conftest import PARAMETERS, changed, command, holds, write

STUDIES = [
    {"task": "mnist3", "per_class": 10, "members": 10},
    {"task": "mnist3", "per_class": 50, "members": 10, "released": {"attributed": 75}},
    {"task": "cifar10", "per_class": 10, "lists": "released", "members": 9},
    {"task": "cifar10", "per_class": 20, "members": 10, "attributed": 40},
    {"task": "cifar10", "per_class": 10, "model": "vit", "members": 3, "attributed": 20},
]


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("none", "none"),
        ("{n} of {n}", "12 of 12"),
        ("{many}, {small}, {word}", "60,000, 0.05, img-focus"),
        ("{one}; {two}; {three}", "1; 1 and 2; 1, 2 and 3,000"),
        ("{{n}} {{{n}}}", "{n} {12}"),
        # A value is not looked through again.
        ("{braces}", "{n}"),
    ],
)
def test_a_caption_has_values_for_names(template, text):
    values = {"n": 12, "many": 60_000, "small": 0.05, "word": "img-focus", "braces": "{n}"}
    values |= {"one": [1], "two": [1, 2], "three": [1, 2, 3_000]}
    assert fill(template, values, "here") == text


@pytest.mark.parametrize(
    "template",
    [
        *("{", "}", "{}", "{0}", "{ n }", "{n", "n}", "{n}}", "{{n}", "{N}", "{n\n}"),
        *("{__class__}", "{n.__class__}", "{n[0]}", "{n!r}", "{n:>9}", "{n:{n}}", "{n + 1}"),
    ],
)
def test_anything_else_between_braces_is_refused(template, tmp_path, capsys):
    for function in (lambda: names_in(template, "here"), lambda: fill(template, {"n": 1}, "here")):
        with pytest.raises(ManifestError) as refused:
            function()
        holds(str(refused.value), "here")
    path = write(tmp_path, changed(figures__tau__caption=f"A {template}."))
    assert command("list", manifest=path) == 2
    holds(capsys.readouterr().err, "figures.tau.caption")


@pytest.mark.parametrize("value", [None, True, {"a": 1}, [], [{"a": 1}], [None]])
def test_a_value_that_prose_cannot_say_is_refused(value):
    with pytest.raises(ManifestError) as refused:
        fill("{n}", {"n": value}, "here")
    holds(str(refused.value), "here", "'n'", repr(value))


def test_an_unknown_name_is_refused_with_those_that_are_close():
    many = {f"{letter}_members": 1 for letter in "abcdefghijklmnopqrstuvwxyz0123456789"}
    for values in ({"members": 3}, {"members": 3} | many):
        with pytest.raises(ManifestError) as refused:
            fill("{membres}", values, "here")
        holds(str(refused.value), "here", "'membres'", "did you mean 'members'")
        assert len(str(refused.value)) < 1_000


def test_check_refuses_an_unknown_name_in_a_caption_or_note(tmp_path, capsys):
    for place in ({"caption": "Of {membres}."}, {"notes": {"full": "Of {membres}."}}):
        document = changed(**{f"figures__tau__{key}": value for key, value in place.items()})
        assert command("check", manifest=write(tmp_path, document)) == 2
        holds(capsys.readouterr().err, "figures.tau.caption", "did you mean 'members'")


def test_check_refuses_a_name_that_one_size_has_not(tmp_path, capsys):
    # `layers` is None unless the manifest says otherwise, which no caption can write.
    document = changed(figures__tau__caption="Of {layers}.", sizes__01_good__full={"layers": ["a"]})
    assert command("check", manifest=write(tmp_path, document)) == 2
    holds(capsys.readouterr().err, "figures.tau.caption", "quick", "'layers'")


def test_check_refuses_a_fact_that_a_parameter_hides(tmp_path, capsys):
    document = changed() | {"facts": {"members": 3}}
    assert command("check", manifest=write(tmp_path, document)) == 2
    for line, notebook in zip(
        capsys.readouterr().err.splitlines(), changed()["sizes"], strict=True
    ):
        holds(line, "facts.members", notebook)


def test_a_caption_is_filled_at_the_size_that_is_run(tmp_path):
    document = changed(
        figures__tau__caption="{members} members at a rate of {rate}, p < {alpha}.",
        figures__tau__notes={"full": "The paper has {paper_members}: `{paper_command}`."},
        sizes__01_good__paper={"members": 1_000},
    )
    manifest = load_manifest(write(tmp_path, document | {"facts": {"alpha": 0.05}}))
    tau = manifest.figures["tau"]
    # The rate that no size names is the notebook's own.
    assert manifest.caption(tau, "quick") == "2 members at a rate of 0.001, p < 0.05."
    assert manifest.caption(tau, "full") == (
        "3 members at a rate of 0.01, p < 0.05. The paper has 1,000: "
        "`bayes-tda run tau --size paper`."
    )
    assert manifest.caption(tau, "paper") == "1,000 members at a rate of 0.001, p < 0.05."


def test_where_the_papers_size_is_the_full_one_the_note_is_the_same(tmp_path):
    document = changed(figures__tau__notes={"full": "All of them."})
    manifest = load_manifest(write(tmp_path, document))
    tau = manifest.figures["tau"]
    assert (
        manifest.caption(tau, "paper")
        == manifest.caption(tau, "full")
        == ("A caption. All of them.")
    )
    document = changed(figures__tau__caption="{paper_command}")
    manifest = load_manifest(write(tmp_path, document))
    with pytest.raises(ManifestError, match="paper_command"):
        manifest.caption(manifest.figures["tau"], "full")


def test_a_notebook_is_not_read_for_what_the_manifest_says(tmp_path):
    path = write(tmp_path, changed(figures__tau__caption="{members}."))
    (tmp_path / "notebooks" / "01_good.py").write_text(PARAMETERS * 2)
    manifest = load_manifest(path)
    assert manifest.caption(manifest.figures["tau"], "quick") == "2."


# ---------------- what is worked out


def test_studies_are_summed_up_by_what_they_are_of():
    sizes = of_studies(STUDIES)
    assert sizes["members"] == [3, 9, 10]
    assert sizes["mnist3_per_class"] == [10, 50]
    assert sizes["cifar10_per_class"] == [10, 20]
    assert sizes["cifar10_sound_per_class"] == [20]
    assert sizes["cifar10_defective_members"] == [9]
    assert sizes["vit_members"] == sizes["cifar10_vit_members"] == [3]
    assert "mnist3_vit_members" not in sizes and "vit_image_size" not in sizes
    # Those of which not all training samples have scores, under each protocol.
    assert (sizes["cifar10_some_attributed"], sizes["cifar10_some_train"]) == ([40], [200])
    assert "mnist3_some_per_class" not in sizes
    assert sizes["released_mnist3_some_attributed"] == [75]
    assert sizes["released_mnist3_some_train"] == [150]


@pytest.mark.parametrize("task", CLASSES)
def test_the_classes_of_the_data_are_known(task):
    assert load_task(task, per_class=20).classes == CLASSES[task]


def test_the_papers_values_are_beside_those_of_the_size():
    paper = [*STUDIES, {"task": "cifar10", "per_class": 60, "members": 10}]
    values = caption_values("tau", {}, {"studies": STUDIES}, {"studies": paper})
    assert values["paper_cifar10_per_class"] == [10, 20, 60]
    assert values["missing_cifar10_per_class"] == [60]
    assert (values["paper_least_cifar10_per_class"], values["paper_most_cifar10_per_class"]) == (
        10,
        60,
    )
    assert "missing_members" not in values


@pytest.mark.parametrize(
    ("samples", "share"), [(0.5, "less than a hundredth"), (9, "less than a tenth"), (100, "100%")]
)
def test_a_share_of_the_retrainings_is_said_in_words(samples, share):
    own = {"loo_members": 10, "loo_samples": samples}
    values = caption_values("tau", {}, own, {"loo_members": 10, "loo_samples": 100})
    assert values["retrainings_share"] == share
    assert values["paper_retrainings"] == 1_000


@pytest.mark.parametrize(
    "rubbish",
    [
        {"studies": 3},
        {"studies": [1, {"task": "mnist3"}]},
        {"studies": [{"task": ["mnist3"], "per_class": [10], "members": True, "released": 5}]},
        {"loo_members": "3", "loo_samples": None},
    ],
)
def test_parameters_of_another_kind_are_no_trouble(rubbish):
    assert caption_values("tau", {}, rubbish, rubbish)["paper_command"]


def test_a_parameter_named_like_a_size_of_studies_does_not_stand_for_it() -> None:
    own = {"test_per_class": None, "studies": [{"test_per_class": 30}]}
    paper = {"studies": [{"test_per_class": 30}, {"test_per_class": 300}]}
    values = caption_values("tau", {}, own, paper)
    assert values["missing_test_per_class"] == [300]
    assert values["test_per_class"] is None
