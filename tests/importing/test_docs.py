"""The examples of docs/import.md run on the real files."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from defect_mf_flows.importing.plan import make_plan
from defect_mf_flows.importing.storing import carry_out
from defect_mf_flows.importing.walk import walk

PAGE = Path(__file__).resolve().parents[2] / "docs" / "import.md"


@pytest.mark.parametrize("which", ["real"], indirect=True)
def test_the_examples_of_the_page_run(tree, store):
    carry_out(make_plan(walk([tree]), "hse06"), store)
    text = PAGE.read_text().split("<!-- doctest -->")[1]
    examples = text.split("```python")[1].split("```")[0]
    found = doctest.DocTestParser().get_doctest(examples, {"store": store}, "import.md", None, 0)
    assert len(found.examples) >= 8
    runner = doctest.DocTestRunner()
    runner.run(found)
    assert runner.failures == 0
