"""Claims: tolerance as printed, what decides a status, and what is said of what is missing, refused or undefined."""

from pathlib import Path

import pytest

from schemas import Parity
from steer_core.evaluation.parity import CellTable, Claim, File, Printed, Supplies, check_claims, printed
from steer_core.tables import SteerworksError, check

FILE = File("some/rows.csv", "somewhere on the hub")


def claim(published, found, *needs, name="one"):
    return Claim(name, "what", "a paper", published, lambda supplies: found, needs)


def rows(*claims, supplies=None):
    found = check_claims({"metrics": claims}, supplies or Supplies())
    check(found, Parity)
    return found.to_dicts()


@pytest.mark.parametrize(
    ("number", "value", "tolerance"),
    [
        ("13.0", 13.0, 0.05),
        (".495", 0.495, 0.0005),
        ("-0.80", -0.8, 0.005),
        ("20", 20.0, 0.5),
        ("2e3", 2000.0, 500.0),
        ("1.684996", 1.684996, 5e-7),
        (2048, 2048.0, 0.0),
        (Printed("0.50", 0.1, "a sample"), 0.5, 0.105),
    ],
)
def test_a_number_is_as_exact_as_it_was_printed(number, value, tolerance):
    assert printed(number)[:2] == pytest.approx((value, tolerance), rel=1e-12)


@pytest.mark.parametrize("number", ["about 3", "", "nan", "inf"])
def test_what_is_no_number_is_refused(number):
    with pytest.raises(ValueError, match="no printed number|not finite"):
        printed(number)


@pytest.mark.parametrize(
    ("number", "ours", "status"),
    [
        ("0.648", 0.6485, "reproduced"),
        ("0.648", 0.64851, "differs"),
        ("0.648", 0.6475, "reproduced"),
        (2048, 2048, "reproduced"),
        (2048, 2049, "differs"),
        (2048, 2048.4, "differs"),
        (Printed("0.65", 0.02, "starts are not known"), 0.674, "reproduced"),
        ("0.648", None, "differs"),
        ("0.648", float("inf"), "differs"),
    ],
)
def test_rounding_decides_whether_a_figure_is_reproduced(number, ours, status):
    (row,) = rows(claim({"S": number}, {"S": ours}))
    assert row["status"] == status
    undefined = ours in (None, float("inf"))
    assert row["difference"] == (None if undefined else ours - row["published"])
    assert row["why"] == (
        "ours is undefined or infinite" if undefined else {0.674: "starts are not known"}.get(ours, "")
    )


def test_a_claim_that_lacks_something_is_not_run_and_says_what_to_supply(tmp_path):
    cell = CellTable("steerbench", "goal_movements", "direct|small", "run it")
    needy = claim({"S": "0.5", "M": "1.0"}, {"S": 0.5, "M": 9.0}, FILE, cell)
    for row in rows(needy):
        assert (row["status"], row["ours"], row["difference"]) == ("not run", None, None)
        assert "some/rows.csv (somewhere on the hub): STEERWORKS_SAMPLE_DATA is not set" in row["why"]
        assert "table goal_movements of cell direct|small on bench steerbench" in row["why"]
    there = Supplies(tmp_path, lambda bench, table, cell: Parity.empty(), "root")
    assert f"{tmp_path} has no such file" in rows(needy, supplies=there)[0]["why"]
    (tmp_path / "some").mkdir()
    (tmp_path / "some/rows.csv").touch()
    assert [r["status"] for r in rows(needy, supplies=there)] == ["reproduced", "differs"]


def test_what_is_there_and_refused_is_no_missing_file():
    def refuse(supplies):
        raise SteerworksError("rows.csv, row 3: S is 'x'")

    (row,) = rows(Claim("one", "what", "a paper", {"S": "0.5"}, refuse))
    assert (row["status"], row["ours"]) == ("differs", None)
    assert "was refused: rows.csv, row 3" in row["why"]


def test_a_claim_measures_what_it_publishes():
    with pytest.raises(ValueError, match=r"claim 'one' publishes \['S'\] and measures \['M'\]"):
        rows(claim({"S": "0.5"}, {"M": 0.5}))


def test_a_file_that_no_need_names_is_no_supply(tmp_path):
    for supplies in (Supplies(), Supplies(Path(tmp_path))):
        with pytest.raises(SteerworksError, match="a claim must name it in `needs`"):
            supplies.file("other.csv")
