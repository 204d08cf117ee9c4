"""The workflow: the same results as on one machine, also when it is killed, and on a cluster."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tda_utils.reproduce.manifest import load_manifest, plan
from tda_utils.reproduce.work import score_files, work_of

pytest.importorskip("snakemake", reason="needs the extra 'cluster'")

ROOT = Path(__file__).resolve().parents[2]
SNAKEFILE = ROOT / "paper" / "Snakefile"
# Seconds after which a workflow is taken to hang, which is an error and says nothing of its speed.
PATIENCE = 1800
NOTEBOOK = """\
# %% tags=["parameters"]
members: int = 2  # seeds
experiments: int = 1  # how many
protocol: str = "paired"  # paired or released
output: str = ""  # folder for results; nothing is written if empty
store: str = ""  # folder of finished scores

# %%
from pathlib import Path

import tda_utils as tda

# %% tags=["experiments"]
size = {"members": members, "checkpoints": 1, "test_per_class": 1, "protocol": protocol}
all_of_them = [tda.Experiment(epochs=1 + k, store=store, **size) for k in range(experiments)]
work = {one: ["grad_dot", "ats"] for one in all_of_them}

# %%
means = [float(one.scores(method).mean()) for one in work for method in work[one]]
for ending in ("csv", "md", "pdf", "png"):
    Path(output, f"means-{protocol}.{ending}").write_text(f"{members} members: {means}")
"""
MANIFEST = """\
figures:
  means:
    notebook: 01_means
    caption: Means of few members.
    alt: Nothing.
    protocols: [paired, released]
    outputs: [table, figure]
sizes:
  01_means: {quick: {members: 2}, full: {members: 2}, paper: {members: 10, experiments: 500}}
