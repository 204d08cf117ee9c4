"""The form of a manifest: what its schema says, and one sentence on what does not fit it."""

import json
import re
import subprocess
import sys

import jsonschema
import pytest
import yaml

from tda_utils.reproduce import manifest as rooms
from tda_utils.reproduce.form import FORMATS, KINDS, SCHEMA, read_document
from tda_utils.reproduce.manifest import load_manifest
from tda_utils.reproduce.notebook import ManifestError
from tda_utils.terms import PROTOCOLS
from tests.reproduce.conftest import changed, command, entry, holds, manifest, write
from tools import ROOT

FORM = json.loads(SCHEMA.read_text(encoding="utf-8"))
#: For each fault a manifest, and what the sentence has to name: the place, the culprit, the cure.
MALFORMED = {
    "not YAML": ("figures: [", ["figures.yaml", "line"]),
    "a list": ([1], ["figures.yaml", "mapping", "[1]"]),
    "a thousand lists": ("[" * 1_000 + "]" * 1_000, ["figures.yaml", "nest"]),
    "fifty lists": ("[" * 50 + "]" * 50, ["figures.yaml", "mapping"]),
    "twice": ("figures: {}\nfigures: {}\nsizes: {}", ["line 2", "'figures'", "twice"]),
    "twice below": (
        "figures: {}\nsizes:\n  a: &a {quick: {members: 2}}\n  b: {<<: *a, full: {m: 1, m: 2}}",
        ["line 4", "'m'", "twice"],
    ),
    "no figure": ({"figures": {}, "sizes": {}}, ["figures", "empty"]),
    "unknown part": (manifest() | {"figure": {}}, ["'figure'", "did you mean 'figures'"]),
    "unknown key": (
        changed(figures__tau__captoin="x"),
        ["figures.tau", "'captoin'", "did you mean 'caption'"],
    ),
    "misspelt key": (
        changed(figures__tau__caption=None, figures__tau__captoin="x"),
        ["figures.tau", "'captoin'", "did you mean 'caption'"],
    ),
    "no caption": (changed(figures__tau__caption=None), ["figures.tau", "'caption'", "missing"]),
    "empty caption": (changed(figures__tau__caption=" "), ["figures.tau.caption", "' '"]),
    "caption is a number": (changed(figures__tau__caption=3), ["figures.tau.caption", "text", "3"]),
    "no alt text": (changed(figures__tau__alt=None), ["figures.tau", "'alt'", "missing"]),
    "output": (
        changed(figures__tau__outputs=["tables"]),
        ["figures.tau.outputs", "'tables'", "did you mean 'table'"],
    ),
    "no output": (changed(figures__tau__outputs=[]), ["figures.tau.outputs", "table, numbers"]),
    "output twice": (
        changed(figures__tau__outputs=["table", "table"]),
        ["figures.tau.outputs", "twice"],
    ),
    "not a list": (
        changed(figures__tau__outputs="table"),
        ["figures.tau.outputs", "list of figure, table, numbers", "'table'"],
    ),
    "protocol": (
        changed(figures__tau__protocols=["pairde"]),
        ["figures.tau.protocols", "'pairde'", "did you mean 'paired'"],
    ),
    "note": (
        changed(figures__tau__notes={"ful": "x"}),
        ["figures.tau.notes", "'ful'", "did you mean 'full'"],
    ),
    "size": (changed(sizes__01_good__quick=None), ["sizes.01_good", "'quick'", "missing"]),
    "unknown size": (changed(sizes__01_good__papre={}), ["sizes.01_good", "did you mean 'paper'"]),
    "no sizes": (changed(sizes__01_good=None), ["sizes", "'01_good'", "missing"]),
    "unused sizes": (changed(figures__missing=None), ["sizes", "'03_silent'"]),
    "no parameters": (changed(sizes__02_bad__full=7), ["sizes.02_bad.full", "mapping", "7"]),
    "ours": (
        changed(sizes__02_bad__quick={"output": "x"}),
        ["sizes.02_bad.quick.output", "runner", "'output'"],
    ),
    "a number for a name": (changed(figures={7: entry("01_good", ["table"])}), ["figures", "7"]),
    "a fact's name": (manifest() | {"facts": {"Alpha": 1}}, ["facts", "'Alpha'"]),
    "a fact that is a list": (manifest() | {"facts": {"alpha": [1]}}, ["facts.alpha", "[1]"]),
    "a study's name": (
        manifest() | {"studies": {"Ten_Seeds": {}}},
        ["studies", "'Ten_Seeds'", "lower-case"],
    ),
    "a study that is a number": (manifest() | {"studies": {"ten": 3}}, ["studies.ten", "mapping"]),
    "outside": (
        changed(figures={"../../tau": entry("01_good", ["table"])}),
        ["figures", "lower-case letters", "'../../tau'"],
    ),
    "a line more": (changed(figures={"tau\n": entry("01_good", ["table"])}), [r"'tau\n'"]),
    "to base 8": ("figures: {}\nsizes: {a: {quick: {members: 010}}}", ["line 2", "010 is 8"]),
    "to base 60": ("figures: {}\nsizes: {a: {quick: {members: 1:30}}}", ["line 2", "1:30 is 90"]),
    "an hour": ("figures: {}\nsizes: {a: {quick: {rate: 1:30.5}}}", ["line 2", "1:30.5"]),
    "outside too": (changed(figures__tau__notebook="../x"), ["figures.tau.notebook", "'../x'"]),
}


