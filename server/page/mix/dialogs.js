// Dialogs in the middle of the page. Each resolves with its result, or null when it is closed.
import { button, h, uid } from "../lib/dom.js";
import { text } from "../text.js";

/** Open a dialog. `fill` gets the function that closes it with a result, and returns its content. */
export function openDialog(title, fill) {
  return new Promise((resolve) => {
    const heading = uid("dialog");
    const dialog = h("dialog", { class: "dialog", "aria-labelledby": heading });
    const close = (result) => {
      resolve(result);
      dialog.close();
    };
    dialog.addEventListener("close", () => {
      resolve(null);
      dialog.remove();
    });
    dialog.append(h("h2", { id: heading }, title), ...fill(close, dialog));
    document.body.append(dialog);
    dialog.showModal();
  });
}

function askFor(title, hint, input, confirm) {
  const description = uid("hint");
  input.setAttribute("aria-label", title);
  input.setAttribute("aria-describedby", description);
  return openDialog(title, (close) => {
    const submit = (event) => {
      event.preventDefault();
      close(input.value.trim());
    };
    return [h("form", { onsubmit: submit },
      h("p", { class: "note", id: description }, hint), input,
      h("div", { class: "dialog-buttons" },
        button(text.dialog.cancel, () => close(null), { kind: "quiet" }),
        h("button", { class: "button primary", type: "submit" }, confirm)))];
  });
}

export function askForText() {
  const input = h("input", { type: "text", class: "field", maxlength: 2000, autocomplete: "off" });
  return askFor(text.dialog.textTitle, text.dialog.textHint, input, text.dialog.add);
}

export function askForKey() {
  const input = h("input", { type: "password", class: "field", autocomplete: "off" });
  return askFor(text.dialog.keyTitle, text.dialog.keyHint, input, text.dialog.useKey);
}
