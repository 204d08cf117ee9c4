"""Attacks on checkpoints of one's own: damaged and hostile files, odd folders, states that lie."""

import copy
import io
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from functools import partial

import pytest
import torch
from safetensors.torch import save
from torch import nn

from tda_utils import Posterior
from tda_utils.checkpoints import find_checkpoints, read_state
from tests.faults.attacks import Attacks
from tests.tiny import build_mlp
from tests.zoo.networks import NETWORKS, built

SPRUNG = "sprung.txt"


def saved(value, **options) -> bytes:
    """Return what torch.save writes."""
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def whole_files():
    """Return a whole file of each kind, by the name that it has."""
    state = OrderedDict(build_mlp().state_dict())
    kept = {"epoch": 3, "state_dict": {f"model.{n}": v for n, v in state.items()}, "loops": {}}
    return {
        "1.pt": saved(state),
        "1.pth": saved(state, _use_new_zipfile_serialization=False),
        "1.safetensors": save(state),
        "1.ckpt": saved(kept),
        "pytorch_model.bin": saved(state),
    }


def same_state(found, wanted) -> bool:
    return found.keys() == wanted.keys() and all(
        torch.equal(found[name], wanted[name]) for name in wanted
    )


@pytest.mark.parametrize("name", whole_files())
def test_files_that_are_cut(count, tmp_path, name):
    attacks, content = Attacks(count, "checkpoints"), whole_files()[name]
    path, chance = tmp_path / name, random.Random(446)
    oracle = read_whole(path, content, name)
    for at in sorted(chance.sample(range(len(content)), 150)):
        path.write_bytes(content[:at])
        # What is cut off at the end may be padding alone.
        attacks.run(f"cut at {at}", lambda: read_state(path), oracle=oracle, names=[str(path)])


def read_whole(path, content, name):
    """Return an oracle: what is read of a damaged file is what the whole one holds."""
    other = path.with_name(f"whole-{name}")
    other.write_bytes(content)
    wanted = read_state(other)
    return lambda found: same_state(found, wanted)


@pytest.mark.parametrize("name", ["1.pt", "1.ckpt", "pytorch_model.bin"])
def test_archives_with_a_bit_that_has_turned(count, tmp_path, name):
    """Archives have checksums, so that what is read of them is what was written."""
    attacks, content = Attacks(count, "checkpoints"), whole_files()[name]
    path, chance = tmp_path / name, random.Random(724)
    oracle = read_whole(path, content, name)
    for at in sorted(chance.sample(range(len(content)), 150)):
        turned = bytearray(content)
        turned[at] ^= 1 << chance.randrange(8)
        path.write_bytes(turned)
        attacks.run(f"bit at {at}", lambda: read_state(path), oracle=oracle, names=[str(path)])


def test_headers_of_safetensors_that_have_turned(count, tmp_path):
    """Their length and the first names; in the numbers no one can tell, as there is no checksum."""
    attacks, content = Attacks(count, "checkpoints"), whole_files()["1.safetensors"]
    header = 8 + struct.unpack("<Q", content[:8])[0]
    path, chance = tmp_path / "1.safetensors", random.Random(571)
    model, own = build_mlp(), {n: v.shape for n, v in build_mlp().state_dict().items()}

    def fits(found) -> bool:
        return {n: v.shape for n, v in found.states[0][0].items()} == own

    for number in range(200):
        turned = bytearray(content)
        for _ in range(chance.randrange(1, 4)):
            turned[chance.randrange(header)] = chance.randrange(256)
        path.write_bytes(turned)
        attacks.run(
            f"header {number}",
            lambda: Posterior.from_state_dicts(model, [[read_state(path)]]),
            oracle=fits,
        )


