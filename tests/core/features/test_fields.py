"""Roles of columns and their options."""

import json

import pytest
from pydantic import ValidationError

from appliedpapers.core.features.fields import FieldSpec

ROLES = ("label", "weight", "categorical", "numeric", "sequence", "timestamp", "group", "split", "ignore")


@pytest.mark.parametrize("role", ROLES)
def test_a_stored_role_is_read_again_with_all_its_options(role):
    spec = FieldSpec(role=role)
    stored = json.loads(spec.model_dump_json())
    assert FieldSpec(**stored) == spec
    assert FieldSpec(**stored).model_dump() == spec.model_dump()


def test_options_that_are_no_default_survive():
    spec = FieldSpec(role="sequence", max_len=3, separator="|", min_count=2, optional=True)
    assert FieldSpec(**spec.model_dump(mode="json")) == spec
    assert "bins" not in spec.model_dump()


def test_an_option_of_another_role_is_refused():
    with pytest.raises(ValidationError, match="'max_len' is an option of sequence columns"):
        FieldSpec(role="numeric", max_len=3)
