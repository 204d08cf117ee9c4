"""How a process ends that is stopped from outside: exit status, one sentence, no traceback."""

import os
import resource
import signal
import subprocess
import sys

import pytest

from tda_utils import edge
from tools import ROOT

GUARDED = "import os, signal, sys\nfrom tda_utils import edge\nedge.guard('draw')\n"


def run(code, *, shell="exec", **options):
    """Run code in a process of its own, from a shell, and return its status, output and errors."""
    command = ["sh", "-c", f'{shell} "$0" -c "$1"', sys.executable, GUARDED + code]
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    # Whatever started the tests may ignore interrupts, as a shell's background does.
    options["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    done = subprocess.run(command, cwd=ROOT, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


STOPPED = {
    "interrupted": ("os.kill(os.getpid(), signal.SIGINT)", 130, "draw: interrupted.\n"),
    "interrupted in an import": (
        "try:\n    os.kill(os.getpid(), signal.SIGINT)\n"
        "except KeyboardInterrupt:\n    raise ImportError('the C extensions failed')",
        130,
        "draw: interrupted.\n",
    ),
    "interrupted where nothing is raised": (
        "class Late:\n    def __del__(self):\n        os.kill(os.getpid(), signal.SIGINT)\n"
        "Late()\nwhile True:\n    pass",
        130,
        "draw: interrupted.\n",
    ),
    "no space": ("open('/dev/full', 'w', 1).write('tau\\n')", 1, "draw: error: [Errno 28] "),
    "a file that is not there": ("open('no/tau')", 1, "draw: error: [Errno 2] "),
    "a package that is not there": ("import no_tau", 1, "draw: error: No module named 'no_tau'.\n"),
    "too few open files": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))\n"
        "while True:\n    os.dup(1)",
        1,
        "draw: error: [Errno 24] ",
    ),
    "too little memory": ("bytearray(1 << 62)", 1, "draw: error: there is not enough memory.\n"),
}


@pytest.mark.parametrize("how", STOPPED)
def test_what_stops_a_process_is_said_in_one_sentence(how):
    code, status, said = STOPPED[how]
    found, _, errors = run(code)
    assert found == status
    assert errors.startswith(said) and errors.endswith(".\n") and errors.count("\n") == 1


@pytest.mark.parametrize("buffered", ["", "1"])
def test_output_that_cannot_be_written_is_said(buffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    with open("/dev/full", "w") as full:
        status, _, errors = run("print('tau')", stdout=full, env=environment)
    assert status == 1
    assert errors == "draw: error: [Errno 28] No space left on device.\n"
    with open("/dev/full", "w") as full:  # where even that cannot be said
        assert run("print('tau')\nopen('no/tau')", stderr=full)[:2] == (1, "tau\n")


@pytest.mark.parametrize("buffered", ["", "1"])
def test_a_reader_that_goes_away_ends_it_without_a_word(buffered):
    environment = {**os.environ, "PYTHONUNBUFFERED": buffered}
    reading, writing = os.pipe()
    os.close(reading)
    status, _, errors = run("print('tau')", stdout=writing, env=environment)
    os.close(writing)
    assert (status, errors) == (141, "")


def test_a_file_never_gets_the_number_of_a_closed_stream(tmp_path):
    path = tmp_path / "tau.csv"
    code = (
        f"with open({str(path)!r}, 'w') as file:\n"
        "    print('out')\n    print('err', file=sys.stderr)\n    os.write(1, b'raw')\n"
        "    assert sys.stdin.read() == ''\n    os.system('echo child')\n"
        "    file.write(str(file.fileno() > 2))"
    )
    assert run(code, shell="exec <&- >&- 2>&-; exec") == (0, "", "")
    assert path.read_text() == "True"


def test_a_mistake_of_the_program_still_shows_where():
    status, _, errors = run("{}['tau']")
    assert status == 1 and "Traceback" in errors and "KeyError: 'tau'" in errors


def test_in_the_background_an_interrupt_is_for_others():
    code = "os.kill(os.getpid(), signal.SIGINT)\nprint('went on')"
    assert run(code, shell="trap '' INT; exec") == (0, "went on\n", "")


def test_as_many_files_as_needed_may_be_open_or_it_is_said(monkeypatch):
    code = "import resource\nprint(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(most, edge.OPEN_FILES)
    assert run(code, shell="ulimit -S -n 64; exec")[1] == f"{wanted}\n"
    code = "print(edge.few_open_files(64), edge.few_open_files(65))"
    said = run(code, shell="ulimit -n 64; exec")[1]
    assert said == " 65 open files are needed at least, and `ulimit -n` allows 64.\n"


def test_only_a_package_that_is_run_is_guarded(monkeypatch):
    guarded = []
    monkeypatch.setattr(edge, "guard", guarded.append)
    edge.guard_if_run("tools")
    monkeypatch.setattr(sys, "argv", ["-m", "--check"])
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "tools.pages.readme", "--check"])
    edge.guard_if_run("tools")
    assert guarded == ["pages.readme"]


def test_who_is_not_a_process_of_its_own_gets_the_status(capsys):
    assert edge.interrupted("draw: interrupted.") == 128 + signal.SIGINT
    assert capsys.readouterr().err == "\ndraw: interrupted.\n"
