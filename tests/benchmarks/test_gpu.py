"""The script behind ``make gpu``, tried on the CPU: its cases, its judgement and its words without CUDA."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
import torch

from benchmarks import gpu

NINE = {
    *("agrosense", "finalmlp", "frets", "imu-attitude", "laser-cvae"),
    *("pansharpening", "varifocal-net", "virtual-inking", "volatility-images"),
}


def test_every_plugin_has_a_case():
    names = [name for name, _ in gpu._cases("cpu", reduced=False)]
    assert {name.partition(".")[0] for name in names} == {*NINE, "modules", "frets-step"}
    assert len(names) == len(set(names))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so_in_one_line(capsys, tmp_path):
    assert gpu.main(["--output", str(tmp_path / "gpu.json")]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "finds no CUDA device" in said
    assert not (tmp_path / "gpu.json").exists()


def test_the_reduced_form_agrees_with_itself_on_the_cpu(tmp_path, capsys):
    path = tmp_path / "gpu.json"
    words = ["--device", "cpu", "--reduced", "--only", "frets", "--only", "modules", "--only", "frets-step"]
    assert gpu.main([*words, "--output", str(path)]) == 0
    document = json.loads(path.read_text())
    assert document["device"]
    assert [case["name"] for case in document["cases"]] == ["frets", "modules", "frets-step"]
    assert document["cases"][0]["difference"] == 0
    assert document["cases"][0]["fitted_on_device_is_finite"]
    assert "3 of 3 agree" in capsys.readouterr().out


def test_a_case_that_fails_is_a_finding_and_no_traceback():
    def broken():
        raise RuntimeError("CUDA error: no kernel image\nmore")

    entry = gpu._tried("broken", broken)
    assert entry["ok"] is False
    assert entry["error"] == "RuntimeError: CUDA error: no kernel image"
    gpu._print(entry)


def test_differences_are_relative_above_one_and_infinite_between_other_shapes():
    left = pa.table(
        {"id": ["a", "b"], "x": [1000.0, 0.5], "l": pa.array([[1.0], [2.0, None]], pa.list_(pa.float64()))}
    )
    right = left.set_column(1, "x", pa.array([1001.0, 0.5]))
    assert gpu.largest_difference(left, left) == 0
    assert gpu.largest_difference(left, right) == pytest.approx(1e-3)
    assert gpu.largest_difference(left, left.slice(1)) == float("inf")
    assert gpu.largest_difference(left, left.set_column(1, "x", pa.array([1000.0, float("nan")]))) == float(
        "inf"
    )
    assert not gpu.all_finite(left.set_column(1, "x", pa.array([1.0, float("inf")])))


def test_unknown_cases_are_named(capsys):
    assert gpu.main(["--device", "cpu", "--only", "nothing"]) == 2
    assert "unknown case 'nothing'" in capsys.readouterr().err
