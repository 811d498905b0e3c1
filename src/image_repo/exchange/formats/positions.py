"""Positions in degrees of WGS 84, from records and their data."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from image_repo.exchange.formats import coercion

#: latitude, longitude in degrees
Position = tuple[float, float]
_NAMES = (("latitude", "longitude"), ("decimalLatitude", "decimalLongitude"), ("lat", "lon"), ("lat", "lng"))
#: mean radius of the earth (IUGG)
_RADIUS_M = 6_371_008.8


def position(data: Mapping[str, Any], exif: Mapping[str, Any]) -> Position | None:
    """Return the position in the data, else in the EXIF; None if neither has one."""
    for source, names in ((data, _NAMES), (exif, _NAMES[:1])):
        for north, east in names:
            latitude, longitude = (
                coercion.number(source.get(north), -90, 90),
                coercion.number(source.get(east), -180, 180),
            )
            if latitude is not None and longitude is not None:
                return round(latitude, 6), round(longitude, 6)
    return None


def distance(one: Position, other: Position) -> float:
    """Return metres between two positions on the sphere (haversine)."""
    (north, east), (south, west) = ([math.radians(side) for side in place] for place in (one, other))
    half = math.sin((north - south) / 2) ** 2 + math.cos(north) * math.cos(south) * math.sin((east - west) / 2) ** 2
    return 2 * _RADIUS_M * math.asin(min(1.0, math.sqrt(half)))


def extent(places: Sequence[Position]) -> dict[str, Any]:
    """Return the extent of positions as GeoJSON (RFC 7946): a point, a box, or empty."""
    if not places:
        return {"type": "MultiPoint", "coordinates": []}
    if len(set(places)) == 1:
        return {"type": "Point", "coordinates": [places[0][1], places[0][0]]}
    south, north = (choose(place[0] for place in places) for choose in (min, max))
    west, east = (choose(place[1] for place in places) for choose in (min, max))
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "bbox": [west, south, east, north], "coordinates": [ring]}
