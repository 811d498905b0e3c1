"""What hostile clients send, as tables: the application in threads and the real server are both held to them."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

from webserver import Answer

#: behind ``/images/``, as it stands on the request line; id → path
NO_NAMES = {
    "a step up": "../x",
    "a step up in the middle": "a/../x",
    "an encoded step up": "%2e%2e/x",
    "half encoded": ".%2e/x",
    "with the slash encoded": "..%2fx",
    "all of it encoded": "%2e%2e%2f%2e%2e%2fx",
    "out of the folder by its ending": "a/..%2f..%2fx.jpg",
    "to the root": "/etc/passwd",
    "encoded to the root": "%2fetc%2fpasswd",
    "two slashes": "a//x",
    "two slashes, encoded": "a%2f%2fx",
    "a dot": "./x",
    "a hidden file": ".ssh/x",
    "a hidden file below": "a/.x",
    "the cache's own folder": ".renditions/x",
    "nothing but an ending": "a/.jpg",
    "a backslash": "a%5Cx",
    "a step up with a backslash": "..%5Cx",
    "a bare backslash": "a\\x",
    "NUL": "a%00x",
    "NUL before an ending": "x%00.jpg",
    "a line feed": "a%0Ax",
    "carriage return and line feed": "a%0D%0ASet-Cookie:%20x=1",
    "DEL": "a%7Fx",
    "a C1 control character": "a%C2%85x",
    "an overlong slash": "a%C0%AFx",
    "an overlong dot": "%C0%AE%C0%AE/x",
    "an overlong NUL": "a%C0%80x",
    "half a surrogate pair": "a%ED%A0%80x",
    "no UTF-8": "a%FFx",
    "a line separator between steps": "..%2F%E2%80%A8/../x",
    "701 bytes": "a" * 701,
    "701 bytes once it is encoded": "%C3%A9" * 117,
}

#: names that look like attacks and are none; they come back as they are, and only as they are
ODD_NAMES = {
    "encoded twice": "a%252e%252e%252fx",
    "NUL encoded twice": "a%2500x",
    "three dots at the end": "a/x...",
    "look-alikes of dots": "\u2024\u2024/x",
    "a full-width step up": "\uff0e\uff0e/x",
    "a full-width slash": "a\uff0fx",
    "a division slash": "a\u2215x",
    "a look-alike of another name": "\u0430/x",
    "written from right to left": "a/\u202egpj.x",
    "a byte order mark": "\ufeffx",
    "a space of no width": "a/\u200bx",
    "quotes": "a/\"x'",
    "a parameter of a header": "x;filename=evil.html",
    "a name with markup": "<script>x</script>",
    "a query": "a?w=1#x",
    "a key of the cache": "a@v+size(1,1)+g(0)",
    "the words of a format": "%s%n{0}${x}`id`$(id)",
    "a windows device": "aux",
    "a drive": "c:/x",
    "stars": "*/?[a]",
    "spaces at the ends": " x ",
    "a tilde": "~root/x",
    "a record": "a/x.json",
    "an emoji": "\U0001f600/x",
    "700 bytes": "b" * 700,
}  # fmt: skip

#: queries of ``/images/a``, each with the parameter that is to blame
BAD_QUERIES: dict[str, tuple[str, str]] = {
    **{
        f"{parameter}={label}": (f"{parameter}={value}", parameter)
        for parameter in ("xsize", "ysize", "w", "quality", "page", "lifetime")
        for label, value in {
            "0": "0",
            "-1": "-1",
            "1e9": "1e9",
            "1000000000": "1000000000",
            "NaN": "NaN",
            "inf": "inf",
            "0x10": "0x10",
            "1.5": "1.5",
            "+5": "%2B5",
            "1_0": "1_0",
            "a space and 5": "%205",
            "5 and a line": "5%0A",
            "full-width digits": quote("５０"),
            "arabic digits": quote("٥٠"),
            "a superscript": quote("²"),
            "5,000 digits": "1" * 5000,
            "nothing": "",
            "NUL": "5%00",
        }.items()
    },
    **{
        f"{parameter}={value[:30]}": (f"{parameter}={quote(value)}", parameter)
        for parameter, values in {
            "blur": ("0", "-1", "1e2", "NaN", "inf", "101", "５", "1" * 5000, "0." + "1" * 5000),
            "sharpen": ("-1", "NaN", "11", "1e1"),
            "dpr": ("0", "-1", "NaN", "9", "1e0"),
            "rotate": ("361", "-90", "NaN", "９０", "9e1"),
            "crop": ("1,2,3", "-1,0,1,1", "0,0,0,0", "nan,0,1,1", "pct:0,0,101,1", "pct:nan,0,1,1", "1,1,1,1,1"),
            "focus": ("nan,nan", "2,0", "-1,0", "1", "up"),
            "kind": (
                "exe", "jpg;q=1", "jpg+q(1)", "../jpg", "jpg[optimize=1]", "svg", "pdf", "mvg:x", "jpg\0", "JPG\n",
                "ｊｐｇ",
            ),
            "fit": ("cover+q(1)", "inside,cover", ""),
            "background": ("url(x)", "#12345", "red;x", "ｆｆｆ"),
            "preset": ("none", "../x", "__class__"),
            "regex": ("(?=a)", "(a)\\1", "(", "a" * 1001, "(?:x{1000}){1000}", "\0["),
            "download": ("../x", "a\r\nSet-Cookie: x=1", 'a"b', "a\\b", "a" * 201, "a/b", "a\0b", "a\x7fb"),
            "thumbnail": ("maybe", "2", "True\n"),
            "url": ("2",),
            "meta": ("[]",),
            "lifetime": ("604801", "99999999"),
        }.items()
        for value in values
    },
    "twice": ("xsize=1&xsize=2", "xsize"),
    "twice the same": ("xsize=1&xsize=1", "xsize"),
    "twice by another name": ("xsize=1&w=1", "w"),
    "by a third name": ("height=1&h=1", "h"),
    "another case": ("XSIZE=1", "XSIZE"),
    "brackets": ("xsize[]=1", "xsize[]"),
    "a misspelling": ("xsice=1", "xsice"),
    "a name with a space": ("%20xsize=1", " xsize"),
    "a name of markup": ("%3Cscript%3E=1", "<script>"),
    "a semicolon between": ("xsize=1;ysize=2", "xsize"),
    "no name": ("=1", ""),
    "dpr beyond the largest box": ("w=10000&dpr=8", "dpr"),
}  # fmt: skip


def is_clean_problem(answer: Answer, *secrets: str) -> None:
    """A refusal tells no path of ours, no trace, no secret, and is kept by nobody."""
    assert answer.headers["Content-Type"] == "application/problem+json", (answer.status, answer.body[:300])
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    document = answer.json()
    assert document["status"] == answer.status
    # what the client itself has sent is repeated in `instance`; the words are ours
    words = f"{document['title']} {document.get('detail', '')}"
    for hint in ("Traceback", ".py", "site-packages", "0x7f", *secrets):
        assert hint not in words
    assert len(answer.body) < 8000


@contextmanager
def takes_at_most(cpu_s: float, wall_s: float = 10.0) -> Iterator[None]:
    """Check what is done within: CPU of this process holds on a busy machine too, elapsed seconds show what waits."""
    cpu_start, wall_start = time.process_time(), time.monotonic()
    yield
    assert time.process_time() - cpu_start < cpu_s
    assert time.monotonic() - wall_start < wall_s


def is_guarded(answer: Answer) -> None:
    """What a browser must not take for anything else, and must not run."""
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox"


def composed(text: str) -> str:
    return unicodedata.normalize("NFC", text)
