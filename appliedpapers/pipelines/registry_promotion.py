"""Moving the champion: the quality gate, promotion, rollback, and who did it when."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from appliedpapers.core.errors import ConfigError, GateError
from appliedpapers.pipelines.registry_versions import (
    CHALLENGER,
    CHAMPION,
    Standing,
    Version,
    champion_of,
    find_model,
    resolve,
    versions_of,
)
from appliedpapers.pipelines.tracking_store import Store, store_errors, store_lock, user_name

_HISTORY_TAG = "apps.history"
_HISTORY_KEPT = 300


@dataclass(frozen=True)
class Promotion:
    """One move of the champion alias.

    Attributes:
        name: Registered name.
        action: ``register`` (the first version), ``promote`` or ``rollback``.
        before: The champion until then.
        after: The champion from then on.
        by: Who moved it.
        at: When, ISO 8601 in UTC.
        reason: The comparison that the gate made, in words.
    """

    name: str
    action: Literal["register", "promote", "rollback"]
    before: int | None
    after: int
    by: str
    at: str
    reason: str


def promote(
    store: Store,
    name: str,
    version: int | None = None,
    *,
    metric: str | None = None,
    new_benchmark: bool = False,
) -> Promotion:
    """Make a version the champion if the gate holds.

    Args:
        store: The registry.
        name: Registered name, with or without ``apps.``.
        version: Which; the challenger by default.
        metric: Compare this metric instead of the declared one.
        new_benchmark: Accept a version that was tested on other rows, which cannot be compared.

    Raises:
        GateError: It is worse than the champion, or was tested on other rows.
        ConfigError: The model or version is unknown, or is the champion already.
        LockedError: Another process is changing the registry.
    """
    with store_lock(store.folder, "registry"), store_errors(store.tracking_uri):
        model = find_model(store, name)
        candidate, champion = _pair(store, model, version)
        resolve(f"{model.name}@{candidate.number}", store)
        reason = compare(candidate, champion, metric=metric, new_benchmark=new_benchmark)
        before = champion.number if champion else None
        move = record(store, model, "promote", before, candidate.number, reason)
        if int(model.aliases.get(CHALLENGER, 0)) == candidate.number:
            store.client.delete_registered_model_alias(model.name, CHALLENGER)
    return move


def rollback(store: Store, name: str) -> Promotion:
    """Make the previous champion the champion again; repeated, it goes further back.

    Raises:
        ConfigError: There is no previous champion, or its version was deleted.
        LockedError: Another process is changing the registry.
    """
    with store_lock(store.folder, "registry"), store_errors(store.tracking_uri):
        model = find_model(store, name)
        reigns = _reigns(history(model))
        if len(reigns) < 2:
            raise ConfigError(
                f"{model.name} has no previous champion.", hint=f"apps registry show {name} lists them."
            )
        target = reigns[-2]
        if target not in {version.number for version in versions_of(store.client, model)}:
            raise ConfigError(
                f"{model.name} version {target}, the previous champion, was deleted.",
                hint="apps registry promote NAME N chooses another.",
            )
        return record(store, model, "rollback", champion_of(model), target, "rolled back")


def compare(
    candidate: Version, champion: Version | None, *, metric: str | None = None, new_benchmark: bool = False
) -> str:
    """Return in words why ``candidate`` may take the place of ``champion``.

    Raises:
        GateError: It may not.
    """
    new = candidate.standing(metric)
    if champion is None:
        return f"no champion before; {new.text()}"
    if not new_benchmark or champion.test_fingerprint == new.test_fingerprint:
        old = champion.standing(new.metric)
        _require_same_test(candidate, champion, new, old)
        if old.higher_is_better != new.higher_is_better:
            raise GateError(
                f"the two versions disagree on the direction of {new.metric}.",
                hint="Evaluate both with the same version of the plugin.",
            )
        worse = new.value < old.value if new.higher_is_better else new.value > old.value
        if worse:
            raise GateError(
                f"version {candidate.number} is worse than champion version {champion.number}: "
                f"{new.text()} against {old.text()}.",
                hint="The champion stays; apps registry diff shows what differs.",
            )
        return f"{new.text()} against {old.text()}"
    return f"new benchmark; {new.text()}"


def record(
    store: Store, model: Any, action: Literal["register", "promote", "rollback"], before: int | None,
    after: int, reason: str,
) -> Promotion:  # fmt: skip
    """Move the champion alias and write who, when, from, to; the caller holds the registry lock."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    move = Promotion(model.name, action, before, after, user_name(), now, reason)
    client = store.client
    kept = [*history(model), move][-_HISTORY_KEPT:]
    entries = [{key: value for key, value in asdict(item).items() if key != "name"} for item in kept]
    client.set_registered_model_alias(model.name, CHAMPION, str(after))
    client.set_registered_model_tag(model.name, _HISTORY_TAG, json.dumps(entries))
    facts = {"by": move.by, "at": move.at, "from": before or "", "to": after, "reason": reason}
    for key, value in facts.items():
        client.set_model_version_tag(model.name, str(after), f"apps.promoted_{key}", str(value))
    return move


def history(model: Any) -> list[Promotion]:
    """Return every move of a registered model's champion alias, the oldest first."""
    entries = json.loads(model.tags.get(_HISTORY_TAG, "[]"))
    return [Promotion(name=model.name, **entry) for entry in entries]


def _pair(store: Store, model: Any, version: int | None) -> tuple[Version, Version | None]:
    found = {item.number: item for item in versions_of(store.client, model)}
    wanted = version
    if wanted is None:
        if CHALLENGER not in model.aliases:
            raise ConfigError(
                f"{model.name} has no challenger.",
                hint="apps run registers one, or name a version: apps registry promote NAME 3.",
            )
        wanted = int(model.aliases[CHALLENGER])
    if wanted not in found:
        numbers = ", ".join(map(str, found)) or "none"
        raise ConfigError(f"{model.name} has no version {wanted}.", hint=f"Versions: {numbers}.")
    champion = champion_of(model)
    if champion == wanted:
        raise ConfigError(f"{model.name} version {wanted} is the champion already.", hint="Nothing to do.")
    return found[wanted], found.get(champion) if champion is not None else None


def _require_same_test(candidate: Version, champion: Version, new: Standing, old: Standing) -> None:
    if new.test_fingerprint != old.test_fingerprint:
        raise GateError(
            f"version {candidate.number} was tested on other rows than champion version {champion.number} "
            f"(test fingerprint {new.test_fingerprint[:8]}… against {old.test_fingerprint[:8]}…).",
            hint="Their figures cannot be compared. --new-benchmark promotes it nevertheless.",
        )


def _reigns(moves: list[Promotion]) -> list[int]:
    reigns: list[int] = []
    for move in moves:
        if move.action == "rollback" and len(reigns) > 1:
            reigns.pop()
        else:
            reigns.append(move.after)
    return reigns
