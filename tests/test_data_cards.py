"""Every dataset has a card that agrees with the catalogue of its plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from appliedpapers.plugins.frets.data import DATASETS

CARDS = Path(__file__).resolve().parents[1] / "data_cards"
HEADINGS = ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance")


def read_card(name: str) -> tuple[dict, str]:
    _, front, body = (CARDS / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


@pytest.mark.parametrize("entry", DATASETS.published, ids=lambda entry: entry.id)
def test_the_card_of_a_published_dataset_agrees_with_the_catalogue(entry):
    card, _ = read_card(entry.id)
    assert card["id"] == entry.id
    assert card["license_note"] == entry.licence
    assert card["synthetic"] is False
    assert {file["path"]: file["sha256"] for file in card["files"]} == {f.path: f.sha256 for f in entry.files}
    repository = "/".join(card["source"].split("/")[-2:])
    assert all(f"/{repository}/" in file.url for file in entry.files)


def test_the_card_of_the_simulator_says_that_it_is_synthetic():
    card, _ = read_card("simulated-load")
    assert card["synthetic"] is True
    assert card["files"] == []


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_a_card_has_its_front_matter_and_answers_every_question_of_a_datasheet(path):
    card, body = read_card(path.stem)
    assert card["id"] == path.stem
    assert {"plugin", "pretty_name", "license", "synthetic", "source", "task_categories"} <= set(card)
    sections = dict(part.split("\n", 1) for part in body.split("\n## ")[1:])
    assert tuple(sections) == HEADINGS
    assert all(len(text.split()) >= 5 for text in sections.values())
