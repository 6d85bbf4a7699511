"""Every dataset has a card that agrees with the catalogue of its plugin."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from appliedpapers.core.plugin import BUILT_IN_DISTRIBUTION, discover
from appliedpapers.core.sources import PublishedDataset, RemoteFile

CARDS = Path(__file__).resolve().parents[1] / "data_cards"
HEADINGS = ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance")


# datasets that users get from their owners: we know neither an address nor a checksum
OBTAINED_BY_USERS = ("criteo", "avazu", "movielens")
SIMULATED = (
    "simulated-load",
    "simulated-clicks",
    "simulated-scenes",
    "simulated-motion",
    "simulated-chromosomes",
    "simulated-order-book",
    "simulated-fields",
    "simulated-inking",
    "simulated-ageing",
    "simulated-soil-photos",
)


def catalogues() -> list[tuple[str, PublishedDataset]]:
    """Return the published datasets of every plugin of this distribution, with the plugin's id."""
    own = [item for item in discover() if BUILT_IN_DISTRIBUTION in item.distributions]
    return [
        (item.id, entry)
        for item in own
        for task in (item.spec.tasks if item.spec else ())
        for entry in task.load("datasets").published
    ]


PUBLISHED = catalogues()


def read_card(name: str) -> tuple[dict, str]:
    _, front, body = (CARDS / f"{name}.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), body


def repository(address: str) -> str:
    """Return ``owner/name`` of an address at GitHub or of its raw files."""
    return "/".join(address.split("/")[3:5])


def pinned(file: RemoteFile) -> dict[str, str]:
    checks = {"sha256": file.sha256, "git_blob": file.git_blob}
    return {"path": file.path} | {name: value for name, value in checks.items() if value is not None}


@pytest.mark.parametrize(("plugin", "entry"), PUBLISHED, ids=[entry.id for _, entry in PUBLISHED])
def test_the_card_of_a_published_dataset_agrees_with_the_catalogue(plugin, entry):
    card, body = read_card(entry.id)
    assert card["id"] == entry.id
    assert card["plugin"] == plugin
    assert card["license_note"] == entry.licence
    assert card["synthetic"] is False
    assert card["files"] == [pinned(file) for file in entry.files]
    assert all({"sha256", "git_blob"} & file.keys() for file in card["files"])
    # a second repository, such as that of a raw log, is named in the text
    shown = {repository(file.url) for file in entry.files if file.url is not None}
    # files that we may not download have no address, and their card says where they come from
    assert repository(card["source"]) in shown or not shown
    assert all(name in f"{card['source']} {body}" for name in shown)


def test_every_plugin_with_published_data_is_looked_at():
    assert {plugin for plugin, _ in PUBLISHED} >= {"frets", "finalmlp"}


@pytest.mark.parametrize("name", OBTAINED_BY_USERS)
def test_the_card_of_a_dataset_that_users_bring_pins_no_file_and_says_where_it_is(name):
    card, body = read_card(name)
    assert name not in {entry.id for _, entry in PUBLISHED}
    assert card["files"] == []
    assert card["synthetic"] is False
    assert "`--data`" in body


@pytest.mark.parametrize("name", SIMULATED)
def test_the_card_of_a_simulator_says_that_it_is_synthetic(name):
    card, _ = read_card(name)
    assert card["synthetic"] is True
    assert card["files"] == []


def test_every_card_belongs_to_a_dataset():
    known = {entry.id for _, entry in PUBLISHED} | {*OBTAINED_BY_USERS, *SIMULATED}
    assert {path.stem for path in CARDS.glob("*.md")} == known


@pytest.mark.parametrize("path", sorted(CARDS.glob("*.md")), ids=lambda path: path.stem)
def test_a_card_has_its_front_matter_and_answers_every_question_of_a_datasheet(path):
    card, body = read_card(path.stem)
    assert card["id"] == path.stem
    assert {"plugin", "pretty_name", "license", "synthetic", "source", "task_categories"} <= set(card)
    sections = dict(part.split("\n", 1) for part in body.split("\n## ")[1:])
    assert tuple(sections) == HEADINGS
    assert all(len(text.split()) >= 5 for text in sections.values())
