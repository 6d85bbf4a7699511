"""What a plugin says about itself: front door, configuration, datasets, documents."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.resources import files

import yaml
from pydantic import BaseModel

from appliedpapers.core import config as configs
from appliedpapers.core.conformance.subject import CheckFailed, Subject, require, shaken_randomness
from appliedpapers.core.data import leakage_audit
from appliedpapers.core.errors import AppsError, ConfigError
from appliedpapers.core.plugin import GROUP

HEAVY = (
    *("torch", "torchvision", "timm", "lightning_fabric", "lightgbm", "xgboost", "sklearn"),
    *("scipy", "numba", "pandas", "mlflow", "matplotlib", "PIL", "rasterio", "openslide", "fastapi"),
)
PRESETS = ("quick", "default", "published")
_IMPORT_S = 60
_BAD_FILES = {"empty.csv": b"", "noise.csv": bytes(range(256)), "words.csv": b"a,b\n1,2\n"}


def light_import(subject: Subject) -> str:
    """The front door and the configuration import nothing heavy: ``apps list`` reads them."""
    modules = [*_front_doors(subject), subject.task.config.partition(":")[0]]
    program = (
        "import importlib, json, sys\n"
        "before = set(sys.modules)\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in set(sys.modules) - before]))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=_IMPORT_S,
        check=False,
    )
    require(done.returncode == 0, f"importing {modules[0]} failed: {done.stderr.strip()[-300:]}")
    loaded = json.loads(done.stdout.splitlines()[-1])
    require(not loaded, f"importing {', '.join(modules)} loads {', '.join(loaded)}")
    return ", ".join(modules)


def config_round_trip(subject: Subject) -> str:
    """A configuration survives YAML and JSON, and a misspelt option is refused with a suggestion."""
    kind, config = type(subject.config), subject.config
    plain = config.model_dump(mode="json")
    for name, text in {"YAML": yaml.safe_dump(plain), "JSON": json.dumps(plain)}.items():
        path = subject.fresh("config") / "config.yaml"
        path.write_text(text, encoding="utf-8")
        require(configs.resolve(kind, file=path) == config, f"{name} changes the configuration")
    commented = yaml.safe_load(configs.commented_yaml(config))
    require(configs.validate(kind, commented) == config, "apps config init writes another configuration")
    try:
        json.dumps(kind.model_json_schema())
    except Exception as error:
        raise CheckFailed(f"the configuration has no JSON Schema: {error}") from None
    options = list(_options(config))
    for option in options:
        _require_suggestion(kind, option)
    return f"{len(options)} options"


def presets(subject: Subject) -> str:
    """The presets quick, default and published exist; every preset is valid."""
    kind = subject.task.load("config")
    absent = [name for name in PRESETS if name not in kind.presets]
    require(not absent, f"preset {', '.join(absent)} is absent")
    for name in kind.presets:
        try:
            configs.resolve(kind, preset=name)
        except ConfigError as error:
            raise CheckFailed(f"preset {name}: {error}") from None
    return ", ".join(kind.presets)


def simulator(subject: Subject) -> str:
    """The simulator depends on the seed and the configuration alone, and says that it is synthetic."""
    config = subject.config
    first = subject.dataset
    prints = first.fingerprint(), first.test_fingerprint()
    with shaken_randomness(2):
        again = subject.simulate(config)
    require((again.fingerprint(), again.test_fingerprint()) == prints, "the same seed gives other data")
    other = subject.simulate(config.replace(seed=config.seed + 1))
    require(other.fingerprint() != prints[0], "another seed gives the same data")
    require(first.provenance.synthetic, "provenance.synthetic must be True")
    return first.summary


def leakage(subject: Subject) -> str:
    """No row, group or content stands in two splits of the simulator."""
    findings = leakage_audit(subject.dataset)
    require(not findings, "; ".join(finding.sentence() for finding in findings))
    return subject.dataset.protocol


def bad_files(subject: Subject) -> str:
    """A user's file that cannot be read gives a message with a remedy, not a traceback."""
    catalog = subject.task.load("datasets")
    require(bool(catalog.formats), "DATASETS.formats does not say which files --data reads")
    for name, content in _BAD_FILES.items():
        path = subject.fresh("user") / name
        path.write_bytes(content)
        try:
            catalog.from_user(path, subject.config)
        except AppsError as error:
            require(error.hint is not None, f"{name}: '{error}' has no hint")
        except Exception as error:
            raise CheckFailed(f"{name}: {type(error).__name__} instead of a DataError: {error}") from None
        else:
            raise CheckFailed(f"{name}: was read as if it were data")
    return str(catalog.formats)


def documents(subject: Subject) -> str:
    """A README stands beside the code, and the front door names papers and says what the plugin does."""
    spec = subject.spec
    require(bool(spec.title.strip()), "PluginSpec.title is empty")
    require(spec.summary.strip().endswith("."), "PluginSpec.summary must be a sentence")
    require(bool(spec.papers), "PluginSpec.papers is empty")
    package = subject.task.config.partition(":")[0].rpartition(".")[0]
    require(bool(package), "the modules of a plugin belong into a package")
    # the tasks of one plugin may have packages of their own below that of the front door
    doors = [door.rpartition(".")[0] for door in _front_doors(subject)]
    homes = [package, *(door for door in doors if package.startswith(f"{door}."))]
    readme = next((one for home in homes if (one := files(home) / "README.md").is_file()), None)
    require(readme is not None, f"{package} has no README.md")
    assert readme is not None
    require(len(readme.read_text(encoding="utf-8").split()) >= 20, f"README.md of {package} says nothing")
    return spec.summary


def _front_doors(subject: Subject) -> list[str]:
    named = [point.module for point in entry_points(group=GROUP) if point.name == subject.spec.id]
    beside = f"{subject.task.config.partition(':')[0].rpartition('.')[0]}.plugin"
    if named or beside == ".plugin":
        return named[:1]
    return [beside] if importlib.util.find_spec(beside) else []


def _options(section: BaseModel, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        yield (*path, name)
        if isinstance(value, BaseModel):
            yield from _options(value, (*path, name))


def _require_suggestion(kind: type[configs.TaskConfig], path: tuple[str, ...]) -> None:
    misspelt = ".".join((*path[:-1], f"{path[-1]}x"))
    try:
        configs.resolve(kind, preset="quick", assignments=[f"{misspelt}=1"])
    except ConfigError as error:
        require(
            "unknown option" in error.message and "Did you mean" in (error.hint or ""),
            f"the misspelt option {misspelt} is reported as '{error.render()}'",
        )
    else:
        raise CheckFailed(f"the misspelt option {misspelt} is accepted; extend core.config.Section")
