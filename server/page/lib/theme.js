// The color theme: the system's, or the visitor's choice, which the address keeps over a reload
// (#light, #dark). Browser storage holds only the key.
import { button } from "./dom.js";
import { text } from "../text.js";

const system = matchMedia("(prefers-color-scheme: dark)");

function current() {
  const chosen = location.hash.slice(1);
  return ["light", "dark"].includes(chosen) ? chosen : system.matches ? "dark" : "light";
}

export function themeButton() {
  const holder = document.createElement("span");
  const show = () => {
    const theme = current();
    document.documentElement.dataset.theme = theme;
    const other = theme === "dark" ? "light" : "dark";
    const choose = () => {
      history.replaceState(null, "", `#${other}`);
      show();
      holder.firstChild.focus();
    };
    const look = { icon: other === "dark" ? "moon" : "sun", alone: true, kind: "quiet" };
    holder.replaceChildren(button(text.theme[other], choose, look));
  };
  system.addEventListener("change", show);
  show();
  return holder;
}
