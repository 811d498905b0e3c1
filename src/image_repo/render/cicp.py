"""Coding-independent code points (CICP, in files nclx or cICP) as ICC profiles, which the other modules apply.

Primaries and transfer functions: ITU-T H.273. BT.709 and its kin are taken for sRGB, as browsers do: the display's
curve is meant, and the two differ by less than displays do.

PQ and HLG are brought to the range of a display that shows the reference white of 203 cd/m² (ITU-R BT.2408) and no
more: the curve of BT.2390 (section 5.4.1) from a peak of 1000 cd/m², on each of red, green and blue. Below 98 cd/m² it
changes nothing. HLG is shown as on a display of 1000 cd/m² (BT.2100, system gamma 1.2). What lies outside of sRGB is
clipped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from math import exp

from image_repo.render.colour import matrix_profile

Xy = tuple[float, float]
_D65: Xy = (0.3127, 0.3290)
#: number → red, green, blue, white
_PRIMARIES: dict[int, tuple[Xy, Xy, Xy, Xy]] = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    4: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), (0.310, 0.316)),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
_SRGB = frozenset((1, 2, 6, 14, 15, 13))
_PQ, _HLG = 16, 18
#: cd/m²: the most that PQ can say; the peak of what is mastered; reference white
_PQ_MOST, _PEAK, _WHITE = 10_000.0, 1_000.0, 203.0
_ENTRIES = 4096


@dataclass(frozen=True, slots=True)
class Cicp:
    """Coding-independent code points, 2 for unspecified.

    :param primaries: ColourPrimaries
    :param transfer: TransferCharacteristics
    """

    primaries: int = 2
    transfer: int = 2

    @property
    def is_known(self) -> bool:
        """Whether both numbers are those of colours that are converted here."""
        return self.primaries in _PRIMARIES and _transfer(self.transfer) is not None

    @property
    def profile(self) -> bytes | None:
        """The ICC profile of these colours; None for sRGB, and for numbers that are not defined."""
        primaries = self.primaries if self.primaries in _PRIMARIES else 1
        if primaries == 1 and (self.transfer in _SRGB or _transfer(self.transfer) is None):
            return None
        return _profile(primaries, self.transfer)


@cache
def _profile(primaries: int, transfer: int) -> bytes:
    red, green, blue, white = _PRIMARIES[primaries]
    to_linear = _transfer(transfer) or _srgb_to_linear
    red_xyz, green_xyz, blue_xyz = _adapted(red, green, blue, white)
    curve = [to_linear(n / (_ENTRIES - 1)) for n in range(_ENTRIES)]
    return matrix_profile(red_xyz, green_xyz, blue_xyz, curve)


def _transfer(number: int) -> Callable[[float], float] | None:
    """Return the function from a code value to light, both 0 to 1; None where it is not known."""
    functions: dict[int, Callable[[float], float]] = {
        **dict.fromkeys(_SRGB, _srgb_to_linear),
        4: partial(_power, 2.2),
        5: partial(_power, 2.8),
        7: _smpte_240m,
        8: partial(_power, 1.0),
        _PQ: lambda value: _tone_mapped(_pq_to_light(value)),
        17: lambda value: min(1.0, 52.37 / 48 * value**2.6),
        _HLG: lambda value: _tone_mapped(_hlg_to_light(value)),
    }
    return functions.get(number)


def _power(exponent: float, value: float) -> float:
    return float(value**exponent)


def _srgb_to_linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def _smpte_240m(value: float) -> float:
    return value / 4 if value < 0.0913 else float(((value + 0.1115) / 1.1115) ** (1 / 0.45))


# SMPTE ST 2084
_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 4096 * 128, 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32


def _pq_to_light(value: float) -> float:
    """Return cd/m² from a PQ code value, 0 to 1."""
    root = value ** (1 / _M2)
    return float(_PQ_MOST * (max(0.0, root - _C1) / (_C2 - _C3 * root)) ** (1 / _M1))


def _light_to_pq(light: float) -> float:
    power = (max(0.0, light) / _PQ_MOST) ** _M1
    return float(((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2)


def _hlg_to_light(value: float) -> float:
    """Return cd/m² from an HLG code value, 0 to 1, on a display of 1000 (BT.2100-2, table 5)."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = value * value / 3 if value <= 0.5 else (exp((value - c) / a) + b) / 12
    return float(_PEAK * min(1.0, scene) ** 1.2)


def _tone_mapped(light: float) -> float:
    """Return light as a part of reference white, from cd/m² (BT.2390-11, section 5.4.1)."""
    peak = _light_to_pq(_PEAK)
    most = _light_to_pq(_WHITE) / peak
    value = min(1.0, _light_to_pq(light) / peak)
    knee = 1.5 * most - 0.5
    if value > knee:
        t = (value - knee) / (1 - knee)
        value = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * most
    return min(1.0, _pq_to_light(value * peak) / _WHITE)


Matrix = tuple[tuple[float, ...], ...]
#: Bradford: from XYZ to cones; white D50 of the ICC
_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
_D50 = (0.9642, 1.0, 0.8249)


def _adapted(red: Xy, green: Xy, blue: Xy, white: Xy) -> tuple[tuple[float, ...], ...]:
    """Return XYZ of the primaries, adapted to D50 (ICC.1:2022, annex E)."""
    xyz = tuple((x / y, 1.0, (1 - x - y) / y) for x, y in (red, green, blue, white))
    primaries = tuple(zip(*xyz[:3], strict=True))
    scales = _times(_inverse(primaries), xyz[3])
    ours, theirs = _times(_BRADFORD, xyz[3]), _times(_BRADFORD, _D50)
    adapted = []
    for primary, scale in zip(xyz[:3], scales, strict=True):
        cones = _times(_BRADFORD, tuple(part * scale for part in primary))
        cones = tuple(cone * to / of for cone, to, of in zip(cones, theirs, ours, strict=True))
        adapted.append(_times(_inverse(_BRADFORD), cones))
    return tuple(adapted)


def _times(matrix: Matrix, vector: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sum(a * b for a, b in zip(row, vector, strict=True)) for row in matrix)


def _inverse(matrix: Matrix) -> Matrix:
    (a, b, c), (d, e, f), (g, h, i) = matrix
    cofactors = (
        (e * i - f * h, c * h - b * i, b * f - c * e),
        (f * g - d * i, a * i - c * g, c * d - a * f),
        (d * h - e * g, b * g - a * h, a * e - b * d),
    )
    determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0]
    return tuple(tuple(value / determinant for value in row) for row in cofactors)
