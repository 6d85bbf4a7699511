"""The shelf: names, aliases and specifications of the shared modules. Imports no torch.

A specification is a string such as ``kan(basis=rbf, grid=8)``, a mapping ``{"name": "kan", "basis": "rbf"}``
or an instance. Names are read without regard to case, ``-``, ``_`` and spaces.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import yaml

Kind = Literal["network", "layer", "conv", "cell", "activation", "block", "attention"]
Class = TypeVar("Class", bound=type)

KINDS: Mapping[Kind, str] = {
    "network": "maps `(..., in_features)` to `(..., out_features)`; fit for `head=` and `expert=`",
    "layer": "one layer, `(..., in_features)` to `(..., out_features)`; fit for `head=`",
    "block": "a block of features or maps that keeps the number of axes",
    "activation": "element-wise or per-feature non-linearity, keeps the shape",
    "conv": "images or sequences, `(batch, in_channels, ...)` to `(batch, out_channels, ...)`",
    "cell": "recurrent cell: `(batch, input_size)` and a state",
    "attention": "replaces the softmax over attention scores",
}


class SpecError(ValueError):
    """A specification that names no module, has an unknown option, or cannot be read."""


@dataclass(frozen=True)
class Entry:
    """One module of the catalogue.

    Attributes:
        name: The name in configurations.
        kind: What it maps to what, see :data:`KINDS`.
        target: ``"module:attribute"`` of the class, or the class.
        formula: The formula in a line of plain text.
        parameters: Number of trainable parameters as a formula.
        use: When to take it.
        avoid: When not to.
        source: Paper or section.
        aliases: Other names.
        presets: Aliases that stand for options too, such as ``chebykan`` for ``kan(basis=chebyshev)``.
        example: Options that make a small instance; the docs count its parameters and tests build it.
    """

    name: str
    kind: Kind
    target: str | type
    formula: str
    parameters: str
    use: str
    avoid: str
    source: str = ""
    aliases: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Any:
        """Import and return the class."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


_ENTRIES: dict[str, Entry] = {}
_NAMES: dict[str, tuple[str, Mapping[str, Any]]] = {}
_STATE = {"filled": False}


def add(entry: Entry) -> None:
    """Put an entry on the shelf.

    Raises:
        SpecError: One of its names is taken by another entry.
    """
    names: dict[str, Mapping[str, Any]] = {
        entry.name: {},
        **{alias: {} for alias in entry.aliases},
        **entry.presets,
    }
    for name in names:
        owner = _NAMES.get(normalised(name), (entry.name, {}))[0]
        if owner != entry.name:
            raise SpecError(f"the module name '{name}' is taken by '{owner}'; choose another")
    _ENTRIES[entry.name] = entry
    _NAMES.update({normalised(name): (entry.name, options) for name, options in names.items()})


def register(name: str, kind: Kind, **details: Any) -> Callable[[Class], Class]:
    """Return a decorator that puts a class of yours on the shelf.

    Args:
        name: The name in configurations.
        kind: What it maps to what, see :data:`KINDS`.
        details: Other attributes of :class:`Entry`.
    """
    texts = dict.fromkeys(("formula", "parameters", "use", "avoid"), "")

    def keep(cls: Class) -> Class:
        _fill()
        add(Entry(name=name, kind=kind, target=cls, **{**texts, **details}))
        return cls

    return keep


def entries() -> tuple[Entry, ...]:
    """Return the whole catalogue, ordered as it is documented."""
    _fill()
    return tuple(_ENTRIES.values())


def list_modules(pattern: str = "*", kind: Kind | None = None) -> list[str]:
    """Return the names that match a shell pattern such as ``"kan*"``, sorted."""
    names = (entry.name for entry in entries() if kind in (None, entry.kind))
    return sorted(fnmatch.filter(names, pattern))


def find(name: str) -> tuple[Entry, dict[str, Any]]:
    """Return an entry by name or alias, with the options that the alias stands for.

    Raises:
        SpecError: Nothing has this name; the message gives the nearest ones.
    """
    _fill()
    known = _NAMES.get(normalised(name))
    if known is None:
        hint = nearest(name, [name for name in _spellings() if normalised(name) in _NAMES])
        raise SpecError(f"there is no module '{name}'{hint or '; nn.list_modules() lists them'}")
    return _ENTRIES[known[0]], dict(known[1])


