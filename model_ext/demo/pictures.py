"""Render the icons of icon sets with transparency.

This module depends on the layout of icon sets and the spelling of their names, but not on
`concepts.py` (the words and the training and test splits).
"""

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image

SIZE = 160  # side of a picture in pixels

# Excluded names: the icons of persons, skin tones, flags, clocks and signs are too similar.
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
            name = re.sub(r"-\d+$", "", numbered)  # streamline appends numbers to variants
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
    """The sorted names that at least `min_styles` sets have, without people, flags and signs."""
    names = sorted({name for icons in sets for name in icons.bodies})
    return [
        name
        for name in names
        if not _NOT_A_THING.search(name)
        and sum(name in icons.bodies for icons in sets) >= min_styles
    ]
