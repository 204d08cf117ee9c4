"""Checkpoints as training loops leave them: a folder of members, one file or folder a checkpoint.

What is read is tensors and their names, and nothing in a file is run. Knows nothing of models. The
layouts that are understood stand in ``docs/checkpoints.md``.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from tda_utils.checks import brief
from tda_utils.files import read_whole
from tda_utils.texts import brief_problem, opened, read_json

ENDINGS = (".safetensors", ".pt", ".pth", ".ckpt")
ALLOWED = ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}"
# The Hugging Face libraries write these, whole or in parts, the second where they are asked to.
PREFERRED, OLDER = "model.safetensors", "pytorch_model.bin"
INDEX = ".index.json"
PART = re.compile(r".*-\d{5}-of-\d{5}\.(safetensors|bin)")
# What trainers keep beside a model: optimisers, schedules, random states, arguments.
BESIDE = re.compile(
    r"(optimizer|scheduler|scaler|sampler|dl_state_dict|rng_state|random_states|training_args"
    r"|custom_checkpoint)(_\d+)?\..*"
)
# Folders that hold one checkpoint of a run each, by what their names say.
STEP = re.compile(r"(checkpoint|ckpt|epoch|step|global_step|iter)[-_=]?\d+")
# Where training loops keep a state among other things: Lightning, PyTorch's tutorial, torchvision.
INSIDE = ("state_dict", "model_state_dict", "model")


class Checkpoints(NamedTuple):
    """What a folder holds: ``paths[member][checkpoint]``, and what the names say beside it."""

    paths: list[list[Path]]
    seeds: tuple[int, ...] | None
    epochs: tuple[int, ...] | None


def find_checkpoints(folder: str | Path) -> Checkpoints:
    """List the checkpoints of a folder of members, in the order of their names.

    Parameters
    ----------
    folder : path
        Holds one folder a member, and each of these one file a checkpoint, ``.safetensors``,
        ``.pt``, ``.pth`` or ``.ckpt``, or one folder a checkpoint, ``checkpoint-500`` or the like,
        maybe under ``checkpoints``; or holds the checkpoint folders of a single run, which is then
        the only member. Numbers in names are ordered as numbers, 9 before 10. Passed over are
        hidden files and folders, files of other kinds, and what trainers keep beside a model.

    Returns
    -------
    Checkpoints
        With the seeds, if the name of every member's folder ends in ``seed-446`` or the like, and
        the epochs, if every checkpoint's name says ``epoch-15`` or the like, and the same in all
        members. The path of a model in parts is that of its index.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ValueError
        If it holds no members, a member has no checkpoint or one twice, or members differ in their
        number of checkpoints.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for seed in (446, 724):
    ...         Path(folder, f"seed-{seed}").mkdir()
    ...         Path(folder, f"seed-{seed}", "epoch-15.pt").touch()
    ...     _, seeds, epochs = find_checkpoints(folder)
    >>> seeds, epochs
    ((446, 724), (15,))
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"folder is {str(folder)!r}, which is no folder; it must hold one folder a member."
        )
    members = _folders_in(folder)
    if not members:
        inside = "files and" if _visible(folder) else "nothing, and"
        raise ValueError(
            f"folder {str(folder)!r} holds {inside} no folders; each member (training run) needs a "
            "folder of its own."
        )
    if _steps_in(folder):
        _check_one_run(folder)
        members = [folder]
    paths = [_checkpoints_of(member) for member in members]
    if len({len(own) for own in paths}) > 1:
        counts = ", ".join(f"{m.name} {len(own)}" for m, own in zip(members, paths, strict=True))
        raise ValueError(
            f"folder {str(folder)!r} has members with different numbers of checkpoints ({counts}); "
            "all must have the same."
        )
    epochs = {_numbers("epoch", [_name_of(path) for path in own]) for own in paths}
    common = epochs.pop() if len(epochs) == 1 else None
    increasing = common is not None and list(common) == sorted(set(common))
    seeds = _numbers("seed", [member.name for member in members], at_end=True)
    return Checkpoints(paths, seeds, common if increasing else None)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read one checkpoint: names and tensors, on the CPU.

    Parameters
    ----------
    path : path
        A file, or the index of a model in parts. Of what a training loop saved beside a state, as
        Lightning does, only the state is returned.

    Raises
    ------
    ValueError
        If the file is damaged, or holds anything but names and tensors.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save(torch.nn.Linear(2, 1).state_dict(), f"{folder}/epoch-1.pt")
    ...     state = read_state(f"{folder}/epoch-1.pt")
    >>> state["weight"].shape
    torch.Size([1, 2])
    """
    path = Path(path)
    if path.name.endswith(INDEX):
        return {name: value for part in _parts_of(path) for name, value in read_state(part).items()}
    with suppress(OSError), opened(path):  # a pipe is refused; that nothing is there is said below
        pass
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(state, Mapping):
        raise ValueError(
            f"the file {path} holds a {type(state).__name__}; it must hold a state dict: save "
            "model.state_dict()."
        )
    inside = [state[key] for key in INSIDE if key in state and _is_state(state[key])]
    state = inside[0] if len(inside) == 1 else state
    for name, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise ValueError(
                f"the file {path} holds {name!r}, a {type(value).__name__}, and a state dict holds "
                "tensors alone: save model.state_dict() without anything beside it."
            )
    return dict(state)


def _is_state(value: object) -> bool:
    """Return whether a value is a state dict: names and tensors, at least one."""
    if not isinstance(value, Mapping) or not value:
        return False
    return all(isinstance(n, str) and isinstance(one, Tensor) for n, one in value.items())


def _parts_of(index: Path) -> list[Path]:
    """Return the files that an index names, all of which lie beside it."""
    wanted = "an index names, under 'weight_map', the file beside it that holds each parameter"
    try:
        names = set(read_json(index)["weight_map"].values())
    except (OSError, ValueError, LookupError, AttributeError, TypeError) as problem:
        said = brief_problem(problem)
        raise ValueError(f"the file {index} is not read ({said}); {wanted}.") from problem
    if odd := [name for name in names if not isinstance(name, str) or not PART.fullmatch(name)]:
        raise ValueError(f"the file {index} names {brief(odd[0])}; {wanted}.")
    parts = [index.with_name(name) for name in sorted(names) if Path(name).name == name]
    if missing := sorted(names - {part.name for part in parts if part.is_file()}):
        raise ValueError(f"the file {index} names {missing[0]!r}, which is not beside it.")
    return parts


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        # Not mapped into memory: a file that changes meanwhile would end the process.
        return load(bytes(read_whole(path)))
    except (SafetensorError, OSError, ValueError, LookupError, TypeError) as problem:
        raise ValueError(f"the file {path} is no whole safetensors file ({problem}).") from problem


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is, or that is not as it was written.

    ``torch.save`` packs nothing, and ``torch.load`` does not look at the checksums.
    """
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > path.stat().st_size:
            raise _Unpacks(
                f"the file {path} would unpack to {size:,} bytes, and has "
                f"{path.stat().st_size:,}; torch.save(model.state_dict(), path) writes one that is "
                "not packed."
            )
        # All are zero where `torch.serialization.set_crc32_options` has switched them off.
        if any(member.CRC for member in members) and (damaged := archive.testzip()):
            raise zipfile.BadZipFile(f"{damaged} has another checksum")


