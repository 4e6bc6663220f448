"""What was found in data, as a table and as a page."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from labkit.curation.charts import bars, by_length
from labkit.curation.findings import Findings
from labkit.curation.languages import UNSURE
from labkit.curation.page import as_page, as_table
from labkit.printing import printable
from labkit.storage.files import write_text

WEAK = 0.7  # share of the labels that the classifier confirms, below which its suspects say little


class Report(Findings):
    """What was found in data; a notebook shows it as a table."""

    def facts(self) -> dict[str, str]:
        """Return the contents of the table."""
        lengths = sorted(self.lengths.counts)
        told = {
            "rows": f"{self.train:,} to train on, {len(self.rows) - self.train:,} to test on",
            "characters": f"shortest {lengths[0]:,}, median {lengths[len(lengths) // 2]:,}, longest {lengths[-1]:,}",
            "languages": ", ".join(f"{name} {n:,}" for name, n in self._languages().most_common(9)),
            "labels": ", ".join(f"{label.strip()} {n:,}" for label, n in self.labels.items()) or "free text",
        }
        told |= {name: f"{count:,}" for name, count in self.counts().items()}
        if self.labels:
            judged = self.train - len(self.suspects.unjudged)
            told["labels not judged"] = f"{len(self.suspects.unjudged):,}"
            if judged:
                told["labels confirmed"] = (
                    f"{self.suspects.agreement:.0%} of {judged:,}; {_told(self.suspects.agreement)}"
                )
        if self.duplicates.passed_over:
            told["pairs not compared"] = f"{self.duplicates.passed_over:,}: too many texts share a template"
        return told

    def save(self, path: str | Path) -> None:
        """Write the report as one HTML page that needs no network; personal data are masked."""
        listed = {
            kind: [(self.rows[i].number, why) for i, why in sorted(found.items())]
            for kind, found in self.reasons().items()
        }
        labels = Counter({label.strip(): count for label, count in self.labels.items()})
        drawn = [
            bars("Labels", dict(labels.most_common())),
            bars("Characters", by_length(self.lengths.counts)),
            bars("Languages", dict(self._languages().most_common())),
        ]
        write_text(Path(path), as_page(self.name, self.facts(), listed, drawn, [*self.notes, *self.unusable]))

    def _languages(self) -> Counter[str]:
        return Counter("unsure" if each == UNSURE else each for each in self.languages)

    def __str__(self) -> str:
        wide = max(map(len, self.facts())) + 2
        return printable("\n".join([f"Data {self.name}", *(f"{k:{wide}}{v}" for k, v in self.facts().items())]))

    def _repr_html_(self) -> str:
        return as_table(f"Data {self.name}", self.facts())


def _told(agreement: float) -> str:
    if agreement < WEAK:
        return "the classifier is unsure here, so many suspects may be its own errors"
    return "the rest are wrong labels or the classifier's errors"
