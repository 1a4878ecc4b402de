"""Bills of materials (CycloneDX 1.6, JSON) of a wheel and of the image, into out/sbom.

    python tools/sbom.py WHEEL [IMAGE]         (`make sbom`, in the environment of tools/sbom.lock)

What is told is what gets installed: docker/requirements.lock by its hashes and the wheel, in an
environment of their own. The wheel's bill has what the gateway needs; the image's has the extras of
that lock, too. IMAGE is a folder with files of a built image (SECURITY.md says which): with it the
image's Python and C libraries are told as well; without it the bill itself says that it is
incomplete. Both are held to CycloneDX's schema.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path
from typing import Any

import licences
from packageurl import PackageURL
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "docker" / "requirements.lock"
OUT = ROOT / "out" / "sbom"
SPEC = "1.6"

Bom = dict[str, Any]


def install(folder: Path, wheel: Path) -> None:
    """The lock by its hashes and the wheel, alone in an environment without pip."""
    shutil.rmtree(folder, ignore_errors=True)
    venv.create(folder, with_pip=False)
    pip = [sys.executable, "-m", "pip", f"--python={folder}", "--disable-pip-version-check"]
    for what in (["--require-hashes", "--only-binary=:all:", f"-r{LOCK}"], ["--no-index", wheel]):
        subprocess.run([*pip, "install", "--quiet", "--no-deps", *map(str, what)], check=True)


def described(folder: Path) -> Bom:
    """What cyclonedx-py finds in an environment, with the project as its root."""
    command = [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible"]
    command += [f"--spec-version={SPEC}", f"--pyproject={ROOT / 'pyproject.toml'}", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    bom: Bom = json.loads(done.stdout)
    return bom


def without_places(bom: Bom) -> Bom:
    """``bom`` without where things lay on this machine: references to files."""
    root = bom["metadata"]["component"]
    for component in (root, *bom["components"]):
        references = component.get("externalReferences", [])
        component["externalReferences"] = [
            one for one in references if not one["url"].startswith("file:")
        ]
    return bom


def of_wheel(bom: Bom, wheel: Path) -> Bom:
    """``bom`` with the wheel's hash at its root."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    bom["metadata"]["component"]["hashes"] = [{"alg": "SHA-256", "content": digest}]
    return bom


def needed_alone(bom: Bom, names: Iterable[str]) -> Bom:
    """A copy of ``bom`` with the components of these names alone, and what they depend on."""
    wanted = frozenset(names)
    copy: Bom = json.loads(json.dumps(bom))
    copy["components"] = [
        one for one in copy["components"] if canonicalize_name(one["name"]) in wanted
    ]
    kept = {one["bom-ref"] for one in (copy["metadata"]["component"], *copy["components"])}
    copy["dependencies"] = [
        {**one, "dependsOn": [ref for ref in one.get("dependsOn", ()) if ref in kept]}
        for one in copy["dependencies"]
        if one["ref"] in kept
    ]
    return copy


def debian(status: Path) -> list[Bom]:
    """The components that files of var/lib/dpkg/status.d tell of."""
    found: list[Bom] = []
    for path in sorted(status.iterdir()):
        said = HeaderParser().parsestr(path.read_text(encoding="utf-8"))
        name, version = said["Package"], said["Version"]
        purl = PackageURL("deb", "debian", name, version, {"arch": said["Architecture"]})
        found.append(
            {
                "type": "library",
                "bom-ref": purl.to_string(),
                "name": name,
                "version": version,
                "purl": purl.to_string(),
            }
        )
    return found


def python_of(image: Path) -> Bom:
    """The component of the Python that the image runs on, as its environment names it."""
    lines = (image / "opt/carbon-router/pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    settings = dict(re.split(r"\s*=\s*", line, maxsplit=1) for line in lines if "=" in line)
    version = settings["version"]
    return {
        "type": "platform",
        "bom-ref": f"cpython=={version}",
        "name": "cpython",
        "version": version,
        "purl": PackageURL("generic", None, "cpython", version).to_string(),
        # The name under which advisories of it are published.
        "cpe": f"cpe:2.3:a:python:python:{version}:*:*:*:*:*:*:*",
    }


def of_image(bom: Bom, image: Path | None) -> Bom:
    """The image's bill, which the gateway of ``bom`` is one component of."""
    gateway = {**bom["metadata"]["component"], "type": "library"}
    root = {"bom-ref": "image", "type": "container", "name": "carbon-router-image"}
    root["version"] = gateway["version"]
    system = [python_of(image), *debian(image / "var/lib/dpkg/status.d")] if image else []
    brought = [one["bom-ref"] for one in (gateway, *system)]
    return {
        **bom,
        "metadata": {**bom["metadata"], "component": root},
        "components": [gateway, *bom["components"], *system],
        "dependencies": [
            {"ref": root["bom-ref"], "dependsOn": brought},
            *bom["dependencies"],
            *({"ref": one["bom-ref"]} for one in system),
        ],
        "compositions": [
            {"aggregate": "complete" if image else "incomplete", "assemblies": [root["bom-ref"]]}
        ],
    }


def check(text: str) -> None:
    """Hold a bill to CycloneDX's schema.

    Raises ValueError.
    """
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = JsonStrictValidator(SchemaVersion.from_version(SPEC)).validate_str(text)
    if wrong:
        raise ValueError(f"not CycloneDX {SPEC}: {wrong}")


def main() -> int:
    wheel = Path(sys.argv[1])
    image = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    installed = OUT / "environment"
    install(installed, wheel)
    whole = of_wheel(without_places(described(installed)), wheel)
    known = licences.installed([str(path) for path in installed.glob("lib/*/site-packages")])
    project = licences.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    needed = licences.closure(project["project"]["dependencies"], known.values())
    bills = {"wheel": needed_alone(whole, needed), "image": of_image(whole, image)}
    shutil.rmtree(installed)
    for name, bill in bills.items():
        text = json.dumps(bill, indent=2) + "\n"
        check(text)
        (OUT / f"carbon-router-{name}.cdx.json").write_text(text, encoding="utf-8")
        print(f"sbom: {name}: {len(bill['components'])} components")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
