"""The guard: the five networks work, a second call changes nothing, other errors pass."""

import importlib
import subprocess
import sys

import pytest

from appliedpapers.core.errors import PluginError
from appliedpapers.core.vision import guard
from appliedpapers.core.vision.networks import create

FRESH = """
import sys
import torch
def fits():
    try:
        import torchvision
    except RuntimeError as error:
        assert str(error) == "operator torchvision::nms does not exist", error
        return False
    return True
matching = fits()
from appliedpapers.core.vision import guard
first = guard.import_torchvision()
kept = list(guard._LIBRARIES)
assert matching == (not kept)
assert guard.import_torchvision() is first is sys.modules["torchvision"]
assert guard._LIBRARIES == kept
timm = guard.import_timm()
print(timm.create_model("resnet18", num_classes=0).num_features)
"""


def test_a_fresh_process_gets_past_the_compiled_part():
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["512"]


@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("resnet18", 512),
        ("efficientnet_b0", 1280),
        ("vit_small_patch16_224", 384),
        ("tf_efficientnet_lite0", 1280),
        ("wide_resnet50_2", 2048),
    ],
)
def test_the_five_networks(name, features):
    import torch

    network = create(name).eval()
    with torch.inference_mode():
        found = network(torch.zeros(1, 3, 224, 224))
    assert found.shape == (1, features)


def failing(monkeypatch, error):
    calls = []

    def imported(name, *rest):
        calls.append(name)
        raise error

    monkeypatch.setattr(importlib, "import_module", imported)
    return calls


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("operator torchvision::nms does not exist, nor anything else"),
        RuntimeError("operator torchvision::roi_align does not exist"),
        ImportError("undefined symbol: _ZN2at"),
        OSError("libcudart.so: cannot open shared object file"),
        ModuleNotFoundError("No module named 'PIL'", name="PIL"),
    ],
)
def test_other_errors_pass_and_nothing_is_tried_again(monkeypatch, error):
    calls = failing(monkeypatch, error)
    with pytest.raises(type(error)) as caught:
        guard.import_torchvision()
    assert caught.value is error
    assert calls == ["torchvision"]


def test_the_known_error_is_not_swallowed_twice(monkeypatch):
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    calls = failing(monkeypatch, RuntimeError("operator torchvision::nms does not exist"))
    monkeypatch.setattr(guard, "_LIBRARIES", [object()])
    try:
        with pytest.raises(RuntimeError, match="nms"):
            guard.import_torchvision()
    finally:
        sys.modules.update(kept)
    assert calls == ["torchvision", "torchvision"]


@pytest.mark.parametrize("name", ["timm", "torchvision", "torch"])
def test_what_is_not_installed_is_named_with_the_line_that_installs_it(monkeypatch, name):
    failing(monkeypatch, ModuleNotFoundError(f"No module named '{name}'", name=name))
    with pytest.raises(PluginError, match=f"need {name}") as caught:
        guard.import_timm()
    assert caught.value.hint == 'Install it: pip install "applied-papers[vision]"'
