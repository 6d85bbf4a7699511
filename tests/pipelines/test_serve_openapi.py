"""The OpenAPI document says what the server does: schemathesis tries it, and the examples can be sent."""

from __future__ import annotations

import io
import json
import re
from contextlib import suppress
from dataclasses import replace

import httpx
import jsonschema
import pytest
import schemathesis
from bad_files import arrow, b64, parquet
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from live_server import listening
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks as openapi_checks
from served_models import fitted

from appliedpapers.pipelines.serve import ServeSettings, create_app

PARQUET, ARROW = "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream"
BOUNDED = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
# the server takes more than the one form that the document describes: numbers as text, columns in any order
LENIENT = [openapi_checks.negative_data_rejection]
# no schema says which bytes are a raster
UNSEEN = [*LENIENT, openapi_checks.positive_data_acceptance]


@pytest.fixture(scope="module")
def served():
    return {name: fitted(name) for name in ("tiny-rows", "tiny-stream", "tiny-scenes")}


def application(model, folder, **options):
    return create_app([model], ServeSettings(state_folder=folder, max_jobs=10_000, **options))


def send_tables_of(model) -> None:
    """Tell schemathesis what CSV, Parquet and Arrow bodies look like."""
    text = io.StringIO()
    model.example.to_pandas().to_csv(text, index=False)
    for media_type, body in {
        "text/csv": text.getvalue().encode(),
        PARQUET: parquet(model.example),
        ARROW: arrow(model.example),
    }.items():
        schemathesis.openapi.media_type(media_type, st.just(body))


@pytest.mark.parametrize(
    ("name", "excluded"), [("tiny-rows", LENIENT), ("tiny-stream", LENIENT), ("tiny-scenes", UNSEEN)]
)
def test_schemathesis_finds_nothing(served, name, excluded, tmp_path):
    send_tables_of(served[name])
    tried = 0
    with listening(application(served[name], tmp_path, max_body_mb=1)) as address:
        for found in schemathesis.openapi.from_url(f"{address}/openapi.json").get_all_operations():
            operation = found.ok()
            for mode in GenerationMode:

                @given(case=operation.as_strategy(generation_mode=mode))
                @BOUNDED
                def ask(case):
                    nonlocal tried
                    tried += 1
                    case.call_and_validate(excluded_checks=excluded)

                with suppress(Unsatisfiable):
                    # some operations have nothing that could be wrong
                    ask()
    assert tried > 50


def test_schemathesis_would_find_a_status_that_the_document_does_not_name(served, tmp_path, monkeypatch):
    from appliedpapers.pipelines import serving_openapi

    monkeypatch.delitem(serving_openapi._PREDICTING, 400)
    with listening(application(served["tiny-rows"], tmp_path)) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        wrong = schema["/invocations"]["POST"].Case(body=b"{", media_type="application/json")
        with pytest.raises(BaseExceptionGroup) as caught:
            wrong.call_and_validate(excluded_checks=LENIENT)
    assert "Undocumented" in str(caught.value.exceptions[0])


# what the document holds


@pytest.mark.parametrize("name", ["tiny-rows", "tiny-stream", "tiny-scenes"])
def test_every_example_can_be_sent_and_fits_its_schema(served, name, tmp_path):
    app = application(served[name], tmp_path)
    content = app.openapi()["paths"]["/invocations"]["post"]["requestBody"]["content"]
    with listening(app) as address:
        for media_type, media in content.items():
            if "example" not in media:
                continue
            example = media["example"]
            jsonschema.Draft202012Validator.check_schema(media["schema"])
            jsonschema.validate(example, media["schema"])
            if media_type == "text/csv" and name == "tiny-scenes":
                continue  # the bytes of a file have no place in CSV
            body = example if isinstance(example, str) else json.dumps(example)
            headers = {"Content-Type": media_type}
            answer = httpx.post(f"{address}/invocations", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            made = app.openapi()["paths"]["/invocations"]["post"]["responses"]["200"]["content"]
            jsonschema.validate(answer.json(), made["application/json"]["schema"])


def test_every_operation_names_its_statuses_and_nothing_is_left_to_a_reader(served, tmp_path):
    document = application(served["tiny-scenes"], tmp_path, token="t").openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            statuses = set(operation["responses"])
            assert statuses >= {"401", "403", "503"}, (method, path)
            assert any(status.startswith("2") for status in statuses), (method, path)
            if "{" in path:
                assert "404" in statuses, (method, path)
            if "requestBody" in operation:
                assert statuses >= {"400", "408", "413", "415", "422", "429", "500"}, (method, path)
                assert set(operation["requestBody"]["content"]) == {
                    "application/json",
                    "text/csv",
                    PARQUET,
                    ARROW,
                }
    assert document["components"]["securitySchemes"]["bearer"] == {"type": "http", "scheme": "bearer"}
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(document)))
    assert references <= set(document["components"]["schemas"])


def test_the_open_inference_routes_answer_as_the_protocol_says(served, tmp_path):
    with listening(application(replace(served["tiny-rows"], version="7"), tmp_path)) as address:
        assert set(httpx.get(f"{address}/v2").json()) >= {"name", "version", "extensions"}
        for probe in ("health/live", "health/ready", "models/apps.tiny-rows/ready"):
            assert httpx.get(f"{address}/v2/{probe}").status_code == 200, probe
        model = httpx.get(f"{address}/v2/models/apps.tiny-rows").json()
        assert model == httpx.get(f"{address}/v2/models/apps.tiny-rows/versions/7").json()
        assert (model["name"], model["versions"], bool(model["platform"])) == ("apps.tiny-rows", ["7"], True)
        assert {"name": "heat", "datatype": "FP64", "shape": [-1]} in model["inputs"]
        assert {"name": "harvest", "datatype": "FP64", "shape": [-1]} in model["outputs"]
        for absent in ("apps.other", "apps.other/ready", "apps.tiny-rows/versions/8/ready"):
            answer = httpx.get(f"{address}/v2/models/{absent}")
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("name", ["tiny-rows", "tiny-stream", "tiny-scenes"])
def test_parquet_and_arrow_give_the_answer_of_json(served, name, tmp_path):
    model = served[name]
    rows = [
        {key: b64(cell) if isinstance(cell, bytes) else cell for key, cell in row.items()}
        for row in model.example.to_pylist()
    ]
    with listening(application(model, tmp_path)) as address:

        def ask(body, media_type):
            headers = {"Content-Type": media_type}
            answer = httpx.post(f"{address}/invocations", content=body, headers=headers)
            assert answer.status_code == 200, answer.text
            return answer.json()["predictions"]

        as_json = ask(json.dumps({"dataframe_records": rows}, default=str), "application/json")
        assert ask(parquet(model.example), PARQUET) == as_json
        assert ask(parquet(model.example, compression="zstd", data_page_version="2.0"), PARQUET) == as_json
        assert ask(arrow(model.example), ARROW) == as_json
