// A table of the similarities of all pairs.
import { h } from "../lib/dom.js";
import { text } from "../text.js";

export const dot = (first, second) => first.reduce((sum, value, index) => sum + value * second[index], 0);

/** `embeddings`: unit vectors, one for each name. */
export function matrix(names, embeddings) {
  const cell = (row, column) => {
    const value = dot(embeddings[row], embeddings[column]);
    const element = h("td", { class: row === column ? "same" : "" }, text.similarity(value));
    element.style.setProperty("--share", Math.max(0, value).toFixed(3));
    return element;
  };
  const head = names.map((name) => h("th", { scope: "col" }, h("bdi", { title: name }, name)));
  const rows = names.map((name, row) => h("tr", {},
    h("th", { scope: "row" }, h("bdi", { title: name }, name)), ...names.map((_, column) => cell(row, column))));
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": text.compare.title },
    h("table", { class: "matrix" }, h("thead", {}, h("tr", {}, h("td", {}), ...head)), h("tbody", {}, ...rows)));
}
