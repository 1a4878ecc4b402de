"""Hints at extras name extras that there are."""

import re
import tomllib
from pathlib import Path

import pytest

from router.errors import ConfigError
from router.extras import EXTRAS, missing, need

ROOT = Path(__file__).parents[1]
OPTIONAL = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def named(path):
    return re.findall(r"carbon-router\[(\w+)\]", path.read_text(encoding="utf-8"))


def test_every_extra_that_may_be_missing_can_be_installed_and_brings_what_it_says():
    for extra, packages in EXTRAS.items():
        brought = " ".join(OPTIONAL[extra])
        assert all(package in brought for package in packages.split(" and "))


def test_no_page_and_no_module_names_an_extra_that_there_is_not():
    pages = [ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("router/**/*.py")]
    found = {extra for page in pages for extra in named(page)}
    assert found
    assert found <= OPTIONAL.keys()


def test_a_hint_says_what_for_and_how_to_get_it():
    assert missing("the bound", "sim") == (
        "the bound needs scipy and optuna: pip install 'carbon-router[sim]'"
    )
    assert missing("rows", "parquet", "use CSV").endswith("'carbon-router[parquet]', or use CSV")


def test_what_is_not_installed_is_an_error_of_the_operators_file_or_option():
    with (
        pytest.raises(ConfigError) as refused,
        need("parquet", "rows", file="a.csv", key="--out", otherwise="use CSV"),
    ):
        import carbon_router_has_no_such_module  # noqa: F401
    fix = "rows needs pyarrow: pip install 'carbon-router[parquet]', or use CSV"
    assert (refused.value.file, refused.value.problems) == ("a.csv", (("--out", fix),))


def test_what_is_installed_is_imported_and_other_errors_pass():
    with need("parquet", "rows", file="a.csv"):
        import math
    assert math.inf
    with pytest.raises(ZeroDivisionError), need("parquet", "rows", file="a.csv"):
        print(1 / 0)
