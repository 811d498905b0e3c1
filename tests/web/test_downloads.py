"""Names under which pictures are saved, as clients read them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pictures
import pytest
from webserver import Served, embedded, serving

from image_repo.web.responses import disposition

PICTURE = pictures.jpeg(pictures.photo(40, 30))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("downloads")
    with serving(embedded(folder), folder) as server:
        yield server


@pytest.mark.parametrize(
    ("filename", "plain"),
    [
        ("a.jpg", "a.jpg"),
        ("Été 1.jpg", "Ete 1.jpg"),
        ("写真.jpg", "__.jpg"),
        ('say "hi".jpg', "say _hi_.jpg"),
        ("100%20.jpg", "100_20.jpg"),
        ("a\uff0fb.jpg", "a_b.jpg"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("\u2066a\u2069.jpg", "a.jpg"),
    ],
    ids=["ASCII", "accents", "another script", "quotes", "a percent sign", "a wide slash", "right to left", "isolates"],
)
def test_a_name_is_given_in_both_forms(filename: str, plain: str) -> None:
    """RFC 6266, appendix D."""
    first, extended = disposition(filename).split("; ")[1:]
    assert first == f'filename="{plain}"'
    assert extended == "filename*=UTF-8''" + quote(
        filename.translate(dict.fromkeys(map(ord, "\u202e\u2066\u2069"))), ""
    )


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_saves_a_picture_under_its_name(server: Served, tmp_path: Path) -> None:
    assert server.client.put("/images/sites/north", PICTURE).status == 201
    url = f"http://{server.client.host}:{server.client.port}/images/sites/north?w=20&kind=png"
    subprocess.run(["curl", "-sSOJ", url], check=True, cwd=tmp_path, timeout=30)
    assert [file.name for file in tmp_path.iterdir()] == ["north.png"]


@pytest.mark.parametrize("query", ["download=x.png", "download=x.PNG", "download=x.jpg&kind=png"])
def test_a_name_that_ends_as_another_format_does_is_refused(server: Served, query: str) -> None:
    assert server.client.put("/images/sites/north", PICTURE).status in (200, 201)
    answer = server.client.get(f"/images/sites/north?{query}")
    assert (answer.status, answer.json()["parameter"]) == (400, "download")
    assert "a name that ends in ." in answer.json()["detail"]


@pytest.mark.parametrize("query", ["download=x.jpeg", "download=x.v2", "download=x", "download=x.tiff&kind=tif"])
def test_a_name_that_ends_as_the_picture_or_in_nothing_known_is_taken(server: Served, query: str) -> None:
    assert server.client.put("/images/sites/north", PICTURE).status in (200, 201)
    assert server.client.get(f"/images/sites/north?{query}").status == 200


@pytest.mark.parametrize("name", ['a "b" c', "x" * 690, "写真" * 30], ids=["with quotes", "long", "in another script"])
def test_the_server_takes_its_own_temporary_link(server: Served, name: str) -> None:
    path = f"/images/{quote(name)}"
    assert server.client.put(path, PICTURE).status in (200, 201)
    url = server.client.get(f"{path}?url=True&w=20").json()["url"]
    answer = server.client.get("/" + url.split("/", 3)[3])
    assert answer.image().size == (20, 15)
    assert answer.headers["Content-Disposition"].endswith(quote(name, "") + ".jpg")
