"""YAML as people write settings: no aliases, no tags that make objects, no repeated keys, decimal numbers only."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import yaml

from capitulation.errors import InputError, one_line

NUMBERS_AND_DAYS = {f"tag:yaml.org,2002:{kind}" for kind in ("int", "float", "timestamp")}
DECIMAL_INTEGER = re.compile(r"[-+]?(0|[1-9]\d{0,17})\Z", re.ASCII)
DECIMAL_FRACTION = re.compile(r"[-+]?(\d{1,18}\.\d{0,18}|\.\d{1,18}|\d{1,18}(?=e))(e[-+]?\d{1,3})?\Z", re.ASCII)
WRONG_TAG = (AttributeError, LookupError, TypeError, ArithmeticError)
"""What PyYAML raises for `!!bool x` and the like."""


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, by which a short text can stand for billions of values, and without repeated keys.

    Only decimal numbers are numbers: to YAML 1.1 `030` is 24 and `1:30` is 90. Whatever else looks like a number or a
    day stays text, so that the field it is given for judges it by name.
    """

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in NUMBERS_AND_DAYS]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases (*name) are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        names = [key.value for key, _value in node.value if isinstance(key, yaml.ScalarNode)]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"{one_line(twice, 60)!r} is given twice")
        return super().construct_mapping(node, deep)


_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", DECIMAL_INTEGER, list("-+0123456789"))
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:float", DECIMAL_FRACTION, list("-+.0123456789"))


def read_yaml(text: str, where: str) -> Any:
    """The value in `text`; `InputError` of one line that begins with `where` if it is no plain YAML."""
    try:
        return yaml.load(text, _PlainLoader)  # noqa: S506  a safe loader, made stricter
    except (yaml.YAMLError, ValueError, RecursionError, *WRONG_TAG) as error:
        raise InputError(f"{where}: not readable as YAML: {one_line(error, 160)}") from None
