// Record a sound with the microphone, or take a picture with the camera.
import { button, h } from "../lib/dom.js";
import { text } from "../text.js";
import { openDialog } from "./dialogs.js";

/** Open a device. Returns null, and says why, if the browser does not allow it. */
async function open(constraints, say) {
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

/** Resolves with a File, or null. */
export async function openMicrophone(say) {
  const stream = await open({ audio: true }, say);
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
  const used = await openDialog(text.record.sound, (close) => [
    clock,
    h("div", { class: "dialog-buttons" },
      button(text.dialog.cancel, () => close(null), { kind: "quiet" }),
      button(text.record.useSound, () => close(true), { kind: "primary", icon: "stop" })),
  ]);
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
  const stream = await open({ video: { facingMode: "environment" } }, say);
  if (!stream) return null;
  const video = h("video", { srcObject: stream, muted: true, playsinline: true, class: "camera" });
  video.play();
  const used = await openDialog(text.record.picture, (close) => [
    video,
    h("div", { class: "dialog-buttons" },
      button(text.dialog.cancel, () => close(null), { kind: "quiet" }),
      button(text.record.takePicture, () => close(true), { kind: "primary", icon: "camera" })),
  ]);
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
