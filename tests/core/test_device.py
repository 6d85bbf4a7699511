import random
import subprocess
import sys

import numpy as np
import pytest
import torch

from appliedpapers.core import device
from appliedpapers.core.errors import ConfigError


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_auto_is_the_cpu_where_cuda_is_absent(no_cuda):
    assert device.resolve_device("auto") == "cpu"


def test_auto_is_the_cpu_where_torch_is_not_installed(monkeypatch):
    monkeypatch.setattr(device.importlib.util, "find_spec", lambda name: None)
    assert device.resolve_device("auto") == "cpu"


@pytest.mark.parametrize(("name", "expected"), [("auto", "cuda"), ("cuda", "cuda"), ("cuda:1", "cuda:1")])
def test_cuda_devices_resolve_where_they_exist(two_gpus, name, expected):
    assert device.resolve_device(name) == expected


@pytest.mark.parametrize("name", ["cuda", "cuda:0"])
def test_cuda_that_is_absent_is_a_config_error_with_the_remedy(no_cuda, name):
    with pytest.raises(ConfigError, match=name) as caught:
        device.resolve_device(name)
    assert "--device cpu" in caught.value.hint


def test_a_cuda_number_out_of_range_names_the_numbers_there_are(two_gpus):
    with pytest.raises(ConfigError) as caught:
        device.resolve_device("cuda:2")
    assert "cuda:1" in caught.value.hint


@pytest.mark.parametrize("name", ["gpu", "CUDA", "cuda:", "cpu:0", "cuda:-1", ""])
def test_an_unknown_device_lists_the_choices(name):
    with pytest.raises(ConfigError) as caught:
        device.resolve_device(name)
    assert "auto, cpu, cuda" in caught.value.hint


@pytest.mark.parametrize(
    ("precision", "name"),
    [("32", "cpu"), ("bf16", "cpu"), ("32", "cuda"), ("bf16", "cuda:1"), ("16", "cuda")],
)
def test_a_precision_that_the_device_has_passes(precision, name):
    device.check_precision(precision, name)


@pytest.mark.parametrize(
    ("precision", "name"), [("16", "cpu"), ("64", "cpu"), ("fp16", "cuda"), ("", "cuda")]
)
def test_other_precisions_are_config_errors(precision, name):
    with pytest.raises(ConfigError, match=f"'{precision}'"):
        device.check_precision(precision, name)


def test_threads_reach_torch_the_environment_and_the_description(threads, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    device.set_threads(1)
    assert torch.get_num_threads() == 1
    assert device.os.environ["OMP_NUM_THREADS"] == "1"
    assert device.describe_device("cpu") == "cpu, 1 thread"
    device.set_threads(None)
    assert torch.get_num_threads() == 1


def test_no_threads_are_a_config_error():
    with pytest.raises(ConfigError, match="0"):
        device.set_threads(0)


def test_one_seed_repeats_the_numbers_of_all_three_generators():
    def draw(seed):
        device.seed_everything(seed)
        return random.random(), np.random.rand(), torch.rand(()).item()

    first = draw(2**40 + 1)
    assert draw(2**40 + 1) == first
    assert all(a != b for a, b in zip(draw(5), first, strict=True))


def test_derived_seeds_differ_by_seed_and_purpose_and_never_change():
    seeds = {device.derive_seed(s, "order", e) for s in range(20) for e in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A constant: other numbers here would silently change the results of every stored seed.
    assert device.derive_seed(2021, "order", 0) == 688188191989577851


def test_peak_memory_counts_this_process_and_not_the_one_that_started_it():
    ballast = np.ones(30_000_000)  # 229 MiB
    script = "from appliedpapers.core.device import peak_memory_mb; print(peak_memory_mb())"
    child = float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    assert ballast.nbytes / 2**20 < device.peak_memory_mb() < 100_000
    assert 5 < child < 200


def test_importing_the_module_imports_neither_torch_nor_numpy():
    script = "import sys, appliedpapers.core.device, appliedpapers.core.training_config as t; \
        print([m for m in ('torch', 'numpy', 'lightning_fabric') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "[]\n"
