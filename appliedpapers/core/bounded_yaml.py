"""YAML of people and of strangers, in bounds: no classes, no bombs, and every problem is a ``YAMLError``.

A file of a few hundred bytes may name one list nine times in another, nine times over, and unfold to
billions of values when they are checked or printed. Aliases are counted by what they unfold to before
anything is made.
"""

from __future__ import annotations

import re
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

DEEPEST = 60
MOST_VALUES = 200_000
_HALF = re.compile("[\ud800-\udfff]")


class BoundedLoader(yaml.SafeLoader):
    """The safe loader with bounds on nesting and on what aliases unfold to."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node; the nesting is counted, since each level is a call."""
        self._depth += 1
        if self._depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"nested more than {DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_document(self) -> Any:
        """Compose the document, and refuse one that unfolds to too much."""
        node = super().compose_document()
        if node is not None and _unfolded(node, {}) > MOST_VALUES:
            raise ComposerError(
                None, None, f"it unfolds to more than {MOST_VALUES:,} values", node.start_mark
            )
        return node

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Make a value; one that looks like a number or a date and is none is a problem of the file."""
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, OverflowError) as error:
            reason = str(error).partition(";")[0]
            raise ConstructorError(None, None, reason, node.start_mark) from None

    def construct_scalar(self, node: Any) -> Any:
        """Make a text; half a character, which no file and no terminal takes, is refused."""
        value = super().construct_scalar(node)
        if isinstance(value, str) and _HALF.search(value):
            raise ConstructorError(None, None, "half a surrogate pair is no character", node.start_mark)
        return value


def _unfolded(node: Any, known: dict[int, int | None]) -> int:
    """Return how many values a node stands for, with aliases counted each time."""
    if id(node) in known:
        size = known[id(node)]
        if size is None:
            raise ComposerError(None, None, "a value holds itself", node.start_mark)
        return size
    known[id(node)] = None
    children: list[Any] = []
    if isinstance(node, yaml.SequenceNode):
        children = node.value
    elif isinstance(node, yaml.MappingNode):
        children = [part for pair in node.value for part in pair]
    size = 1 + sum(_unfolded(child, known) for child in children)
    known[id(node)] = size
    return size


def load(text: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Return what a YAML document says.

    Raises:
        yaml.YAMLError: It is not YAML, nested too deeply, too large when unfolded, or holds itself.
    """
    return yaml.load(text, loader)


def compose(text: str) -> yaml.Node | None:
    """Return the nodes of a YAML document, which know their lines; None for an empty one.

    Raises:
        yaml.YAMLError: As :func:`load`.
    """
    found: yaml.Node | None = yaml.compose(text, Loader=BoundedLoader)
    return found
