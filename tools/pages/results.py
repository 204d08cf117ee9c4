"""The committed tables and numbers of figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from tda_utils.texts import read_json


@dataclass(frozen=True)
class Results:
    """The committed tables and numbers of one protocol."""

    folder: Path
    protocol: str

    def table(self, name: str) -> pd.DataFrame:
        """Return a table of this protocol."""
        return pd.read_csv(self.folder / "tables" / f"{name}-{self.protocol}.csv")

    def numbers(self, name: str) -> dict[str, Any]:
        """Return the numbers of a figure, of this protocol or of both."""
        own = self.folder / "numbers" / f"{name}-{self.protocol}.json"
        return read_json(own if own.is_file() else own.with_stem(name))
