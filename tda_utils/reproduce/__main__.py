"""``python -m tda_utils.reproduce`` is ``bayes-tda``, by this very interpreter."""

import sys

from tda_utils import edge

edge.guard("bayes-tda")  # before the imports, which take a moment

from tda_utils.reproduce.cli import main  # noqa: E402

sys.exit(main(sys.argv[1:]))