class Trap:
    """Unpickles as a call of whatever it is given."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def traps(path):
    """Return functions and arguments that would leave a mark, or worse."""
    code = f"open({str(path)!r}, 'w')"
    modules = "os posix subprocess builtins torch runpy importlib code pty shutil pdb".split()
    names = (
        "system popen Popen eval exec load run_path import_module interact spawn rmtree run open"
    )
    found = [(eval, code), (exec, code), (open, str(path), "w"), (__import__, "antigravity")]
    for module in map(__import__, modules):
        for name in names.split():
            if callable(function := getattr(module, name, None)):
                found.append((function, f"touch {path}"))
    return found


@pytest.mark.parametrize("name", ["1.pt", "1.pth", "1.ckpt", "pytorch_model.bin"])
def test_objects_that_would_run_something(count, tmp_path, name):
    attacks, path = Attacks(count, "checkpoints"), tmp_path / name
    state, sprung = build_mlp().state_dict(), tmp_path / SPRUNG
    for number, trap in enumerate(traps(sprung)):
        for place, value in (
            ("alone", Trap(*trap)),
            ("in a state", {**state, "0.bias": Trap(*trap)}),
            ("beside a state", {"state_dict": state, "epoch": Trap(*trap)}),
            ("as a name", {**state, Trap(*trap): torch.ones(1)}),
        ):
            try:
                path.write_bytes(saved(value, _use_new_zipfile_serialization=name != "1.pth"))
            except TypeError:  # What cannot be a name.
                continue
            attacks.run(f"{number} {place}", lambda: read_state(path), names=[str(path)])
    assert not sprung.exists()


def test_bare_pickles_and_other_archives(count, tmp_path):
    attacks, state = Attacks(count, "checkpoints"), build_mlp().state_dict()
    chance = random.Random(296)
    for ending in (".pt", ".pth", ".ckpt", ".safetensors"):
        path = tmp_path / f"1{ending}"
        read = partial(read_state, path)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            for value in ({}, [], 3, "text", None, {"a": 1}, {"a": [1.5] * 9}, {1: 2}, b"x" * 99):
                path.write_bytes(pickle.dumps(value, protocol))
                oracle = {"oracle": {}} if value == {} else {}
                attacks.run(f"{ending} {protocol} {value!r}", read, **oracle, names=[str(path)])
        for number in range(40):
            path.write_bytes(chance.randbytes(chance.randrange(2000)))
            attacks.run(f"{ending} noise {number}", read, names=[str(path)])
        for number, content in enumerate((saved(state), b"", b"PK\x03\x04", b"PK\x05\x06" * 9)):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("archive/data.pkl", content)
                archive.writestr("archive/data/0", bytes(10**6))
            attacks.run(f"{ending} archive {number}", read, names=[str(path)])


def test_indices_that_lead_elsewhere(count, tmp_path):
    attacks, place = Attacks(count, "checkpoints"), tmp_path / "saved"
    (tmp_path / "secret-00001-of-00001.safetensors").write_bytes(save({"secret": torch.ones(1)}))
    place.mkdir()
    state = build_mlp().state_dict()
    good = "model-00001-of-00001.safetensors"
    (place / good).write_bytes(save(state))
    index = place / "model.safetensors.index.json"
    chance = random.Random(968)
    names = [
        "../secret-00001-of-00001.safetensors",
        str(tmp_path / "secret-00001-of-00001.safetensors"),
        "./../secret-00001-of-00001.safetensors",
        "..\\secret-00001-of-00001.safetensors",
        "/dev/zero",
        "/etc/passwd",
        "",
        ".",
        "..",
        "\0-00001-of-00001.bin",
        "a" * 5000,
        "other-00001-of-00001.safetensors",
        "model.safetensors.index.json",
    ]
    for number, name in enumerate([*names, 3, None, 1.5, [good], {"a": good}, True]):
        for kind, where in (("alone", {"a": name}), ("beside", {"0.bias": good, "a": name})):
            index.write_text(json.dumps({"weight_map": where}))
            attacks.run(f"name {number} {kind}", lambda: read_state(index), names=[str(index)])
    whole = json.dumps({"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(state, good)})
    for number in range(150):
        at, other = chance.randrange(len(whole)), chance.choice('{}[]",:\\0 aé\x00')
        index.write_text(whole[:at] + other + whole[at + 1 :])
        attacks.run(
            f"letter {number}",
            lambda: read_state(index),
            oracle=lambda found: same_state(found, state),
            names=[str(index)],
        )


def test_folders_are_what_their_names_say_or_refused(count, tmp_path):
    """Trees of runs at random, with what trainers leave beside them; the count is known."""
    attacks, chance = Attacks(count, "checkpoints"), random.Random(854)
    beside = ["optimizer.pt", "scheduler.pt", "rng_state.pth", "rng_state_0.pth", "scaler.pt"]
    beside += ["training_args.bin", "optimizer.bin", "random_states_0.pkl", "trainer_state.json"]
    steps = ["checkpoint-{}", "checkpoint_{}", "epoch-{}", "epoch_{}", "step_{}", "global_step{}"]
    files = ["model.safetensors", "pytorch_model.bin", "weights.pt", "last.pth"]
    for number in range(250):
        folder = tmp_path / str(number)
        members, checkpoints = chance.randrange(1, 4), chance.randrange(1, 4)
        way = chance.choice(["files", "folders", "inner", "one run"])
        for member in range(1 if way == "one run" else members):
            run = folder if way == "one run" else folder / f"run-{member}"
            run = run / "checkpoints" if way == "inner" else run
            step, file = chance.choice(steps), chance.choice(files)
            for checkpoint in range(checkpoints):
                place = run if way == "files" else run / step.format(100 * checkpoint)
                place.mkdir(parents=True, exist_ok=True)
                name = f"epoch-{checkpoint}.pt" if way == "files" else file
                for other in [name, *chance.sample(beside, 3)]:
                    (place / other).touch()
        wanted = 1 if way == "one run" else members, checkpoints

        def shape(folder=folder):
            paths = find_checkpoints(folder).paths
            return len(paths), len(paths[0])

        attacks.run(f"tree {number}", shape, oracle=wanted, refusable=False)


@pytest.mark.filterwarnings("ignore:.*quantize_per_tensor")
def test_states_that_are_no_states(count):
    attacks, model = Attacks(count, "checkpoints"), build_mlp()
    state, chance = model.state_dict(), random.Random(245)
    odd = [None, 3, 1.5, "state", b"state", (), [], {}, set(), torch.ones(2), model, object, state]
    for one in range(len(odd)):
        for shape, nested in (
            ("bare", odd[one]),
            ("in a list", [odd[one]]),
            ("in a tuple", (odd[one],)),
            ("as a generator", (one for one in [odd[one]])),
            ("beside", [[state], odd[one]]),
            ("in a member", [[odd[one]]]),
            ("in a later member", [[state], [odd[one]]]),
        ):
            right = odd[one] is state and "member" in shape
            oracle = {"oracle": lambda found: found.checkpoints == 1} if right else {}
            attacks.run(
                f"{one} {shape}",
                lambda nested=nested: Posterior.from_state_dicts(model, nested),
                **oracle,
                names=["states"],
            )
    for number in range(300):
        changed = {name: value.clone() for name, value in state.items()}
        name = chance.choice(list(changed))
        wrong = [
            lambda v: v[..., None],
            lambda v: v.repeat(2, *[1] * (v.ndim - 1)),
            lambda v: v.to("meta"),
            lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8),
            lambda v: v * torch.nan,
            lambda v: v * torch.inf,
            lambda v: v.to_sparse(),
            lambda v: v.tolist(),
            lambda v: None,
            lambda v: v.new_zeros(0),
            lambda v: v.numpy(),
        ]
        kind = chance.randrange(len(wrong) + 3)
        if kind < len(wrong):
            changed[name] = wrong[kind](changed[name])
        elif kind == len(wrong):
            del changed[name]
        elif kind == len(wrong) + 1:
            changed[f"module.{name}"] = changed.pop(name)
        else:
            changed[f"extra.{number}"] = torch.ones(1)
        attacks.run(
            f"changed {number}",
            lambda changed=changed: Posterior.from_state_dicts(model, [[state], [changed]]),
            names=["states[1][0]"],
        )


PREFIXES = ("", "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "a.b.")


@pytest.mark.filterwarnings("ignore:.*jit.script")
def test_states_of_every_network_under_every_prefix_with_a_name_too_few(count):
    attacks = Attacks(count, "checkpoints")
    for name in NETWORKS:
        if name in ("scripted", "compiled", "no parameters", "frozen parameters only"):
            continue
        model = built(name)
        state = copy.deepcopy(model.state_dict())
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        needed = state.keys() - frozen

        def right(found, state=state, needed=needed) -> bool:
            own = found.states[0][0]
            return own.keys() == needed and all(torch.equal(own[n], state[n]) for n in needed)

        for prefix in PREFIXES:
            given = {prefix + n: v for n, v in state.items()}

            def read(given=given, model=model):
                return Posterior.from_state_dicts(model, [[given]])

            attacks.run(f"{name} {prefix}", read, oracle=right, refusable=False)
            left = random.Random(len(prefix)).choice(sorted(needed))
            del given[prefix + left]
            shared = any(n != left and state[n].data_ptr() == state[left].data_ptr() for n in state)
            attacks.run(f"{name} {prefix} without {left}", read, **_end_of(shared, right))


def _end_of(shared, right):
    """Return what a state has to come to that lacks a name: of a tied parameter one will do."""
    return {"oracle": right} if shared else {"names": ["states[0][0]", "lacks"]}


def test_weights_of_a_model_that_ties_nothing_are_never_taken_for_tied(count):
    attacks = Attacks(count, "checkpoints")

    def tied():
        model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
        model[2].weight = model[0].weight
        return model

    for number in range(60):
        generator = torch.Generator().manual_seed(number)
        state = {
            n: torch.rand(v.shape, generator=generator) for n, v in tied().state_dict().items()
        }
        attacks.run(
            f"untied {number}",
            lambda state=state: Posterior.from_state_dicts(tied(), [[state]]),
            names=["states[0][0]", "'0.weight'", "'2.weight'"],
        )
