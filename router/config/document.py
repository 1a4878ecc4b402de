"""YAML text -> plain data, strictly.

Scalars follow the YAML 1.2 core schema, because 1.1 reads the grid zone ``NO`` (Norway) as false,
``12:30`` as 750 and ``1e3`` as text; times stay text. Duplicate keys, recursive aliases and
documents that grow without bound through aliases are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from router.errors import ConfigError

MAX_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 60
MAX_VALUES = 5_000_000

_OPENS = (yaml.MappingStartEvent, yaml.SequenceStartEvent)
_CLOSES = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(yaml.CSafeLoader):
    """CSafeLoader with the scalars of the YAML 1.2 core schema."""


def _whole_number(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)))


_SCALARS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)
_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in _SCALARS:
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )
# PyYAML reads a leading 0 as octal and a colon as base 60; a plain decimal is what 1.2 means.
_Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def parse(text: str, file: str) -> Any:
    """Plain data (dict, list, str, int, float, bool, None) of one YAML document.

    Raises ConfigError naming ``file``, line and fix; all duplicate keys are reported at once.
    """
    if len(text) > MAX_BYTES:
        raise ConfigError(file, [("", f"larger than {MAX_BYTES // 1024**2} MiB; split it")])
    try:
        _refuse_deep(text, file)
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_endless(node, file)
            duplicates = list(_duplicate_keys(node, "", set()))
            if duplicates:
                raise ConfigError(file, duplicates)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(file, [("", _marked(error))]) from error
    except yaml.YAMLError as error:
        raise ConfigError(file, [("", f"not YAML: {' '.join(str(error).split())}")]) from error
    except ValueError as error:
        raise ConfigError(file, [("", f"a value cannot be read: {error}")]) from error


def _marked(error: yaml.MarkedYAMLError) -> str:
    where = ""
    if error.problem_mark is not None:
        where = f"line {error.problem_mark.line + 1}, column {error.problem_mark.column + 1}: "
    what = (error.problem or "not YAML").strip()
    hint = "; indent with spaces" if "cannot start any token" in what else ""
    return f"{where}{what}{hint}"


def _line(place: yaml.Event | yaml.Node) -> int:
    return place.start_mark.line + 1 if place.start_mark is not None else 0


def _refuse_deep(text: str, file: str) -> None:
    # Composing recurses in C, where too deep a document would end the process, not raise.
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, _OPENS):
            depth += 1
        elif isinstance(event, _CLOSES):
            depth -= 1
        if depth > MAX_DEPTH:
            line = _line(event)
            raise ConfigError(file, [("", f"line {line}: nested more than {MAX_DEPTH} deep")])


def _refuse_endless(root: yaml.Node, file: str) -> None:
    """Refuse recursive aliases, and aliases that multiply into more than MAX_VALUES values."""
    sizes: dict[int, int] = {}
    open_nodes: set[int] = set()

    def size(node: yaml.Node) -> int:
        key = id(node)
        if key in sizes:
            return sizes[key]
        line = _line(node)
        if key in open_nodes:
            raise ConfigError(file, [("", f"line {line}: an alias contains itself; remove it")])
        open_nodes.add(key)
        total = 1 + sum(size(child) for child in _children(node))
        if total > MAX_VALUES:
            raise ConfigError(
                file, [("", f"line {line}: aliases expand to more than {MAX_VALUES} values")]
            )
        open_nodes.discard(key)
        sizes[key] = total
        return total

    size(root)


def _children(node: yaml.Node) -> Iterator[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield key
            yield value
    elif isinstance(node, yaml.SequenceNode):
        yield from node.value


def _duplicate_keys(node: yaml.Node, path: str, seen: set[int]) -> Iterator[tuple[str, str]]:
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for index, child in enumerate(node.value):
            yield from _duplicate_keys(child, f"{path}[{index}]", seen)
    elif isinstance(node, yaml.MappingNode):
        first: dict[str, int] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                line = _line(key)
                yield path, f"line {line}: a key must be plain text; is a quote missing?"
                continue
            here = f"{path}.{key.value}" if path else key.value
            line = _line(key)
            if key.value in first and key.tag != _MERGE_TAG:
                yield here, f"given twice, on lines {first[key.value]} and {line}; remove one"
            first.setdefault(key.value, line)
            yield from _duplicate_keys(value, here, seen)
