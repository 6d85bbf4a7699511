"""Real slides from file to margin, by a small model that was taught on simulated ones."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
from drawn_slides import check_config, fitted

from appliedpapers.plugins.virtual_inking.annotations import read_shapes


def test_real_slides_are_drawn_whole(tmp_path, shared):
    data = shared / "data" / "virtual-inking"
    model = fitted(tmp_path / "fit", check_config())
    files = {"cmu": "cmu-1-small-region.svs", "tcga": "tcga-cr-7395-01a-01-ts1.svs"}
    table = pa.table(
        {
            "slide_id": list(files),
            "slide": [str(data / name) for name in files.values()],
            "mpp": pa.array([None, 0.5], pa.float64()),
        }
    )
    rows = model.predict(table, files=tmp_path / "out")
    assert set(rows["slide_id"].to_pylist()) == set(files)
    assert rows["problem"].null_count == rows.num_rows
    for slide, size in (("cmu", (2220, 2967)), ("tcga", (4443, 3567))):
        first = next(row for row in rows.to_pylist() if row["slide_id"] == slide)
        assert first["tiles"] > 20
        shapes = read_shapes(tmp_path / "out" / first["margin_path"])
        points = np.concatenate([shape.points for shape in shapes])
        assert (points > -20).all()
        assert (points < np.array(size) + 20).all()
        told = json.loads((tmp_path / "out" / first["provenance_path"]).read_text())
        assert told["slide"]["vendor"] == "aperio"
