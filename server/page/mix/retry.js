// A button that tries a failed request again. It waits as long as the server asks for (Retry-After).
import { button, h } from "../lib/dom.js";
import { text } from "../text.js";

/** The message of an error, and a button if trying again can help. */
export function withRetry(error, again) {
  const retry = again && retryButton(error, again);
  return [h("p", {}, error.message), ...(retry ? [retry] : [])];
}

/** Return the button, or null if trying again cannot help. */
function retryButton(error, again) {
  const temporary = error.status === 0 || error.status === 429 || error.status >= 500;
  if (!temporary || error.local) return null;
  const retry = button(text.retry.now, again, { icon: "retry", kind: "small" });
  let left = error.retryAfter;
  const label = retry.querySelector("span");
  const tick = () => {
    retry.disabled = left > 0;
    label.textContent = left > 0 ? text.retry.in(left) : text.retry.now;
    if (left-- > 0) setTimeout(tick, 1000);
  };
  tick();
  return retry;
}
