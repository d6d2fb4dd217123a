// The conversation: questions about the current mix, their answers, and the field for the next
// question.
import { ApiError } from "../lib/api.js";
import { button, h, icon, uid } from "../lib/dom.js";
import { text } from "../text.js";
import { Answer } from "./answer.js";
import { chatRequest, partIndex } from "./request.js";
import { settingsPanel } from "./settings.js";

export function askPanel({ model, offer, mix, say }) {
  const turns = [];
  const settings = settingsPanel(offer);
  const log = h("div", { class: "log", role: "region", "aria-label": text.ask.conversation });
  const field = h("textarea", {
    class: "question-field", rows: 1, maxlength: 20000, placeholder: text.ask.placeholder,
    "aria-label": text.ask.question,
  });
  const submit = h("button", { type: "submit", class: "button primary round", "aria-label": text.ask.send, title: text.ask.send }, icon("send"));
  const halt = button(text.ask.stop, () => turns.at(-1)?.answers.forEach((answer) => answer.stop()),
    { icon: "stop", kind: "primary stop", hidden: true });
  const suggestions = h("div", { class: "chips" }, ...text.ask.suggestions.map((question) =>
    button(question, () => ask(question), { kind: "chip" })));
  const fresh = button(text.ask.fresh, () => {
    turns.length = 0;
    log.replaceChildren(welcome);
    field.focus();
  }, { kind: "quiet small" });
  const welcome = h("div", { class: "welcome" }, h("p", { class: "lead" }, text.ask.welcome), h("p", { class: "note" }, text.ask.welcomeHint));
  log.append(welcome);

  async function ask(question) {
    if (!question.trim() || !halt.hidden) return;
    const turn = newTurn(question.trim());
    field.value = "";
    grow();
    await run(turn, turn.answers);
  }

  function newTurn(question) {
    const values = settings.values();
    const previous = turns.at(-1);
    const sameMix = previous?.signature === mix.signature();
    const history = values.history && sameMix ? messages(turns, previous.signature) : [];
    const parts = mix.active.map((part) => ({ part, weight: part.weight, share: mix.share(part) }));
    const variants = parts.length ? settings.variants() : [{ label: "", cache: false }];
    const common = { model, offer, history, parts, question, settings: values, seed: seed() };
    const turn = { question, signature: mix.signature(), parts, answers: [] };
    turn.build = () => variants.map((variant) => chatRequest({ ...common, variant }));
    turn.answers = turn.build().map((request, index) =>
      new Answer(request, variants.length > 1 ? variants[index].label : "", { say }));
    welcome.remove();
    const changed = previous && !sameMix && h("p", { class: "divider" }, text.ask.newMix);
    turn.element = h("section", { class: "turn" }, changed, questionView(turn),
      h("div", { class: "answers" }, ...turn.answers.map((answer) => answer.element)));
    turns.push(turn);
    log.append(turn.element);
    turn.element.scrollIntoView({ block: "end" });
    return turn;
  }

  /** Ask for the answers. Each fails alone, and can be retried. */
  async function run(turn, answers) {
    busy(true);
    await Promise.all(answers.map(async (answer) => {
      try {
        await withFiles(turn, answer);
        say(answer.stopped ? text.ask.stopped : text.ask.done(answer.words), false);
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        const index = partIndex(error);
        if (index !== null && turn.parts[index]) mix.setError(turn.parts[index].part, error);
        answer.fail(error, () => run(turn, [answer]));
      }
      learn(turn, answer);
    }));
    busy(false);
    turn.element.scrollIntoView({ block: "nearest" });
  }

  /** Run one answer. Files that the server has lost, for example by a restart, are uploaded again. */
  async function withFiles(turn, answer) {
    const index = turn.answers.indexOf(answer);
    const parts = turn.parts.map(({ part }) => part);
    await mix.ready(parts);
    answer.request = turn.build()[index];
    try {
      await answer.run();
    } catch (error) {
      if (error.code !== "file_not_found") throw error;
      await mix.again(parts);
      answer.request = turn.build()[index];
      await answer.run();
    }
  }

  /** Show the modalities that the server recognized. */
  function learn(turn, { explanation }) {
    explanation?.mix.forEach(({ modality }, index) => {
      const { part } = turn.parts[index] ?? {};
      if (!part || part.detected === modality || !offer.modalities.includes(modality)) return;
      part.detected = modality;
      mix.partChanged(part);
    });
  }

  /** Show the stop button while answers arrive. Focus stays in the composer if it is there. */
  function busy(running) {
    const inside = document.activeElement?.closest(".composer");
    submit.hidden = running;
    halt.hidden = !running;
    if (inside) (running ? halt : field).focus();
  }

  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(220, field.scrollHeight + 2)}px`;
  };
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    ask(field.value);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !halt.hidden) halt.click();
  });
  const onsubmit = (event) => {
    event.preventDefault();
    ask(field.value);
  };
  followBottom(log);
  const heading = uid("heading");
  return h("section", { class: "ask", "aria-labelledby": heading },
    h("h2", { id: heading, class: "visually-hidden" }, text.tabs.ask), log,
    h("div", { class: "composer" }, suggestions,
      h("form", { class: "composer-row", onsubmit }, field, submit, halt),
      settings.element, h("div", { class: "composer-foot" }, h("span", { class: "note" }, text.ask.keys), fresh)));
}

/** Keep the end of the page in sight while it grows, unless the visitor has scrolled up. */
function followBottom(log) {
  const root = document.documentElement;
  const distance = () => root.scrollHeight - innerHeight - scrollY;
  let following = false;
  addEventListener("scroll", () => (following = distance() < 120), { passive: true });
  new ResizeObserver(() => following && scrollTo({ top: root.scrollHeight })).observe(log);
}

/** Earlier questions about the same mix, with their answers. Failed answers are left out. */
function messages(turns, signature) {
  const start = turns.findLastIndex((turn) => turn.signature !== signature) + 1;
  return turns.slice(start).filter(({ answers: [first] }) => first.complete && first.words).flatMap((turn) => [
    { role: "user", content: turn.question },
    { role: "assistant", content: turn.answers[0].words },
  ]);
}

const seed = () => crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;

function questionView({ question, parts }) {
  const chips = parts.map(({ part, share }) => h("li", { "data-modality": part.modality },
    icon(part.modality), h("bdi", {}, part.name),
    parts.length > 1 && h("span", { class: "figure" }, text.card.share(share))));
  return h("div", { class: "question" },
    chips.length > 0 && h("ul", { class: "used" }, ...chips),
    h("p", {}, h("bdi", {}, question)));
}
