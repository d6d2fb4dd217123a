// The JSON of a question. The snippets (curl, Python) are made from the same object.

/**
 * `history`: earlier messages. `parts`: the parts of the mix, each as {part, weight}. `settings`, `variant`: see settings.js.
 * The seed makes an answer with a temperature repeatable.
 */
export function chatRequest({ model, offer, history, parts, question, settings, variant, seed }) {
  const imagebind = { explain: true };
  if (offer.cache && parts.length) imagebind.cache = variant.cache;
  if (settings.experts) imagebind.experts = settings.experts;
  if (settings.ground) imagebind.ground = true;
  const content = [...parts.map(({ part, weight }) => part.json(weight)), { type: "text", text: question }];
  const request = {
    model,
    messages: [...history, { role: "user", content }],
    temperature: settings.temperature,
    max_tokens: settings.maxTokens,
    imagebind,
  };
  if (settings.n > 1) request.n = settings.n;
  if (settings.temperature > 0) request.seed = seed;
  if (settings.tools) request.tools = settings.tools;
  if (settings.draw) request.modalities = ["text", "image"];
  return request;
}

/** Return the index of the part that an error's `param` names, for example messages[2].content[1]. */
export function partIndex(error) {
  const place = /^messages\[\d+\]\.content\[(\d+)\]/.exec(error.param ?? "");
  return place ? Number(place[1]) : null;
}
