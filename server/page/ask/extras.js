// What an answer has beside its text, if the server offers it: drawn pictures, calls of tools, and
// the nouns of the text, which a detector has searched in the pictures.
import { h, svg } from "../lib/dom.js";
import { text } from "../text.js";

export class Extras {
  /** `partOf` returns the part that a parameter names, for example messages[0].content[1]. */
  constructor(partOf) {
    this.partOf = partOf;
    this.calls = new Map();
    this.element = h("div", { class: "extras" });
  }

  clear() {
    this.calls.clear();
    this.element.replaceChildren();
  }

  /** Add what one delta of a stream contains. */
  add({ images, tool_calls: calls, grounding }) {
    this.element.append(...(images ?? []).map(drawn).filter(Boolean));
    calls?.forEach((call) => this.addCall(call));
    if (grounding) this.element.append(...this.grounded(grounding));
  }

  /** A stream contains the name of a call first, and then pieces of its arguments. */
  addCall({ index, function: { name = "", arguments: pieces = "" } = {} }) {
    if (!this.calls.has(index)) {
      const code = h("code", { class: "tool-call" });
      this.calls.set(index, code);
      this.element.append(code);
    }
    this.calls.get(index).append(name ? `${name} ${pieces}` : pieces);
  }

  grounded(nouns) {
    if (!nouns.length) return [];
    const chips = nouns.map(({ noun, found }) => h("li", { class: found ? "" : "missing" },
      h("bdi", {}, noun), found ? "" : ` · ${text.answer.notFound}`));
    const params = new Set(nouns.map(({ part }) => part).filter(Boolean));
    const pictures = [...params].map((param) => this.boxes(param, nouns.filter(({ part }) => part === param)));
    return [h("ul", { class: "nouns", "aria-label": text.answer.nouns }, ...chips), ...pictures.filter(Boolean)];
  }

  /** The picture of a part, with the boxes of its nouns. */
  boxes(param, nouns) {
    const part = this.partOf(param);
    if (part?.modality !== "image") return null;
    const image = h("img", { src: part.preview, alt: text.answer.boxes(nouns.map(({ noun }) => noun)) });
    const holder = h("div", { class: "boxes" }, image);
    image.addEventListener("load", () => {
      const [width, height] = [image.naturalWidth, image.naturalHeight];
      const shapes = nouns.flatMap(({ noun, boxes }) => boxes.map(({ box: { xmin, ymin, xmax, ymax } }) =>
        svg("rect", { x: xmin, y: ymin, width: xmax - xmin, height: ymax - ymin }, svg("title", {}, noun))));
      holder.append(svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...shapes));
    });
    return holder;
  }
}

function drawn(image) {
  const source = image.image_url?.url ?? "";
  if (!source.startsWith("data:image/")) return null; // the page loads no picture from elsewhere
  return h("img", { class: "drawn", src: source, alt: text.answer.drawn });
}