@pytest.mark.parametrize("fault", MALFORMED)
def test_a_malformed_manifest_is_refused(fault, tmp_path, capsys):
    document, words = MALFORMED[fault]
    assert command("list", manifest=write(tmp_path, document)) == 2
    holds(capsys.readouterr().err, "bayes-tda: error: ", *words)


def test_a_key_that_is_merged_and_given_anew_is_not_there_twice(tmp_path):
    text = yaml.safe_dump(manifest() | {"sizes": None}).replace("sizes: null", "")
    sizes = """
sizes:
  01_good:
    quick: &quick {members: 2, rate: 0.1}
    full: &full {<<: *quick, members: 3}
  02_bad: {quick: {}, full: {<<: *full, rate: 0.2}}
  03_silent: {quick: {}, full: {}}
"""
    sizes = load_manifest(write(tmp_path, text + sizes)).sizes
    assert sizes["01_good"]["full"] == {"members": 3, "rate": 0.1}
    assert sizes["02_bad"]["full"] == {"members": 3, "rate": 0.2}


def test_a_file_that_is_not_there_or_is_no_text_is_refused(tmp_path):
    path = tmp_path / "figures.yaml"
    with pytest.raises(ManifestError, match=re.escape(str(path))):
        read_document(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match=re.escape(str(path))):
        read_document(path)


# ---------------- the schema


def test_the_schema_is_one_of_the_draft_that_it_names():
    assert FORM["$schema"] == jsonschema.Draft202012Validator.META_SCHEMA["$id"]
    jsonschema.Draft202012Validator.check_schema(FORM)


def test_the_schema_and_the_code_know_the_same_names():
    figure, parameters = FORM["$defs"]["figure"]["properties"], FORM["$defs"]["parameters"]
    sizes = FORM["properties"]["sizes"]["additionalProperties"]
    assert tuple(sizes["properties"]) == tuple(figure["notes"]["properties"]) == rooms.SIZES
    assert tuple(figure["protocols"]["items"]["enum"]) == PROTOCOLS
    assert figure["outputs"]["items"]["enum"] == list(rooms.OUTPUTS)
    assert parameters["propertyNames"]["not"]["enum"] == list(rooms.RUNNER_PARAMETERS)


def test_every_rule_of_the_schema_has_a_sentence():
    def parts(schema):
        if isinstance(schema, dict):
            yield schema
            for part in schema.values():
                yield from parts(part)

    for part in parts(FORM):
        kind = part.get("type")
        if isinstance(kind, list) or ("pattern" in part and kind == "string"):
            assert part["description"]
        elif isinstance(kind, str):
            assert kind in KINDS


def test_editors_find_the_schema_by_the_manifests_first_line():
    path = ROOT / "paper" / "figures.yaml"
    first = path.read_text(encoding="utf-8").partition("\n")[0]
    place = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)[1]
    assert (path.parent / place).resolve() == SCHEMA.resolve()


def test_the_schema_is_part_of_the_package():
    import tomllib

    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = options["tool"]["setuptools"]["package-data"]["tda_utils"]
    shipped = {path for one in patterns for path in (ROOT / "tda_utils").glob(one)}
    assert SCHEMA.resolve() in {path.resolve() for path in shipped}


def test_what_the_schema_does_without_is_there_for_others():
    """Packages that are hidden from jsonschema, as they take long, can be imported afterwards."""
    code = (
        "import importlib.util, sys\n"
        "from tda_utils.reproduce.manifest import load_manifest\n"
        f"load_manifest({str(ROOT / 'paper' / 'figures.yaml')!r})\n"
        f"names = {FORMATS!r}\n"
        "assert not set(names) & set(sys.modules), 'imported, or still hidden'\n"
        "print([name for name in names if importlib.util.find_spec(name)])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
