// The preview of a part: a small picture beside its name, or a player or viewer below it.
import { h, icon } from "../lib/dom.js";
import { text } from "../text.js";
import { pointViewer } from "./points.js";

/**
 * Return `thumbnail` (beside the name) and `wide` (below it), `stored` (called when the server has
 * the file) and `close`.
 */
export function preview(part) {
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
