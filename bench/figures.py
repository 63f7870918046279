"""What was measured, and how it is shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

#: What one repetition found: column to value. `cpu:<process>` are seconds of processor time per 1,000 steps.
Measured = dict[str, float]
CPU = "cpu:"
OTHERS = "others' cores"


@dataclass(frozen=True)
class Contender:
    name: str
    measure: Callable[[], Measured]


@dataclass(frozen=True)
class Row:
    """One row of the issue's table: several contenders that do the same. The first column decides the ratios."""

    letter: str
    title: str
    columns: tuple[str, ...]
    contenders: tuple[Contender, ...]
    ratios_to: tuple[str, ...] = ()  #: names of contenders


@dataclass(frozen=True)
class Samples:
    """The repetitions of one contender."""

    contender: str
    measured: Sequence[Measured]

    def of(self, column: str) -> list[float]:
        return [sample[column] for sample in self.measured if column in sample]

    @property
    def cpu(self) -> dict[str, float]:
        names = {column: None for sample in self.measured for column in sample if column.startswith(CPU)}
        return {name.removeprefix(CPU): median(self.of(name)) for name in names}


def per_thousand(cpu: Mapping[str, float], steps: int) -> Measured:
    return {f"{CPU}{name}": seconds * 1000 / steps for name, seconds in cpu.items()}


def percentile(values: Sequence[float], share: float) -> float:
    """The value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def ratio(row: Row, samples: Samples, everybody: Sequence[Samples], to: str) -> float | None:
    """How many times the other contender's median; None where there is none."""
    other = next((each for each in everybody if each.contender == to), None)
    if other is None or other is samples:
        return None
    ours, theirs = samples.of(row.columns[0]), other.of(row.columns[0])
    return median(ours) / median(theirs) if ours and theirs and median(theirs) else None


def table(row: Row, everybody: Sequence[Samples]) -> str:
    """One row of the issue's table, as a table of its contenders: median (least–most)."""
    with_cpu = any(samples.cpu for samples in everybody)
    with_others = any(samples.of(OTHERS) for samples in everybody)
    present = [name for name in row.ratios_to if any(samples.contender == name for samples in everybody)]
    heads = ["", *row.columns, *(f"× {name}" for name in present)]
    heads += ["CPU s per 1,000 steps"] * with_cpu + [OTHERS] * with_others
    lines = [heads]
    for samples in everybody:
        cells = [samples.contender, *(_spread(samples.of(column)) for column in row.columns)]
        for name in present:
            found = ratio(row, samples, everybody, name)
            cells.append("" if found is None else f"{found:.2f}")
        if with_cpu:
            cells.append(", ".join(f"{name} {seconds:.2f}" for name, seconds in samples.cpu.items()))
        if with_others:
            cells.append(_spread(samples.of(OTHERS)))
        lines.append(cells)
    widths = [max(len(line[column]) for line in lines) for column in range(len(heads))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([f"{row.letter}. {row.title}", *(f"   {line}" for line in shown)])


def document(row: Row, everybody: Sequence[Samples]) -> dict[str, object]:
    """The same for machines, with every sample."""
    return {
        "row": row.letter,
        "title": row.title,
        "contenders": [
            {
                "name": samples.contender,
                "figures": {
                    column: {
                        "median": median(values),
                        "min": min(values),
                        "max": max(values),
                        "samples": values,
                    }
                    for column in (*row.columns, OTHERS)
                    if (values := samples.of(column))
                },
                "cpuSecondsPer1000Steps": samples.cpu,
                "ratios": {
                    name: found for name in row.ratios_to if (found := ratio(row, samples, everybody, name)) is not None
                },
            }
            for samples in everybody
        ],
    }


def _spread(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = _number(median(values))
    least, most = _number(min(values)), _number(max(values))
    return middle if least == most else f"{middle} ({least}–{most})"


def _number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
