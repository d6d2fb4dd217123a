// What an answer has beside its text, if the server offers it: texts of experts, drawn pictures,
// nouns that the detector found in the picture or not, and calls of tools.
import { h } from "../lib/dom.js";
import { text } from "../text.js";

/** Return the elements for one message or one delta of a stream. */
export function extras(delta) {
  return [
    ...(delta.images ?? []).map(picture),
    ...(delta.tool_calls ?? []).map(toolCall),
  ].filter(Boolean);
}

function picture(image) {
  const source = image.image_url?.url ?? "";
  if (!source.startsWith("data:image/")) return null; // the page loads no picture from elsewhere
  return h("img", { class: "drawn", src: source, alt: text.answer.drawn });
}

function toolCall({ function: call }) {
  if (!call) return null;
  return h("code", { class: "tool-call" }, `${call.name ?? ""}${call.arguments ?? ""}`);
}
