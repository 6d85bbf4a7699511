"""The suite's tables of results, made from the committed JSON alone: what ``docs/results.md`` shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from appliedpapers.core.verdict import SIGNIFICANT, format_p, headline, selected_model, strongest_baseline
from benchmarks.compare_all import SUITE

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
MATRIX = "compare"
_SCENE = "san-francisco"
_NETWORKS = ("r-pnn", "rho-pnn")


@dataclass(frozen=True)
class Place:
    """Where a row of the first table stands in ``docs/results``.

    Attributes:
        plugin: Its id, and the file's name.
        case: Name of the acceptance case.
        run: Name of the run within it.
        what: What a reader should know of the setting.
    """

    plugin: str
    case: str
    run: str = "run"
    what: str = ""


MAIN: tuple[Place, ...] = (
    Place("frets", "etth1-96-published", what="96 steps ahead, as printed"),
    Place("frets", "etth1-96-best", what="96 steps ahead, best preset"),
    Place("pansharpening", "best", what="47 bands at a reduced scale"),
    Place("finalmlp", "frappe", "seed 2021", "the paper's network"),
    Place("finalmlp", "goal", "blend", "network and trees"),
    Place("agrosense", "crops", what="crops"),
    Place("agrosense", "ums-tn", "samples", "nitrogen, whole samples held out"),
    Place("agrosense", "ums-tn", "paper", "nitrogen, the paper's split"),
    Place("virtual-inking", "svs-samples", what="simulated cuts on real tissue"),
    Place("laser-cvae", "gaas", what="lasers, the last reading forecast"),
    Place("laser-cvae", "led-a", what="LEDs, the last reading forecast"),
    Place("varifocal-net", "pki3", what="specimens held out"),
    Place("imu-attitude", "default", what="five trials held out"),
    Place("volatility-images", "taq-equity", what="one minute ahead"),
    Place("volatility-images", "binance-spot", what="ten seconds ahead"),
)
"""Published data first; simulated data stand on the plugins' own pages."""


@dataclass(frozen=True)
class Headline:
    """One row of the first table, and of what ``apps info`` shows.

    Attributes:
        plugin: Its id.
        dataset: What was judged on.
        what: The setting, in words.
        metric: With its unit.
        ours: Name of our model.
        value: Its figure.
        rival: The strongest baseline that anybody can run, by its test value.
        rival_value: Its figure.
        gain: How much better ours is, whichever direction is better; None without a paired test.
        low: Lower end of the 95 % interval of the gain.
        high: Upper end.
        p: Of the paired test.
        verdict: ``better``, ``not told apart``, ``worse``, or ``not tested``.
        published: Figures printed for the same data, protocol and setting.
        command: What repeats it.
    """

    plugin: str
    dataset: str
    what: str
    metric: str
    ours: str
    value: float
    rival: str | None
    rival_value: float | None
    gain: float | None
    low: float | None
    high: float | None
    p: float | None
    verdict: str
    published: tuple[tuple[str, float], ...]
    command: str


def headlines() -> list[Headline]:
    """Return the rows of the first table; a case that was not measured has none."""
    return [row for place in MAIN if (row := _headline(place)) is not None]


