"""Figures, one file each; importing this package imports matplotlib."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # draws into files, without a window

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

FORMATS = ("png", "svg")


def write_figure(figure: Figure, folder: Path, name: str, *, dpi: int = 110) -> tuple[Path, ...]:
    """Write `name` as PNG and SVG into `folder`, close the figure, and return the files.

    Equal figures give equal files: neither dates nor random ids are written.
    """
    files = tuple(folder / f"{name}.{kind}" for kind in FORMATS)
    for file, kind in zip(files, FORMATS, strict=True):
        with plt.rc_context({"svg.hashsalt": name}):
            figure.savefig(file, dpi=dpi, metadata={"Date": None} if kind == "svg" else None)
    plt.close(figure)
    return files