def name_of(cls: type) -> str:
    """Return the catalogue name of a class.

    Raises:
        SpecError: The class is not on the shelf.
    """
    target = f"{cls.__module__}:{cls.__qualname__}"
    for entry in entries():
        if entry.target is cls or entry.target == target:
            return entry.name
    raise SpecError(f"{cls.__qualname__} is not on the shelf; register it with nn.register(name, kind)")


def normalised(name: str) -> str:
    """Return a name without case, ``-``, ``_`` and spaces."""
    return "".join(name.split()).replace("-", "").replace("_", "").lower()


def parse(spec: str | Mapping[str, Any]) -> tuple[Entry, dict[str, Any]]:
    """Read a specification; option names are checked, values are not.

    Args:
        spec: ``"kan"``, ``"kan(basis=rbf, grid=8)"`` or ``{"name": "kan", "basis": "rbf"}``.

    Returns:
        The entry and its options.

    Raises:
        SpecError: The text cannot be read, the name or an option is unknown.
    """
    if isinstance(spec, str):
        name, given = read(spec)
    else:
        given = dict(spec)
        name = given.pop("name", None)
        if not isinstance(name, str):
            raise SpecError(f"a module's mapping needs the key 'name', got the keys {sorted(spec)}")
    entry, options = find(name)
    options.update(given)
    return entry, options


def check_options(entry: Entry, options: Iterable[str]) -> None:
    """Refuse option names that the constructor of an entry does not have.

    Raises:
        SpecError: The message gives the nearest option, or all of them.
    """
    signature = inspect.signature(entry.load())
    if any(item.kind is inspect.Parameter.VAR_KEYWORD for item in signature.parameters.values()):
        return
    known = list(signature.parameters)
    for option in options:
        if option not in known:
            hint = nearest(option, known) or f"; it has {', '.join(known)}"
            raise SpecError(f"'{entry.name}' has no option '{option}'{hint}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` or an empty string."""
    spelled = {normalised(item): item for item in known}
    close = difflib.get_close_matches(normalised(name), spelled, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(repr(spelled[item]) for item in close)}?" if close else ""


def read(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``"name(option=value, ...)"`` into the name and its options, without looking anything up.

    Raises:
        SpecError: The text cannot be read.
    """
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name, {}
    if not rest.endswith(")"):
        raise SpecError(f"the module '{text}' has an opening bracket without a closing one at its end")
    options: dict[str, Any] = {}
    for item in _split(rest[:-1], text):
        key, equals, value = item.partition("=")
        if not equals or not key.strip().isidentifier():
            raise SpecError(f"in the module '{text}', '{item.strip()}' is not of the form option=value")
        options[key.strip()] = _value(value.strip(), text)
    return name, options


def _value(text: str, whole: str) -> Any:
    if "(" in text and text.endswith(")") and text[0] != "(":
        return text
    if text.startswith("(") and text.endswith(")"):
        text = f"[{text[1:-1].rstrip(', ')}]"
    try:
        # what is named once and used often may unfold to more than memory holds
        if "*" in text and any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            raise SpecError(f"in the module '{whole}', the value '{text}' has aliases, which are not read")
        value = yaml.safe_load(text)
    except SpecError:
        raise
    # numbers of thousands of digits and dates that are none are values that cannot be read, too
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise SpecError(f"in the module '{whole}', the value '{text}' cannot be read") from error
    if isinstance(value, str):  # YAML 1.1 takes 1e-3 for a word
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _split(text: str, whole: str) -> list[str]:
    """Split at the commas outside brackets."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0:
            raise SpecError(f"the module '{whole}' has a closing bracket too many")
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    if depth:
        raise SpecError(f"the module '{whole}' has an opening bracket too many")
    parts.append(text[start:])
    return [part for part in parts if part.strip()]


def _spellings() -> list[str]:
    return [name for entry in _ENTRIES.values() for name in (entry.name, *entry.aliases, *entry.presets)]


def _fill() -> None:
    if _STATE["filled"]:
        return
    _STATE["filled"] = True
    from appliedpapers.nn.catalogue import BUILT_IN

    for entry in BUILT_IN:
        add(entry)
