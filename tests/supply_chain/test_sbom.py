"""tools/sbom.py: what it makes of what cyclonedx-py found. `make sbom` holds all to the schema."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

STATUS = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\n"


@pytest.fixture
def sbom() -> Any:
    import sbom

    return sbom


@pytest.fixture
def found() -> dict[str, Any]:
    file = {"type": "distribution", "url": "file:///somewhere/carbon.whl"}
    page = {"type": "website", "url": "https://example.org"}
    return {
        "metadata": {
            "component": {
                "bom-ref": "root-component",
                "type": "application",
                "name": "carbon-router",
                "version": "1",
                "externalReferences": [file],
            }
        },
        "components": [
            {"bom-ref": "A==1", "name": "A", "version": "1", "externalReferences": [file, page]},
            {"bom-ref": "b_b==1", "name": "b_b", "version": "1"},
        ],
        "dependencies": [
            {"ref": "root-component", "dependsOn": ["A==1", "b_b==1"]},
            {"ref": "A==1"},
            {"ref": "b_b==1"},
        ],
    }


@pytest.fixture
def image(tmp_path: Path) -> Path:
    status = tmp_path / "var/lib/dpkg/status.d"
    status.mkdir(parents=True)
    (status / "libc6").write_text(STATUS, encoding="utf-8")
    environment = tmp_path / "opt/carbon-router"
    environment.mkdir(parents=True)
    (environment / "pyvenv.cfg").write_text("home = /x\nversion = 3.11.9\n", encoding="utf-8")
    return tmp_path


def test_no_place_on_the_building_machine_is_told(sbom: Any, found: Any) -> None:
    told = sbom.without_places(found)
    assert "file:" not in str(told)
    assert "https://example.org" in str(told)


def test_the_wheel_has_its_hash_and_only_what_it_needs(
    sbom: Any, found: Any, tmp_path: Path
) -> None:
    wheel = tmp_path / "carbon.whl"
    wheel.write_bytes(b"wheel")
    bill = sbom.needed_alone(sbom.of_wheel(found, wheel), {"b-b"})
    (digest,) = bill["metadata"]["component"]["hashes"]
    assert digest["content"] == hashlib.sha256(b"wheel").hexdigest()
    assert [one["name"] for one in bill["components"]] == ["b_b"]
    assert bill["dependencies"] == [
        {"ref": "root-component", "dependsOn": ["b_b==1"]},
        {"ref": "b_b==1", "dependsOn": []},
    ]
    # The other bill is made of the same.
    assert len(found["components"]) == 2


def test_an_image_that_was_not_built_is_told_as_incomplete(sbom: Any, found: Any) -> None:
    bill = sbom.of_image(found, None)
    assert bill["compositions"] == [{"aggregate": "incomplete", "assemblies": ["image"]}]
    assert bill["metadata"]["component"]["type"] == "container"
    assert [one["name"] for one in bill["components"]] == ["carbon-router", "A", "b_b"]


def test_an_image_that_was_built_tells_of_its_python_and_libraries(
    sbom: Any, found: Any, image: Path
) -> None:
    bill = sbom.of_image(found, image)
    assert bill["compositions"][0]["aggregate"] == "complete"
    cpython, libc = bill["components"][-2:]
    assert (cpython["purl"], libc["purl"]) == (
        "pkg:generic/cpython@3.11.9",
        "pkg:deb/debian/libc6@2.36-9?arch=amd64",
    )
    named = {one["bom-ref"] for one in bill["components"]} | {"image"}
    assert {one["ref"] for one in bill["dependencies"]} == named
