"""The kernel that executes notebooks: always this interpreter's, whatever Jupyter knows by name.

Jupyter finds kernels by name, in folders of the user and of the machine, and what is called
``python3`` there may be another interpreter with other versions. So none is looked for. And what a
result was computed with is asked of the kernel that computed it, not of whoever started it. Nor do
startup files and settings of IPython, which run before the first cell, have a say in what it is.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from papermill import PapermillExecutionError, execute_notebook
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines

from tda_utils.reproduce.notebook import KERNELSPEC

#: No remarks on transport, nor on being stopped.
QUIET = ["--log-level=CRITICAL"]
#: The program of a kernel, as ``ipykernel_launcher``, but for what a user lets every kernel run.
_START = """\
import sys
if sys.path[0] == "":  # while this is loaded; the kernel puts it back
    del sys.path[0]
from ipykernel.kernelapp import IPKernelApp
class Plain(IPKernelApp):
    def load_config_file(self, *arguments, **options): pass
    def _run_startup_files(self): pass
Plain.launch_instance()
"""
#: What a kernel is asked in the end; no import of the notebook is relied on.
_QUESTION = "__import__('tda_utils.experiments.provenance', fromlist=['account']).account()"
_ENGINE = "bayes-tda"


class OwnKernel(AsyncKernelManager):
    """Starts the kernel of this interpreter; the name of a kernel is not heeded.

    Examples
    --------
    >>> OwnKernel(kernel_name="julia").kernel_spec.argv[0] == sys.executable
    True
    """

    @property
    def kernel_spec(self) -> KernelSpec:
        """What is started."""
        command = [sys.executable, "-c", _START, "-f", "{connection_file}"]
        named = {key: KERNELSPEC[key] for key in ("display_name", "language")}
        return KernelSpec(argv=command, **named)


class _Client(PapermillNotebookClient):
    """Asks the kernel what it did, before it is stopped."""

    account: dict[str, Any] | None = None

    def papermill_execute_cells(self) -> None:
        super().papermill_execute_cells()
        asked = {"silent": True, "user_expressions": {"account": _QUESTION}}
        reply = self.wait_for_reply(self.kc.execute("", **asked))
        said = reply["content"]["user_expressions"]["account"]
        if said["status"] != "ok":
            raise RuntimeError(f"it cannot say its versions ({said['ename']}: {said['evalue']})")
        self.account = json.loads(ast.literal_eval(said["data"]["text/plain"]))


class _Engine(NBClientEngine):
    """Papermill's own, with the client above."""

    @classmethod
    def execute_managed_notebook(cls, nb_man, kernel_name, account, **options) -> None:
        kept = {name: options[name] for name in ("log", "log_output") if name in options}
        client = _Client(
            nb_man,
            kernel_name=kernel_name,
            kernel_manager_class=OwnKernel,
            startup_timeout=options["start_timeout"],
            extra_arguments=QUIET,
            **kept,
        )
        try:
            client.execute()
        finally:
            account |= client.account or {}


papermill_engines.register(_ENGINE, _Engine)


class NotebookError(RuntimeError):
    """A cell raised an error, or the kernel stopped."""


def run_notebook(
    source: Path, copy: Path, parameters: dict[str, Any], folder: Path, bar: dict[str, Any] | bool
) -> tuple[dict[str, Any], str | None]:
    """Execute a notebook with parameters and write its executed copy.

    Parameters
    ----------
    source, copy
        The notebook, and where what is executed goes, as far as it gets.
    folder
        Where the kernel works.
    bar
        Options of the progress bar; False for none.

    Returns
    -------
    tuple of dict and str or None
        What `tda_utils.experiments.provenance.account` says in that kernel, empty if it stopped;
        and what went wrong, None if nothing did.
    """
    account: dict[str, Any] = {}
    try:
        execute_notebook(
            # Papermill would look for parameters between braces.
            *(str(path.resolve()).replace("{", "{{").replace("}", "}}") for path in (source, copy)),
            parameters,
            engine_name=_ENGINE,
            kernel_name=KERNELSPEC["name"],
            cwd=str(folder),
            progress_bar=bar,
            log_output=False,
            account=account,
        )
    except PapermillExecutionError as error:
        reason = (error.evalue or "").strip().splitlines() or ["no message"]
        return account, f"cell [{error.exec_count}] stopped with {error.ename}: {reason[0]}"
    except RuntimeError as error:  # the kernel died or did not start
        return account, f"the kernel stopped: {' '.join(str(error).split())}"
    return account, None