def headline_table() -> str:
    """Return a row a plugin and setting: ours, the strongest baseline, the test, what is printed."""
    lines = [
        "| plugin | data | metric | ours | strongest baseline | gain of ours (95 %) | in words | printed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in headlines():
        rival = "none" if row.rival is None else f"{row.rival} {number(row.rival_value)}"
        cells = [
            f"[`{row.plugin}`]({row.plugin}.md)",
            f"{row.dataset}: {row.what}",
            row.metric,
            number(row.value),
            rival,
            _gain(row),
            f"**{row.verdict}**" if row.verdict in ("better", "worse") else row.verdict,
            _printed(row),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def command_table() -> str:
    """Return the command that repeats each row of the first table."""
    lines = ["| data | command |", "|---|---|"]
    for row in headlines():
        lines.append(f"| `{row.plugin}`, {row.dataset}: {row.what} | `{row.command}` |")
    return "\n".join(lines)


def missed_table() -> str:
    """Return every figure that was asked for and not reached."""
    lines = ["| of | case | figure | asked for | measured |", "|---|---|---|---|---|"]
    for path in sorted(RESULTS.glob("*.json")):
        for case in _read(path.stem).get("cases", []):
            for check in case["checks"]:
                if check["target"] == "reported" or check["reached"]:
                    continue
                value = "not measured" if check["measured"] is None else number(check["measured"])
                target = check["target"].replace("stretch: ", "hoped for: ")
                cells = (path.stem, case["name"], check["what"], target, value)
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def matrix_table() -> str:
    """Return plugins by architectures: the mean over seeds and its spread."""
    document = _read(MATRIX)
    if not document:
        return "Not measured yet: `make compare` writes `docs/results/compare.json`."
    names = document["architectures"]
    head = ["plugin", "metric", *names, "strongest baseline", "in words"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for part in document["plugins"]:
        arrow = "↑" if part["higher_is_better"] else "↓"
        choices = {choice["spec"]: choice for choice in part["choices"]}
        cells = [_cell(choices.get(spec), part) for spec in names.values()]
        words = "a best one" if part["best"] else "some differ" if _told_apart(part) else "not told apart"
        first = f"[`{part['plugin']}`](#{part['plugin']})"
        lines.append(f"| {' | '.join([first, f'{_metric(part)} {arrow}', *cells, _rival(part), words])} |")
    absent = [
        one.plugin for one in SUITE if one.plugin not in {part["plugin"] for part in document["plugins"]}
    ]
    again = {
        plugin: f"not measured yet: `python -m benchmarks.compare_all --only {plugin}`" for plugin in absent
    }
    for plugin, why in {**again, **document["left_out"]}.items():
        lines.append(f"| `{plugin}` | – {'| – ' * len(names)}| – | {why} |")
    return "\n".join(lines)


def matrix_details() -> str:
    """Return a section a plugin: parameters, seconds, tests, the command."""
    return "\n\n".join("\n".join(_section(part)) for part in _read(MATRIX).get("plugins", []))


def serving_table() -> str:
    """Return what ``benchmarks.serving --keep`` measured: servers side by side in one run."""
    document = _read("serving")
    if not document:
        return "Not measured yet: `python -m benchmarks.serving --keep` writes `docs/results/serving.json`."
    names = {"ours": "`apps serve`", "mlflow": "`mlflow models serve`", "bare": "bare FastAPI"}
    lines = [
        "| server | connections | requests/s | p50, ms | p99, ms | failed |",
        "|---|---|---|---|---|---|",
    ]
    for row in sorted(document["figures"], key=lambda row: not row["keep_alive"]):
        kept = "kept" if row["keep_alive"] else "new for each request"
        times = f"{row['p50']:.1f} | {row['p99']:.1f}"
        lines.append(f"| {names[row['server']]} | {kept} | {row['rate']:,.0f} | {times} | {row['refused']} |")
    return "\n".join([*lines, "", f"By `{document['command']}`."])


def overhead_table() -> str:
    """Return what ``benchmarks.overhead --keep`` measured: each plugin without and with the suite."""
    document = _read("overhead")
    if not document:
        return "Not measured yet: `python -m benchmarks.overhead --keep` writes `docs/results/overhead.json`."
    lines = ["| plugin | bare | `apps run` | more | bare, MB | `apps run`, MB |", "|---|---|---|---|---|---|"]
    for row in document["figures"]:
        if row["what"] != "run":
            continue
        seconds = [row["bare_s"], row["suite_s"], row["suite_s"] - row["bare_s"]]
        memory = [row["bare_mb"], row["suite_mb"]]
        cells = [row["plugin"], *(f"{one:.1f}" for one in seconds), *(f"{one:.0f}" for one in memory)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"By `{document['command']}`."])


def measured_json() -> str:
    """Return what ``apps info`` reads: the rows of the first table by plugin."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in headlines():
        values = {name: _short(value) for name, value in asdict(row).items() if name != "plugin"}
        found.setdefault(row.plugin, []).append(values)
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def number(value: float | None) -> str:
    """Return four digits that count, plainly where that is readable."""
    if value is None:
        return "–"
    text = f"{value + 0.0:.4g}"
    return (f"{value:.1e}" if "e" in text else text).replace("-", "−")


def _headline(place: Place) -> Headline | None:
    case = next((one for one in _read(place.plugin).get("cases", []) if one["name"] == place.case), None)
    if case is None:
        return None
    if not case["runs"]:
        return _of_scenes(place, case)
    results = case["runs"].get(place.run)
    return None if results is None else _of_run(place, case, results)


def _of_run(place: Place, case: Mapping[str, Any], results: Mapping[str, Any]) -> Headline:
    rows = headline(results)
    ours = next(row for row in rows if row["selected"])
    first = [row for row in rows if row["metric"] == ours["metric"]]
    test = strongest_baseline(results)
    rival = None if test is None else next(row for row in first if row["model"] == test["b"])
    gain = low = high = p = None
    if test is not None:
        ends = (test["difference"], test["low"], test["high"])
        # of a metric that should be high, the test's difference (theirs less ours) is a loss
        gain, low, high = (
            ends if not ours["higher_is_better"] else (_minus(ends[0]), *map(_minus, ends[:0:-1]))
        )
        p = test["p"]
    unit = f" [{ours['unit']}]" if ours["unit"] else ""
    return Headline(
        place.plugin,
        results["dataset"],
        place.what,
        f"{ours['metric']}{unit} {'↑' if ours['higher_is_better'] else '↓'}",
        selected_model(results),
        ours["value"],
        None if rival is None else rival["model"],
        None if rival is None else rival["value"],
        gain,
        low,
        high,
        p,
        _verdict(gain, p),
        tuple((row["model"], row["value"]) for row in first if row["kind"] == "published"),
        case["commands"][place.run],
    )


def _of_scenes(place: Place, case: Mapping[str, Any]) -> Headline | None:
    """Read the row of a plugin that is judged on single scenes, where nothing can be resampled."""
    end = f": ERGAS, {_SCENE}"
    known = {
        check["what"].removesuffix(end): check["measured"]
        for check in case["checks"]
        if check["what"].endswith(end)
    }
    ours = {name: value for name, value in known.items() if name.startswith(_NETWORKS)}
    others = {name: value for name, value in known.items() if name not in ours}
    if not ours or not others:
        return None
    best, rival = min(ours, key=lambda name: ours[name]), min(others, key=lambda name: others[name])
    command = f"python -m benchmarks.acceptance {place.plugin} --only {place.case}"
    found = (place.plugin, _SCENE, f"{place.what}, {best}", "ergas ↓", best, ours[best], rival, others[rival])
    return Headline(*found, others[rival] - ours[best], None, None, None, "not tested", (), command)


def _verdict(gain: float | None, p: float | None) -> str:
    if gain is None or p is None:
        return "not tested"
    if p >= SIGNIFICANT:
        return "not told apart"
    return "better" if gain > 0 else "worse"


def _printed(row: Headline) -> str:
    """Name the figures of the best-placed printed model first; of many, only how many there are."""
    if not row.published:
        return "–"
    up = row.metric.endswith("↑")
    best = (max if up else min)(row.published, key=lambda one: one[1])
    values = ", ".join(number(value) for name, value in row.published if name == best[0])
    models = len({name for name, _ in row.published})
    return f"{best[0]} {values}{f' (best of {models})' if models > 1 else ''}"


def _gain(row: Headline) -> str:
    if row.gain is None:
        return "–"
    ends = "" if row.low is None else f" ({number(row.low)} to {number(row.high)})"
    p = "" if row.p is None else f", {format_p(row.p)}"
    return f"{'+' if row.gain > 0 else ''}{number(row.gain)}{ends}{p}"


def _cell(choice: Mapping[str, Any] | None, part: Mapping[str, Any]) -> str:
    if choice is None or choice["value"] is None:
        return "–"
    text = number(choice["value"])
    shown = f"**{text}**" if choice["spec"] == part["best"] else text
    spread = "" if choice["spread"] is None else f" ±{choice['spread']:.2g}"
    apart = choice["adjusted_p"] is not None and choice["adjusted_p"] < SIGNIFICANT
    return f"{shown}{spread}{' ●' if choice['selected'] else ''}{' ≠' if apart else ''}"


def _told_apart(part: Mapping[str, Any]) -> bool:
    known = [choice["adjusted_p"] for choice in part["choices"] if choice["adjusted_p"] is not None]
    return any(p < SIGNIFICANT for p in known)


def _rival(part: Mapping[str, Any]) -> str:
    known = [one for one in part["baselines"] if one["attainable"] and one["value"] is not None]
    if not known:
        return "none"
    best = (max if part["higher_is_better"] else min)(known, key=lambda one: one["value"])
    return f"{best['model']} {number(best['value'])}"


def _metric(part: Mapping[str, Any]) -> str:
    return f"{part['metric']} [{part['unit']}]" if part["unit"] else str(part["metric"])


def _section(part: Mapping[str, Any]) -> Iterator[str]:
    names = {spec: name for name, spec in _read(MATRIX)["architectures"].items()}
    seeds = len(part["seeds"])
    data = f"{part['dataset']}{' (synthetic)' if part['synthetic'] else ''}"
    yield f"### {part['plugin']}"
    yield ""
    yield (
        f"Varied: {part['place']}. Data: {data}, {part['protocol']}, {part['test_size']:,} scored units; "
        f"{seeds} seed{'s' if seeds > 1 else ''}."
    )
    yield ""
    # an own block: the line is long, and scrolls
    yield f"```text\n{part['command']}\n```"
    yield ""
    yield f"| architecture | {_metric(part)} | over seeds | parameters | fit, s | against ● | p, Holm |"
    yield "|---|---|---|---|---|---|---|"
    for one in part["choices"]:
        name = f"{names.get(one['spec'], one['spec'])} (`{one['spec']}`){' ●' if one['selected'] else ''}"
        spread = "–" if one["spread"] is None else f"±{one['spread']:.2g}"
        p = format_p(one["adjusted_p"]).removeprefix("p ")
        cells = [name, _with_half(one), spread, one["parameters"] or "–", f"{one['seconds']:.1f}"]
        yield f"| {' | '.join([*cells, _signed(one['difference']), '' if one['selected'] else p])} |"
    sign = -1 if part["higher_is_better"] else 1
    for one in sorted(part["baselines"], key=lambda one: sign * (one["value"] or 0)):
        p = format_p(one["p"]).removeprefix("p ") + ", not adjusted" if one["p"] is not None else "–"
        kind = "baseline" if one["attainable"] else "bound"
        cells = [f"{kind}: {one['model']}", _with_half(one), "", "", "", _signed(one["difference"]), p]
        yield f"| {' | '.join(cells)} |"
    yield ""
    yield f"{part['words']} Against the baselines: {part['verdict'][0].lower()}{part['verdict'][1:]}"


def _with_half(one: Mapping[str, Any]) -> str:
    if one["value"] is None or one["low"] is None:
        return number(one["value"])
    return f"{number(one['value'])} ({number(one['low'])} to {number(one['high'])})"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{'+' if value >= 0 else ''}{number(value)}"


def _minus(value: float | None) -> float | None:
    # no signed zero
    return None if value is None else 0.0 - value


def _short(value: Any) -> Any:
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _read(name: str) -> dict[str, Any]:
    path = RESULTS / f"{name}.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
