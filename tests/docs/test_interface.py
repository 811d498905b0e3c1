"""What people and machines are told of the interface is so: README, /docs, /openapi.json, /problems."""

import re
from pathlib import Path
from urllib.parse import parse_qsl

import pytest
from openapi_spec_validator import validate
from webserver import embedded, serving

from image_repo.catalogue.grammar import BULK_WORDS, FILTER_WORDS, IMAGES, OPERATORS, PAGE_WORDS
from image_repo.model.operations import PARAMETERS
from image_repo.web.openapi import READ_OPTIONS
from image_repo.web.problems import KNOWN

#: what is asked of the catalogue
WORDS = {*FILTER_WORDS, *PAGE_WORDS, *BULK_WORDS}
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
#: every page for users
PAGES = "\n".join(path.read_text() for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))


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


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *READ_OPTIONS}))
def test_every_parameter_is_in_the_readme(name):
    assert f"`{name}`" in README or f"`{name}[" in README


@pytest.mark.parametrize("name", sorted(WORDS - {"after"}))
def test_every_word_of_a_query_is_documented(name):
    assert f"`{name}`" in PAGES or f"`{name}=" in PAGES


def test_every_operator_is_documented():
    assert f"`{' '.join(OPERATORS)}`" in PAGES


@pytest.mark.parametrize("query", re.findall(r"http://127.0.0.1:5000/images\?(\S+?)'", README))
def test_the_queries_of_the_readme_are_some(query):
    wanted = IMAGES.read(parse_qsl(query), (*FILTER_WORDS, *PAGE_WORDS, *BULK_WORDS))
    assert not wanted.query.filter.is_empty


@pytest.mark.parametrize("name", sorted(alias for parameter in PARAMETERS.values() for alias in parameter.aliases))
def test_every_alias_is_told(get, name):
    assert name in get("/docs").body.decode()


@pytest.mark.parametrize("name", sorted({*PARAMETERS, *READ_OPTIONS, *WORDS, "derived"}))
def test_every_parameter_is_on_the_page(get, name):
    assert f"<code>{name}</code>" in get("/docs").body.decode()


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_is_on_the_page(get, operator):
    assert f" {operator}: " in get("/docs").body.decode()


@pytest.mark.parametrize(
    ("path", "methods"),
    [("/api/images", {"get", "post", "patch", "delete"}), ("/search", {"get"}), ("/stats/{key}", {"get"})],
)
def test_what_is_asked_of_the_catalogue_is_in_the_document(get, path, methods):
    assert methods <= set(get("/openapi.json").json()["paths"][path])


@pytest.mark.parametrize("slug", sorted(KNOWN))
def test_every_problem_has_its_page(get, slug):
    page = get(f"/problems/{slug}").body.decode()
    assert KNOWN[slug].title in page
    assert str(KNOWN[slug].status) in page
    assert KNOWN[slug].__doc__, "which is what the page says"


def test_every_operation_has_an_id_a_group_and_the_statuses_of_its_problems(get):
    document = get("/openapi.json").json()
    operations = [
        (path, method, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    ]
    identifiers = [operation["operationId"] for _, _, operation in operations]
    assert len(set(identifiers)) == len(identifiers)
    assert {"getImagesByName", "putImagesByName", "getSearch"} <= set(identifiers)
    for path, _, operation in operations:
        assert {"400", "401", "403", "404", "503"} <= operation["responses"].keys(), path
        assert len(operation["tags"]) == 1
    picture = document["paths"]["/api/images/{name}"]["get"]["responses"]
    assert {"200", "206", "304", "416", "422", "429", "504"} <= picture.keys()
    assert "ETag" in picture["200"]["headers"]
