"""One name, one thing: no two public classes bear the same name."""

import ast
from collections import defaultdict
from pathlib import Path

ROUTER = Path(__file__).parents[1] / "router"

# Named twice on purpose, or still to be renamed; each line that goes is one riddle less.
ALLOWED = {
    # In the JSON schemas of two kinds of files, whose names editors and programs know.
    "SignalSchema",
}


def defined():
    found = defaultdict(list)
    for path in sorted(ROUTER.rglob("*.py")):
        if "_pb" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(f"{path.relative_to(ROUTER.parent)}:{node.lineno}")
    return found


def test_no_public_class_name_is_defined_twice():
    twice = {n: at for n, at in defined().items() if len(at) > 1 and n not in ALLOWED}
    listed = "\n".join(f"  {name}: {', '.join(places)}" for name, places in twice.items())
    assert not twice, (
        f"one name, one thing:\n{listed}\nKeep the field's term for the one in core, model or "
        "contract and give the other a name that says what it is, or make one class of both."
    )


def test_what_is_allowed_twice_is_there_twice():
    once = {name for name in ALLOWED if len(defined().get(name, ())) < 2}
    assert not once, f"named once now; take them out of ALLOWED: {', '.join(sorted(once))}"
