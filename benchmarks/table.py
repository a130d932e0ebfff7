"""The tables of ``docs/performance.md``, made of all results that are kept."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.compare import COMPARISONS
from benchmarks.figures import FIGURES
from benchmarks.places import PAGE, RESULTS

BEGIN = "<!-- measured: written by scripts/bench peers -->"
END = "<!-- end of what scripts/bench writes -->"
_MB = 1e6


def keep(name: str, result: Any, about: dict[str, Any]) -> None:
    """Keep a row's result, and what it was measured with, for the tables."""
    results = kept()
    results[name] = {"result": result, "about": about}
    RESULTS.write_text(json.dumps(results, indent=1))


def kept() -> dict[str, Any]:
    """Return all results that are kept, by row name."""
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def about(source: str, runs: int, versions: dict[str, str]) -> dict[str, Any]:
    """Return what a reader must know of a measurement: machine, data, libraries."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "cpu": _cpu(),
        "source": source,
        "runs": runs,
        "versions": {"Python": platform.python_version(), **versions},
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def write_page() -> None:
    """Put the tables between the page's two markers."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables(kept())}\n{END}{after}")


def tables(results: dict[str, Any]) -> str:
    """Return captions and tables in Markdown, rows in their fixed order."""
    comparisons = [results[name] for name in COMPARISONS if name in results]
    figures = [results[name] for name in FIGURES if name in results]
    lines = _captions([row["about"] for row in [*comparisons, *figures]])
    if comparisons:
        lines += _comparison_table([row["result"] for row in comparisons])
    if figures:
        lines += _figure_table([row for group in figures for row in group["result"]])
    return "\n".join(lines)


def _captions(abouts: list[dict[str, Any]]) -> list[str]:
    """Return a caption for each way of measuring, with the libraries of all rows it holds for."""
    libraries: dict[str, dict[str, str]] = {}
    for about in abouts:
        text = (
            f"{about['cores']} cores of {about['cpu']}; {about['source']}; times are medians of "
            f"{about['runs']} runs, peer and project in turn"
        )
        libraries.setdefault(text, {}).update(about["versions"])
    lines = []
    for text, versions in libraries.items():
        named = ", ".join(f"{name} {version}" for name, version in versions.items())
        lines += [f"{text}; {named}.", ""]
    return lines


def _comparison_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| Work | Archive cached | Peer | Here | Ratio | Aim | Without untar "
        "| CPU time, peer / here | Peak memory, peer / here | Written, peer / here |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        peer, mine = row["peer"], row["ours"]
        missed = ", missed" if row["ratio"] < row["least"] else ""
        bare = f"{row['ratio_without_untar']:.2f}x" if "ratio_without_untar" in row else ""
        lines.append(
            f"| {row['title']} | {'no' if row['cold'] else 'yes'} "
            f"| {peer['seconds']:.1f} s | {mine['seconds']:.1f} s "
            f"| **{row['ratio']:.2f}x** | {row['least']:g}x{missed} | {bare} "
            f"| {peer['cpu_seconds']:.1f} / {mine['cpu_seconds']:.1f} s "
            f"| {peer['peak_bytes'] / _MB:,.0f} / {mine['peak_bytes'] / _MB:,.0f} MB "
            f"| {peer['written_bytes'] / _MB:,.0f} / {mine['written_bytes'] / _MB:,.0f} MB |"
        )
    return [*lines, ""]


def _figure_table(rows: list[dict[str, Any]]) -> list[str]:
    lines = ["| Figure | Measured | Aim | |", "|---|--:|--:|---|"]
    for row in rows:
        verdict = "reached" if row["reached"] else "missed"
        lines.append(f"| {row['title']} | {row['found']} | {row['aim']} | {verdict} |")
    return [*lines, ""]
