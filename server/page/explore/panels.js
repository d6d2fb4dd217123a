// What the encoders can do without a language model: similarities, time lines and searches.
import { postJson } from "../lib/api.js";
import { button, h, uid } from "../lib/dom.js";
import { rankedList } from "../ask/answer.js";
import { withRetry } from "../mix/retry.js";
import { text } from "../text.js";
import { dot, timeline } from "./timeline.js";

/** Return the panels as [name, element]. */
export function explorePanels(shared) {
  const { offer } = shared;
  return [
    ["compare", panel("compare", shared, compare)],
    offer.cache && ["search", panel("search", shared, search)],
    offer.modalities.includes("audio") && ["timeline", timelinePanel(shared)],
  ];
}

/** A panel with one button. `work` returns the elements of the result. */
function panel(name, shared, work, more = []) {
  const { mix, say } = shared;
  const result = h("div", { class: "result", "aria-live": "polite" });
  const labels = text[name];
  const run = async () => {
    go.disabled = true;
    result.replaceChildren(h("p", { class: "note" }, text.working));
    try {
      if (!mix.active.length) throw Object.assign(new Error(labels.empty), { local: true });
      const elements = await mix.withFiles(mix.active, () => work(shared));
      result.replaceChildren(...elements);
      say(text.ready, false);
    } catch (error) {
      const part = mix.active[partIndex(error)];
      if (part) mix.setError(part, error);
      result.replaceChildren(h("div", { class: "problem" }, ...withRetry(error, run)));
    }
    go.disabled = false;
  };
  const go = button(labels.run, run, { kind: "primary" });
  const heading = uid("heading");
  return h("section", { class: "explore", "aria-labelledby": heading },
    h("h2", { id: heading }, labels.title), h("p", { class: "note" }, labels.hint),
    h("div", { class: "adders" }, ...more, go), result);
}

/** Return the index of the part that an error's `param` names: input[1], or input[0][1] in a mix. */
function partIndex({ param }) {
  const numbers = /^input\[(\d+)\](?:\[(\d+)\])?/.exec(param ?? "");
  return numbers ? Number(numbers[2] ?? numbers[1]) : -1;
}

/** Cosines of all pairs of parts, and of each part with the mix. */
async function compare({ model, mix }) {
  const parts = mix.active;
  const input = parts.map((part) => part.json());
  if (parts.length > 1) input.push(parts.map((part) => part.json(part.weight)));
  const { data } = await postJson("v1/embeddings", { model, input });
  const embeddings = data.map((item) => item.embedding);
  const names = parts.map((part) => part.name);
  return [matrix(parts.length > 1 ? [...names, text.compare.mix] : names, embeddings)];
}

async function search({ model, mix }) {
  const body = { model, input: [mix.active.map((part) => part.json(part.weight))], top_k: 10 };
  const { data } = await postJson("v1/search", body);
  return [rankedList(data.map((row) => [row.caption ?? text.answer.row(row.index), row.similarity]))];
}

function timelinePanel(shared) {
  const query = h("input", { type: "text", class: "field", "aria-label": text.timeline.query, placeholder: text.timeline.query });
  return panel("timeline", shared, (all) => timeline(all, query.value.trim()), [query]);
}

/** A table of the similarities of all pairs. `embeddings`: unit vectors, one for each name. */
function matrix(names, embeddings) {
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
