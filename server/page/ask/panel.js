// The panel of the conversation: its log, suggestions, the field for a question, and the settings.
import { button, h, icon, uid } from "../lib/dom.js";
import { text } from "../text.js";
import { Conversation } from "./conversation.js";
import { settingsPanel } from "./settings.js";

export function askPanel(shared) {
  const settings = settingsPanel(shared.offer);
  const conversation = new Conversation(shared, settings);
  const { row, ask, field } = questionRow(conversation);
  const suggestions = h("div", { class: "chips", hidden: true }, ...text.ask.suggestions.map((question) =>
    button(question, () => ask(question), { kind: "chip" })));
  // The suggestions are about the mix, so they appear with its first part.
  shared.mix.addEventListener("change", () => (suggestions.hidden = !shared.mix.parts.length));
  const restart = () => {
    conversation.clear();
    field.focus();
  };
  followBottom(conversation.log);
  const heading = uid("heading");
  return h("section", { class: "ask", "aria-labelledby": heading },
    h("h2", { id: heading, class: "visually-hidden" }, text.tabs.ask), conversation.log,
    h("div", { class: "composer" },
      suggestions, row, settings.element,
      h("div", { class: "composer-foot" }, h("span", { class: "note" }, text.ask.keys),
        button(text.ask.fresh, restart, { kind: "quiet small" }))));
}

/** The field for a question with its button, which stops the answers while they arrive. */
function questionRow(conversation) {
  const field = h("textarea", {
    class: "question-field", rows: 1, maxlength: 20000, placeholder: text.ask.placeholder,
    "aria-label": text.ask.question,
  });
  const submit = h("button", {
    type: "submit", class: "button primary round", "aria-label": text.ask.send, title: text.ask.send,
  }, icon("send"));
  const halt = button(text.ask.stop, () => conversation.stop(), { icon: "stop", kind: "primary stop", hidden: true });
  const grow = () => {
    field.style.height = "auto";
    field.style.height = `${Math.min(220, field.scrollHeight + 2)}px`;
  };
  const ask = (question) => {
    if (!question.trim() || conversation.running) return;
    field.value = "";
    grow();
    conversation.ask(question.trim());
  };
  const onsubmit = (event) => {
    event.preventDefault();
    ask(field.value);
  };
  field.addEventListener("input", grow);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) onsubmit(event);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && conversation.running) conversation.stop();
  });
  /** Swap the two buttons. Focus stays in the row if it is there. */
  const busy = (running) => () => {
    const inside = row.contains(document.activeElement);
    submit.hidden = running;
    halt.hidden = !running;
    if (inside) (running ? halt : field).focus();
  };
  const row = h("form", { class: "composer-row", onsubmit }, field, submit, halt);
  conversation.addEventListener("running", busy(true));
  conversation.addEventListener("ended", busy(false));
  return { row, ask, field };
}

/** Keep the end of the page in sight while it grows, unless the visitor has scrolled up. */
function followBottom(log) {
  const root = document.documentElement;
  const distance = () => root.scrollHeight - innerHeight - scrollY;
  let following = false;
  addEventListener("scroll", () => (following = distance() < 120), { passive: true });
  new ResizeObserver(() => following && scrollTo({ top: root.scrollHeight })).observe(log);
}
