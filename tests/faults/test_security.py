"""Files from elsewhere are data: nothing in them is run, and nothing leaves its folder."""

import ast
import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

import tda_utils as tda
from tda_utils.data import sources as data_module
from tda_utils.experiments.store import ShardError, read_shard
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError

ROOT = Path(__file__).resolve().parents[2]


class Trap:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


@pytest.fixture
def sprung(tmp_path):
    """The file that a trap makes; it must not be there in the end."""
    path = tmp_path / "sprung"
    yield path
    assert not path.exists(), "a file was run"


def test_a_trap_works_where_pickles_are_loaded(tmp_path):
    pickle.loads(pickle.dumps(Trap(tmp_path / "sprung")))
    assert (tmp_path / "sprung").exists()


def test_a_malicious_file_in_a_folder_of_checkpoints_is_not_run(sprung, tmp_path):
    member = tmp_path / "runs" / "a"
    member.mkdir(parents=True)
    torch.save({"weight": Trap(sprung)}, member / "1.pt")
    with pytest.raises(ValueError, match=r"1\.pt .*run code"):
        tda.Posterior.from_folder(torch.nn.Linear(2, 1), tmp_path / "runs")


def test_a_malicious_checkpoint_is_not_run(sprung, tmp_path, count):
    """Torch's own loader, as README tells users to call it, and the folder of a backbone."""
    pytest.importorskip("transformers", reason="needs the extra 'vit'")
    from tda_utils.models.vision_transformer import load_backbone

    folder = tmp_path / "backbone"
    folder.mkdir()
    checkpoint = folder / "pytorch_model.bin"
    torch.save({"weight": Trap(sprung)}, checkpoint)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(checkpoint, weights_only=True)
    (folder / "config.json").write_text('{"model_type": "vit", "hidden_size": 32}')
    with pytest.raises((OSError, ValueError), match="backbone"):
        load_backbone(str(folder))
    (folder / "config.json").write_text(
        '{"model_type": "evil", "auto_map": {"AutoConfig": "evil.Config"}}'
    )
    (folder / "evil.py").write_text(f"open({str(sprung)!r}, 'w').close()")
    with pytest.raises((OSError, ValueError), match="backbone"):
        load_backbone(str(folder))
    count["bad inputs tried"] += 3


def test_a_malicious_npz_is_not_run(sprung, tmp_path, monkeypatch, count):
    buffer = io.BytesIO()
    np.savez(buffer, train_x=np.array([Trap(sprung)], dtype=object))
    folder = tmp_path / "data_files"
    folder.mkdir()
    (folder / "mnist3.npz").write_bytes(buffer.getvalue())
    monkeypatch.setattr(data_module.resources, "files", lambda *_: tmp_path)
    data_module.package_file.cache_clear()
    with pytest.raises(ValueError, match="mnist3.npz is damaged"):
        tda.load_task("mnist3", per_class=10)
    # Even with the right checksum.
    monkeypatch.setattr(data_module, "SHA256", {"mnist3": _sha256(buffer.getvalue())})
    with pytest.raises(ValueError, match="allow_pickle=False"):
        tda.load_task("mnist3", per_class=10)
    data_module.package_file.cache_clear()
    count["bad inputs tried"] += 2


def _sha256(content):
    return __import__("hashlib").sha256(content).hexdigest()


def test_a_pickle_under_the_name_of_a_score_file_is_not_run(sprung, tmp_path, count):
    path = tmp_path / "loo.safetensors"
    path.write_bytes(pickle.dumps(Trap(sprung)))
    with pytest.raises(ShardError, match="half-written or damaged"):
        read_shard(path)
    count["bad inputs tried"] += 1


ENTRY = "notebook: {notebook}, caption: A., outputs: [table]"


@pytest.mark.parametrize(
    "text",
    [
        "figures: !!python/object/apply:pathlib.Path.touch [{path}]\nsizes: {{}}",
        "figures: !!python/object/new:pathlib.Path [{path}]\nsizes: {{}}",
        "!!python/module:os",
    ],
)
def test_a_tag_that_builds_an_object_is_refused(text, sprung, tmp_path, count):
    path = tmp_path / "figures.yaml"
    path.write_text(text.format(path=sprung))
    with pytest.raises(ManifestError, match="could not determine a constructor for the tag"):
        load_manifest(path)
    count["bad inputs tried"] += 1


@pytest.mark.parametrize("name", ["../../escaped", "/escaped", "a/b", "..", "a\\b", "A", ""])
@pytest.mark.parametrize("place", ["figure", "notebook"])
def test_a_name_cannot_leave_its_folder(place, name, tmp_path, count):
    figure, notebook = (name, "01_x") if place == "figure" else ("tau", name)
    if place == "notebook" and name == "A":
        return  # A notebook may be called so.
    path = tmp_path / "figures.yaml"
    path.write_text(
        f"figures: {{'{figure}': {{notebook: '{notebook}', caption: A., outputs: [table]}}}}\n"
        f"sizes: {{'{notebook}': {{quick: {{}}, full: {{}}}}}}\n"
    )
    with pytest.raises(ManifestError, match="name is|name of a file|not empty"):
        load_manifest(path)
    count["bad inputs tried"] += 1


def test_a_value_in_the_manifest_is_never_code(sprung, tmp_path, count):
    """Values reach notebooks as literals, whatever they look like."""
    import jupytext
    from papermill.translators import PythonTranslator

    value = f"'); __import__('pathlib').Path({str(sprung)!r}).touch() #"
    source = PythonTranslator.codify({"caption": value, "nested": [{"a": value}]})
    namespace = {}
    exec(compile(source, "parameters", "exec"), namespace)
    assert namespace["caption"] == value and namespace["nested"] == [{"a": value}]
    assert jupytext
    count["bad inputs tried"] += 1


# What runs code or unpickles, and where the project may call it.
ALLOWED = {("tda_utils/reproduce/work.py", "exec"): 2}


def _calls(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if name in ("eval", "exec", "yaml.unsafe_load", "yaml.full_load", "os.system"):
                yield name
            if name.startswith(("pickle.", "marshal.", "joblib.", "dill.")):
                yield name
            if name == "torch.load" and keywords.get("weights_only") != "True":
                yield name
            if name == "np.load" and keywords.get("allow_pickle") != "False":
                yield name
            if name == "yaml.load" and keywords.get("Loader") != "_UniqueKeys":
                yield name
            if keywords.get("shell") == "True" or keywords.get("trust_remote_code") == "True":
                yield name


def test_nothing_in_the_project_unpickles_or_runs_what_it_reads():
    found = {}
    for folder in ("tda_utils", "tools", "benchmarks", "notebooks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for name in _calls(path):
                key = (path.relative_to(ROOT).as_posix(), name)
                found[key] = found.get(key, 0) + 1
    assert found == ALLOWED
