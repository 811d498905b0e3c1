"""Merge a table into the data of stored images."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from image_repo.access.principal import Principal
from image_repo.catalogue.grammar import IMAGES
from image_repo.catalogue.query import Filter
from image_repo.errors import BadName, BadParameter
from image_repo.exchange.tables import Row
from image_repo.model.names import ImageName
from image_repo.repository.collection import Collection
from image_repo.repository.repository import Repository


@dataclass(frozen=True)
class Match:
    """How rows find images.

    :param column: of the table
    :param key: of the records, as in filters; ``name`` may have an image ending
    """

    column: str
    key: str

    def filter(self, text: str) -> Filter:
        """Return the filter for the images of a row."""
        if self.key == "name":
            try:
                text = ImageName.readings(text.replace("\\", "/"))[0].text
            except BadName:
                return IMAGES.read([("name__in", "")], ()).query.filter
        return IMAGES.read([(f"{self.key}__eq", text)], ()).query.filter


@dataclass
class MergeReport:
    """The outcome of a merge.

    :param unmatched: rows without an image
    :param failed: name and reason
    """

    rows: int = 0
    matched: int = 0
    modified: int = 0
    unmatched: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)


def merge_table(
    repo: Repository, principal: Principal, rows: Iterable[Row], match: Match, *, dry_run: bool = False
) -> MergeReport:
    """Merge the other columns of each row into the data of the images that match it; empty cells change nothing.

    :raises BadParameter: if the table lacks the column, or no record can have the key
    """
    report, collection = MergeReport(), Collection(repo)
    for row in rows:
        if match.column not in row:
            raise BadParameter("match", f"The table has no column {match.column!r}; it has {', '.join(row)}.")
        report.rows += 1
        text = row[match.column]
        patch = {column: cell for column, cell in row.items() if column not in ("", match.column) and cell}
        selection = match.filter(text) if text else None
        matched = collection.count(principal, selection) if selection else 0
        report.matched += matched
        if not matched or selection is None:
            report.unmatched.append(f"{match.column}={text}")
        elif dry_run:
            report.modified += matched if patch else 0
        elif patch:
            changes = collection.update(principal, selection, patch)
            report.modified += changes.modified
            report.failed += [(each.name, str(each.problem)) for each in changes.failed]
    return report