"""
# Posteriors and Grad-Dot are the same under both protocols.
FILES = 2 * (1 + 1 + 2)


def made_in(folder):
    """Lay out a repository with one notebook and its manifest."""
    for name, text in {"notebooks/01_means.py": NOTEBOOK, "paper/figures.yaml": MANIFEST}.items():
        (folder / name).parent.mkdir()
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def repository(tmp_path):
    return made_in(tmp_path)


def command(repository, *options, size="quick"):
    manifest = repository / "paper" / "figures.yaml"
    start = [sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *options]
    return [*start, "--config", f"size={size}", f"manifest={manifest}"]


def snakemake(repository, *options, size="quick"):
    """Run the workflow to its end and return all that it said."""
    done = subprocess.run(
        command(repository, *options, size=size),
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def results(repository):
    folder = repository / "paper" / "runs" / "quick" / "tables"
    return {path.name: path.read_text() for path in folder.iterdir()}


def files(repository):
    store = repository / "paper" / "runs" / "store"
    return {path: path.stat().st_mtime_ns for path in store.rglob("*.safetensors")}


def jobs(text):
    """Number of jobs of each rule that a dry run lists."""
    return {name: int(count) for name, count in re.findall(r"^(\w+) +(\d+)$", text, re.MULTILINE)}


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    """Results of the same manifest on one machine, without the workflow."""
    folder = made_in(tmp_path_factory.mktemp("alone"))
    manifest = str(folder / "paper" / "figures.yaml")
    start = [sys.executable, "-m", "tda_utils.reproduce", "run", "--all"]
    done = subprocess.run(
        [*start, "--manifest", manifest], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert f"2 of 2 notebook runs done; scores computed: {FILES}, already" in done.stdout
    return results(folder)


@pytest.mark.kernel
def test_a_killed_workflow_goes_on_and_ends_the_same(repository, wanted, count):
    process = subprocess.Popen(
        command(repository, "--cores", "2"),
        cwd=repository,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    given_up = time.monotonic() + PATIENCE
    while not files(repository):
        assert process.poll() is None, "it ended before it wrote a file"
        if time.monotonic() > given_up:
            raise TimeoutError("the workflow wrote no file")
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = files(repository)
    text = snakemake(repository, "--cores", "2")
    after = files(repository)
    assert len(after) == FILES, text
    # Snakemake takes away what was being written when it was killed.
    redone = sum(after[path] != time for path, time in before.items())
    assert redone <= 2
    assert results(repository) == wanted
    assert "Nothing to be done" in snakemake(repository, "--cores", "2", "--dry-run")
    # Marks of what was unfinished stay, if only of files that were whole by then.
    mark_as_unfinished(repository, next(iter(after)))
    assert captions_in_report(repository) == {"Means of few members."}
    count["kills survived"] += 1
    count["shards recomputed"] += redone


def mark_as_unfinished(repository, path):
    """Leave the mark that Snakemake leaves of a file when it is killed while it is made."""
    name = base64.urlsafe_b64encode(str(path).encode()).decode()
    marks = repository / ".snakemake" / "incomplete"
    assert marks.is_dir() and (repository / ".snakemake" / "metadata" / name).is_file()
    (marks / name).write_text('{"external_jobid": null}')


class Text(HTMLParser):
    """The text of a caption, and the tags that are not of a paragraph of text and code."""

    def __init__(self, caption):
        super().__init__()
        self.said, self.tags = "", []
        self.feed(caption)

    def handle_data(self, data):
        self.said += data

    def handle_starttag(self, tag, attrs):
        self.tags += [tag] if tag not in ("p", "tt") else []


def captions_in_report(repository):
    """Make a real report and return the captions in it as a reader sees them."""
    snakemake(repository, "--cores", "2", "--report", "report.html")
    page = (repository / "report.html").read_text()
    script = page.partition('<script id="results">')[2].partition("var results = ")[2]
    results, _ = json.JSONDecoder().raw_decode(script)
    shown = [Text(one["caption"]) for one in results.values()]
    assert len(shown) == 2 and not [tag for one in shown for tag in one.tags]
    return {one.said.strip() for one in shown}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A repository whose workflow a cluster has run to its end, which takes job scripts."""
    repository = made_in(tmp_path_factory.mktemp("cluster"))
    submit = repository / "submit"
    submit.write_text('#!/bin/sh\nnohup sh "$1" >/dev/null 2>&1 &\necho $!\n')
    submit.chmod(0o755)
    snakemake(
        repository,
        *("--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit)),
        *("--jobs", "2", "--latency-wait", "30", "--seconds-between-status-checks", "1"),
    )
    return repository


@pytest.mark.kernel
def test_a_cluster_that_takes_job_scripts_ends_the_same(finished, wanted):
    assert results(finished) == wanted


@pytest.mark.kernel
def test_only_what_a_changed_parameter_needs_is_run_again(finished):
    repository, options = finished, ["--cores", "2"]
    manifest = repository / "paper" / "figures.yaml"
    manifest.write_text(MANIFEST.replace("quick: {members: 2}", "quick: {members: 3}"))
    figures = {"figures_01_means_paired": 1, "figures_01_means_released": 1, "all": 1}
    new = {"posterior": 1, "scores": 3}
    again = jobs(snakemake(repository, *options, "--dry-run"))
    assert again == {**new, **figures, "total": 7}
    # A new time of the notebook alone, as after a checkout, is nothing new.
    manifest.write_text(MANIFEST)
    (repository / "notebooks" / "01_means.py").touch()
    assert "Nothing to be done" in snakemake(repository, *options, "--dry-run")


@pytest.mark.kernel
@pytest.mark.parametrize(
    "caption",
    [
        ".. include:: secret.txt {{{{ cycler.__init__.__globals__.os.system('touch sprung') }}}}",
        "`means` of {members} <script>touch()</script> `a <javascript:b>`_ means-paired.png_ |x|::",
    ],
)
def test_a_report_shows_captions_as_text(finished, caption, count):
    (finished / "secret.txt").write_text("the secret")
    manifest = finished / "paper" / "figures.yaml"
    manifest.write_text(MANIFEST.replace("Means of few members.", json.dumps(caption)))
    try:
        said = captions_in_report(finished)
    finally:
        manifest.write_text(MANIFEST)
    wanted = caption.replace("{members}", "2").replace("`means`", "means")
    assert said == {wanted.replace("{{", "{").replace("}}", "}")}
    assert not list(finished.rglob("sprung"))
    assert "the secret" not in (finished / "report.html").read_text()
    count["bad inputs tried"] += 1


def test_nothing_is_trained_for_scores_that_are_committed(repository):
    manifest = load_manifest(repository / "paper" / "figures.yaml")
    store = manifest.folder / "runs" / "store"
    runs = plan(manifest, size="full")
    files = {file.path: file for run in runs for file in score_files(work_of(manifest, run, store))}
    (first, *_) = {file.run for file in files.values()}
    for path, file in files.items():
        if file.run == first and file.method != "posterior":
            kept = manifest.folder / "scores" / path.relative_to(store)
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(b"a dry run reads nothing")
    planned = jobs(snakemake(repository, "--cores", "2", "--dry-run", size="full"))
    # The other member, and its Grad-Dot and two ATS.
    assert (planned["posterior"], planned["scores"]) == (1, 3)


def test_ten_thousand_files_are_planned(repository):
    text = snakemake(repository, "--cores", "2", "--dry-run", "--quiet", "all", size="paper")
    planned = jobs(text)
    assert planned["posterior"] == 5_000
    assert planned["scores"] == 15_000
