"""The page at several window widths and in both themes, and faults of its layout."""

from collections.abc import Iterator
from itertools import product

from tests.serving.demo.browser import Tab

# JavaScript that lists controls which overlap, and elements that are wider than the window.
LAYOUT_FAULTS = """
() => {
  const faults = [];
  const root = document.documentElement;
  if (root.scrollWidth > innerWidth) faults.push(`the page is ${root.scrollWidth} px wide`);
  const selector = "button, input, select, textarea, summary, h2, bdi, p";
  const visible = [...document.querySelectorAll(selector)].filter((each) =>
    each.checkVisibility({opacityProperty: true})
      && !each.closest(".visually-hidden, .skip, .toast, .veil, dialog"));
  const boxes = visible.map((each) => [each, each.getBoundingClientRect()]).filter(
    ([, box]) => box.width && box.height);
  for (const [each, box] of boxes) {
    if (box.right > innerWidth + 1 && !each.closest(".scroll, .tabs"))
      faults.push(`${each.tagName} ${each.className} ends at ${box.right}`);
  }
  const sticky = (each) => Boolean(each.closest(".composer"));
  const pairs = boxes.flatMap((one, index) => boxes.slice(index + 1).map((two) => [one, two]));
  for (const [[a, first], [b, second]] of pairs) {
    if (a.contains(b) || b.contains(a) || sticky(a) !== sticky(b)) continue;
    const width = Math.min(first.right, second.right) - Math.max(first.left, second.left);
    const height = Math.min(first.bottom, second.bottom) - Math.max(first.top, second.top);
    if (width > 2 && height > 2)
      faults.push(`${a.tagName} ${a.className} overlaps ${b.tagName} ${b.className}`);
  }
  return faults;
}
"""


def layouts(tab: Tab) -> Iterator[tuple[int, str]]:
    """Show the page at three widths (pixels) and in two themes, one after the other."""
    for width, theme in product((360, 768, 1440), ("light", "dark")):
        tab.page.set_viewport_size({"width": width, "height": 900})
        tab.page.emulate_media(color_scheme=theme)
        tab.wait(f"document.documentElement.dataset.theme == '{theme}'")
        yield width, theme


def layout_faults(tab: Tab) -> list[str]:
    faults: list[str] = tab.page.evaluate(LAYOUT_FAULTS)
    return faults
