"""The picture of the house shows what the imports say, and shows it legibly."""

from itertools import pairwise
from xml.etree import ElementTree

from tools import house

TREES = house.read()


def test_the_committed_picture_is_todays() -> None:
    assert house.main(["--check"]) == 0


def test_every_room_and_every_file_of_a_wing_is_named() -> None:
    root = ElementTree.fromstring(house.picture(TREES))
    words = " ".join(root.itertext())
    for name in TREES:
        if name.count(".") == 1:
            assert name.split(".")[1] in words
        elif name.count(".") == 2 and "notebook_" not in name and not name.endswith("__main__"):
            assert name.split(".")[2] in words


def test_boxes_of_one_floor_lie_apart_and_within_the_page() -> None:
    boxes = house._boxes(TREES)
    for floor in house.FLOORS:
        sides = sorted((boxes[name][0], boxes[name][0] + boxes[name][2]) for name in floor)
        assert sides[0][0] >= 0 and sides[-1][1] <= house.WIDTH
        assert all(left[1] < right[0] for left, right in pairwise(sides))


def test_shown_arrows_imply_all_others() -> None:
    shown = house.shown_arrows(TREES)
    below = {name: {lower for upper, lower in shown if upper == name} for name in house.LEVEL}

    def reached(name: str) -> set[str]:
        return below[name].union(*(reached(lower) for lower in below[name]))

    for name, others in house.arrows(TREES).items():
        for other in others:
            upper, lower = house.room(name), house.room(other)
            if upper != lower and house.LEVEL[lower]:
                assert lower in reached(upper)


def test_a_picture_that_is_not_todays_is_refused(tmp_path, monkeypatch, capsys) -> None:
    stale = tmp_path / "house.svg"
    stale.write_text(house.picture(TREES) + " ")
    monkeypatch.setattr(house, "PICTURE", stale)
    monkeypatch.setattr(house, "ROOT", tmp_path)
    assert house.main(["--check"]) == 1
    assert "make house" in capsys.readouterr().out
