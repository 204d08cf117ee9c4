"""The commands judge and validate: files are data, and what is wrong is one sentence."""

import numpy as np
import pytest
from safetensors.torch import save_file

import tda_utils as tda
from tda_utils.reproduce.cli import main
from tests.report.cases import HOSTILE, signal
from tests.tiny import build_mlp, write_folder

MINE = """
from tests.tiny import build_mlp, table_task
number = 3
"""


def test_a_report_is_written_from_files(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tda.save_scores(signal().assign_attrs(method="loo"), "loo.npz")
    tda.save_scores(signal(3).assign_attrs(method="tracin"), "tracin.csv")
    np.save("train.npy", np.random.default_rng(0).random((12, 6, 6)))
    (tmp_path / "test.txt").write_text("\n".join(HOSTILE * 3), encoding="utf-8")
    (tmp_path / "names.txt").write_text("\n".join(HOSTILE), encoding="utf-8")
    options = "--train-samples train.npy --test-samples test.txt --class-names names.txt"
    command = f"judge loo.npz tracin.csv -o out.html --title Mine --train 12 {options}"
    assert main(command.split()) == 0
    page = (tmp_path / "out.html").read_text(encoding="utf-8")
    assert "<title>Mine</title>" in page and "<img" in page and "<script" not in page
    assert (tmp_path / "out_tables" / "pairs.csv").is_file()
    shown = capsys.readouterr()
    assert "scores of loo" in shown.out and "out.html" in shown.out and shown.err == ""


def test_checkpoints_are_judged_with_a_model_that_the_command_names(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    write_folder(tmp_path / "runs", ["a", "b", "c"], ["1.safetensors"])
    named = "--model mine.py:build_mlp --task mine.py:table_task"
    assert main(f"judge runs {named} --methods grad_dot grad_cos".split()) == 0
    assert "scores of grad_dot" in capsys.readouterr().out


BAD = {
    "judge nowhere.npz": ("'nowhere.npz'", "not there"),
    "judge tau.pkl": ("'tau.pkl'", ".npz"),
    "judge tau.npz tau.npz": ("'tau.npz'", "another file"),
    "judge tau.npz --train 9 --test 12": ("12 train and 9 test", "swapped"),
    "judge tau.npz --methods loo": ("'loo'", "'tracin'"),
    "judge tau.npz --train-samples mine.py": ("'mine.py'", ".npy"),
    "judge runs --model mine.py:build_mlp": ("--task", "--model"),
    "judge runs --model mine:build --task mine.py:table_task": ("'mine:build'", "FILE.py:NAME"),
    "judge runs --model mine.py:number --task mine.py:table_task": ("'mine.py'", "'number'"),
    "validate tau.npz --train 9 --test 12": ("swapped",),
    "validate mine.py": ("mine.py", ".nc"),
}


@pytest.mark.parametrize("command", BAD)
def test_bad_input_is_refused_in_one_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tda.save_scores(signal().assign_attrs(method="tracin"), "tau.npz")
    (tmp_path / "mine.py").write_text(MINE)
    save_file(build_mlp().state_dict(), tmp_path / "runs.safetensors")
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("bayes-tda: error: ")
    for fact in BAD[command]:
        assert fact in line, line
    assert not (tmp_path / "report.html").exists()


def test_validate_says_what_is_there(tmp_path, capsys):
    path = tda.save_scores(signal().assign_attrs(method="tracin"), tmp_path / "tau.npz")
    assert main(["validate", str(path), "--train", "12", "--test", "9"]) == 0
    shown = capsys.readouterr().out
    assert "tracin: 8 member x 2 checkpoint x 12 train x 9 test" in shown and "fit" in shown
