"""The form of a manifest: its JSON schema, and one sentence on what is wrong with a document.

The schema, ``figures.schema.json`` beside this file, is what editors read as well.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tda_utils.checks import brief
from tda_utils.reproduce.notebook import ManifestError, all_of, unknown_name
from tda_utils.texts import MOST_NESTED, brief_problem, read_plain

SCHEMA = Path(__file__).with_name("figures.schema.json")
#: What jsonschema would import only to check formats of text that this schema does not use. The
#: first of them builds a grammar, which takes longer than all else that lists the figures.
FORMATS = ("rfc3987_syntax", "isoduration")
#: Types of JSON, in words.
KINDS = {
    "object": "a mapping (name: value)",
    "array": "a list",
    "string": "a text that is not empty",
    "integer": "a whole number",
}
#: What is said first of one place: a misspelt key says more than that the right one is missing.
FIRST = ("type", "additionalProperties")


#: What the loader raises besides its own errors where a value is not what its tag says.
UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, AttributeError)
#: What YAML alone takes for a number: to base 8, with a zero before it, or to base 60, with colons.
_OF_OLD = re.compile(r"[-+]?(0[0-7_]+|.*:.*)")
#: A key that is shown as it is.
_PLAIN_KEY = re.compile(r"[\w.-]{1,80}")
#: Bytes of the longest manifest, far above what any needs.
MOST_BYTES = 2 * 2**20
#: Values of the largest one, where each alias counts as all that it stands for.
MOST_VALUES = 100_000
#: Characters of the longest number.
MOST_OF_A_NUMBER = 40


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


def _number(loader: _UniqueKeys, node: yaml.ScalarNode) -> int | float:
    """Construct a number, of moderate length: it takes long to make one of thousands of digits."""
    kind = node.tag.rpartition(":")[2]
    if len(loader.construct_scalar(node)) > MOST_OF_A_NUMBER:
        raise yaml.MarkedYAMLError(
            problem=f"a number ({kind}) of {len(node.value):,} characters is longer than "
            f"{MOST_OF_A_NUMBER}",
            problem_mark=node.start_mark,
        )
    if _OF_OLD.fullmatch(node.value):
        meant = loader.construct_yaml_int(node) if kind == "int" else "minutes or degrees"
        raise yaml.MarkedYAMLError(
            problem=f"{node.value} is {meant} in YAML; write a number in decimals, or a text "
            "between quotation marks",
            problem_mark=node.start_mark,
        )
    return getattr(loader, f"construct_yaml_{kind}")(node)


for _kind in ("int", "float"):
    _UniqueKeys.add_constructor(f"tag:yaml.org,2002:{_kind}", _number)


def _check_size(text: str) -> None:
    """Refuse a document that is nested too deeply, or too large once its aliases are followed.

    It is read event by event, so that nothing is built of what is refused.
    """
    size, depth = 0, 0
    #: What an anchor stands for in values; None while it is not complete.
    sizes: dict[str, int | None] = {}
    begun: list[tuple[str | None, int]] = []
    for event in yaml.parse(text, Loader=_UniqueKeys):
        if isinstance(event, yaml.AliasEvent):
            within = sizes.get(event.anchor, 0)
            if within is None:
                raise _marked(f"the alias {event.anchor!r} stands for what it lies in", event)
            size += within
        elif isinstance(event, yaml.ScalarEvent):
            size += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionStartEvent):
            begun.append((event.anchor, size))
            size += 1
            depth += 1
            if event.anchor:
                sizes[event.anchor] = None
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = begun.pop()
            depth -= 1
            if anchor:
                sizes[anchor] = size - before
        if depth > MOST_NESTED:
            raise _marked(f"it is nested more than {MOST_NESTED} deep", event)
        if size > MOST_VALUES:
            raise _marked(f"it has more than {MOST_VALUES:,} values, aliases followed", event)


def _marked(problem: str, event: yaml.Event) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)


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
        text = read_plain(path, MOST_BYTES).decode("utf-8")
        _check_size(text)
        document = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ManifestError(f"{name}{where}: {brief_problem(problem)}.") from error
    except OSError as error:
        raise ManifestError(f"{name} cannot be read: {brief_problem(error)}.") from error
    except UNREADABLE as error:
        # Such as a date without a month, or what a tag says is a number and is none.
        problem = f"{type(error).__name__}: {brief_problem(error)}"
        raise ManifestError(f"{name} cannot be read ({problem}).") from error
    first = min(_validator().iter_errors(document), key=_order, default=None)
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
    keys = [key for key in error.absolute_path if isinstance(key, str)]
    where = ".".join(key if _PLAIN_KEY.fullmatch(key) else brief(key) for key in keys) or name
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
            return f"{where} names a value twice: {brief(value)}."
        case "minItems" | "minProperties":
            return f"{where} is empty; it needs at least one{of}."
        case "not":
            return f"{where}.{value}: the runner sets {brief(value)}; take it out."
        case "pattern" | "type" if "propertyNames" in error.absolute_schema_path:
            return f"{where}: {said}; this one is {brief(value)}."
        case "type" if isinstance(wanted, str):
            return f"{where} has to be {KINDS[wanted]}{of}, not {brief(value)}."
        case "pattern" | "type":
            return f"{where} has to be {said}, not {brief(value)}."
    return f"{where}: {brief_problem(error.message)}."
