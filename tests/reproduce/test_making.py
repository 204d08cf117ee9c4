"""What makes something: nothing is begun that cannot be made."""

import pytest

from tests.reproduce.conftest import changed, command, holds, manifest, write

#: For each fault what is asked for, and what the sentence has to name.
BAD_WISHES = {
    "misspelt figure": (["tua"], ["'tua'", "did you mean 'tau'", "share"]),
    "one of two": (["tau", "wrong"], ["'wrong'"]),
    "protocol": (["broken", "--protocol", "paired"], ["'broken'", "'paired'"]),
    "store is a file": (["tau", "--store", __file__], ["--store", repr(__file__)]),
}


@pytest.mark.parametrize("make", ["run", "compute"])
@pytest.mark.parametrize("fault", BAD_WISHES)
def test_a_wish_that_cannot_be_met_says_what_is_allowed(fault, make, tmp_path, capsys):
    wish, words = BAD_WISHES[fault]
    path = write(tmp_path, manifest())
    assert command(make, *wish, manifest=path) == 2
    holds(capsys.readouterr().err, *words)
    assert not (path.parent / "runs" / "quick").exists()


@pytest.mark.parametrize("make", ["run", "compute"])
def test_a_manifest_that_does_not_fit_its_notebook_is_refused(make, tmp_path, capsys):
    path = write(tmp_path, changed(sizes__01_good__quick={"membres": 2}))
    assert command(make, "tau", manifest=path) == 2
    holds(capsys.readouterr().err, "sizes.01_good.quick", "did you mean 'members'")
    assert not (path.parent / "runs").exists()
