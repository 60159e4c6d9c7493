"""Table of the expected result of each mode, by kernel and driver."""

import tomllib
from pathlib import Path

from .cache import Kernel
from .result import Cell

TABLE = tomllib.loads((Path(__file__).resolve().parent.parent / "expected.toml").read_text())

MODES = ("auto", "zero-copy", "copy", "generic")
BEST = {
    "auto": "driver zero-copy",
    "zero-copy": "driver zero-copy",
    "copy": "driver copy",
    "generic": "generic copy",
}
REFUSED = "refused"


def cell(kernel: Kernel, driver: str, mode: str) -> Cell:
    """Makes the cell, with its expectation."""
    row = TABLE[driver][mode]
    expected = row[kernel.label]
    # A KeyError means that the table lacks an explanation.
    because = "" if expected.startswith(BEST[mode]) else row["because"]
    return Cell.of(kernel, driver, mode, expected, because)
