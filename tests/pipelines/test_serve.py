"""The REST server: request shapes, refusals, limits, batching, metadata and the page."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
import math
import re
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace

import jsonschema
import pyarrow as pa
import pytest
from served_models import fitted, slowed

from appliedpapers.core.errors import ConfigError
from appliedpapers.core.inference import predict_all
from appliedpapers.core.json_rows import records, to_json
from appliedpapers.core.schema import Column, TableSchema
from appliedpapers.pipelines.serve import ServedModel, ServeSettings, create_app, load_served
from appliedpapers.pipelines.serving_batcher import Batcher
from appliedpapers.pipelines.serving_codec import Decoder
from appliedpapers.pipelines.serving_metrics import Metrics
from appliedpapers.pipelines.serving_problems import Refused

with warnings.catch_warnings():
    # it recommends a successor of httpx that is not a dependency of ours
    warnings.simplefilter("ignore")
    from fastapi.testclient import TestClient

ROW = {"plot": "a", "heat": 11.5, "moisture": None, "soil": "clay", "visits": 2}
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


@contextmanager
def client(*models: ServedModel, **settings):
    app = create_app(models, ServeSettings(**settings))
    with TestClient(app, base_url="http://localhost") as made:
        while app.state.serving.unready == "warming up":
            threading.Event().wait(0.005)
        yield made


@pytest.fixture(scope="module")
def rows() -> ServedModel:
    return fitted("tiny-rows")


@pytest.fixture(scope="module")
def stream() -> ServedModel:
    return fitted("tiny-stream")


@pytest.fixture(scope="module")
def server(rows):
    with client(rows, max_body_mb=0.05, max_rows=50) as made:
        yield made


def expected(served: ServedModel, records_in: list[dict]) -> list[dict]:
    decoder = Decoder(served.model.input_schema, max_rows=1000)
    table = decoder.table(json.dumps({"dataframe_records": records_in}).encode(), "application/json")
    return json.loads(to_json(records(predict_all(served.model, table))))


# the shapes of MLflow


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_records": [ROW, {**ROW, "plot": "b"}]},
        {
            "dataframe_split": {
                "columns": list(ROW),
                "data": [list(ROW.values()), ["b", *list(ROW.values())[1:]]],
            }
        },
        {
            "dataframe_split": {
                "index": [7, 8],
                "columns": list(ROW),
                "data": [[*ROW.values()], ["b", *[*ROW.values()][1:]]],
            }
        },
        {"instances": [ROW, {**ROW, "plot": "b"}]},
        {
            "inputs": {
                name: ["ab"[i] if name == "plot" else cell for i in (0, 1)] for name, cell in ROW.items()
            }
        },
        {"inputs": [ROW, {**ROW, "plot": "b"}]},
        {"dataframe_records": [ROW, {**ROW, "plot": "b"}], "params": {}},
    ],
    ids=["records", "split", "split-index", "instances", "inputs", "inputs-records", "empty-params"],
)
def test_every_shape_gives_the_answer_of_the_model_alone(server, rows, body):
    answer = server.post("/invocations", json=body)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == {"predictions": expected(rows, [ROW, {**ROW, "plot": "b"}])}


def test_csv_gives_the_answer_of_the_model_alone(server, rows):
    text = "plot,heat,moisture,soil,visits\na,11.5,,clay,2\n007,11.5,,clay,2\n"
    answer = server.post("/invocations", content=text, headers={"Content-Type": "text/csv; charset=utf-8"})
    assert answer.json()["predictions"] == expected(rows, [ROW, {**ROW, "plot": "007"}])


def test_csv_of_a_german_spreadsheet_gives_the_same_answer(server, rows):
    text = "plot;heat;moisture;soil;visits\na;11,5;;clay;2\n007;11,5;;clay;2\n"
    answer = server.post("/invocations", content=text, headers=CSV)
    assert answer.json()["predictions"] == expected(rows, [ROW, {**ROW, "plot": "007"}])


def test_answers_equal_those_of_mlflows_own_server(server, rows, tiny, tmp_path):
    from mlflow.pyfunc import load_model
    from mlflow.pyfunc.scoring_server import invocations

    from appliedpapers.pipelines.packaging import write_model

    write_model(tiny.bundle, tmp_path / "model")
    theirs = load_model(str(tmp_path / "model"))
    body = json.dumps({"dataframe_records": [ROW, {**ROW, "plot": "b", "moisture": 40.0}]})
    answer = invocations(body, "application/json", theirs, theirs.metadata.get_input_schema())
    with client(replace(rows, model=tiny.model)) as ours:
        assert ours.post("/invocations", content=body, headers=JSON).json() == json.loads(answer.response)


# refusals: what is malformed is 400, another media type 415, too large 413, against the contract 422


def split(columns, data):
    return json.dumps({"dataframe_split": {"columns": columns, "data": data}})


def one(**cells):
    return json.dumps({"dataframe_records": [{**ROW, **cells}]})


BAD = {
    "empty body": ("", JSON, 400),
    "no json": ("{", JSON, 400),
    "two documents": ("{} {}", JSON, 400),
    "not utf-8": (b'{"instances": ["\xff"]}', JSON, 400),
    "null": ("null", JSON, 400),
    "number": ("1", JSON, 400),
    "string": ('"a"', JSON, 400),
    "list": ("[]", JSON, 400),
    "no shape": ("{}", JSON, 400),
    "unknown shape": ('{"rows": []}', JSON, 400),
    "two shapes": ('{"instances": [], "inputs": []}', JSON, 400),
    "records as object": ('{"dataframe_records": {}}', JSON, 400),
    "records of numbers": ('{"dataframe_records": [1]}', JSON, 400),
    "records of null": ('{"dataframe_records": [null]}', JSON, 400),
    "split as list": ('{"dataframe_split": []}', JSON, 400),
    "split without data": ('{"dataframe_split": {"columns": ["a"]}}', JSON, 400),
    "split without columns": ('{"dataframe_split": {"data": [[1]]}}', JSON, 400),
    "split with numbered columns": (split([1], [[1]]), JSON, 400),
    "split with a short row": (split(list(ROW), [["a"]]), JSON, 400),
    "split with a row that is none": (split(list(ROW), ["abcde"]), JSON, 400),
    "split with a column twice": (split(["plot", "plot"], [["a", "b"]]), JSON, 400),
    "inputs with a scalar": ('{"inputs": {"plot": "a"}}', JSON, 400),
    "instances of lists": ('{"instances": [["a", 1, 2, "clay", 1]]}', JSON, 400),
    "params": ('{"instances": [], "params": {"a": 1}}', JSON, 400),
    "NaN": ('{"instances": [{"heat": NaN}]}', JSON, 400),
    "Infinity": ('{"instances": [{"heat": -Infinity}]}', JSON, 400),
    "nested to the end of the stack": ("[" * 20_000 + "]" * 20_000, JSON, 400),
    "nested in a cell": (f'{{"instances": [{{"x": {"[" * 200}{"]" * 200}}}]}}', JSON, 400),
    "objects nested in a cell": (
        f'{{"instances": [{{"x": {chr(123) + chr(34) + "a" + chr(34) + ":"}'
        + '{"a":' * 60
        + "1"
        + "}" * 61
        + "}]}",
        JSON,
        400,
    ),
    "number of too many digits": ('{"instances": [{"heat": ' + "9" * 5000 + "}]}", JSON, 400),
    "half a surrogate pair": ('{"instances": [{"plot": "\\ud800"}]}', JSON, 400),
    "empty csv": (" \n", CSV, 400),
    "csv with a long row": ("plot,heat\na,1,2\n", CSV, 400),
    "csv not utf-8": (b"plot\n\xff\n", CSV, 400),
    "no media type": ("{}", {}, 415),
    "form": ("a=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "text": ("{}", {"Content-Type": "text/plain"}, 415),
    "latin-1": ("{}", {"Content-Type": "application/json; charset=latin-1"}, 415),
    "gzip": (b"\x1f\x8b", {**JSON, "Content-Encoding": "gzip"}, 415),
    "too large": ("[" + " " * 60_000 + "]", JSON, 413),
    "no rows": ('{"dataframe_records": []}', JSON, 422),
    "no rows in split": (split(list(ROW), []), JSON, 422),
    "no columns": ('{"dataframe_records": [{}]}', JSON, 422),
    "csv without rows": ("plot,heat,moisture,soil,visits\n", CSV, 422),
    "csv with a column twice": ("plot,plot\na,b\n", CSV, 422),
    "missing column": ('{"dataframe_records": [{"plot": "a"}]}', JSON, 422),
    "lengths differ": ('{"inputs": {"plot": ["a"], "heat": [1, 2]}}', JSON, 422),
    "missing value": (one(heat=None), JSON, 422),
    "above the range": (one(heat=51), JSON, 422),
    "overflowing number": (one(heat=0).replace('"heat": 0', '"heat": 1e999'), JSON, 422),
    "integer beyond 64 bits": (one(visits=2**70), JSON, 422),
    "fraction for a whole number": (one(visits=2.5), JSON, 422),
    "boolean for a number": (one(heat=True), JSON, 422),
    "text for a number": (one(heat="warm"), JSON, 422),
    "list for a number": (one(heat=[1]), JSON, 422),
    "object for text": (one(plot={"a": 1}), JSON, 422),
    "unknown category": (one(soil="peat"), JSON, 422),
    "too many rows": (json.dumps({"dataframe_records": [ROW] * 51}), JSON, 422),
    "the inner row number as a column": (one(__row__=1, heat=99), JSON, 422),
}


@pytest.mark.parametrize("case", BAD, ids=str)
def test_a_bad_request_is_refused_in_words(server, case):
    body, headers, status = BAD[case]
    answer = server.post("/invocations", content=body, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:")
    assert problem["title"]
    assert problem["detail"]
    assert not re.search(r"Traceback|\.py|pyarrow|Arrow\w+Error|site-packages|0x[0-9a-f]{6}", answer.text)
    assert len(answer.content) < 8000


def test_a_violation_names_row_column_value_and_rule(server):
    answer = server.post(
        "/invocations", json={"dataframe_records": [ROW, {**ROW, "heat": 99.0, "soil": "peat"}]}
    )
    problem = answer.json()
    named = [(item["row"], item["column"], item["value"]) for item in problem["violations"]]
    assert named == [(2, "heat", "99.0"), (2, "soil", "peat")]
    assert problem["violations_total"] == 2
    assert all(item["rule"] for item in problem["violations"])


def test_at_most_twenty_violations_are_listed_and_all_are_counted(server):
    problem = server.post("/invocations", json={"dataframe_records": [{**ROW, "heat": 99}] * 30}).json()
    assert (len(problem["violations"]), problem["violations_total"]) == (20, 30)


def test_a_long_value_is_not_sent_back_whole(rows):
    with client(rows) as made:
        answer = made.post("/invocations", json={"dataframe_records": [{**ROW, "soil": "x" * 100_000}]})
    assert answer.status_code == 422
    assert len(answer.content) < 4000


def test_routes_and_methods_that_are_not_there(server):
    assert server.get("/nothing").status_code == 404
    assert server.get("/invocations").status_code == 405
    assert server.get("/v2/models/other").status_code == 404
    assert server.get("/v2/models/apps.tiny-rows/versions/2").status_code == 404
    assert server.post("/v2/jobs", json={}).status_code == 404
    for path in ("/nothing", "/invocations", "/v2/models/other"):
        answer = server.get(path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_a_chunked_body_is_limited_like_one_of_known_length(server):
    answer = server.post("/invocations", content=iter([b" " * 30_000] * 4), headers=JSON)
    assert answer.status_code == 413


def test_a_defect_of_the_model_is_500_and_says_nothing_of_the_inside(rows, caplog):
    class Broken(type(rows.model)):
        def predict(self, table, *, files=None):
            raise ValueError("secret path /root/x.py")

    broken = Broken(rows.model.config)
    with client(replace(rows, model=broken, example=None)) as made:
        answer = made.post("/invocations", json={"dataframe_records": [ROW]})
    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.text
    assert "secret" in caplog.text


# what leaves is JSON


def test_nan_and_infinity_leave_as_null_and_timestamps_in_iso():
    table = pa.table(
        {
            "x": [1.5, math.nan, math.inf],
            "t": pa.array([dt.datetime(2024, 1, 31, 14)] * 3, pa.timestamp("us")),
            "a": [[1.0, math.nan], [], None],
            "f": pa.FixedShapeTensorArray.from_numpy_ndarray(
                __import__("numpy").arange(12.0).reshape(3, 2, 2)
            ),
            "b": [b"\x00", None, b"x"],
        }
    )
    text = to_json({"predictions": records(table)})
    first, second, third = json.loads(text, parse_constant=pytest.fail)["predictions"]
    assert first == {
        "x": 1.5,
        "t": "2024-01-31T14:00:00",
        "a": [1.0, None],
        "f": [[0.0, 1.0], [2.0, 3.0]],
        "b": {"b64": base64.b64encode(b"\x00").decode()},
    }
    assert (second["x"], second["a"], third["x"], third["a"]) == (None, [], None, None)


def test_a_missing_output_is_null(stream):
    record = {"device": "d", "time": "2024-01-01T00:00:00", "value": None}
    with client(stream) as made:
        answer = made.post("/invocations", json={"dataframe_records": [record]})
    assert answer.json() == {
        "predictions": [{"device": "d", "time": "2024-01-01T00:00:00", "filtered": None}]
    }


def test_arrays_of_fixed_and_free_length_come_in_as_nested_lists():
    served = fitted("tiny-tasks", "spectrum")
    record = {"sample": "s", "bands": [0.1, 0.2, 0.3, 0.4, 0.5, 1], "trace": [[1, 2], [3, 4], [5, 6]]}
    with client(served) as made:
        answer = made.post("/invocations", json={"dataframe_records": [record]})
        table = 'sample,bands,trace\ns,"[0.1,0.2,0.3,0.4,0.5,1]","[[1,2],[3,4],[5,6]]"\n'
        same = made.post("/invocations", content=table, headers=CSV)
        wrong = made.post("/invocations", json={"dataframe_records": [{**record, "bands": [1, 2]}]})
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["predictions"][0]["shares"]) == 2
    assert answer.json() == same.json()
    assert wrong.status_code == 422


# joining requests


def run_batch(served: ServedModel, bodies: list[bytes], content_type: str = "application/json"):
    """Answer bodies that wait together, and return the answers and how many calls the model saw."""
    calls = []
    plain = served.model.predict

    def counted(table, *, files=None):
        calls.append(table.num_rows)
        return plain(table, files=files)

    served.model.predict = counted

    async def ask():
        batcher = Batcher(served, Decoder(served.model.input_schema, max_rows=1000), Metrics())
        start = batcher.start
        batcher.start = lambda: None
        asked = [asyncio.ensure_future(batcher.answer(body, content_type)) for body in bodies]
        await asyncio.sleep(0)
        start()
        done = await asyncio.gather(*asked, return_exceptions=True)
        batcher.stop()
        return done

    try:
        return asyncio.run(ask()), calls
    finally:
        del served.model.predict


def body_of(*records_in: dict) -> bytes:
    return json.dumps({"dataframe_records": records_in}).encode()


def test_requests_that_wait_together_are_predicted_in_one_call_and_answered_apart(rows):
    sent = [[{**ROW, "plot": f"{n}-{i}", "heat": 0.5 + n} for i in range(n % 3 + 1)] for n in range(10)]
    answers, calls = run_batch(rows, [body_of(*records_in) for records_in in sent])
    assert calls == [sum(map(len, sent))]
    assert [json.loads(answer)["predictions"] for answer in answers] == [expected(rows, s) for s in sent]


def test_a_bad_request_in_a_batch_is_refused_alone_with_its_own_row_number(rows):
    good = [{**ROW, "plot": f"g{n}", "heat": 1.5} for n in range(3)]
    bad = {**ROW, "heat": 99.5}
    answers, _ = run_batch(rows, [body_of(good[0]), body_of(good[1], bad), body_of(good[2]), b"{"])
    assert json.loads(answers[0])["predictions"] == expected(rows, [good[0]])
    assert json.loads(answers[2])["predictions"] == expected(rows, [good[2]])
    assert isinstance(answers[1], Refused)
    assert answers[1].problem.violations[0]["row"] == 2
    assert answers[3].problem.status == 400


ODD = [
    {"heat": 1},
    {"heat": 1.5},
    {"heat": "2.5"},
    {"heat": True},
    {"heat": "warm"},
    {"plot": 5},
    {"plot": 5.5},
    {"plot": True},
    {"visits": 3.0},
    {"visits": "3"},
    {"moisture": 10},
    {"extra": {"a": 1}},
    {"extra": "text"},
    {"heat": [1]},
    {"visits": 2**70},
    {"extra": None},
    {"heat": None},
    {"soil": None},
    {"plot": "\ud800"},
]


def test_company_never_changes_the_verdict_or_the_answer(rows):
    bodies = [body_of({**ROW, **odd}) for odd in ODD]
    alone = [run_batch(rows, [body])[0][0] for body in bodies]
    together, _ = run_batch(rows, bodies)
    for odd, one_answer, other in zip(ODD, alone, together, strict=True):
        if isinstance(one_answer, Refused):
            assert isinstance(other, Refused), odd
            assert one_answer.problem == other.problem
        else:
            assert one_answer == other, odd


def test_groups_of_two_clients_with_the_same_key_do_not_merge(stream):
    def series(value):
        return [{"device": "d", "time": f"2024-01-01T00:00:0{s}", "value": value + s} for s in range(3)]

    answers, calls = run_batch(stream, [body_of(*series(0.5)), body_of(*series(100.5))])
    assert calls == [3, 3]
    assert json.loads(answers[0])["predictions"] == expected(stream, series(0.5))
    assert json.loads(answers[1])["predictions"] == expected(stream, series(100.5))


def test_a_client_that_has_gone_is_not_computed_for(rows):
    async def ask():
        batcher = Batcher(rows, Decoder(rows.model.input_schema, max_rows=10), Metrics())
        start, batcher.start = batcher.start, lambda: None
        gone = asyncio.ensure_future(batcher.answer(body_of(ROW), "application/json"))
        stays = asyncio.ensure_future(batcher.answer(body_of(ROW), "application/json"))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0)
        start()
        answer = await stays
        batcher.stop()
        return answer, gone.cancelled()

    answer, cancelled = asyncio.run(ask())
    assert cancelled
    assert json.loads(answer)["predictions"] == expected(rows, [ROW])


# who may ask


def test_another_host_name_is_refused_unless_it_is_allowed(rows):
    with client(rows, allowed_hosts=("model.example",)) as made:
        for host, status in {
            "localhost": 200,
            "localhost:5001": 200,
            "127.0.0.1": 200,
            "[::1]:5001": 200,
            "MODEL.example:80": 200,
            "evil.example": 403,
            "localhost.evil.example": 403,
            "": 403,
        }.items():
            assert made.get("/v2/health/live", headers={"Host": host}).status_code == status, host
    with client(rows, allowed_hosts=("*",)) as made:
        assert made.get("/v2", headers={"Host": "anything"}).status_code == 200


def test_a_token_is_asked_for_everywhere_but_at_health(rows):
    with client(rows, token="s3cret-ü") as made:
        assert made.get("/v2/health/live").status_code == 200
        assert made.get("/v2/health/ready").status_code == 200
        for path in ("/", "/docs", "/openapi.json", "/metrics", "/v2/models", "/nothing"):
            assert made.get(path).status_code == 401, path
        ask = {"json": {"dataframe_records": [ROW]}}
        for given in ("", "Bearer", "Bearer wrong", "Bearer s3cret", "s3cret", "Basic !!!", "Digest s3cret"):
            answer = made.post("/invocations", **ask, headers={"Authorization": given})
            assert answer.status_code == 401, given
            assert "Bearer" in answer.headers["www-authenticate"]
        token = "Bearer s3cret-ü".encode()
        assert made.post("/invocations", **ask, headers={"Authorization": token}).status_code == 200
        basic = "Basic " + base64.b64encode("anyone:s3cret-ü".encode()).decode()
        assert made.get("/", headers={"Authorization": basic}).status_code == 200


def test_more_requests_than_allowed_are_turned_away(rows):
    app = create_app([rows], ServeSettings(max_concurrency=1))
    with TestClient(app, base_url="http://localhost") as made:
        app.state.serving.door.in_flight = 1
        answer = made.post("/invocations", json={"dataframe_records": [ROW]})
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert made.get("/v2/health/live").status_code == 200
        app.state.serving.door.in_flight = 0
        assert made.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 200


def test_a_draining_server_is_alive_but_not_ready_and_takes_nothing_new(rows):
    with client(rows) as made:
        made.app.state.serving.door.draining = True
        assert made.get("/v2/health/live").status_code == 200
        assert made.get("/v2/health/ready").status_code == 503
        assert made.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 503


def test_an_answer_that_takes_too_long_is_given_up():
    with client(slowed(fitted("tiny-rows"), 0.6), request_timeout_s=0.05) as made:
        assert made.post("/invocations", json={"dataframe_records": [ROW]}).status_code == 504


def test_a_server_whose_example_fails_is_never_ready(rows):
    wrong = rows.example.set_column(1, "heat", pa.array([99.0] * rows.example.num_rows))
    with client(replace(rows, example=wrong)) as made:
        answer = made.get("/v2/health/ready")
        assert answer.status_code == 503
        assert "heat" in answer.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [{"port": 70_000}, {"max_rows": 0}, {"max_body_mb": -1}, {"token": " "}, {"request_timeout_s": 0}],
    ids=str,
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError):
        ServeSettings(**wrong)


# files named by clients


@pytest.fixture
def folders(tmp_path):
    allowed, other = tmp_path / "allowed", tmp_path / "other"
    (allowed / "sub").mkdir(parents=True)
    other.mkdir()
    for folder in (allowed, allowed / "sub", other):
        (folder / "grid.json").write_text("[[1, 2], [3, 4]]")
    (allowed / "link.json").symlink_to(other / "grid.json")
    return allowed, other


def test_a_file_cell_may_name_only_files_in_an_allowed_folder(folders):
    allowed, other = folders
    schema = TableSchema((Column("raster", "string", file="raster"),))
    decoder = Decoder(schema, max_rows=10, folders=[allowed])

    def cell(value):
        body = json.dumps({"dataframe_records": [{"raster": value}]}).encode()
        return decoder.table(body, "application/json").column("raster")[0].as_py()

    assert cell("grid.json") == str(allowed / "grid.json")
    assert cell(str(allowed / "sub" / "grid.json")) == str(allowed / "sub" / "grid.json")
    assert cell({"b64": base64.b64encode(b"[[1]]").decode()}) == b"[[1]]"
    refused = [
        str(other / "grid.json"),
        "../other/grid.json",
        "link.json",
        "sub",
        "absent.json",
        "/etc/passwd",
        "/vsicurl/http://example.com/a.tif",
        "a\x00b",
        "",
        {"b64": "no base64!"},
        {"b64": 1},
        {"path": "grid.json"},
        5,
    ]
    for value in refused:
        with pytest.raises(Exception, match="raster") as caught:
            cell(value)
        assert caught.value.violations.num_rows == 1, value
    seen = {
        caught.value.violations.column("rule")[0].as_py()
        for caught in [_refusal(cell, v) for v in refused[:9]]
    }
    assert len(seen) == 1, "a client must not learn which files exist"


def _refusal(cell, value):
    with pytest.raises(Exception, match="raster") as caught:
        cell(value)
    return caught


def test_without_an_allowed_folder_no_path_is_read(folders):
    decoder = Decoder(TableSchema((Column("raster", "string", file="raster"),)), max_rows=10)
    body = json.dumps({"dataframe_records": [{"raster": str(folders[0] / "grid.json")}]}).encode()
    with pytest.raises(Exception, match="not a file in a folder"):
        decoder.table(body, "application/json")
    with pytest.raises(Exception, match="not a file in a folder"):
        decoder.table(f"raster\n{folders[0]}/grid.json\n".encode(), "text/csv")


# what the server says about itself


def test_metadata_openapi_and_metrics(server, rows):
    model = server.get("/v2/models/apps.tiny-rows").json()
    assert model["versions"] == ["1"]
    assert {"name": "heat", "datatype": "FP64", "shape": [-1]} in model["inputs"]
    assert model["json_schema"]["input"]["required"] == list(ROW)
    document = server.get("/openapi.json").json()
    media = document["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    jsonschema.Draft202012Validator.check_schema(media["schema"])
    jsonschema.validate(media["example"], media["schema"])
    assert server.post("/invocations", json=media["example"]).status_code == 200
    text = server.get("/metrics").text
    assert re.search(r'apps_requests_total\{method="POST",route="/invocations",status="200"\} [1-9]', text)
    assert re.search(r'apps_rows_total\{model="apps.tiny-rows"\} [1-9]', text)
    assert re.search(r'apps_errors_total\{kind="contract"\} [1-9]', text)
    assert "apps_ready 1.0" in text


def test_an_unknown_path_or_method_makes_no_new_metric(server):
    for number in range(3):
        server.get(f"/unknown-{number}")
    server.request("BREW", "/invocations")
    text = server.get("/metrics").text
    assert "unknown-" not in text
    assert "BREW" not in text


def test_two_models_are_served_under_their_names(rows, stream):
    with client(rows, stream) as made:
        assert [item["name"] for item in made.get("/v2/models").json()["models"]] == [rows.name, stream.name]
        record = {"device": "d", "time": "2024-01-01", "value": 1.5}
        answer = made.post(f"/v2/models/{stream.name}/invocations", json={"dataframe_records": [record]})
        assert answer.json()["predictions"][0]["filtered"] == 1.5
        assert made.get(f"/models/{stream.name}").status_code == 200
    with pytest.raises(ConfigError):
        create_app([rows, rows])


def test_a_model_is_loaded_from_the_registry_or_a_bundle_with_an_example(store, store_folder, tiny):
    from appliedpapers.pipelines import registry

    with tiny.start(store) as run:
        uri = run.log_model(tiny.bundle)
    registry.register(store, name="apps.tiny-rows", model_uri=uri, run_id=run.run_id, tags={})
    registered = load_served("tiny-rows@champion", store_folder)
    plain = load_served(str(tiny.bundle))
    assert (registered.name, registered.version) == ("apps.tiny-rows", "1")
    assert (plain.name, plain.version) == ("apps.tiny-rows", "0")
    sent = [{**ROW, "moisture": 40.5}]
    assert (
        expected(registered, sent)
        == expected(plain, sent)
        == expected(replace(plain, model=tiny.model), sent)
    )
    assert registered.example.column_names == list(ROW)


# the page


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_needs_nothing_from_outside(server, path):
    answer = server.get(path)
    assert answer.status_code == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", answer.text)
    assert not re.search(r"""\s(style|on\w+)=["']""", answer.text), "the policy forbids inline attributes"
    nonce = re.search(r"nonce-([^']+)", policy).group(1)
    tags = re.findall(r"<(?:script|style)[^>]*>", answer.text)
    assert tags
    assert all(f'nonce="{nonce}"' in tag for tag in tags)


def test_the_form_has_every_column_with_its_unit_and_the_example(server, rows):
    text = server.get("/").text
    for column in rows.model.input_schema.columns:
        assert f'data-column="{column.name}"' in text
    assert '<span class="unit">degC</span>' in text
    assert f'value="{rows.example.column("plot")[0].as_py()}"' in text


def test_text_from_a_bundle_cannot_become_markup(rows):
    evil = "</script><img src=x onerror=alert(1)>"
    schema = TableSchema(tuple(replace(c, description=evil) for c in rows.model.input_schema.columns))

    class Renamed(type(rows.model)):
        input_schema = schema

    model = Renamed(rows.model.config)
    model.__dict__.update(rows.model.__dict__)
    with client(replace(rows, model=model, summary=evil)) as made:
        for path in ("/", "/docs"):
            assert "<img" not in made.get(path).text
