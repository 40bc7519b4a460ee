"""A strict reader of Prometheus' text format, 0.0.4: whatever it does not know is an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
SAMPLE = re.compile(rf'({NAME})(?:\{{((?:[a-z_]+="(?:[^"\\\n]|\\["\\n])*",?)+)\}})? (-?[0-9.e+-]+|\+Inf|NaN)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
ESCAPED = {r"\\": "\\", r"\"": '"', r"\n": "\n"}


@dataclass
class Page:
    """What was read: `types` by family, and every figure."""

    types: dict[str, str] = field(default_factory=dict)
    figures: dict[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    def value(self, name: str, **labels: str) -> float:
        return self.figures[name, tuple(sorted(labels.items()))]

    def all(self, name: str) -> list[tuple[Mapping[str, str], float]]:
        return [(dict(labels), value) for (found, labels), value in self.figures.items() if found == name]


def read(text: str) -> Page:
    """Read a page. Every figure stands behind its family's HELP and TYPE, and no family is begun twice."""
    assert text.endswith("\n")
    page, helped, current = Page(), set(), ""
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# HELP "):
            _, _, name, sentence = line.split(" ", 3)
            assert re.fullmatch(NAME, name)
            assert sentence
            assert name not in helped, f"{name} is told twice"
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped
            assert kind in {"counter", "gauge", "histogram"}
            assert kind != "counter" or name.endswith("_total")
            page.types[name] = kind
            current = name
        else:
            found = SAMPLE.fullmatch(line)
            assert found is not None, line
            name, labels, value = found.groups()
            own = (
                {current}
                if page.types[current] != "histogram"
                else {current + s for s in ("_bucket", "_sum", "_count")}
            )
            assert name in own, f"{name} within {current}"
            pairs = LABEL.findall(labels or "")
            plain = [(key, re.sub(r"\\.", lambda m: ESCAPED[m[0]], text)) for key, text in pairs]
            place = name, tuple(sorted(plain))
            assert place not in page.figures, f"{place} twice"
            page.figures[place] = float(value)
    _check_histograms(page)
    return page


def _check_histograms(page: Page) -> None:
    for name in (each for each, kind in page.types.items() if kind == "histogram"):
        buckets = [(float(labels["le"]), value) for labels, value in page.all(f"{name}_bucket")]
        assert buckets == sorted(buckets)
        assert [count for _, count in buckets] == sorted(count for _, count in buckets)
        assert buckets[-1] == (float("inf"), page.value(f"{name}_count"))
