// A long recording, cut into windows: the similarity of each window to a text. A click on a window
// plays the recording from there.
import { postJson } from "../lib/api.js";
import { h } from "../lib/dom.js";
import { text } from "../text.js";

const MAX_BARS = 120;

/** The inner product of two embeddings. */
export const dot = (first, second) => first.reduce((sum, value, index) => sum + value * second[index], 0);

/** Return the elements of the time line of the first sound in the mix. */
export async function timeline({ model, mix }, query) {
  const part = mix.active.find((each) => each.modality === "audio");
  if (!part || !query) throw Object.assign(new Error(text.timeline.empty), { local: true });
  const player = h("audio", { controls: true, src: part.preview, class: "player", "aria-label": text.card.play(part.name) });
  const duration = await length(player);
  const seconds = Math.min(60, Math.max(0.5, duration / MAX_BARS));
  const windows = { model, input: [part.json()], imagebind: { windows: { seconds } } };
  const [sound, words] = await Promise.all([
    postJson("v1/embeddings", windows),
    postJson("v1/embeddings", { model, input: [query] }),
  ]);
  const similarities = sound.data.map((item) => dot(item.embedding, words.data[0].embedding));
  const [low, high] = [Math.min(...similarities), Math.max(...similarities)];
  const bars = sound.data.map(({ imagebind: { start, end } }, index) => {
    const value = similarities[index];
    const play = () => {
      player.currentTime = start;
      player.play();
    };
    const name = text.timeline.window(start, end, value);
    const bar = h("button", { type: "button", class: "window", "aria-label": name, title: name, onclick: play });
    bar.style.setProperty("--share", high > low ? (value - low) / (high - low) : 1);
    return bar;
  });
  const best = sound.data[similarities.indexOf(high)].imagebind;
  return [h("p", {}, text.timeline.best(best.start, best.end, high)), h("div", { class: "windows" }, ...bars), player];
}

/** The length of a recording in seconds; 60 if the browser does not know it. */
function length(player) {
  return new Promise((resolve) => {
    const done = () => resolve(Number.isFinite(player.duration) ? player.duration : 60);
    player.onloadedmetadata = player.onerror = done;
    setTimeout(done, 3000);
  });
}
