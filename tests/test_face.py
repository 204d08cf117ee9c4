"""Names load on first use, and what cannot be loaded says why."""

import subprocess
import sys

import pytest

import tda_utils
from tda_utils import face, plots, reliability


def fresh(code: str) -> str:
    """Run code in a process of its own and return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_public_name_is_there() -> None:
    for name in tda_utils.__all__:
        assert getattr(tda_utils, name) is not None
    assert set(tda_utils.__all__) <= set(dir(tda_utils))


@pytest.mark.parametrize("package", [tda_utils, plots, reliability])
def test_an_old_name_says_its_new_one(package) -> None:
    (renamed,) = [
        finder._renamed
        for finder in sys.meta_path
        if isinstance(finder, face._Renamed)
        and all(old.rpartition(".")[0] == package.__name__ for old in finder._renamed)
    ]
    for old, new in renamed.items():
        name = old.rpartition(".")[2]
        with pytest.raises(AttributeError) as by_attribute:
            getattr(package, name)
        with pytest.raises(ImportError) as by_import:
            exec(f"from {package.__name__} import {name}")
        assert old in str(by_attribute.value) and new in str(by_attribute.value)
        assert old in str(by_import.value) and new in str(by_import.value)


def test_an_unknown_name_is_unknown() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        tda_utils.nonsense  # noqa: B018
    with pytest.raises(ImportError, match="nonsense"):
        exec("from tda_utils import nonsense")


def test_a_wing_can_be_asked_for_without_another_having_been() -> None:
    assert (
        fresh("import tda_utils as tda; print(tda.reliability.snr_threshold(10) > 0)") == "True\n"
    )
    assert fresh("import tda_utils as tda; print(tda.terms.PROTOCOLS[0])") == "paired\n"
    with pytest.raises(AttributeError, match="_labels"):
        tda_utils._labels  # noqa: B018


def test_the_package_alone_loads_no_library() -> None:
    loaded = fresh(
        "import sys, tda_utils; print(*(name.partition('.')[0] for name in sys.modules))"
    )
    assert not {"numpy", "torch", "numba", "matplotlib", "xarray"} & set(loaded.split())


@pytest.mark.parametrize(
    ("missing", "code", "words"),
    [
        (
            "torch",
            "import tda_utils; tda_utils.loo",
            ("tda_utils.loo", "torch", "bayes-tda[models]"),
        ),
        (
            "altair",
            "import tda_utils; tda_utils.plots",
            ("tda_utils.plots", "altair", "bayes-tda["),
        ),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(missing, code, words) -> None:
    text = fresh(
        f"import sys; sys.modules[{missing!r}] = None\n"
        f"try:\n    {code}\nexcept ImportError as problem:\n    print(problem)"
    )
    assert text.count("\n") == 1
    assert all(word in text for word in words)


def test_an_error_of_the_package_itself_is_not_dressed_up() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_room"), face.installed_for("this"):
        exec("import tda_utils.no_such_room")
