"""timm networks: drawn by a seed, read strictly from files that do not execute, never fetched unasked."""

import socket

import pytest
import torch
from safetensors.torch import save_file

from appliedpapers.core.errors import ConfigError, DataError
from appliedpapers.core.vision.networks import cached_weights, create, load_weights, read_weights


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def resnet():
    return create("resnet18", classes=4, seed=3)


def equal(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def test_weights_depend_on_the_seed_alone(resnet):
    torch.manual_seed(8)
    assert equal(resnet.state_dict(), create("resnet18", classes=4, seed=3).state_dict())
    assert not equal(resnet.state_dict(), create("resnet18", classes=4, seed=4).state_dict())


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_a_file_of_weights_is_read(kind, resnet, tmp_path, offline):
    state = resnet.state_dict()
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state} if kind == "wrapped" else state, path)
    again = create("resnet18", classes=4, weights=path, drop_head=False)
    assert equal(state, again.state_dict())
    # another number of classes: all but the classifier is taken over
    other = create("resnet18", classes=7, seed=1, weights=path)
    assert torch.equal(other.conv1.weight, resnet.conv1.weight)
    assert other.fc.weight.shape == (7, 512)


def test_weights_that_do_not_fit_are_refused_with_the_tensor(resnet):
    state = dict(resnet.state_dict())
    wanted = create("resnet18", classes=4)
    with pytest.raises(DataError, match="'extra' is unknown"):
        load_weights(wanted, {**state, "extra": torch.zeros(1)}, "w.pth")
    with pytest.raises(DataError, match=r"'fc\.weight' is 3 x 512 and should be 4 x 512"):
        load_weights(wanted, {**state, "fc.weight": torch.zeros(3, 512)}, "w.pth")
    del state["layer1.0.conv1.weight"]
    with pytest.raises(DataError, match=r"w\.pth: .* 'layer1\.0\.conv1\.weight' is missing"):
        load_weights(wanted, state, "w.pth", drop_head=True)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_of_weights_executes(tmp_path, capsys):
    torch.save({"weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(DataError, match=r"evil\.pth: the weights cannot be read"):
        read_weights(tmp_path / "evil.pth")
    assert capsys.readouterr().out == ""
    torch.save({"weight": torch.zeros(2), "epoch": 3}, tmp_path / "more.pth")
    with pytest.raises(DataError, match="more in the file than tensors"):
        read_weights(tmp_path / "more.pth")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(DataError, match=r"cut\.safetensors: the weights cannot be read"):
        read_weights(tmp_path / "cut.safetensors")
    with pytest.raises(DataError, match="no such file of weights"):
        read_weights(tmp_path / "absent.pth")


def test_a_misspelt_network_gets_a_suggestion_and_a_wrong_argument_its_reason():
    with pytest.raises(ConfigError, match="timm has no network 'resnet81'") as caught:
        create("resnet81")
    assert "Did you mean 'resnet" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="'resnet18' cannot be made"):
        create("resnet18", arguments={"no_such_argument": 1})


def test_published_weights_are_not_fetched_unasked(offline, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(DataError, match="are not on this machine") as caught:
        cached_weights("resnet18.a1_in1k")
    assert "--allow-download" in str(caught.value.hint)
    assert "model.safetensors of timm/resnet18.a1_in1k" in str(caught.value.hint)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DataError, match="are not on this machine") as caught:
        cached_weights("resnet18.a1_in1k", allow_download=True)
    assert "unset HF_HUB_OFFLINE" in str(caught.value.hint)
