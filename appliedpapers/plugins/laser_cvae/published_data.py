"""Published ageing tests with addresses and checksums, and how each is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from appliedpapers.core.sources import PublishedDataset, RemoteFile
from appliedpapers.plugins.laser_cvae.config import DataConfig
from appliedpapers.plugins.laser_cvae.devices import Devices
from appliedpapers.plugins.laser_cvae.readers import read_file
from appliedpapers.plugins.laser_cvae.tables import read_devices

_RAW = (
    "https://raw.githubusercontent.com/wqmeeker/SMRD2Data/2c59e8efea9d4ce7809014405117fad32b30a4cc/"
    "4%20Repeated%20Measured%20Degradation%20Data"
)
_CITATION = "Meeker, Escobar and Pascual, Statistical Methods for Reliability Data, 2nd ed., 2021"


def _entry(name: str, title: str, file: str, sha256: str, size: int) -> PublishedDataset:
    remote = RemoteFile(file, f"{_RAW}/{file}", sha256, size)
    return PublishedDataset(id=name, title=title, files=(remote,), licence="GPL-3.0", citation=_CITATION)


GAAS = _entry(
    "gaas",
    "GaAs lasers: 15 devices, operating current over 4,000 h at 80 degC",
    "GaAsLaser.csv",
    "75b30cdc888aa907700e70d791d1a12d10aaf85f38ddfdaa63ce0aa6e88d6bc0",
    3_914,
)
LED_A = _entry(
    "led-a",
    "LEDs: 180 devices in six conditions, relative light over 906 h",
    "LED-Azerostart.csv",
    "fe072e739d75717b72f7eb75aacd94cfb81852dba065318c89f98d115d6254f5",
    52_141,
)
DEVICE_B = _entry(
    "device-b",
    "RF amplifiers (simulated by the book's authors): 34 devices at three temperatures",
    "DeviceB.csv",
    "fa2adcfec119448712bd284fc3f112038cf61d5efa95c09086b247f83b0986c5",
    11_740,
)
PUBLISHED = (GAAS, LED_A, DEVICE_B)

READING = {
    "gaas": {
        "columns": {"device": "Unit Number", "time": "Hours", "value": "Percent Increase"},
        "mode": "CP",
        "value_unit": "percent",
        "criterion": 1.1,
    },
    "led-a": {
        "columns": {
            "device": "Unit Number",
            "time": "Hours",
            "value": "Relative Change",
            "temperature": "DegreesC",
            "current": "Current (mA)",
        },
        "current_unit": "mA",
        "reference_current": 30.0,
    },
    "device-b": {
        "columns": {
            "device": "Device Number",
            "time": "Hours",
            "value": "Power Drop (dB)",
            "temperature": "DegreesC",
        },
        "value_unit": "dB",
        # half a decibel less power
        "criterion": 10**-0.05,
    },
}
"""How the columns of each set are named and what they mean; options of users do not concern them."""

CUTS = {
    "gaas": ((500.0, 1000.0, 2000.0), 1000.0),
    "led-a": ((138.0, 330.0, 498.0), 330.0),
    "device-b": ((0.25, 0.5), 0.5),
}
"""Cuts of each set and the main one: hours, or shares of the test where they are below 1."""

_GAAS_CELSIUS = 80.0


def open_published(entry: PublishedDataset, folder: Path) -> Devices:
    """Read a set whose bytes were checked."""
    import pyarrow as pa

    data = DataConfig.model_validate(READING[entry.id])
    table = read_file(folder / entry.files[0].path, data)
    if entry.id == "gaas":
        table = table.append_column("temperature", pa.array(np.full(table.num_rows, _GAAS_CELSIUS)))
    return read_devices(table, data).devices
