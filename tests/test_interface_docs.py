"""What people and machines are told of the interface is so: README, /docs, /openapi.json, /problems."""

from pathlib import Path

import pytest
from openapi_spec_validator import validate
from webserver import embedded, serving

from image_repo.recipe import PARAMETERS
from image_repo.web.openapi import BESIDE, LISTING
from image_repo.web.problems import KNOWN

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.fixture(scope="module")
def get(tmp_path_factory):
    folder = tmp_path_factory.mktemp("docs")
    with serving(embedded(folder, repository_base_pathname="api/images"), folder) as served:
        yield served.client.get


def test_the_document_is_openapi(get):
    validate(get("/openapi.json").json())


def test_the_document_begins_its_paths_with_the_base(get):
    assert "/api/images/{name}" in get("/openapi.json").json()["paths"]
    assert get("/api/images").status == 200


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *BESIDE, *LISTING} - {"after"}))
def test_every_parameter_is_in_the_readme(name):
    assert f"`{name}`" in README or f"`{name}[" in README


@pytest.mark.parametrize("name", sorted(alias for parameter in PARAMETERS.values() for alias in parameter.aliases))
def test_every_alias_is_told(get, name):
    assert name in get("/docs").body.decode()


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *BESIDE, *LISTING, "derived"}))
def test_every_parameter_is_on_the_page(get, name):
    assert f"<code>{name}</code>" in get("/docs").body.decode()


@pytest.mark.parametrize("slug", sorted(KNOWN))
def test_every_problem_has_its_page(get, slug):
    page = get(f"/problems/{slug}").body.decode()
    assert KNOWN[slug].title in page
    assert str(KNOWN[slug].status) in page
    assert KNOWN[slug].__doc__, "which is what the page says"
