"""The README's picture of a terminal: its text is what the program shows today."""

from __future__ import annotations

import re
import sys
from xml.etree import ElementTree

import pytest

if sys.platform != "linux":
    pytest.skip("only on Linux: a terminal and its paths are shown", allow_module_level=True)

import picture
from picture import Run

from tests.postgres import PostgresMissing
from tests.program import SOURCE

PICTURES = {theme: SOURCE / "docs" / f"picture-{theme}.svg" for theme in picture.THEMES}
every_picture = pytest.mark.parametrize("theme", picture.THEMES)


@pytest.mark.psql
def test_the_pictures_are_what_the_program_shows_today() -> None:
    try:
        with picture.home_of_ana() as home:
            lines = picture.session(home)
    except PostgresMissing as missing:
        pytest.skip(str(missing))
    for theme, path in PICTURES.items():
        assert path.read_text("utf-8") == picture.drawing(lines, theme), (
            "run python scripts/picture.py"
        )


@every_picture
def test_a_picture_fits_a_terminal_and_holds_the_whole_story(theme: str) -> None:
    text = picture.written(PICTURES[theme].read_text("utf-8"))
    assert max(map(len, text.splitlines())) <= 80
    for word in ("✗ there is no root file", "next qs-certs install", "✓ /home/ana", "* require"):
        assert word in text


@every_picture
def test_a_picture_asks_nobody_for_anything(theme: str) -> None:
    svg = PICTURES[theme].read_text("utf-8")
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
    tags = {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(svg).iter()}
    assert tags == {"svg", "title", "rect", "g", "text", "tspan"}


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, 1.4.3."""

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(first), luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@every_picture
def test_every_colour_can_be_read_on_its_paper(theme: str) -> None:
    colours = picture.THEMES[theme]
    for name in ("ink", "31", "32", "33"):
        assert contrast(colours["paper"], colours[name]) >= 4.5, name
    assert contrast("#ffffff", "#777777") < 4.5  # a control


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("a\nb", [[Run("a")], [Run("b")]]),
        ("\x1b[31mx\x1b[0m y", [[Run("x", "31"), Run(" y")]]),
        ("\x1b[1mx\x1b[0m", [[Run("x", "", True)]]),
        ("x" * 81, [[Run("x" * 80)], [Run("x")]]),
        ("x" * 80 + "\ny", [[Run("x" * 80)], [Run("y")]]),
        ("\x1b[32m" + "x" * 81, [[Run("x" * 80, "32")], [Run("x", "32")]]),
    ],
    ids=["lines", "colour", "bold", "too long", "just as long", "colour goes on"],
)
def test_the_screen_is_as_a_terminal_breaks_it(text: str, lines: list[list[Run]]) -> None:
    assert picture.runs(text) == lines


def test_what_is_drawn_can_be_read_back() -> None:
    screen = "$ <a> & \x1b[31m'b'\x1b[0m  c\n\n└─ d"
    svg = picture.drawing(picture.runs(screen), "light")
    assert picture.written(svg) == "$ <a> & 'b'  c\n\n└─ d"


def test_the_readme_shows_both() -> None:
    readme = (SOURCE / "README.md").read_text("utf-8")
    shown = re.findall(r'(?:src|srcset)="([^"]+)"', readme)
    assert {SOURCE / each for each in shown} == set(PICTURES.values())
