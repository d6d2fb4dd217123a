// The mix: the parts that condition the next answer, with their weights. A part is a file or a text.
// Files are uploaded as soon as they are added, and deleted with their part.
import { ApiError, remove, upload } from "../lib/api.js";
import { guess } from "../lib/kinds.js";
import { text } from "../text.js";

const MAX_AGE_S = 24 * 3600; // The server deletes files that a crashed browser leaves.
let number = 0;

/** An error that the page detects before a request. Trying again cannot help. */
const local = (message) => Object.assign(new ApiError(message), { local: true });

class Part {
  constructor({ file = null, words = "" }) {
    Object.assign(this, { id: ++number, file, words, weight: 1, override: "", detected: "" });
    Object.assign(this, { progress: 0, fileId: null, error: null, uploading: null, cancel: null });
    this.guess = file ? guess(file) : "text";
    this.preview = file && URL.createObjectURL(file);
  }

  get name() {
    return this.file ? this.file.name : this.words;
  }

  get modality() {
    return this.override || this.detected || this.guess || "unknown";
  }

  /** The content part of a request, with a weight other than 1. */
  json(weight = 1) {
    const content = this.file
      ? { type: "file", file: { file_id: this.fileId, filename: this.file.name } }
      : { type: "imagebind_text", text: this.words };
    if (this.override && this.file) content.modality = this.override;
    if (weight !== 1) content.weight = weight;
    return content;
  }
}

export class Mix extends EventTarget {
  constructor(offer) {
    super();
    this.offer = offer;
    this.parts = [];
    addEventListener("pagehide", () => this.parts.forEach((part) => this.forget(part)));
  }

  /** The parts that count. A part with weight 0 is left out of requests. */
  get active() {
    return this.parts.filter((part) => part.weight !== 0);
  }

  /** The share of a part's weight in the sum of all weights. */
  share(part) {
    const total = this.parts.reduce((sum, each) => sum + each.weight, 0);
    return Math.abs(total) < 0.05 ? NaN : part.weight / total;
  }

  /** Two mixes with equal signatures condition an answer in the same way. */
  signature() {
    return JSON.stringify(this.active.map((part) => [part.id, part.weight, part.override]));
  }

  addFile(file) {
    const part = this.add(new Part({ file }));
    if (part) this.start(part);
    return part;
  }

  addText(words) {
    return this.add(new Part({ words }));
  }

  add(part) {
    const { attachments } = this.offer.limits;
    if (this.parts.length >= attachments) {
      this.dispatchEvent(new CustomEvent("full", { detail: attachments }));
      return null;
    }
    this.parts.push(part);
    this.changed();
    return part;
  }

  remove(part) {
    this.parts = this.parts.filter((each) => each !== part);
    this.forget(part);
    if (part.preview) URL.revokeObjectURL(part.preview);
    this.changed();
  }

  /** Cancel the upload of a part, or delete its stored file. */
  forget(part) {
    part.cancel?.abort();
    if (part.fileId) remove(part.fileId);
    part.fileId = part.uploading = null;
  }

  setWeight(part, weight) {
    part.weight = weight;
    this.dispatchEvent(new Event("weights"));
  }

  setError(part, error) {
    part.error = error;
    this.partChanged(part);
  }

  start(part) {
    part.uploading = this.upload(part);
    part.uploading.catch((error) => this.setError(part, error));
  }

  async upload(part) {
    this.check(part);
    part.error = null;
    part.progress = 0;
    part.cancel = new AbortController();
    const show = (progress) => {
      part.progress = progress;
      this.partChanged(part);
    };
    show(0);
    const seconds = Math.min(MAX_AGE_S, this.offer.limits.file_age_s);
    part.fileId = await upload(part.file, seconds, show, part.cancel.signal).catch((error) => {
      throw error.name === "AbortError" ? local(text.errors.removed(part.name)) : error;
    });
    part.progress = 1;
    this.partChanged(part);
  }

  /** Throw an ApiError if the server would refuse the file. */
  check(part) {
    const { modalities, limits } = this.offer;
    const modality = part.override || part.guess;
    if (modality && !modalities.includes(modality)) {
      throw local(text.errors.noEncoder(modality, modalities));
    }
    const sizes = modality ? [limits.file_bytes[modality]] : Object.values(limits.file_bytes);
    const max = Math.max(...sizes);
    if (part.file.size > max) throw local(text.errors.tooLarge(part.file.size, max));
    if (!part.file.size) throw local(text.errors.empty);
  }

  /** Wait until these parts are uploaded. Throws the error of the first part that failed. */
  async ready(parts) {
    for (const part of parts.filter((each) => each.file)) {
      if (!this.parts.includes(part)) throw local(text.errors.removed(part.name));
      if (!part.fileId && (part.error || !part.uploading)) this.start(part);
      await part.uploading;
      this.setError(part, null);
    }
  }

  /**
   * Run `work` when these parts are uploaded. If the server has lost a file, for example by a
   * restart, upload the files again and run `work` once more.
   */
  async withFiles(parts, work) {
    await this.ready(parts);
    const ids = parts.map((part) => part.fileId);
    try {
      return await work();
    } catch (error) {
      if (error.code !== "file_not_found") throw error;
    }
    parts.forEach((part, index) => {
      if (!part.file || part.fileId !== ids[index]) return; // another answer uploads it already
      this.forget(part);
      this.start(part);
    });
    await this.ready(parts);
    return work();
  }

  changed() {
    this.dispatchEvent(new Event("change"));
  }

  partChanged(part) {
    this.dispatchEvent(new CustomEvent("part", { detail: part }));
  }
}
