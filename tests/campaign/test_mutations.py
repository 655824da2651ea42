"""The quickstart's file with slips of the pen: a campaign, or a message with file and field."""

from __future__ import annotations

import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from defect_mf_flows.campaign import Campaign, campaign_hash
from defect_mf_flows.errors import CampaignError
from tests.campaign.files import Load, sections
from tests.conftest import ROOT

TEXT = (ROOT / "examples" / "quickstart.yaml").read_text().replace("hosts/ZnS.cif", "ZnS.cif")
LINES = TEXT.splitlines()
FIELDS = {name for kind in [*sections(), Campaign] for name in kind.model_fields}
CHARACTERS = st.sampled_from(list(":-[]{}&*!|>#'\"% \n\t@,.0179eaxZ~\0\ud800é"))


@st.composite
def slips(draw: st.DrawFn) -> str:
    """One to three slips: characters changed or lost, lines lost, doubled, moved or indented."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["character", "insert", "delete", "drop", "double", "indent"]))
        line, place = lines[at], draw(st.integers(0, max(0, len(lines[at]) - 1)))
        if kind == "character":
            lines[at] = line[:place] + draw(CHARACTERS) + line[place + 1 :]
        elif kind == "insert":
            lines[at] = line[:place] + draw(CHARACTERS) + line[place:]
        elif kind == "delete":
            lines[at] = line[:place] + line[place + 1 :]
        elif kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "indent":
            lines[at] = "  " + line if draw(st.booleans()) else line.lstrip()
    return "\n".join(lines) + "\n"


@settings(max_examples=150)
@given(text=slips())
@example(TEXT)
@example(TEXT.replace("v_Zn: [0, -1]", 'v_Zn: [0, "\\ud800"]'))
@example(TEXT.replace("seed: 1", "seed: 1_000_000_000_000"))
@example(TEXT.replace("seed: 1", "seed: 1:30"))
@example(TEXT.replace("[v_Zn]", "[v_Zn\\n]"))
def test_a_slip_gives_a_campaign_or_a_message_with_file_and_field(load: Load, text: str) -> None:
    encoded = text.encode("utf-8", errors="surrogatepass")
    try:
        campaign, structure = load(encoded)
    except CampaignError as error:
        said = str(error)
        whole_file = "not readable as YAML" in said or "must be a mapping" in said
        assert "campaign.yaml" in said
        assert whole_file or any(
            re.search(rf"\b{name}\b", said.split("campaign.yaml", 1)[1]) for name in FIELDS
        ), said
        return
    assert len(campaign_hash(campaign, structure)) == 64
    assert Campaign.from_dict(json.loads(json.dumps(campaign.as_dict()))) == campaign


def test_slips_do_reach_both_ends(load: Load) -> None:
    outcomes = set()
    for text in (TEXT, TEXT.replace("roles:", "rolls:")):
        try:
            load(text)
            outcomes.add("campaign")
        except CampaignError:
            outcomes.add("message")
    assert outcomes == {"campaign", "message"}
