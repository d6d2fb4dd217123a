// The settings of a question: the cache, the number of answers, and how they are generated.
import { h, uid } from "../lib/dom.js";
import { text } from "../text.js";

/** Return `element`, `values()` and `variants()`: the settings that are shown side by side. */
export function settingsPanel(offer) {
  const cache = offer.cache_defaults;
  const { limits } = offer;
  const fields = {};
  const number = (name, value, min, max, step) => {
    const id = uid("setting");
    fields[name] = h("input", { id, type: "number", class: "field", value, min, max, step, required: true });
    return h("div", { class: "setting" }, h("label", { for: id }, text.settings[name]), fields[name]);
  };
  const check = (name, value, label = text.settings[name]) => {
    fields[name] = h("input", { type: "checkbox", checked: value });
    return h("label", { class: "check" }, fields[name], label);
  };
  const area = (name) => {
    const id = uid("setting");
    fields[name] = h("textarea", { id, class: "field snippet", rows: 2, spellcheck: "false" });
    return h("div", { class: "setting wide" }, h("label", { for: id }, text.settings[name]), fields[name]);
  };
  const mode = cache && segments(text.settings.cache, text.settings.cacheModes, "on");
  const more = h("details", { class: "more" },
    h("summary", {}, text.settings.title),
    h("div", { class: "settings" },
      number("temperature", 0, 0, 2, 0.1),
      number("n", 1, 1, Math.min(6, limits.n), 1),
      number("maxTokens", Math.min(256, limits.tokens), 1, limits.tokens, 1),
      cache && number("topK", cache.top_k, 1, limits.top_k, 1),
      cache && number("cacheTemperature", cache.temperature, 0, 1000, 1),
      cache && number("cacheWeight", cache.weight, 0, 1, 0.05),
      check("history", true),
      offer.experts.length > 0 && check("experts", true, text.settings.experts(offer.experts)),
      offer.decoder && check("draw", false),
      offer.detector && check("ground", false),
      offer.tools && area("tools")),
    h("p", { class: "note" }, text.settings.hint));

  /** Read a number, bounded by what its field allows. */
  const read = (name, fallback) => {
    const field = fields[name];
    const value = field && field.value !== "" ? Number(field.value) : fallback;
    return Math.min(Number(field.max), Math.max(Number(field.min), value));
  };
  const options = (on) => {
    if (!cache || !on) return false;
    const values = {
      top_k: Math.round(read("topK", cache.top_k)),
      temperature: read("cacheTemperature", cache.temperature),
      weight: read("cacheWeight", cache.weight),
    };
    return Object.keys(values).every((name) => values[name] === cache[name]) ? true : values;
  };
  return {
    element: h("div", { class: "settings-row" }, mode?.element, more,
      mode && h("p", { class: "note" }, text.settings.cacheHint)),
    values: () => ({
      temperature: read("temperature", 0),
      n: Math.round(read("n", 1)),
      maxTokens: Math.round(read("maxTokens", 256)),
      history: fields.history.checked,
      experts: fields.experts && (fields.experts.checked ? offer.experts : []),
      draw: fields.draw?.checked ?? false,
      ground: fields.ground?.checked ?? false,
      tools: tools(fields.tools?.value ?? ""),
    }),
    variants: () => {
      const chosen = mode?.value() ?? "off";
      const variant = (on) => ({ label: text.settings.variant(on), cache: options(on) });
      return chosen === "both" ? [variant(true), variant(false)] : [variant(chosen === "on")];
    },
  };
}

/** Parse a list of tools. Text that is not JSON goes to the server, which rejects it. */
function tools(words) {
  if (!words.trim()) return null;
  try {
    return JSON.parse(words);
  } catch {
    return words;
  }
}

/** A group of radio buttons that looks like one control. `names`: visible text by value. */
export function segments(title, names, chosen) {
  const group = uid("group");
  const inputs = Object.keys(names).map((value) =>
    h("input", { type: "radio", name: group, value, checked: value === chosen }));
  const element = h("fieldset", { class: "segments" }, h("legend", {}, title),
    h("div", {}, ...inputs.map((input) => h("label", {}, input, h("span", {}, names[input.value])))));
  return { element, value: () => inputs.find((input) => input.checked).value };
}
