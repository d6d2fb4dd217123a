// Dialogs in the middle of the page, for a text, the key, a recording and a picture of the camera.
// Each resolves with its result, or null when it is closed.
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
    dialog.append(h("h2", { id: heading }, title), ...fill(close));
    document.body.append(dialog);
    dialog.showModal();
  });
}

const buttons = (close, confirm) => h("div", { class: "dialog-buttons" },
  button(text.dialog.cancel, () => close(null), { kind: "quiet" }), confirm);

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
      buttons(close, h("button", { class: "button primary", type: "submit" }, confirm)))];
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

/** Open a device. Returns null, and says why, if the browser does not allow it. */
async function openDevice(constraints, say) {
  if (!navigator.mediaDevices) {
    say(text.record.insecure); // Browsers offer devices only on https and localhost.
    return null;
  }
  try {
    return await navigator.mediaDevices.getUserMedia(constraints);
  } catch {
    say(text.record.refused);
    return null;
  }
}

const stop = (stream) => stream.getTracks().forEach((track) => track.stop());

/** Show what a device records. Resolves with true, or null. */
const confirmed = (title, shown, label, icon) => openDialog(title, (close) =>
  [shown, buttons(close, button(label, () => close(true), { kind: "primary", icon }))]);

/** Resolves with a File, or null. */
export async function openMicrophone(say) {
  const stream = await openDevice({ audio: true }, say);
  if (!stream) return null;
  const recorder = new MediaRecorder(stream);
  const pieces = [];
  recorder.ondataavailable = (event) => pieces.push(event.data);
  const ended = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  const started = Date.now();
  const clock = h("p", { class: "clock", role: "timer" }, text.record.seconds(0));
  const timer = setInterval(() => {
    clock.textContent = text.record.seconds((Date.now() - started) / 1000);
  }, 100);
  const used = await confirmed(text.record.sound, clock, text.record.useSound, "stop");
  clearInterval(timer);
  recorder.stop();
  await ended;
  stop(stream);
  const type = recorder.mimeType.split(";")[0];
  const name = `${text.record.soundName}.${type.split("/")[1] ?? "webm"}`;
  return used ? new File(pieces, name, { type }) : null;
}

/** Resolves with a File, or null. */
export async function openCamera(say) {
  const stream = await openDevice({ video: { facingMode: "environment" } }, say);
  if (!stream) return null;
  const video = h("video", { srcObject: stream, muted: true, playsinline: true, class: "camera" });
  video.play();
  const used = await confirmed(text.record.picture, video, text.record.takePicture, "camera");
  const picture = used && (await snapshot(video));
  stop(stream);
  return picture;
}

function snapshot(video) {
  const canvas = h("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  const name = `${text.record.pictureName}.jpg`;
  return new Promise((resolve) =>
    canvas.toBlob((blob) => resolve(new File([blob], name, { type: blob.type })), "image/jpeg", 0.92));
}
