// Requests to the server: JSON, server-sent events and uploads. All errors are ApiErrors.
import { text } from "../text.js";

// This module is below /page/lib/, so the server's root is two folders up, also behind a path prefix.
const ROOT = new URL("../../", import.meta.url);
const KEY = "bindserve-key";

export const url = (path) => new URL(path, ROOT).href;
export const key = () => sessionStorage.getItem(KEY) ?? "";
export function saveKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

/** An error of the server, in the server's words; status 0: the server did not answer. */
export class ApiError extends Error {
  constructor(message, { status = 0, param = null, code = null, retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { status, param, code, retryAfter });
  }
}

const headers = (more = {}) => (key() ? { ...more, Authorization: `Bearer ${key()}` } : more);

function errorOf(status, body, retryAfter) {
  let error = {};
  try {
    error = JSON.parse(body).error ?? {};
  } catch {
    // A proxy may have answered with another form than the server's.
  }
  return new ApiError(String(error.message ?? text.errors.status(status)), {
    status, param: error.param, code: error.code, retryAfter: Number(retryAfter) || 0,
  });
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(url(path), { ...options, headers: headers(options.headers) });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(text.errors.unreachable);
  }
  if (response.ok) return response;
  throw errorOf(response.status, await response.text(), response.headers.get("Retry-After"));
}

export const get = async (path, options = {}) => (await send(path, options)).json();
export const bytes = async (path, options = {}) => (await send(path, options)).arrayBuffer();

export function post(path, body, signal) {
  const json = { "Content-Type": "application/json" };
  return send(path, { method: "POST", body: JSON.stringify(body), headers: json, signal });
}

export const postJson = async (path, body, signal) => (await post(path, body, signal)).json();

/** Yield the JSON of each event. Throws ApiError if the stream ends before its last event. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  while (true) {
    let chunk;
    try {
      chunk = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError(text.errors.lost);
    }
    if (chunk.done) throw new ApiError(text.errors.lost);
    const lines = (rest + chunk.value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ")) continue;
      const data = line.slice(6).trim();
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw errorOf(event.error.status ?? 500, data, 0);
      yield event;
    }
  }
}

/** Upload a file that expires after `seconds`. Returns its id. `onprogress` gets a share from 0 to 1. */
export function upload(file, seconds, onprogress, signal) {
  const form = new FormData();
  form.append("purpose", "user_data");
  form.append("expires_after[anchor]", "created_at");
  form.append("expires_after[seconds]", String(seconds));
  form.append("file", file, file.name);
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch reports no progress of uploads
    request.open("POST", url("v1/files"));
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => onprogress(event.loaded / event.total);
    request.onload = () => {
      if (request.status === 200) return resolve(JSON.parse(request.responseText).id);
      const retryAfter = request.getResponseHeader("Retry-After");
      reject(errorOf(request.status, request.responseText, retryAfter));
    };
    request.onerror = () => reject(new ApiError(text.errors.unreachable));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    signal.addEventListener("abort", () => request.abort());
    request.send(form);
  });
}

/** Delete a stored file. Also works while the page is being closed. */
export function remove(fileId) {
  const options = { method: "DELETE", headers: headers(), keepalive: true };
  return fetch(url(`v1/files/${fileId}`), options).catch(() => {});
}
