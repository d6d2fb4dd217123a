// The conversation: turns of a question about the mix and its answers. Fires "running" and "ended".
import { ApiError } from "../lib/api.js";
import { h, icon } from "../lib/dom.js";
import { text } from "../text.js";
import { Answer } from "./answer.js";
import { chatRequest, partIndex } from "./request.js";

export class Conversation extends EventTarget {
  constructor({ model, offer, mix, say }, settings) {
    super();
    Object.assign(this, { model, offer, mix, say, settings, turns: [], running: 0 });
    this.welcome = h("div", { class: "welcome" },
      h("p", { class: "lead" }, text.ask.welcome), h("p", { class: "note" }, text.ask.welcomeHint));
    this.log = h("div", { class: "log", role: "region", "aria-label": text.ask.conversation }, this.welcome);
  }

  clear() {
    this.turns = [];
    this.log.replaceChildren(this.welcome);
  }

  stop() {
    this.turns.at(-1)?.answers.forEach((answer) => answer.stop());
  }

  ask(question) {
    const turn = new Turn(this, question);
    this.welcome.remove();
    this.turns.push(turn);
    this.log.append(turn.element);
    turn.element.scrollIntoView();
    return this.run(turn, turn.answers);
  }

  /** Get the answers. Each fails alone, and can be retried. */
  async run(turn, answers) {
    this.running += 1;
    answers.forEach((answer) => answer.begin());
    this.dispatchEvent(new Event("running"));
    await Promise.all(answers.map((answer) => this.runOne(turn, answer)));
    this.running -= 1;
    if (!this.running) this.dispatchEvent(new Event("ended"));
  }

  async runOne(turn, answer) {
    try {
      const work = () => {
        answer.request = turn.request(answer); // It contains the ids of the uploaded files.
        return answer.run();
      };
      await answer.unlessStopped(this.mix.withFiles(turn.parts.map(({ part }) => part), work));
      this.say(answer.stopped ? text.ask.stopped : text.ask.done(answer.words), false);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const cause = turn.parts[partIndex(error)];
      if (cause) this.mix.setError(cause.part, error);
      answer.fail(error, () => this.run(turn, [answer]));
    }
    answer.end();
    this.learn(turn, answer);
  }

  /** Show the modalities that the server recognized. */
  learn(turn, { explanation }) {
    explanation?.mix.forEach(({ modality }, index) => {
      const { part } = turn.parts[index] ?? {};
      if (!part || part.detected === modality || !this.offer.modalities.includes(modality)) return;
      part.detected = modality;
      this.mix.partChanged(part);
    });
  }

  /** Earlier questions about the mix, with their answers. Failed answers are left out. */
  history(signature) {
    const start = this.turns.findLastIndex((turn) => turn.signature !== signature) + 1;
    const complete = this.turns.slice(start).filter(({ answers: [first] }) => first.complete && first.words);
    return complete.flatMap(({ question, answers: [first] }) => [
      { role: "user", content: question },
      { role: "assistant", content: first.words },
    ]);
  }
}

/** A question with the mix and the settings of the moment. */
class Turn {
  constructor(conversation, question) {
    const { model, offer, mix, settings, turns, say } = conversation;
    this.question = question;
    this.signature = mix.signature();
    this.parts = mix.active.map((part) => ({ part, weight: part.weight, share: mix.share(part) }));
    const values = settings.values();
    const history = values.history ? conversation.history(this.signature) : [];
    const seed = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
    this.common = { model, offer, history, parts: this.parts, question, settings: values, seed };
    this.variants = this.parts.length ? settings.variants() : [{ label: "", cache: false }];
    const labelled = this.variants.length > 1;
    const partOf = (param) => this.parts[partIndex({ param })]?.part;
    this.answers = this.variants.map(({ label }) =>
      new Answer({ count: values.n, label: labelled ? label : "", say, partOf }));
    const changed = turns.length > 0 && turns.at(-1).signature !== this.signature;
    this.element = h("section", { class: "turn" },
      changed && h("p", { class: "divider" }, text.ask.newMix), this.questionView(),
      h("div", { class: "answers" }, ...this.answers.map((answer) => answer.element)));
  }

  /** The request of an answer. Call it after the upload, because the request contains files' ids. */
  request(answer) {
    return chatRequest({ ...this.common, variant: this.variants[this.answers.indexOf(answer)] });
  }

  questionView() {
    const chips = this.parts.map(({ part, share }) => h("li", { "data-modality": part.modality },
      icon(part.modality), h("bdi", {}, part.name),
      this.parts.length > 1 && h("span", { class: "figure" }, text.card.share(share))));
    const earlier = this.common.history.length / 2; // a question and its answer are two messages
    return h("div", { class: "question" },
      chips.length > 0 && h("ul", { class: "used" }, ...chips),
      h("p", {}, h("bdi", {}, this.question)),
      earlier > 0 && h("p", { class: "note" }, text.ask.earlier(earlier)));
  }
}
