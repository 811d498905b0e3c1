"""URLs of a picture together with the size of what they give: for ``srcset`` and for oEmbed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from image_repo import wiring
from image_repo.access.control import Action
from image_repo.access.principal import Principal
from image_repo.access.request_rules import signed_lines
from image_repo.config import Config
from image_repo.errors import BadParameter
from image_repo.model.names import path_of
from image_repo.model.operations import MAX_SIDE_PX
from image_repo.model.original import Original
from image_repo.model.recipe import RecipeRequest
from image_repo.render.geometry import Size, result_size
from image_repo.repository.repository import Repository

#: widths that ``srcset=`` may name
MAX_WIDTHS = 20
#: the least width of ``srcset=True`` in pixels; smaller pictures save no bytes worth a URL
_LEAST_WIDTH_PX = 200


@dataclass(frozen=True, slots=True)
class SizedUrl:
    """A URL of a picture, and its width and height in pixels."""

    width: int
    height: int
    url: str

    def public(self) -> dict[str, object]:
        """Return it for JSON."""
        return {"width": self.width, "height": self.height, "url": self.url}


class SizedUrls:
    """Makes URLs of pictures whose sizes are known."""

    def __init__(self, repo: Repository, config: Config) -> None:
        self._repo = repo
        self._defaults = wiring.defaults(config)
        self._signer = wiring.request_signer(config)
        self._base = f"/{config.repository_base_pathname}/"
        self._mode = config.requests.mode
        self._ladder = config.requests.steps

    def size(self, principal: Principal, original: Original, request: RecipeRequest, source: Size) -> Size:
        """Return the width and height that a request gives the caller.

        :param source: of the upright original
        :raises BadParameter: for a rotation beside quarter turns
        """
        recipe, _ = request.settle(self._defaults, source=original.media_type)
        if recipe.is_original:
            return source
        if recipe.rotate % 90:
            raise BadParameter("rotate", "Expected quarter turns, because the size has to be known.")
        return result_size(self._repo.reader.variant(principal, original, recipe).recipe, source)

    def url(
        self,
        root: str,
        path: str,
        original: Original,
        request: RecipeRequest,
        more: Iterable[tuple[str, str]] = (),
        signature: str | None = None,
    ) -> str:
        """Return the URL of a request, which caches may keep for ever.

        :param root: scheme and host of this server
        :param path: as the caller calls the image
        :param more: further parameters
        :param signature: of this request, where the caller has one; else it is signed where that is needed
        """
        pairs = [(name, text) for name, _, text in (line.partition("=") for line in request.canonical_lines())]
        if self._mode == "signed":
            signature = signature or self._signer.sign(original.name.text, signed_lines(request, None))
            pairs.append(("signature", signature))
        query = urlencode([*pairs, *more, ("v", original.version)], quote_via=quote, safe=",")
        return f"{root}{self._base}{quote(path)}?{query}"

    def sources(
        self,
        root: str,
        principal: Principal,
        original: Original,
        request: RecipeRequest,
        source: Size,
        widths: Sequence[int],
        more: Iterable[tuple[str, str]] = (),
    ) -> list[SizedUrl]:
        """Return the URLs of one picture in several widths, the smallest first.

        :param request: what they have in common; width and height stand for their ratio
        :param source: width and height of the upright original
        :param widths: in pixels; empty for the ladder of the configuration, and the largest there is
        :raises BadParameter: for parameters that leave no choice of the width
        :raises Problem: where requests are to be signed and the caller may not write
        """
        if self._mode == "presets":
            raise BadParameter("srcset", "The configuration allows presets alone.")
        if self._mode == "signed":
            self._repo.access.authorise(principal, Action.WRITE, original.name.text)
        by_width: dict[int, SizedUrl] = {}
        path = path_of(principal.relative(original.name.text))
        for each in _in_widths(request, widths or [*(w for w in self._ladder if w >= _LEAST_WIDTH_PX), MAX_SIDE_PX]):
            size = self.size(principal, original, each, source)
            # The largest there is has no box: one rendition however it is requested.
            is_whole = size[0] < each.values["xsize"] and "ysize" not in each.values
            url = self.url(root, path, original, _without_box(each) if is_whole else each, more)
            by_width.setdefault(size[0], SizedUrl(*size, url))
        return [by_width[width] for width in sorted(by_width)]


def read_widths(text: str) -> tuple[int, ...]:
    """Return the widths that ``srcset`` names, in order.

    :raises BadParameter: for anything but whole numbers with commas
    """
    parts = text.split(",")
    if len(parts) > MAX_WIDTHS or not all(part.isascii() and part.isdecimal() and len(part) < 6 for part in parts):
        raise BadParameter.expected(f"True, or up to {MAX_WIDTHS} widths such as 320,640,1280", "srcset", text[:60])
    widths = sorted({int(part) for part in parts})
    if not 1 <= widths[0] <= widths[-1] <= MAX_SIDE_PX:
        raise BadParameter.expected(f"widths from 1 to {MAX_SIDE_PX}", "srcset", text[:60])
    return tuple(widths)


def _without_box(request: RecipeRequest) -> RecipeRequest:
    return RecipeRequest(**{name: value for name, value in request.values.items() if name not in ("xsize", "ysize")})


def _in_widths(request: RecipeRequest, widths: Iterable[int]) -> Iterator[RecipeRequest]:
    values = dict(request.values)
    width, height = values.pop("xsize", None), values.pop("ysize", None)
    for name in ("thumbnail", "dpr", "enlarge"):
        if values.get(name):
            raise BadParameter(name, f"Expected srcset without {name}: widths are its own.")
    if (width is None) != (height is None) or values.get("kind") == "original":
        raise BadParameter("srcset", "Expected both of xsize and ysize, for their ratio, or neither; and no original.")
    for each in widths:
        box = {**values, "xsize": each}
        if width and height:
            box["ysize"] = min(MAX_SIDE_PX, max(1, round(each * height / width)))
        yield RecipeRequest(**box)
