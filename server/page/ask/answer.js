// One answer: its choices as they stream, its measurements, the cache's neighbors, and its buttons.
import { ApiError, events, post } from "../lib/api.js";
import { button, h } from "../lib/dom.js";
import { withRetry } from "../mix/retry.js";
import { text } from "../text.js";
import { Extras } from "./extras.js";
import { curl, python } from "./snippets.js";

export class Answer {
  /**
   * `count`: the number of choices. `label`: how it differs from the answer beside it, or "".
   * `partOf` returns the part that a parameter of the request names.
   */
  constructor({ count, label, say, partOf }) {
    this.request = null; // set before `run`
    this.controller = new AbortController();
    this.choices = Array.from({ length: count }, () => choiceView(new Extras(partOf)));
    this.meta = h("p", { class: "meta" });
    this.details = h("div", { class: "details" });
    this.problem = h("div", { class: "problem", role: "alert", hidden: true });
    this.element = h("article", { class: "answer", "aria-busy": "true" },
      label && h("h3", { class: "answer-label" }, label),
      h("div", { class: "choices" }, ...this.choices.map((choice) => choice.element)),
      this.problem, this.meta, this.details,
      h("div", { class: "answer-buttons" },
        ...[["curl", curl], ["python", python]].map(([name, snippet]) =>
          button(text.answer.copy[name], () => this.request && copy(snippet(this.request), say), { kind: "quiet small" }))));
  }

  /** The text of the first choice, which later questions send as the assistant's message. */
  get words() {
    return this.choices[0].words();
  }

  stop() {
    this.stopped = true;
    this.controller.abort();
  }

  /** Wait for `work`, or until the answer is stopped. */
  async unlessStopped(work) {
    const { signal } = this.controller;
    await Promise.race([work, new Promise((resolve) => signal.addEventListener("abort", resolve))]);
    if (this.stopped) this.measure();
  }

  /** Ask, and show the answer as it arrives. Throws ApiError. */
  async run() {
    const times = { start: performance.now(), first: null, last: null };
    this.times = times;
    const body = { ...this.request, stream: true, stream_options: { include_usage: true } };
    try {
      const response = await post("v1/chat/completions", body, this.controller.signal);
      for await (const event of events(response)) {
        if (event.imagebind?.mix) this.explain(event.imagebind);
        if (event.images_error) this.fail(new ApiError(String(event.images_error.message)));
        for (const { index, delta } of event.choices ?? []) {
          if (delta.content) {
            times.last = performance.now();
            times.first ??= times.last;
          }
          this.choices[index]?.add(delta);
        }
        if (event.usage) this.usage = event.usage;
        if (times.first) this.measure();
      }
      this.complete = true;
      this.measure();
    } catch (error) {
      if (error.name !== "AbortError") throw error;
    }
  }

  /** Forget an earlier attempt. */
  begin() {
    this.controller = new AbortController();
    this.complete = this.stopped = false;
    this.usage = this.times = null;
    this.element.setAttribute("aria-busy", "true");
    this.problem.hidden = true;
    this.meta.replaceChildren();
    this.details.replaceChildren();
    this.choices.forEach((choice) => choice.clear());
  }

  end() {
    this.element.setAttribute("aria-busy", "false");
  }

  fail(error, again) {
    this.problem.replaceChildren(...withRetry(error, again));
    this.problem.hidden = false;
  }

  measure() {
    const { start, first, last } = this.times ?? {};
    const facts = [];
    if (this.explanation?.mix.length) {
      const known = this.explanation.mix.filter((part) => part.cached).length;
      facts.push(text.answer.cache(this.explanation.cache));
      if (known) facts.push(text.answer.embedded(known, this.explanation.mix.length));
    }
    if (first) facts.push(text.answer.first((first - start) / 1000));
    const tokens = this.usage?.completion_tokens ?? 0;
    if (tokens) facts.push(text.answer.tokens(tokens));
    if (tokens > 1 && last > first) facts.push(text.answer.speed((tokens - 1) / ((last - first) / 1000)));
    const cached = this.usage?.prompt_tokens_details?.cached_tokens;
    if (cached) facts.push(text.answer.cached(cached, this.usage.prompt_tokens));
    if (this.stopped) facts.push(text.answer.stopped);
    this.meta.replaceChildren(...facts.map((fact) => h("span", {}, fact)));
  }

  explain(explanation) {
    this.explanation = explanation;
    this.details.replaceChildren(...[experts(explanation), neighbors(explanation), notes(explanation)].filter(Boolean));
  }
}

function choiceView(extras) {
  const words = document.createTextNode("");
  const element = h("div", { class: "choice" }, h("p", { class: "words" }, h("bdi", {}, words)), extras.element);
  return {
    element,
    words: () => words.data,
    add: (delta) => {
      if (delta.content) words.appendData(delta.content);
      extras.add(delta);
    },
    clear: () => {
      words.data = "";
      extras.clear();
    },
  };
}

function neighbors({ neighbors: rows }) {
  if (!rows?.length) return null;
  return h("details", { class: "neighbors" }, h("summary", {}, text.answer.neighbors(rows.length)),
    h("p", { class: "note" }, text.answer.neighborsHint),
    rankedList(rows.map((row) => [row.caption ?? text.answer.row(row.row), row.similarity])));
}

/** A list of captions with bars of their similarities. */
export function rankedList(rows) {
  return h("ol", { class: "ranked" }, ...rows.map(([caption, similarity]) => {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    bar.style.setProperty("--share", `${Math.max(0, similarity) * 100}%`);
    return h("li", {}, h("bdi", { class: "caption" }, caption), bar,
      h("span", { class: "figure" }, text.similarity(similarity)));
  }));
}

/** What experts heard or read in the files, which the prompt contains. */
function experts({ experts: parts }) {
  const rows = (parts ?? []).filter((part) => part.text || part.state !== "on");
  if (!rows.length) return null;
  return h("details", { class: "notes", open: true }, h("summary", {}, text.answer.experts),
    h("ul", {}, ...rows.map((part) => h("li", {},
      h("b", {}, text.experts[part.expert] ?? part.expert), ": ",
      h("bdi", {}, part.state === "on" ? part.text : text.answer.expertFailed)))));
}

/** What the server's readers report about the files, for example a chosen channel. */
function notes({ mix }) {
  const rows = (mix ?? []).filter((part) => Object.keys(part.notes ?? {}).length);
  if (!rows.length) return null;
  return h("details", { class: "notes" }, h("summary", {}, text.answer.notes),
    h("ul", {}, ...rows.map((part) => h("li", {},
      h("b", {}, text.modality[part.modality] ?? part.modality), " ",
      Object.entries(part.notes).map(([name, value]) => `${name.replaceAll("_", " ")}: ${value}`).join(", ")))));
}

async function copy(snippet, say) {
  try {
    await navigator.clipboard.writeText(snippet);
    say(text.answer.copied);
  } catch {
    // Browsers offer the clipboard only on https and localhost.
    const field = h("textarea", { class: "field snippet", readonly: true, rows: 8, "aria-label": text.answer.snippet }, snippet);
    const { openDialog } = await import("../mix/dialogs.js");
    openDialog(text.answer.snippet, () => [field]);
    field.select();
  }
}
