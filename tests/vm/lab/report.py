"""Results of a run, as JSON and as a page."""

import json
import os
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path

from .cache import has_kvm
from .result import Cell

HERE = Path(__file__).resolve().parent

PAGE = """# Kernels, drivers and modes

`deploy/test.sh drivers{options}` on {date}, programs of {commit}. {seconds} s on {machine}, load {load} at the end;
guests {acceleration}, NICs emulated by QEMU. A rate under emulation says nothing about a NIC.

{counts}
{table}
{explanations}
{soak}"""


def write(
    folder: Path, cells: list[Cell], skipped: dict[str, str], seconds: int, commit: str | None, options: str
):
    """Writes results.json and README.md; `skipped` has the missing kernels and the reasons."""
    folder.mkdir(parents=True, exist_ok=True)
    facts = {
        "commit": commit or _output("git", "describe", "--always", "--dirty"),
        "load": round(os.getloadavg()[1]),
        "machine": machine(),
        "acceleration": "under KVM" if has_kvm() else "emulated (TCG)",
        "date": _output("date", "+%F"),
        "seconds": seconds,
        "options": options,
    }
    results = {
        **facts,
        "skipped": skipped,
        "cells": [{**asdict(cell), "verdict": cell.verdict} for cell in cells],
    }
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    page = PAGE.format(
        **facts,
        counts=_counts(cells),
        table=_table(cells, skipped),
        explanations=_explanations(cells),
        soak=_soak(cells),
    )
    (folder / "README.md").write_text(page)


def _counts(cells: list[Cell]) -> str:
    failed = sum(bool(cell.failures) for cell in cells)
    return f"{len(cells)} cells, {len(cells) - failed} as expected, **{failed} not**.\n"


def _table(cells: list[Cell], skipped: dict[str, str]) -> str:
    modes = list(dict.fromkeys(cell.mode for cell in cells))
    rows = [f"| kernel | driver | {' | '.join(modes)} |", "|---" * (len(modes) + 2) + "|"]
    rows += [f"| {label} | *skipped: {reason}* |" for label, reason in skipped.items()]
    for release, driver in dict.fromkeys((cell.release, cell.driver) for cell in cells):
        row = {cell.mode: cell for cell in cells if (cell.release, cell.driver) == (release, driver)}
        texts = (_text(row[mode]) if mode in row else "" for mode in modes)
        rows.append(f"| {release} | {driver} | {' | '.join(texts)} |")
    return "\n".join(rows) + "\n"


def _text(cell: Cell) -> str:
    return f"**FAILED**: {cell.got or 'nothing'}" if cell.failures else cell.got


def _explanations(cells: list[Cell]) -> str:
    lines = []
    reasons: dict[str, list[str]] = {}
    for cell in cells:
        if cell.because and not cell.failures:
            reasons.setdefault(cell.because, []).append(f"{_place(cell)} on {cell.kernel}")
    if reasons:
        lines += ["", "## Less than the mode's best", ""]
        lines += [f"- {reason}: {', '.join(where)}." for reason, where in reasons.items()]
    failed = [cell for cell in cells if cell.failures]
    if failed:
        lines += ["", "## Not as expected", ""]
        for cell in failed:
            lines += [f"- {cell.driver} {cell.mode} on {cell.release}, expected: {cell.expected}"]
            lines += [f"  - {failure[:400].replace('|', '/')}" for failure in cell.failures]
    said = {}
    for cell in cells:
        if "said" in cell.measured:
            said.setdefault(cell.measured["said"], []).append(cell)
    if said:
        lines += ["", "## Messages", ""]
        for line, where in said.items():
            lines.append(f"- {', '.join(dict.fromkeys(_place(cell) for cell in where))}: {line}")
    return "\n".join(lines)


def _place(cell: Cell) -> str:
    return cell.driver if cell.mode == "refusals" else f"{cell.driver} {cell.mode}"


def _soak(cells: list[Cell]) -> str:
    soaked = [cell for cell in cells if "frames_after" in cell.measured]
    if not soaked:
        return ""
    lines = [
        "",
        "## Frames at rest, before and after",
        "",
        "| driver | | queries | answered | queue | before | after |",
        "|---" * 7 + "|",
    ]
    for cell in soaked:
        counts = (
            f"{cell.measured[name]:,}" if name in cell.measured else "" for name in ("queries", "answered")
        )
        head = f"| {cell.driver} | {cell.mode} | {' | '.join(counts)}"
        for queue, pair in enumerate(
            zip(cell.measured["frames_before"], cell.measured["frames_after"], strict=True)
        ):
            before, after = (
                ", ".join(f"{place} {count}" for place, count in frames.items()) for frames in pair
            )
            lines.append(f"{head} | {queue} | {before} | {after} |")
            head = "| | | | "
    return "\n".join(lines) + "\n"


def machine() -> str:
    """Describes the machine that this runs on."""
    model = next(
        line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    )
    return f"{os.cpu_count()} cores of {model.partition(': ')[2]}, Linux {platform.release()}"


def _output(*command: str) -> str:
    return subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False).stdout.strip()
