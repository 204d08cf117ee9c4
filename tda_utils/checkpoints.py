"""Checkpoints as training loops leave them: a folder of members, one file a checkpoint.

What is read is tensors and their names, and nothing in a file is run. Knows nothing of models.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from tda_utils.texts import opened

ENDINGS = (".safetensors", ".pt", ".pth")
ALLOWED = ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}"


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
        ``.pt`` or ``.pth``. Numbers in names are ordered as numbers, 9 before 10. Hidden files and
        folders are passed over, and so are files of other kinds.

    Returns
    -------
    Checkpoints
        With the seeds, if the name of every member's folder ends in ``seed-446`` or the like, and
        the epochs, if every file's name says ``epoch-15`` or the like, and the same in all members.

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
    entries = sorted(_visible(folder), key=_natural)
    members = [entry for entry in entries if entry.is_dir()]
    if not members:
        inside = "files and" if entries else "nothing, and"
        raise ValueError(
            f"folder {str(folder)!r} holds {inside} no folders; each member (training run) needs a "
            "folder of its own."
        )
    paths = [_files_of(member) for member in members]
    if len({len(own) for own in paths}) > 1:
        counts = ", ".join(f"{m.name} {len(own)}" for m, own in zip(members, paths, strict=True))
        raise ValueError(
            f"folder {str(folder)!r} has members with different numbers of checkpoints ({counts}); "
            "all must have the same."
        )
    epochs = {_numbers("epoch", [path.stem for path in own]) for own in paths}
    common = epochs.pop() if len(epochs) == 1 else None
    increasing = common is not None and list(common) == sorted(set(common))
    seeds = _numbers("seed", [member.name for member in members], at_end=True)
    return Checkpoints(paths, seeds, common if increasing else None)


def read_state(path: str | Path) -> dict[str, Tensor]:
    """Read one checkpoint: names and tensors, on the CPU.

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
    with suppress(OSError), opened(path):  # a pipe is refused; that nothing is there is said below
        pass
    state = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    if not isinstance(state, Mapping):
        raise ValueError(
            f"the file {path} holds a {type(state).__name__}; it must hold a state dict: save "
            "model.state_dict()."
        )
    for name, value in state.items():
        if not isinstance(value, Tensor) or not isinstance(name, str):
            raise ValueError(
                f"the file {path} holds {name!r}, a {type(value).__name__}, and a state dict holds "
                "tensors alone: save model.state_dict() without anything beside it."
            )
    return dict(state)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError) as problem:
        raise ValueError(f"the file {path} is no whole safetensors file ({problem}).") from problem


def _check_packing(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is; ``torch.save`` packs nothing."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > path.stat().st_size:
        raise ValueError(
            f"the file {path} would unpack to {size:,} bytes, and has {path.stat().st_size:,}; "
            "torch.save(model.state_dict(), path) writes one that is not packed."
        )


def _read_torch(path: Path) -> object:
    with suppress(OSError, zipfile.BadZipFile):  # which torch finds out as well
        _check_packing(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
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


def _files_of(member: Path) -> list[Path]:
    files = [path for path in _visible(member) if path.suffix in ENDINGS and path.is_file()]
    if not files:
        raise ValueError(
            f"the member {str(member)!r} has no checkpoint; it must hold at least one file that "
            f"ends in {ALLOWED}."
        )
    stems = [path.stem for path in files]
    if twice := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise ValueError(
            f"the member {str(member)!r} has two files named {twice[0]!r} with different endings; "
            "each checkpoint must be there once."
        )
    return sorted(files, key=_natural)


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
