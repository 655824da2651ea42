"""`defect-mf import --site`: what one has already, in the database that a group shares."""

from __future__ import annotations

import pytest

from defect_mf_flows.results import Records
from defect_mf_flows.schemas.calculation import Calculation
from defect_mf_flows.site.connection import Site
from defect_mf_flows.site.launchpad import SiteLaunchPad
from tests.importing.conftest import FACTS, OWN
from tests.sites import ask

pytestmark = pytest.mark.mongod


def test_calculations_come_into_a_sites_database_once(site: Site, launchpad: SiteLaunchPad) -> None:
    arguments = ("import", OWN, "--fidelity", "hse06", "--site", site.folder)
    assert "nothing was stored" in ask(*arguments, "--dry-run")
    frames = FACTS["own"].frames
    assert f"5 calculations, {frames} frames added" in ask(*arguments)
    again = ask(*arguments)
    assert "5 already stored" in again
    assert "nothing added" in again
    store = site.store()
    store.connect()
    try:
        records = Records(store)
        assert records.count(Calculation) == 5
        found = {(f.lineage.defect, f.charge) for f in records.frames(fidelity="hse06")}
        assert found == {(None, 0), ("v_Zn", 0), ("v_Zn", -2), ("v_S", 2), ("Al_Zn", 1)}
        vacancy = next(records.documents(Calculation, defect="v_Zn", charge=-2))
        assert vacancy.final_energy == pytest.approx(FACTS["own"].vacancy_energy)
        assert vacancy.imported.path.startswith(str(OWN))
    finally:
        store.close()
    listed = ask("query", "calculations", "--site", site.folder)
    assert listed.count("hse06") >= 5
    assert launchpad.get_wf_ids() == [], "nothing is submitted by an import"


def test_what_does_not_fit_the_sites_calculations_is_refused(
    site: Site, launchpad: SiteLaunchPad, tmp_path
) -> None:
    import gzip
    import shutil

    place = tmp_path / "one" / "vac_1_Zn_-2"
    shutil.copytree(OWN / "vac_1_Zn_-2", place)
    ask("import", OWN / "bulk", OWN / "vac_1_Zn_0", "--fidelity", "hse06", "--site", site.folder)
    (path,) = place.rglob("OUTCAR.gz")
    text = gzip.decompress(path.read_bytes()).decode().replace("ENCUT  =  500.0", "ENCUT  =  400.0")
    path.write_bytes(gzip.compress(text.encode()))
    said = ask("import", tmp_path / "one", "--fidelity", "hse06", "--site", site.folder, code=1)
    assert "ENCUT 400 instead of 500" in said
    assert "nothing could be imported" in said
