"""Pictures that readers get wrong come out right, or are refused with the true reason; other tools are the judges."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gif89a
import pytest
from PIL import Image, ImageSequence
from webserver import Answer, Client, embedded, serving

CASES_FOLDER = Path(__file__).parents[1] / "images" / "cases"
CASES: list[dict[str, Any]] = json.loads((CASES_FOLDER / "cases.json").read_text())
TOOLS = {"giftopnm": ["giftopnm", "-image=all"], "identify": ["identify", "-regard-warnings", "-verbose", "-"]}


@pytest.fixture(scope="module")
def client(tmp_path_factory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("cases")
    with serving(embedded(folder), folder) as served:
        yield served.client


@pytest.mark.parametrize("number", range(len(CASES)), ids=lambda n: f"{CASES[n]['kind']}: {CASES[n]['file']} {n}")
def test_a_case_comes_out_as_independent_tools_say(client, number):
    case = CASES[number]
    name = "/images/" + quote(f"cases/{number}/{case.get('name', 'x')}")
    upload = client.put(name, (CASES_FOLDER / case["file"]).read_bytes(), Content_Type="application/octet-stream")
    query = f"?{case['request']}" if case.get("request") else ""
    wrong = mistake(case["expect"], upload, lambda: client.get(name + query))
    assert not wrong, case["why"]


def mistake(expect: dict[str, Any], upload: Answer, get: Any) -> str:
    """What came other than expected; empty where nothing did."""
    if "any" in expect:
        mistakes = [mistake(each, upload, get) for each in expect["any"]]
        return "" if "" in mistakes else " | or: ".join(mistakes)
    if "asked" in expect:
        answer = get() if upload.status in (200, 201) else upload
        return problem_mistake({"status": expect["asked"], **expect}, answer)
    statuses = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    if min(statuses) >= 400:
        return problem_mistake(expect, upload)
    if upload.status not in (200, 201):
        return f"{upload.status} {upload.body[:200]!r}"
    if 201 in statuses:
        record = upload.json()
        found = {key: member(record, key) for key in expect if key != "status"}
        return "" if found == {key: expect[key] for key in found} else f"the record says {found}"
    return picture_mistake(expect, get())


def problem_mistake(expect: dict[str, Any], answer: Answer) -> str:
    statuses = expect["status"] if isinstance(expect["status"], list) else [expect["status"]]
    if answer.status not in statuses:
        return f"{answer.status} {answer.body[:200]!r}"
    problem = answer.json()
    text = f"{problem['title']} {problem.get('detail', '')}".lower()
    has, lacks = expect.get("detail_has", [""]), expect.get("detail_lacks", [])
    fits = any(word.lower() in text for word in has) and not any(word.lower() in text for word in lacks)
    return "" if fits else text


def member(record: Any, path: str) -> Any:
    for key in path.split("."):
        record = record.get(key) if isinstance(record, dict) else None
    return record


def picture_mistake(expect: dict[str, Any], answer: Answer) -> str:
    if answer.status != 200:
        return f"{answer.status} {answer.body[:200]!r}"
    for tool in filter(None, expect.get("valid_for", "").split("|")):
        fault = "; ".join(gif89a.faults(answer.body)) if tool == "gif89a" else refusal(tool, answer.body)
        if fault:
            return fault
    if found := [text for text in expect.get("lacks", ()) if text.encode() in answer.body]:
        return f"the answer holds {found}"
    image = Image.open(io.BytesIO(answer.body))
    frames = [rgba(frame) for frame in ImageSequence.Iterator(image)]
    facts = {"format": image.format, "frames": len(frames)}
    frame = frames[expect.get("frame", 0)]
    facts |= {"size": list(frame.size), "alpha": frame.getchannel("A").getextrema()[0] < 255}
    differing = {key: fact for key, fact in facts.items() if key in expect and expect[key] != fact}
    return f"{differing}" if differing else colour_mistake(expect.get("pixels", ()), frame)


def refusal(tool: str, body: bytes) -> str:
    if not shutil.which(tool):
        return ""  # the others judge
    done = subprocess.run(TOOLS[tool], input=body, capture_output=True, timeout=60, check=False)
    return "" if done.returncode == 0 else done.stderr.decode(errors="replace")


def rgba(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        image = image.convert("I").point(lambda value: value / 257).convert("L")
    return image.convert("RGBA")


def colour_mistake(expected: Any, frame: Image.Image) -> str:
    for x, y, colour, tolerance in expected:
        place = min(frame.width - 1, int(x * frame.width)), min(frame.height - 1, int(y * frame.height))
        came = frame.getpixel(place)
        compared = range(4) if colour[3] else (3,)
        if any(abs(came[band] - colour[band]) > tolerance for band in compared):
            return f"at ({x}, {y}) {came}, not {colour} within {tolerance}"
    return ""
