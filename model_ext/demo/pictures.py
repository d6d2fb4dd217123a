"""Render icons of icon sets as pictures with transparency.

This module does not depend on `concepts.py` (the words and the splits).
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image

SIZE = 160  # side of a picture in pixels

# Names that are excluded, because icons of persons, skin tones, flags, clocks and signs look too
# similar.
_NOT_A_THING = re.compile(
    r"skin|light|dark|medium|flag|clock|button|keycap|symbol|square|circle|arrow|letter|input"
    r"|person|people|family|couple|\b(wo)?m[ae]n\b|\bboy|\bgirl|face|hand|point|mark|sign|face"
)


@dataclass(frozen=True, slots=True)
class IconSet:
    """One drawing style: name -> SVG body, width and height."""

    style: str
    bodies: dict[str, str]
    width: dict[str, int]
    height: dict[str, int]

    @classmethod
    def open(cls, packages: Path, style: str) -> "IconSet":
        """Read `packages/@iconify-json/<style>/icons.json`."""
        document = json.loads((packages / "@iconify-json" / style / "icons.json").read_text())
        bodies, width, height = {}, {}, {}
        for numbered, icon in document["icons"].items():
            # the set streamline appends numbers to the names of variants
            name = re.sub(r"-\d+$", "", numbered)
            if name not in bodies:
                bodies[name] = icon["body"]
                width[name] = icon.get("width", document.get("width", 16))
                height[name] = icon.get("height", document.get("height", 16))
        return cls(style, bodies, width, height)

    def render(self, name: str, size: int = SIZE) -> Image.Image:
        """Render the icon as RGBA, size x size pixels."""
        svg = (
            f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
            f' viewBox="0 0 {self.width[name]} {self.height[name]}">{self.bodies[name]}</svg>'
        )
        png = resvg_py.svg_to_bytes(svg_string=svg, width=size, skip_system_fonts=True)
        image = Image.open(io.BytesIO(bytes(png))).convert("RGBA")
        return image if image.size == (size, size) else image.resize((size, size))


def things(sets: list[IconSet], min_styles: int) -> list[str]:
    """Return the sorted names that occur in at least `min_styles` sets, without people, flags and
    signs.
    """
    names = sorted({name for icons in sets for name in icons.bodies})
    return [
        name
        for name in names
        if not _NOT_A_THING.search(name)
        and sum(name in icons.bodies for icons in sets) >= min_styles
    ]
