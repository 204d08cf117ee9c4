"""Checkpoints in each layout of the table in ``docs/checkpoints.md``, and what is taken for what.

Each is written by the library itself where the tests have it. Lightning is none of them: its file
is written by hand, key by key as Lightning 2.6 writes it.
"""

import copy
import json
import re
from functools import partial

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from tda_utils import Posterior
from tests.refusals import refused
from tests.tiny import build_mlp
from tests.zoo.networks import TiedParameter
from tools import ROOT

RUNS = ("seed-446", "seed-724")
LAYOUTS = {}


def layout(row):
    """Give a function that writes the folder of a row of the table."""

    def kept(write):
        LAYOUTS[row] = write
        return write

    return kept


def model_of(seed, build=build_mlp):
    """Return a model whose parameters no other one has."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build()


def two_runs(folder, write, names=("epoch-9.pt", "epoch-10.pt"), build=build_mlp):
    """Have two checkpoints of two runs written; return their states, seeds and epochs."""
    states = []
    for member, run in enumerate(RUNS):
        states.append([])
        for checkpoint, name in enumerate(names):
            model = model_of(10 * member + checkpoint, build)
            states[-1].append(copy.deepcopy(model.state_dict()))
            path = folder / run / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(model, path)
    return states, (446, 724), (9, 10)


@layout("`torch.save(model.state_dict(), ...)`")
def plain(folder):
    names = ("epoch-9.pt", "epoch-10.pth")
    return two_runs(folder, lambda model, path: torch.save(model.state_dict(), path), names)


@layout("`safetensors.torch.save_file`")
def safe(folder):
    names = ("epoch-9.safetensors", "epoch-10.safetensors")
    return two_runs(folder, lambda model, path: save_file(model.state_dict(), path), names)


@layout("`safetensors.torch.save_model`, tied weights")
def tied(folder):
    names = ("epoch-9.safetensors", "epoch-10.safetensors")
    return two_runs(folder, save_model, names, TiedParameter)


@layout("`torch.save`, the state among other things")
def among_others(folder):
    keys = iter(("state_dict", "model_state_dict", "model", "model_state_dict"))

    def write(model, path):
        adam = torch.optim.Adam(model.parameters())
        whole = {"epoch": 3, "optimizer_state_dict": adam.state_dict(), "loss": 0.4}
        torch.save({**whole, next(keys): model.state_dict()}, path)

    return two_runs(folder, write)


@layout("`DistributedDataParallel`, `DataParallel`")
def many_devices(folder):
    store = torch.distributed.FileStore(str(folder.parent / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    wrappers = iter(2 * [nn.parallel.DistributedDataParallel, nn.DataParallel])
    try:
        return two_runs(
            folder, lambda model, path: torch.save(next(wrappers)(model).state_dict(), path)
        )
    finally:
        torch.distributed.destroy_process_group()


@layout("`torch.compile`")
def compiled(folder):
    def write(model, path):
        if path.stem == "epoch-9":
            model = torch.compile(model)
        else:
            model[0] = torch.compile(model[0])
        torch.save(model.state_dict(), path)

    return two_runs(folder, write)


@layout("`torch.optim.swa_utils.AveragedModel`")
def averaged(folder):
    average = torch.optim.swa_utils.AveragedModel
    return two_runs(folder, lambda model, path: torch.save(average(model).state_dict(), path))


@layout("Lightning")
def lightning(folder):
    states = []
    for version in range(2):
        states.append([])
        place = folder / f"version_{version}" / "checkpoints"
        place.mkdir(parents=True)
        (place.parent / "hparams.yaml").write_text("width: 6\n")
        for epoch, name in enumerate(("epoch=0-step=2", "epoch=1-step=4", "last")):
            model = model_of(10 * version + min(epoch, 1))
            if name != "last":
                states[-1].append(model.state_dict())
            torch.save(lightning_file(model, epoch), place / f"{name}.ckpt")
    return states, None, (0, 1)


def lightning_file(model, epoch):
    """Return what Lightning saves of a module whose attribute `model` is this one."""
    callback = "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_epochs': 1}"
    return {
        "epoch": epoch,
        "global_step": 2 * (epoch + 1),
        "pytorch-lightning_version": "2.6.6",
        "state_dict": {f"model.{name}": value for name, value in model.state_dict().items()},
        "loops": {"fit_loop": {"state_dict": {}, "epoch_progress": {"total": {"ready": 1}}}},
        "callbacks": {callback: {"best_model_score": None, "kth_value": torch.tensor(torch.inf)}},
        "optimizer_states": [torch.optim.Adam(model.parameters()).state_dict()],
        "lr_schedulers": [],
        "hparams_name": "kwargs",
        "hyper_parameters": {"width": 6, "lr": 0.001},
    }


class WithLoss(nn.Module):
    """What the Trainer trains: a module that gives its loss."""

    def __init__(self):
        super().__init__()
        self.model = build_mlp()

    def forward(self, rows, labels):
        logits = self.model(rows)
        return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}


def trained(output, seed):
    """Have the Trainer train for two epochs, keep both and save the final model beside them."""
    transformers = pytest.importorskip("transformers", reason="needs the extra 'vit'")
    pytest.importorskip("accelerate", reason="needs the extra 'vit'")
    arguments = transformers.TrainingArguments(
        str(output),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        save_strategy="epoch",
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        seed=seed,
    )
    rows = [{"rows": torch.full((4,), float(i)), "labels": torch.tensor(i % 3)} for i in range(6)]
    states = []

    class Keep(transformers.TrainerCallback):
        def on_save(self, *_, model, **__):
            states.append({n: v.clone() for n, v in model.model.state_dict().items()})

    trainer = transformers.Trainer(WithLoss(), arguments, train_dataset=rows, callbacks=[Keep()])
    with torch.random.fork_rng():
        trainer.train()
    trainer.save_model()
    return states


@layout("Transformers' `Trainer`, one run")
def one_run(folder):
    states = [trained(folder, seed=3)]
    (folder / "runs" / "Nov28").mkdir(parents=True)  # Where TensorBoard's logs lie.
    assert {"checkpoint-2", "checkpoint-4", "model.safetensors"} <= {
        path.name for path in folder.iterdir()
    }
    return states, None, (1, 2)


@layout("Transformers' `Trainer`, several runs")
def several_runs(folder):
    return [trained(folder / f"seed-{seed}", seed) for seed in (3, 4)], (3, 4), (1, 2)


def accelerated(folder, name, checkpoints, **options):
    """Have Accelerate save the state of a run twice, where it is told to or chooses itself."""
    accelerate = pytest.importorskip("accelerate", reason="needs the extra 'vit'")
    settings = accelerate.utils.ProjectConfiguration(
        str(folder), automatic_checkpoint_naming=name is None
    )
    states = []
    for checkpoint in checkpoints:
        settings.iteration = checkpoint
        accelerator = accelerate.Accelerator(cpu=True, project_config=settings)
        model = accelerator.prepare(model_of(checkpoint))
        accelerator.prepare(torch.optim.Adam(model.parameters()))
        states.append(model.state_dict())
        accelerator.save_state(name and str(folder / name.format(checkpoint)), **options)
        accelerator.free_memory()
    return states


@layout("Accelerate, `save_state`")
def one_project(folder):
    states = accelerated(folder, None, [0, 1])
    states += accelerated(folder, None, [2], safe_serialization=False)
    files = {path.name for path in folder.rglob("*") if path.is_file()}
    assert {"optimizer.bin", "random_states_0.pkl", "pytorch_model.bin"} <= files
    return [states], None, (1, 2, 3)


@layout("Accelerate, `save_state`, several runs")
def several_projects(folder):
    runs = [accelerated(folder / run, "epoch_{}", [0, 1]) for run in RUNS]
    return runs, (446, 724), (0, 1)


def in_parts(folder, safe):
    """Have Accelerate save two models in parts, an older copy beside the newer one."""
    accelerate = pytest.importorskip("accelerate", reason="needs the extra 'vit'")
    accelerator, states = accelerate.Accelerator(cpu=True), []
    for member, run in enumerate(RUNS):
        for kind in {False, safe}:
            accelerator.save_model(
                model_of(member), str(folder / run), max_shard_size=150, safe_serialization=kind
            )
        states.append([model_of(member).state_dict()])
    indices = {path.name for path in folder.rglob("*.index.json")}
    newer = {"model.safetensors.index.json"} if safe else set()
    assert indices == newer | {"pytorch_model.bin.index.json"}
    return states, (446, 724), (1,)


@layout("`save_model`, `save_pretrained` in parts")
def parts(folder):
    return in_parts(folder, safe=True)


@layout("the same, older files")
def older_parts(folder):
    return in_parts(folder, safe=False)


def test_the_table_has_every_layout_that_is_tried_and_no_other():
    text = (ROOT / "docs" / "checkpoints.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    assert rows[2:] == list(LAYOUTS)


@pytest.mark.parametrize("row", LAYOUTS)
def test_a_folder_in_each_layout_is_read_as_what_was_saved(tmp_path, row):
    states, seeds, epochs = LAYOUTS[row](tmp_path / "saved")
    build = TiedParameter if LAYOUTS[row] is tied else build_mlp
    posterior = Posterior.from_folder(build(), tmp_path / "saved")
    assert (posterior.members, posterior.checkpoints) == (len(states), len(states[0]))
    assert (posterior.order_seeds, posterior.epochs) == (seeds, epochs)
    for member, checkpoint in posterior.samples:
        found, wanted = posterior.states[member][checkpoint], states[member][checkpoint]
        assert found.keys() == wanted.keys()
        assert all(torch.equal(found[name], wanted[name]) for name in wanted)


# ---------------- what is wrong with a layout


def write_run(folder, names=("checkpoint-500", "checkpoint-1000")):
    """Write the checkpoints of one run, a folder each."""
    for name in names:
        (folder / name).mkdir(parents=True)
        save_file(build_mlp().state_dict(), folder / name / "model.safetensors")


def write_parts(folder, change):
    """Write a model in two parts, whose index is changed."""
    folder.mkdir(parents=True)
    state, where = build_mlp().state_dict(), {}
    for number, names in enumerate((list(state)[:2], list(state)[2:]), start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_file({name: state[name] for name in names}, folder / file)
        where |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(change(index))


def index_with(**entries):
    return lambda index: json.dumps({**index, **entries})


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (lambda index: "[" * 100_000, ["index.json", "weight_map"]),
        (lambda index: "9" * 5_000, ["index.json", "weight_map"]),
        (lambda index: json.dumps([index]), ["index.json", "weight_map"]),
        (index_with(weight_map=3), ["index.json", "weight_map"]),
        (index_with(weight_map={"a": 3}), ["index.json", 3, "weight_map"]),
        (index_with(weight_map={"a": "../../x-00001-of-00001.bin"}), ["index.json", "not beside"]),
        (index_with(weight_map={"a": "/etc/shadow"}), ["index.json", "/etc/shadow", "beside it"]),
        (index_with(weight_map={"a": "x-00001-of-00001.bin"}), ["x-00001-of-00001.bin", "beside"]),
    ],
)
def test_an_index_names_parts_beside_it_or_is_refused(tmp_path, change, facts):
    write_parts(tmp_path / "saved" / "a", change)
    save_file({"a": torch.ones(1)}, tmp_path / "x-00001-of-00001.bin")
    refused(ValueError, lambda: Posterior.from_folder(build_mlp(), tmp_path / "saved"), *facts)


def test_parts_without_an_index_are_no_checkpoints(tmp_path):
    write_parts(tmp_path / "a", json.dumps)
    assert Posterior.from_folder(build_mlp(), tmp_path).checkpoints == 1
    (tmp_path / "a" / "model.safetensors.index.json").unlink()
    call = partial(Posterior.from_folder, build_mlp(), tmp_path)
    refused(ValueError, call, "model-00001-of-00002.safetensors", "model.safetensors.index.json")


def test_an_interrupted_checkpoint_and_members_beside_a_run_are_named(tmp_path):
    write_run(tmp_path / "interrupted")
    (tmp_path / "interrupted" / "checkpoint-1500").mkdir()
    write_run(tmp_path / "mixed")
    (tmp_path / "mixed" / "seed-1").mkdir()
    torch.save(build_mlp().state_dict(), tmp_path / "mixed" / "seed-1" / "1.pt")
    for name, facts in (
        ("interrupted", ["checkpoint-1500", "no checkpoint"]),
        ("mixed", ["checkpoint-500", "seed-1", "one run"]),
    ):
        refused(ValueError, partial(Posterior.from_folder, build_mlp(), tmp_path / name), *facts)


def test_folders_of_several_files_stay_members_whatever_their_names(tmp_path):
    for member in ("checkpoint-1", "checkpoint-2"):
        (tmp_path / member).mkdir()
        for epoch in (3, 4):
            torch.save(build_mlp().state_dict(), tmp_path / member / f"epoch-{epoch}.pt")
    posterior = Posterior.from_folder(build_mlp(), tmp_path)
    assert (posterior.members, posterior.checkpoints, posterior.epochs) == (2, 2, (3, 4))


def test_a_file_of_lightning_that_holds_objects_is_not_unpickled(tmp_path):
    (tmp_path / "version_0").mkdir()
    whole = {**lightning_file(build_mlp(), 0), "hyper_parameters": build_mlp()}
    torch.save(whole, tmp_path / "version_0" / "epoch=0-step=2.ckpt")
    call = partial(Posterior.from_folder, build_mlp(), tmp_path)
    refused(ValueError, call, "epoch=0-step=2.ckpt", "run code", "model.state_dict()")
