// Start the page: read what the server offers, and show controls for that.
import { get, key, saveKey } from "./lib/api.js";
import { button, h, icon } from "./lib/dom.js";
import { themeButton } from "./lib/theme.js";
import { askPanel } from "./ask/panel.js";
import { explorePanels } from "./explore/panels.js";
import { askForKey } from "./mix/dialogs.js";
import { Mix } from "./mix/mix.js";
import { acceptDrops, mixPanel } from "./mix/panel.js";
import { withRetry } from "./mix/retry.js";
import { text } from "./text.js";

document.title = text.title;
const status = h("p", { class: "visually-hidden", role: "status" });
const toast = h("p", { class: "toast", "aria-hidden": "true", hidden: true });
const main = h("main", { class: "layout", id: "main" });
const model = h("span", { class: "model" });
const actions = h("div", { class: "actions" }, themeButton());
const header = h("header", { class: "top" },
  h("a", { class: "skip", href: "#main", onclick: skip }, text.skip),
  h("h1", {}, logo(), text.title), model, actions);

document.body.append(header, main, status, toast);
let mix = null; // until the server has said what it offers
acceptDrops((file) => (mix ? mix.addFile(file) : say(text.mix.early)));
start();

function logo() {
  return h("img", { src: new URL("./icon.svg", import.meta.url).href, alt: "", width: 26, height: 26 });
}

let timer = 0;

/** Tell the visitor something: on the screen for a moment, and to a screen reader. */
function say(message, visible = true) {
  status.textContent = message;
  if (!visible) return;
  toast.textContent = message;
  toast.hidden = false;
  clearTimeout(timer);
  timer = setTimeout(() => (toast.hidden = true), 4000);
}

function skip(event) {
  event.preventDefault(); // the address's fragment holds the theme
  main.querySelector("textarea, button")?.focus();
}

async function start() {
  main.replaceChildren(h("p", { class: "notice" }, text.loading));
  try {
    const { data: [card] } = await get("v1/models");
    show(card);
  } catch (error) {
    if (error.status === 401) return showKey(key() ? error.message : "");
    main.replaceChildren(h("div", { class: "notice" }, ...withRetry(error, start)));
  }
}

function showKey(problem) {
  const enter = async () => {
    const value = await askForKey();
    if (!value) return;
    saveKey(value);
    start();
  };
  main.replaceChildren(h("div", { class: "notice" }, icon("key"), h("h2", {}, text.key.title),
    h("p", {}, text.key.hint), problem && h("p", { class: "problem", role: "alert" }, problem),
    button(text.key.enter, enter, { kind: "primary" })));
}

function show({ id, imagebind: offer }) {
  model.replaceChildren(h("bdi", {}, id));
  if (key()) {
    const forget = () => {
      saveKey("");
      location.reload();
    };
    actions.prepend(button(text.key.forget, forget, { icon: "key", alone: true, kind: "quiet" }));
  }
  mix = new Mix(offer);
  const shared = { model: id, offer, mix, say };
  const panels = [
    offer.language_model && ["ask", askPanel(shared)],
    ...explorePanels(shared),
  ].filter(Boolean);
  main.replaceChildren(mixPanel(mix, say), workspace(panels));
}

/** The panels as tabs. The arrow keys move between tabs. */
function workspace(panels) {
  const tabs = panels.map(([name, panel]) => {
    panel.id = `panel-${name}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `tab-${name}`);
    return h("button", {
      type: "button", role: "tab", id: `tab-${name}`, "aria-controls": panel.id, class: "tab",
      onclick: () => choose(tabs.findIndex((tab) => tab.id === `tab-${name}`)),
    }, text.tabs[name]);
  });
  const choose = (chosen) => {
    panels.forEach(([, panel], index) => {
      panel.hidden = index !== chosen;
      tabs[index].setAttribute("aria-selected", String(index === chosen));
      tabs[index].tabIndex = index === chosen ? 0 : -1;
      if (index === chosen) panel.dispatchEvent(new Event("show"));
    });
  };
  const move = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = (tabs.indexOf(document.activeElement) + step + tabs.length) % tabs.length;
    choose(next);
    tabs[next].focus();
  };
  choose(0);
  return h("div", { class: "workspace" },
    h("div", { class: "tabs", role: "tablist", "aria-label": text.tabs.label, onkeydown: move }, ...tabs),
    ...panels.map(([, panel]) => panel));
}
