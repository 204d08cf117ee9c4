"""``python -m tda_utils.reproduce`` is ``bayes-tda``, by this very interpreter."""

import sys

from tda_utils.reproduce.cli import main

sys.exit(main())