class _Unpacks(ValueError):
    """An archive that unpacks to more than it is."""


def _read_torch(path: Path) -> object:
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # What torch has to say of an odd pickle.
            return torch.load(path, map_location="cpu", weights_only=True)
    except _Unpacks:
        raise
    except pickle.UnpicklingError as problem:
        # Torch's own message is a page long, and tells how to switch the protection off.
        raise ValueError(
            f"the file {path} is not read: it is no file of tensors, or holds objects that could "
            "run code when they are loaded; save model.state_dict() alone."
        ) from problem
    except Exception as problem:  # whatever a damaged pickle makes of itself
        raise ValueError(
            f"the file {path} is empty or damaged; write it again with "
            "torch.save(model.state_dict(), path)."
        ) from problem


def _checkpoints_of(member: Path) -> list[Path]:
    """Return the checkpoints of a member: folders if it has such, else files."""
    inner = member / "checkpoints"
    place = inner if inner.is_dir() and not _files_in(member) and not _steps_in(member) else member
    files = [file for step in _steps_in(place) for file in _files_in(step)] or _files_in(place)
    if not files:
        raise ValueError(
            f"the member {str(member)!r} has no checkpoint; it must hold at least one file that "
            f"ends in {ALLOWED}."
        )
    stems = [path.stem for path in files if path.parent == place]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(
            f"the member {str(member)!r} has two files named {twice[0]!r} with different endings; "
            "each checkpoint must be there once."
        )
    return files


