"""The form of a manifest: its JSON schema, and one sentence on what is wrong with a document.

The schema, ``figures.schema.json`` beside this file, is what editors read as well.
"""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tda_utils.reproduce.notebook import ManifestError, all_of, unknown_name

SCHEMA = Path(__file__).with_name("figures.schema.json")
#: What jsonschema would import only to check formats of text that this schema does not use. The
#: first of them builds a grammar, which takes longer than all else that lists the figures.
FORMATS = ("rfc3987_syntax", "isoduration")
#: Types of JSON, in words.
KINDS = {
    "object": "a mapping (name: value)",
    "array": "a list",
    "string": "a text that is not empty",
}
#: What is said first of one place: a misspelt key says more than that the right one is missing.
FIRST = ("type", "additionalProperties")


class _UniqueKeys(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """A safe loader that refuses a key given twice (YAML would silently keep the last one)."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._seen: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        # At the first visit, before merged keys are put in, since those may be there again.
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        known: set[str] = set()
        for key in keys if node not in self._seen else []:
            if key.value in known:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key.value!r} is there twice", problem_mark=key.start_mark
                )
            known.add(key.value)
        self._seen.add(node)
        super().flatten_mapping(node)


def read_document(path: Path) -> dict[str, Any]:
    """Read a manifest's YAML file and hold it against the schema.

    Raises
    ------
    ManifestError
        If the file cannot be read, or an entry is missing, unknown or of the wrong kind.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "figures.yaml")
    >>> _ = path.write_text("figures: {tau: {captoin: Tau.}}\\nsizes: {}")
    >>> read_document(path)
    Traceback (most recent call last):
    tda_utils.reproduce.notebook.ManifestError: figures.tau: unknown key 'captoin'; did you mean \
'caption'? Known: notebook, caption, notes, alt, protocols, outputs.
    """
    name = f"manifest {str(path)!r}"
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{name} cannot be read: {error}.") from error
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or str(error)
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(f"{name}{where}: {problem}.") from error
    try:
        first = min(_validator().iter_errors(document), key=_order, default=None)
    except RecursionError as error:
        raise ManifestError(f"{name} is nested too deeply to be one.") from error
    if first is not None:
        raise ManifestError(_sentence(first, name))
    return document


@cache
def _validator() -> Any:
    hidden = [name for name in FORMATS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # which makes an import of them fail
    try:
        from jsonschema import Draft202012Validator
    finally:
        for name in hidden:
            del sys.modules[name]
    return Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))


def _order(error: Any) -> tuple[int, bool]:
    return len(error.absolute_path), error.validator not in FIRST


def _sentence(error: Any, name: str) -> str:
    """Say in one sentence what a `jsonschema.ValidationError` found, and where."""
    where = ".".join(key for key in error.absolute_path if isinstance(key, str)) or name
    value, wanted = error.instance, error.validator_value
    said = error.schema.get("description", "")
    choices = error.schema.get("items", {}).get("enum")
    of = f" of {all_of(choices)}" if choices else ""
    match error.validator:
        case "required":
            missing = next(key for key in wanted if key not in value)
            return f"{where}: key {missing!r} is missing; it needs {all_of(wanted)}."
        case "additionalProperties":
            known = error.schema["properties"]
            unknown = next(key for key in value if key not in known)
            return f"{where}: {unknown_name('key', unknown, known)}"
        case "enum":
            return f"{where}: {unknown_name('value', value, wanted)}"
        case "uniqueItems":
            return f"{where} names a value twice: {value!r}."
        case "minItems" | "minProperties":
            return f"{where} is empty; it needs at least one{of}."
        case "not":
            return f"{where}.{value}: the runner sets {value!r}; take it out."
        case "pattern" | "type" if "propertyNames" in error.absolute_schema_path:
            return f"{where}: {said}; this one is {value!r}."
        case "type" if isinstance(wanted, str):
            return f"{where} has to be {KINDS[wanted]}{of}, not {value!r}."
        case "pattern" | "type":
            return f"{where} has to be {said}, not {value!r}."
    return f"{where}: {error.message}."
