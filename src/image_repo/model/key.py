"""The key of a rendition: everything that decides the bytes under it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote

from image_repo.model.names import ImageName
from image_repo.model.recipe import Recipe

#: characters with a meaning in keys; percent-encoded in names
_RESERVED = {ord(c): quote(c, safe="") for c in "@+()%"}


@dataclass(frozen=True, slots=True)
class Key:
    """The key of a rendition in every cache: ``a/b@VERSION+size(200,300)+q(82)+g(1a2b3c4d).jpg``.

    :param version: the entity tag of the original, as the container gives it
    :param generation: hash of renderer, codecs and policy
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
        """Return the key of a text: the inverse of ``str``.

        :raises ValueError: when it is not a key
        """
        name, at, rest = text.partition("@")
        version, *operations = rest.split("+")
        last, dot, kind = operations[-1].rpartition(".") if operations else ("", "", "")
        if not at or not dot or not last.startswith("g(") or not last.endswith(")"):
            raise ValueError(f"Expected a key but received {text!r}")
        recipe = Recipe.parse("+".join(operations[:-1]) + "." + kind)
        return cls(ImageName(unquote(name)), unquote(version), recipe, last[2:-1])


def prefix_of(name: ImageName) -> str:
    """Return the common beginning of the keys of an image's renditions, and of no other image's."""
    return name.text.translate(_RESERVED) + "@"
