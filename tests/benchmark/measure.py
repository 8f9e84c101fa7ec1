# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured - wall time and CPU seconds of this process and its children - and how it is printed."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import time
from dataclasses import dataclass


@dataclass
class Sample:
    """Seconds of one run; ``value`` is what was run returned."""

    wall: float
    cpu: float
    value: object = None


def timed(work, *arguments):
    """Run something once and return its Sample: CPU of this process and of the children that ended meanwhile."""
    cpu, wall = _cpu(), time.monotonic()
    value = work(*arguments)
    return Sample(time.monotonic() - wall, _cpu() - cpu, value)


def _cpu():
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def largest_child():
    """MiB of memory that the largest process had of all that this one started and that have ended."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024


@dataclass
class Row:
    """One line of a table: what was run and its samples; ``note`` says what a reader must know."""

    label: str
    samples: list
    note: str = ""

    @property
    def wall(self):
        """The quickest run."""
        return min(sample.wall for sample in self.samples)

    @property
    def cpu(self):
        """The least CPU."""
        return min(sample.cpu for sample in self.samples)

    def cells(self):
        """The row as text."""
        walls = [sample.wall for sample in self.samples]
        return [
            self.label,
            seconds(self.wall),
            seconds(statistics.median(walls)),
            seconds(self.cpu),
            str(len(walls)),
            self.note,
        ]


HEADINGS = ["", "wall min", "median", "CPU min", "runs", ""]


def extrapolated(label, row, start, measured, wanted, what):
    """A row for ``wanted`` objects from one of ``measured`` objects; ``start`` is a row of what runs only once."""

    def stretch(value, once):
        return once + max(0.0, value - once) * wanted / measured

    samples = [Sample(stretch(s.wall, start.wall), stretch(s.cpu, start.cpu)) for s in row.samples]
    return Row(label, samples, f"extrapolated from {measured} {what}")


def seconds(value):
    """Seconds with as many digits as they deserve."""
    return f"{value:.0f} s" if value >= 100 else f"{value:.2f} s"


def print_rows(title, rows):
    """Print rows of measurements under a title."""
    print_table(title, HEADINGS, [row.cells() for row in rows])


def print_table(title, headings, lines):
    """Print a table with aligned columns; all but the first and the last are numbers."""
    table = [headings, *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(headings))]
    print(f"\n{title}\n")
    for number, line in enumerate(table):
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:-1], widths[1:-1])]
        print("  ".join([*cells, line[-1]]).rstrip(), flush=True)
        if number == 0:
            print("-" * (sum(widths) + 2 * (len(widths) - 1)))


def machine():
    """One line on this machine and how busy it is."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, load {load}"
