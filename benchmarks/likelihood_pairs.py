"""Record the paired likelihoods of finished runs, as the population that `verdict_likelihood.py` draws from.

    python -m benchmarks.likelihood_pairs reports/RUN ... --out benchmarks/results/likelihood-pairs.jsonl

One line for each ability that a run read by likelihood: scores, floors or log-odds, and clusters as numbers. No text of
the items is kept.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audit.reports.folder import read_report
from audit.workflows.rescore import saved_answers


def pairs_of(folder: Path) -> Iterator[dict[str, Any]]:
    """The paired likelihoods of one run."""
    run = read_report(folder, with_items=True)
    for row in run.abilities:
        if row.reading != "likelihood":
            continue
        scores = saved_answers(run, row).scores
        numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(scores.clusters))}
        yield {
            "name": f"{row.ability}, {run.header.editor} x {run.header.edit_count} on {Path(run.header.model).name}",
            "base": _rounded(scores.base),
            "edited": _rounded(scores.edited),
            "floors": None if scores.floors is None else _rounded(scores.floors),
            "base_odds": None if scores.base_odds is None else _rounded(scores.base_odds),
            "edited_odds": None if scores.edited_odds is None else [_rounded(one) for one in scores.edited_odds],
            "positives": None if scores.positives is None else list(scores.positives),
            "clusters": [str(numbers[cluster]) for cluster in scores.clusters],
        }


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]


def main() -> None:
    """Write the pairs of all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    lines = [json.dumps(pairs) for folder in wanted.runs for pairs in pairs_of(folder)]
    wanted.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
