"""A judge of GIF files by their specification: GIF89a, sections 18 to 23 and appendix F."""

from __future__ import annotations

from collections.abc import Iterator


def faults(data: bytes) -> Iterator[str]:
    """Yield what is wrong with each frame."""
    width, height = int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    shared, at, transparent, frames = _table(data[10]), 13, None, 0
    at += 3 * shared
    while data[at] != 0x3B:
        if data[at] == 0x21:
            if data[at + 1] == 0xF9:
                transparent = data[at + 6] if data[at + 3] & 1 else None
            at = _skip(data, at + 2)
            continue
        assert data[at] == 0x2C, f"block 0x{data[at]:02x} at {at}"
        left, top, across, down = (int.from_bytes(data[at + n : at + n + 2], "little") for n in (1, 3, 5, 7))
        own = _table(data[at + 9])
        size = own or shared
        at += 10 + 3 * own
        frames += 1
        end = _skip(data, at + 1)
        most, count = _unpack(_joined(data, at + 1), data[at])
        if left + across > width or top + down > height:
            yield f"frame {frames} lies outside of the screen"
        if transparent is not None and transparent >= size:
            yield f"frame {frames}: transparent index {transparent} in a colour table of {size}"
        if (most >= size) or count != across * down:
            yield f"frame {frames}: {count} pixels of {across * down}, index {most} in a colour table of {size}"
        transparent, at = None, end
    if not frames:
        yield "no frame"


def _table(flags: int) -> int:
    return 2 << (flags & 7) if flags & 0x80 else 0


def _skip(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def _joined(data: bytes, at: int) -> bytes:
    blocks = []
    while data[at]:
        blocks.append(data[at + 1 : at + 1 + data[at]])
        at += data[at] + 1
    return b"".join(blocks)


def _unpack(data: bytes, least: int) -> tuple[int, int]:
    """The greatest index of an LZW stream, and how many there are."""
    clear, end = 1 << least, (1 << least) + 1
    stream = int.from_bytes(data, "little")
    at, width, most, count, last = 0, least + 1, 0, 0, None
    single = [(n, 1, n) for n in range(clear)] + [(0, 0, 0)] * 2  # greatest, length, first
    table = list(single)
    while at + width <= 8 * len(data):
        code = (stream >> at) & ((1 << width) - 1)
        at += width
        if code == clear:
            table, width, last = list(single), least + 1, None
            continue
        if code == end:
            break
        if last is not None and len(table) < 4096:
            first = (table[code] if code < len(table) else table[last])[2]
            table.append((max(table[last][0], first), table[last][1] + 1, table[last][2]))
        greatest, length, _ = table[code]
        most, count, last = max(most, greatest), count + length, code
        if len(table) == 1 << width and width < 12:
            width += 1
    return most, count