def _check_one_run(folder: Path) -> None:
    """Raise a `ValueError` if members lie beside the checkpoint folders of a single run."""
    steps = _steps_in(folder)
    for other in _folders_in(folder):
        if other not in steps and (_files_in(other) or _steps_in(other)):
            raise ValueError(
                f"folder {str(folder)!r} holds {steps[0].name!r}, a checkpoint of one run, beside "
                f"{other.name!r}, which holds checkpoints too; it must hold either the checkpoint "
                "folders of one run, or one folder a member."
            )


def _steps_in(folder: Path) -> list[Path]:
    """Return the folders that hold one checkpoint of a run each, none if folders hold several."""
    steps = [path for path in _folders_in(folder) if STEP.fullmatch(path.name.lower())]
    counts = [len(_files_in(step)) for step in steps]
    if 0 in counts and max(counts) > 0:
        empty = steps[counts.index(0)]
        raise ValueError(
            f"the folder {str(empty)!r} has no checkpoint, as after an interrupted run; each one "
            f"beside it holds a file that ends in {ALLOWED}: take it away."
        )
    return steps if set(counts) == {1} else []


def _files_in(folder: Path) -> list[Path]:
    """Return the checkpoints that lie in a folder as files, in the order of their names."""
    files = [path for path in _visible(folder) if path.is_file()]
    own = {path.name: path for path in files if _is_checkpoint(path.name)}
    for preferred, others in (
        (PREFERRED + INDEX, (OLDER, OLDER + INDEX)),
        (PREFERRED, (OLDER, OLDER + INDEX)),
    ):
        if preferred in own:
            own = {name: path for name, path in own.items() if name not in others}
    # Lightning's copy of the last of the others.
    if sum(name.endswith(".ckpt") for name in own) > 1:
        own.pop("last.ckpt", None)
    parts = [path.name for path in files if PART.fullmatch(path.name)]
    if parts and not any(name.endswith(INDEX) for name in own):
        raise ValueError(
            f"the folder {str(folder)!r} holds {parts[0]!r}, a part of a model, and no index that "
            f"says what is in which part; it must hold {PREFERRED + INDEX!r} or the like."
        )
    return sorted(own.values(), key=_natural)


def _is_checkpoint(name: str) -> bool:
    if BESIDE.fullmatch(name) or PART.fullmatch(name):
        return False
    if name.endswith(INDEX):
        return Path(name.removesuffix(INDEX)).suffix in (".safetensors", ".bin")
    return Path(name).suffix in ENDINGS or name == OLDER


def _name_of(path: Path) -> str:
    """Return the name that says which checkpoint it is: the file's, or that of its folder."""
    folder = path.parent
    return folder.name if folder in _steps_in(folder.parent) else path.stem


def _folders_in(folder: Path) -> list[Path]:
    return sorted((path for path in _visible(folder) if path.is_dir()), key=_natural)


def _visible(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if not path.name.startswith(".")]


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort by name, numbers in it by their value."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _numbers(word: str, names: Sequence[str], at_end: bool = False) -> tuple[int, ...] | None:
    """Return the number behind a word in each of the names; None unless all have one."""
    pattern = rf"(?:^|[^a-z]){word}[-_= ]?(\d+)" + ("$" if at_end else "")
    found = [re.search(pattern, name.lower()) for name in names]
    return tuple(int(one.group(1)) for one in found) if all(found) else None
