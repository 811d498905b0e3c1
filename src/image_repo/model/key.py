"""The key of a rendition: everything that decides the bytes under it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from image_repo.model.names import ImageName
from image_repo.model.recipe import Recipe

#: what a key needs for itself: in a name these are percent-encoded
_RESERVED = {ord(c): quote(c, safe="") for c in "@+()%"}


@dataclass(frozen=True, slots=True)
class Key:
    """Where a rendition is kept: everything that decides its bytes.

    :param version: the entity tag of the original, as the container gives it
    :param generation: of renderer, codecs and policy
    """

    name: ImageName
    version: str
    recipe: Recipe
    generation: str

    def __str__(self) -> str:
        head = prefix_of(self.name) + self.version.translate(_RESERVED)
        parts = [head, *self.recipe.operations(), f"g({self.generation})"]
        return "+".join(parts) + "." + self.recipe.kind

    @classmethod
    def parse(cls, text: str) -> Key:
        """The inverse of ``str``.

        :raises ValueError: when it is no key
        """
        name, at, rest = text.partition("@")
        version, *operations = rest.split("+")
        last, dot, kind = operations[-1].rpartition(".") if operations else ("", "", "")
        if not at or not dot or not last.startswith("g(") or not last.endswith(")"):
            raise ValueError(f"not a key: {text!r}")
        recipe = Recipe.parse("+".join(operations[:-1]) + "." + kind)
        return cls(ImageName(unquote(name)), unquote(version), recipe, last[2:-1])


def prefix_of(name: ImageName) -> str:
    """What the keys of all renditions of an image begin with, and of no other's."""
    return name.text.translate(_RESERVED) + "@"
