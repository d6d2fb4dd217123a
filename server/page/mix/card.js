// The card of one part: preview, name, modality, weight, progress of the upload, and its error.
import { button, h, icon, uid } from "../lib/dom.js";
import { text } from "../text.js";
import { pointViewer } from "./points.js";
import { withRetry } from "./retry.js";

export function card(part, mix) {
  const thumbnail = h("div");
  const wide = h("div");
  let view = null;
  const output = h("output", { class: "weight-value" });
  const slider = h("input", {
    type: "range", min: -1, max: 2, step: 0.05, value: part.weight, class: "slider", list: "weights",
    "aria-label": text.card.weightOf(part.name),
    oninput: () => mix.setWeight(part, Number(slider.value)),
    ondblclick: () => {
      slider.value = 1;
      mix.setWeight(part, 1);
    },
  });
  const bar = h("progress", { max: 1, "aria-label": text.card.uploading(part.name) });
  const status = h("div", { class: "upload" }, bar);
  const problem = h("div", { class: "problem", role: "alert" });
  const chooser = h("span", { class: "kind" });
  const element = h("li", { class: "card" },
    h("div", { class: "card-head" },
      thumbnail,
      h("div", { class: "card-title" },
        h("bdi", { class: "name", title: part.name }, part.name),
        h("div", { class: "facts" }, chooser, part.file && h("span", {}, text.card.size(part.file.size)))),
      button(text.card.remove(part.name), () => mix.remove(part),
        { icon: "close", alone: true, kind: "quiet" })),
    wide, status, problem,
    h("div", { class: "weight" }, h("span", { "aria-hidden": "true" }, text.card.weight), slider, output));

  const showWeight = () => {
    const share = mix.share(part);
    const percent = part.weight === 0 ? text.card.out : text.card.share(share);
    output.replaceChildren(h("b", {}, text.number(part.weight)), ` · ${percent}`);
    slider.setAttribute("aria-valuetext", `${text.number(part.weight)}, ${percent}`);
    element.classList.toggle("out", part.weight === 0);
  };
  /** Show another preview when the server, or the visitor, says what kind of file it is. */
  const showPreview = () => {
    if (view?.modality === part.modality) return;
    view?.close();
    view = { modality: part.modality, ...preview(part) };
    thumbnail.replaceChildren(view.thumbnail);
    wide.replaceChildren(view.wide ?? "");
    wide.hidden = !view.wide;
  };
  let shown = null;
  const show = () => {
    element.dataset.modality = part.modality;
    showPreview();
    const waiting = part.file && !part.fileId && !part.error;
    status.hidden = !waiting;
    bar.value = part.progress;
    if (part.error !== shown) {
      shown = part.error;
      problem.replaceChildren(...(shown ? withRetry(shown, () => mix.start(part)) : []));
    }
    problem.hidden = !part.error;
    showKind(chooser, part, mix);
    if (part.fileId) view.stored?.(part.fileId);
  };
  show();
  showWeight();
  return { element, show, showWeight, close: () => view.close() };
}

/** The modality, which the visitor can change: a depth map, for example, looks like any array. */
function showKind(holder, part, mix) {
  if (holder.dataset.shown === part.modality) return;
  holder.dataset.shown = part.modality;
  if (!part.file) return holder.replaceChildren(icon("text"), text.modality.text);
  const names = part.modality === "unknown" ? ["unknown", ...mix.offer.modalities] : mix.offer.modalities;
  const select = h("select", {
    id: uid("kind"), "aria-label": text.card.kindOf(part.name),
    onchange: () => {
      part.override = select.value === part.guess || select.value === "unknown" ? "" : select.value;
      if (part.error && !part.fileId) mix.start(part);
      mix.partChanged(part);
    },
  }, ...[...new Set([part.modality, ...names])].map((name) =>
    h("option", { value: name, selected: name === part.modality }, text.modality[name] ?? name)));
  holder.replaceChildren(icon(part.modality), select);
}

/**
 * Return `thumbnail` (beside the name) and `wide` (below it), `stored` (called when the server has
 * the file) and `close`.
 */
function preview(part) {
  const nothing = { close() {} };
  const plain = () => h("span", { class: "thumbnail" }, icon(part.modality));
  switch (part.modality) {
    case "image": {
      const picture = h("img", {
        class: "thumbnail", src: part.preview, alt: "",
        onerror: () => picture.replaceWith(plain()), // a format that the browser cannot show
      });
      return { ...nothing, thumbnail: picture };
    }
    case "audio":
    case "video": {
      const player = h(part.modality, {
        controls: true, preload: "metadata", src: part.preview, class: "player",
        "aria-label": text.card.play(part.name), playsinline: true,
        onerror: () => player.remove(),
      });
      return { ...nothing, thumbnail: plain(), wide: player };
    }
    case "point":
      return { thumbnail: plain(), ...pointViewer(part.name) };
    default:
      return { ...nothing, thumbnail: plain() };
  }
}
