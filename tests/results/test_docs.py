"""The examples of docs/results.md run."""

from __future__ import annotations

import doctest
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "results.md"


def test_the_examples_of_the_page_run(filled):
    text = PAGE.read_text().split("<!-- doctest -->")[1]
    examples = text.split("```python")[1].split("```")[0]
    found = doctest.DocTestParser().get_doctest(examples, {"store": filled}, "results.md", None, 0)
    assert len(found.examples) >= 10
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(found)
    assert runner.failures == 0
