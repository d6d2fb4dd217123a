// The panel of the mix: a bar with each part's share, the cards of the parts, and buttons that add
// parts.
import { button, h, uid } from "../lib/dom.js";
import { bytes, get } from "../lib/api.js";
import { text } from "../text.js";
import { card } from "./card.js";
import { askForText, openCamera, openMicrophone } from "./dialogs.js";

export function mixPanel(mix, say) {
  const cards = new Map();
  const list = h("ul", { class: "cards" });
  const bar = h("div", { class: "mix-bar", "aria-hidden": "true" });
  const note = h("p", { class: "note warning", role: "status" });
  const empty = h("div", { class: "empty" }, h("p", { class: "lead" }, text.mix.empty),
    h("p", { class: "note" }, text.mix.emptyHint(mix.offer.modalities)));
  const examples = h("div", { class: "examples", hidden: true });
  // The sliders show marks at these weights: a part is left out at 0.
  const marks = h("datalist", { id: "weights" }, ...[0, 1].map((value) => h("option", { value })));

  const showWeights = () => {
    bar.replaceChildren(...mix.active.map((part) => stripe(part, mix.share(part))));
    bar.hidden = mix.active.length < 2;
    cards.forEach((view) => view.showWeight());
    const undefinedMix = mix.active.length && Number.isNaN(mix.share(mix.active[0]));
    note.textContent = undefinedMix ? text.mix.cancelOut : "";
  };
  const showParts = () => {
    for (const part of mix.parts) if (!cards.has(part)) cards.set(part, card(part, mix));
    for (const [part, view] of cards) {
      if (mix.parts.includes(part)) continue;
      view.close();
      cards.delete(part);
    }
    list.replaceChildren(...mix.parts.map((part) => cards.get(part).element));
    empty.hidden = mix.parts.length > 0;
    showWeights();
  };
  mix.addEventListener("change", showParts);
  mix.addEventListener("weights", showWeights);
  mix.addEventListener("part", ({ detail }) => {
    cards.get(detail)?.show();
    showWeights();
  });
  mix.addEventListener("full", ({ detail }) => say(text.mix.full(detail)));
  offerExamples(examples, mix, say);
  showParts();

  const heading = uid("heading");
  return h("section", { class: "panel mix", "aria-labelledby": heading },
    h("h2", { id: heading }, text.mix.title),
    h("p", { class: "note" }, text.mix.hint),
    bar, note, empty, list, marks, adders(mix, say), examples);
}

function stripe(part, share) {
  const element = h("span", { class: part.weight < 0 ? "negative" : "", "data-modality": part.modality });
  element.style.flexGrow = Math.abs(Number.isNaN(share) ? 1 : share);
  return element;
}

function adders(mix, say) {
  const chooser = h("input", {
    type: "file", multiple: true, hidden: true, "aria-hidden": "true", tabindex: "-1",
    onchange: () => {
      [...chooser.files].forEach((file) => mix.addFile(file));
      chooser.value = "";
    },
  });
  const { modalities } = mix.offer;
  const add = (file) => file && mix.addFile(file);
  const choices = [
    button(text.mix.choose, () => chooser.click(), { icon: "add", kind: "primary" }),
    modalities.includes("audio") &&
      button(text.mix.microphone, async () => add(await openMicrophone(say)), { icon: "mic" }),
    modalities.includes("image") &&
      button(text.mix.camera, async () => add(await openCamera(say)), { icon: "camera" }),
    modalities.includes("text") && button(text.mix.text, async () => {
      const words = await askForText();
      if (words) mix.addText(words);
    }, { icon: "text" }),
  ];
  return h("div", { class: "adders" }, chooser, ...choices);
}

/** Offer the operator's example files, if there are any. */
async function offerExamples(holder, mix, say) {
  const names = await get("page/examples.json").catch(() => []);
  if (!names.length) return;
  const add = async (name) => {
    try {
      mix.addFile(new File([await bytes(`page/examples/${encodeURIComponent(name)}`)], name));
    } catch (error) {
      say(error.message);
    }
  };
  holder.append(h("h3", {}, text.mix.examples),
    h("div", { class: "chips" }, ...names.map((name) => button(name, () => add(name), { kind: "chip" }))));
  holder.hidden = false;
}

/** Call `add` with each file that is dropped anywhere on the page, or pasted. */
export function acceptDrops(add) {
  const veil = h("div", { class: "veil", hidden: true }, h("p", {}, text.mix.drop));
  document.body.append(veil);
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) veil.hidden = true;
  });
  addEventListener("drop", (event) => {
    veil.hidden = true;
    if (!holdsFiles(event)) return;
    event.preventDefault();
    [...event.dataTransfer.files].forEach(add);
  });
  addEventListener("paste", (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) event.preventDefault();
    files.forEach(add);
  });
}
